"""What each translation unit of C begins with: the types that its functions exchange, and helpers that it uses."""

from __future__ import annotations

import re
from collections.abc import Mapping

from forwardgrad.array_program.c_expressions import Dialect
from forwardgrad.array_program.c_functions import DOUBLE, SINGLE
from forwardgrad.array_program.c_kernels import KERNELS
from forwardgrad.array_program.dimensions import SYMBOLS

HEAD = """\
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

typedef {real} real;
typedef ptrdiff_t extent;
typedef unsigned char truth;

/* A call: what symbols stand for, the constants of the program, and what draws random signs. */
typedef struct call {{
    extent {symbols};
    void *const *constants;
    void (*signs)(extent stream, extent steps, extent batch, const real *draw, const real *block, real *result);
}} call;

/* The bytes that an array takes, rounded up so that the next array begins at a line of the cache. */
static inline size_t room(extent entries, size_t size) {{
    return entries > 0 ? ((size_t)entries * size + 63) / 64 * 64 : 0;
}}
"""

ENTRY = """
/* Run a function with subnormal results set to zero, where the processor can do so: they are slow, and decay. */
void enter(void (*function)(const call *, void *const *, char *), const call *c, void *const *arrays, char *rest) {
#if defined(__SSE__)
    const unsigned int before = _mm_getcsr();
    _mm_setcsr(before | 0x8000);
    function(c, arrays, rest);
    _mm_setcsr(before);
#else
    function(c, arrays, rest);
#endif
}
"""
"""How functions are run from outside."""

HELPERS: Mapping[str, str] = {
    "larger_room": """\
static inline size_t larger_room(size_t one, size_t other) {
    return one > other ? one : other;
}
""",
    "flushed": """\
/* Zero, if a number is next to nothing. */
static inline real flushed(real x, real least) {
    return fabs~(x) < least ? 0 : x;
}
""",
    "sign_of": """\
static inline real sign_of(real x) {
    return x > 0 ? 1 : x < 0 ? -1 : x;
}
""",
    "squared": """\
static inline real squared(real x) {
    return x * x;
}
""",
    "larger": """\
/* The larger of two numbers; not a number if one of them is not. */
static inline real larger(real x, real y) {
    return x > y || x != x ? x : y;
}
""",
    "smaller": """\
/* The smaller of two numbers; not a number if one of them is not. */
static inline real smaller(real x, real y) {
    return x < y || x != x ? x : y;
}
""",
    "log_of_sum": """\
/* log(exp(x) + exp(y)), where exp may be too large for its type. */
static inline real log_of_sum(real x, real y) {
    const real most = x > y ? x : y;
    return x == y ? x + log~(2) : x != x || y != y ? x + y : most + log1p~(exp_of(-fabs~(x - y)));
}
""",
}
"""Helpers by name; `~` is the suffix of functions of `math.h`."""


def prelude(text: str, dialect: Dialect) -> str:
    """The beginning of a translation unit, whose functions are given."""
    head = HEAD.format(real="float" if dialect.single else "double", symbols=", ".join(SYMBOLS))
    return "\n".join([head, *helpers(text, dialect, {"few_panels": KERNELS})])


def helpers(text: str, dialect: Dialect, more: Mapping[str, str]) -> list[str]:
    """The functions that a text calls, and those that they call: ours, and more of them by name."""
    known = {**(SINGLE if dialect.single else DOUBLE), **HELPERS, **more}
    wanted, used = set[str](), set(re.findall(r"\w+", text))
    while new := (used & known.keys()) - wanted:
        wanted |= new
        used.update(*(re.findall(r"\w+", known[name]) for name in new))
    return [text.replace("~", dialect.suffix) for name, text in known.items() if name in wanted]
