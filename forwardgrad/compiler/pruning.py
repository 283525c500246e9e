"""Which places matter? Those from which a loss can be reached; and those with the same future are one."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from forwardgrad.compiler.factors import WEIGHT, Factor
from forwardgrad.compiler.labels import edge_structure
from forwardgrad.compiler.product import Arc, Place, Product
from forwardgrad.graph import Network
from forwardgrad.structure import Structure


def reaching_nodes(network: Network, outputs: Collection[str]) -> set[str]:
    """The nodes of the declared graph from which a loss can be reached."""
    found, queue = set(outputs), deque(outputs)
    while queue:
        for edge in network.into[queue.popleft()]:
            if edge.source not in found and edge_structure(network, edge) is not Structure.ZERO:
                found.add(edge.source)
                queue.append(edge.source)
    return found


def live_places(product: Product) -> set[int]:
    """The places from which a learning signal can be reached along arcs. Every mode may end at one of the same step."""
    entering = product.entering
    found = {index for index, place in enumerate(product.places) if place.signal != "none"}
    queue = deque(found)
    while queue:
        for arc in entering[queue.popleft()]:
            if arc.source not in found:
                found.add(arc.source)
                queue.append(arc.source)
    return found


def prune(product: Product) -> Product:
    """The product without places that cannot reach a learning signal; `dropped`, of the old indices, is left out."""
    return _quotient(product, [[index] for index in sorted(live_places(product))])


def merge(product: Product) -> Product:
    """The product with places of the same future made one.

    Two places of a node have the same future if the same edges leave them, to places of the same future. The influence
    on the merged place is then the sum of theirs, since every adjoint is the same. (Partition refinement; this is the
    minimisation of a deterministic automaton, node by node, and also joins what different rules have in common.)
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(_refined(product)):
        members[number].append(index)
    return _quotient(product, list(members.values()))


def _refined(product: Product) -> list[int]:
    """The group of each place, that of all places of its future.

    A place is looked at again where an arc leads from it to one that changed its group. Of a group that falls apart the
    largest part keeps the number, so that no place changes its group more than log n times (Hopcroft 1971).
    """
    leaving, entering = product.leaving, product.entering
    group = _numbered((place.node, place.signal, place.lossy) for place in product.places)
    members: list[set[int]] = [set() for _ in range(max(group, default=-1) + 1)]
    for index, number in enumerate(group):
        members[number].add(index)

    def key(index: int) -> object:
        return tuple(sorted((arc.edge, group[arc.target], arc.factor.order) for arc in leaving[index]))

    changed: Iterable[int] = range(len(group))
    while changed:
        seen: defaultdict[int, set[int]] = defaultdict(set)
        for index in changed:
            if len(members[group[index]]) > 1:
                seen[group[index]].add(index)
        parts = {number: _parts(members[number], some, key) for number, some in seen.items()}
        moved: list[int] = []
        for number, found in parts.items():
            for part in found:
                members[number] -= part
                for index in part:
                    group[index] = len(members)
                members.append(part)
                moved += part
        changed = {arc.source for index in moved for arc in entering[index]}
    return group


def _parts(members: set[int], seen: set[int], key: Callable[[int], object]) -> list[set[int]]:
    """The parts of a group by key, but for the largest one; those of its members that are not seen have one key."""
    parts: defaultdict[object, set[int]] = defaultdict(set)
    for index in seen:
        parts[key(index)].add(index)
    others = len(members) - len(seen)
    theirs = key(next(index for index in members if index not in seen)) if others else None
    sizes = {word: len(part) + (others if others and word == theirs else 0) for word, part in parts.items()}
    if others and theirs not in parts:
        sizes[theirs] = others
    largest = max(sizes, key=lambda word: sizes[word])
    if others and theirs != largest:
        parts[theirs] |= members - seen
    return [part for word, part in parts.items() if word != largest]


def _numbered(keys: Iterable[object]) -> list[int]:
    numbers: dict[object, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _quotient(product: Product, groups: list[list[int]]) -> Product:
    """The product whose places are these groups; what touches no group falls away."""
    number = {index: new for new, group in enumerate(groups) for index in group}
    arcs = dict.fromkeys(
        replace(arc, source=number[arc.source], target=number[arc.target])
        for arc in product.arcs
        if arc.source in number and arc.target in number
    )
    return Product(
        places=_labelled(product, groups),
        arcs=tuple(_joined(arcs)),
        injections=tuple(replace(i, place=number[i.place]) for i in product.injections if i.place in number),
        dropped=(),
        untrained=product.untrained,
        probes=tuple((name, number[place]) for name, place in product.probes if place in number),
    )


def _joined(arcs: Iterable[Arc]) -> Iterable[Arc]:
    """Arcs in which the two parts of one weight are the whole again where they lead from one place to one place."""
    found = dict.fromkeys(arcs)
    for arc in found:
        twin = {"diagonal": "rest", "rest": "diagonal"}.get(arc.factor.kind)
        if twin is None or replace(arc, factor=Factor(twin)) not in found:
            yield arc
        elif twin == "rest":
            yield replace(arc, factor=WEIGHT)


def _labelled(product: Product, groups: list[list[int]]) -> tuple[Place, ...]:
    """The places of groups, labelled by the modes they unite; a label is unique within its node."""
    taken: set[tuple[str, str]] = set()
    places: list[Place] = []
    for group in groups:
        node = product.places[group[0]].node
        label = "|".join(sorted({part for index in group for part in product.places[index].label.split("|")}))
        name, count = label, 1
        while (node, name) in taken:
            count += 1
            name = f"{label}~{count}"
        taken.add((node, name))
        places.append(replace(product.places[group[0]], label=name))
    return tuple(places)
