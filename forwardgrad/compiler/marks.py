"""What can be reached from each vertex of a graph: for all vertices at once, and shared where it is the same.

A search from every vertex takes time in the square of their number. Here sets are whole numbers, a bit per element,
and a vertex has the union of its own and those of the vertices that follow it. Vertices of one cycle have the same.
"""

from __future__ import annotations

from collections.abc import Sequence


def reachable(following: Sequence[Sequence[int]], own: Sequence[int]) -> list[int]:
    """The union of the sets of all vertices that can be reached from each one, itself included.

    Args:
        following: the vertices that an arc leads to, for each vertex.
        own: the set of each vertex, as bits.

    >>> [elements(found) for found in reachable([[1], [2], [1], []], [1, 0, 4, 8])]
    [[0, 2], [2], [2], [3]]
    """
    found = list(own)
    for component in components(following):
        union = 0
        for vertex in component:
            union |= own[vertex]
            for after in following[vertex]:
                if found[after] | union != union:
                    union |= found[after]
        for vertex in component:
            found[vertex] = union
    return found


def components(following: Sequence[Sequence[int]]) -> list[list[int]]:
    """The strongly connected components, each after all that can be reached from it.

    (Tarjan 1972, doi 10.1137/0201010, with a stack in place of recursion.)
    """
    found: list[list[int]] = []
    number, low, path = [-1] * len(following), [0] * len(following), list[int]()
    count = 0
    for start in range(len(following)):
        if number[start] >= 0:
            continue
        visits = [(start, iter(following[start]))]
        number[start] = low[start] = count
        count += 1
        path.append(start)
        while visits:
            vertex, rest = visits[-1]
            for after in rest:
                if number[after] < 0:
                    number[after] = low[after] = count
                    count += 1
                    path.append(after)
                    visits.append((after, iter(following[after])))
                    break
                low[vertex] = min(low[vertex], low[after])
            else:
                visits.pop()
                if visits:
                    before = visits[-1][0]
                    low[before] = min(low[before], low[vertex])
                if low[vertex] == number[vertex]:
                    at = len(path) - 1
                    while path[at] != vertex:
                        at -= 1
                    component = path[at:]
                    del path[at:]
                    for member in component:
                        low[member] = len(following)  # done: no vertex before it is of its component
                    found.append(component)
    return found


def elements(bits: int) -> list[int]:
    """The elements of a set, in increasing order.

    >>> elements(0b10110)
    [1, 2, 4]
    """
    text, found = bin(bits)[:1:-1], list[int]()
    at = text.find("1")
    while at >= 0:
        found.append(at)
        at = text.find("1", at + 1)
    return found
