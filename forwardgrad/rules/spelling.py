"""The text of a rule: where quotes are, and what may do without them."""

from __future__ import annotations

import ast

from forwardgrad.ops.formula import parsed


def split(text: str, sign: str) -> list[str]:
    """The parts between the signs that stand outside quotes; one is empty where a part is missing.

    >>> split("cut(['a & b']) & near", "&")
    ["cut(['a & b'])", 'near']
    """
    terms = [""]
    for part, within in _runs(text):
        if within:
            terms[-1] += part
            continue
        first, *others = part.split(sign)
        terms[-1] += first
        terms += others
    return [term.strip() for term in terms]


def quoted(text: str) -> str:
    """A text in which what stands bare in mappings and lists, and is neither a number nor a truth value, has quotes.

    A bare word ends at the next comma, colon or bracket. One with such a sign in it needs quotes of its own; so does
    one with a quotation mark. Round brackets belong to the word: `random(1.0)`.

    >>> quoted("feedback={l1.h->y out: random(1.0), 'a:b': [0.5, -1e3]}, seed=3")
    "feedback={'l1.h->y out':'random(1.0)','a:b':[0.5,-1e3]}, seed=3"
    """
    found, word, depth, rounds = "", "", 0, 0
    for part, within in _runs(text):
        if within:
            found, word = (found, word + part) if depth else (found + part, word)
            continue
        for sign in part:
            if not depth:
                found += sign
                depth += sign in "{["
            elif sign in "{}[]" or (sign in ",:" and not rounds):
                found += _word(word) + sign
                word, rounds = "", 0
                depth += (sign in "{[") - (sign in "}]")
            else:
                word += sign
                rounds = max(0, rounds + (sign == "(") - (sign == ")"))
    return found + word


def _word(bare: str) -> str:
    """A bare word with quotes; what can be read as it is stays so."""
    bare = bare.strip()
    try:
        if bare:
            ast.literal_eval(parsed(bare))
        return bare
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return bare if "'" in bare or '"' in bare else repr(bare)


def _runs(text: str) -> list[tuple[str, bool]]:
    """The text in parts that stand within quotes, the quotes among them, or outside."""
    parts: list[tuple[str, bool]] = []
    quote = run = ""
    escaped = False
    for character in text:
        if quote:
            run += character
            if character == quote and not escaped:
                parts.append((run, True))
                quote = run = ""
            escaped = character == "\\" and not escaped
        elif character in "'\"":
            parts.append((run, False))
            quote = run = character
        else:
            run += character
    parts.append((run, bool(quote)))
    return parts
