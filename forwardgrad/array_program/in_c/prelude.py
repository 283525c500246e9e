"""What each translation unit of C begins with: the types that its functions exchange, and helpers that it uses."""

from __future__ import annotations

import re
from collections.abc import Mapping

from forwardgrad.array_program.dimensions import SYMBOLS
from forwardgrad.array_program.in_c.expressions import Dialect
from forwardgrad.array_program.in_c.functions import DOUBLE, SINGLE
from forwardgrad.array_program.in_c.kernels import KERNELS
from forwardgrad.array_program.in_c.passing_over import PASSING_OVER

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
struct job;

/* A call: what symbols stand for, how many threads may share the work, the constants of the program, what draws
   random signs, and what has the pieces of a job done, by whichever threads are free. */
typedef struct call {{
    extent {symbols}, threads;
    void *const *constants;
    void (*signs)(extent stream, extent steps, extent batch, const real *draw, const real *block, real *result);
    void (*share)(struct job *job, extent pieces);
}} call;

/* Set results that are subnormal to zero; returns how it was before. */
static inline unsigned int zero_subnormal(void) {{
#if defined(__SSE__)
    const unsigned int before = _mm_getcsr();
    _mm_setcsr(before | 0x8000);
    return before;
#else
    return 0;
#endif
}}

/* Treat subnormal results as before. */
static inline void as_before(unsigned int before) {{
#if defined(__SSE__)
    _mm_setcsr(before);
#else
    (void)before;
#endif
}}

/* The bytes that an array takes, rounded up so that the next array begins at a line of the cache. */
static inline size_t room(extent entries, size_t size) {{
    return entries > 0 ? ((size_t)entries * size + 63) / 64 * 64 : 0;
}}
"""

ENTRY = """
/* Run a function with subnormal results set to zero, where the processor can do so: they are slow, and decay. */
void enter(void (*function)(const call *, void *const *, char *), const call *c, void *const *arrays, char *rest) {
    const unsigned int before = zero_subnormal();
    function(c, arrays, rest);
    as_before(before);
}
"""
"""How functions are run from outside."""

JOBS = """\
enum { PIECES = 16, WORTH = 1 << 24 };

/* A part of a function: what it computes of an axis from one entry to another. */
typedef void part(const call *c, void *const *arrays, char *rest, char *scratch, extent from, extent to);

/* A part that several threads compute, each of them some pieces; a unit is entries that stay together. */
typedef struct job {
    part *run;
    const call *c;
    void *const *arrays;
    char *rest, *scratch;
    size_t room;
    extent length, unit, pieces;
    truth done[PIECES];
} job;

/* The pieces of which work consists at the most. */
static inline extent pieces(const call *c) {
    return c->threads < 2 ? 1 : c->threads < PIECES ? c->threads : PIECES;
}

/* Compute a piece. Subnormal results become zero, as in `enter`. */
void compute(job *j, extent i) {
    const extent units = j->length / j->unit, first = units * i / j->pieces, end = units * (i + 1) / j->pieces;
    const unsigned int before = zero_subnormal();
    j->run(j->c, j->arrays, j->rest, j->scratch + (size_t)i * j->room, first * j->unit,
           i + 1 == j->pieces ? j->length : end * j->unit);
    as_before(before);
    j->done[i] = 1;
}

/* Compute a part, in pieces if it is worth it. What is not done when all helped is done here. */
static inline void shared(part *run, const call *c, void *const *arrays, char *rest, char *scratch, size_t room,
                          extent length, extent unit, extent work) {
    const extent units = length / unit, most = pieces(c);
    job j = {run, c, arrays, rest, scratch, room, length, unit, units < most ? units : most, {0}};
    if (j.pieces < 2 || work < WORTH) {
        run(c, arrays, rest, scratch, 0, length);
        return;
    }
    c->share(&j, j.pieces);
    for (extent i = 0; i < j.pieces; i++) {
        if (!j.done[i]) {
            compute(&j, i);
        }
    }
}
"""

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
    return "\n".join([head, JOBS, *helpers(text, dialect, {"packing_room": KERNELS, "passing_room": PASSING_OVER})])


def helpers(text: str, dialect: Dialect, more: Mapping[str, str]) -> list[str]:
    """The functions that a text calls, and those that they call: ours, and more of them by name."""
    known = {**(SINGLE if dialect.single else DOUBLE), **HELPERS, **more}
    wanted, used = set[str](), set(re.findall(r"\w+", text))
    while new := (used & known.keys()) - wanted:
        wanted |= new
        used.update(*(re.findall(r"\w+", known[name]) for name in new))
    return [text.replace("~", dialect.suffix) for name, text in known.items() if name in wanted]
