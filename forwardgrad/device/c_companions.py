"""The files beside `model.c`: its header, a program that reads samples, and a Makefile."""

from __future__ import annotations

from collections.abc import Sequence

from forwardgrad.array_program.in_c.names import comment
from forwardgrad.device.c_model import Model
from forwardgrad.device.ports import Ports, Ranges


def header_text(model: Model, head: Sequence[str]) -> str:
    """The text of `model.h`."""
    ports = model.ports
    sizes = {
        "MODEL_INPUTS": Ports.size(ports.inputs),
        "MODEL_TARGETS": Ports.size(ports.targets),
        "MODEL_OUTPUTS": Ports.size(ports.outputs),
    }
    lines = [
        *head,
        "#ifndef FORWARDGRAD_MODEL_H",
        "#define FORWARDGRAD_MODEL_H",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        f"typedef {'float' if model.dialect.single else 'double'} model_real;",
        "",
        "/* The numbers of a sample. */",
        *(f"#define {name} {size}" for name, size in sizes.items()),
        "",
        *_ranges("Inputs", ports.inputs),
        *_ranges("Targets", ports.targets),
        *_ranges("Outputs", ports.outputs),
        "",
        "/* Bytes of memory that is written to, all of it static; and of arrays that are only read. */",
        f"#define MODEL_STATIC_BYTES {model.memory}",
        f"#define MODEL_CONSTANT_BYTES {model.constants}",
        "",
        "/* Bytes of a saved learner. */",
        f"#define MODEL_SAVED_BYTES {model.saved}",
        "",
        DECLARED,
    ]
    return "\n".join(lines)


def _ranges(what: str, ranges: Ranges) -> list[str]:
    parts = [f"{name} at {first} ({size})" for name, (first, size) in ranges.items()]
    return comment(f"{what}, each with its first place and how many: {', '.join(parts) or 'none'}.")


def main_text(model: Model, head: Sequence[str]) -> str:
    """The text of `main.c`."""
    return "\n".join([*head, MAIN.replace("DIGITS", "9" if model.dialect.single else "17")])


DECLARED = """\
/* What the functions answer. After anything but MODEL_OK, the learner is as it was. */
enum {
    MODEL_OK = 0,
    MODEL_NOT_FINITE = 1, /* an input, or what follows from it, is infinite or not a number */
    MODEL_BAD_TARGET = 2, /* a label is not the number of a class */
    MODEL_BAD_SAVE = 3 /* a buffer is damaged, or was saved by another network */
};

/* Initial parameters, nothing learned, and the state before the first sample. Call it first. */
void model_init(void);

/* The state before the first sample, as at the beginning of a sequence. Parameters stay. */
void model_reset(void);

/* A step without a target: predict, and remember the sample. */
int model_predict(const model_real *inputs, model_real *outputs);

/* A step with a target: predict, remember the sample, and learn. Outputs and loss are those before the update. */
int model_learn(const model_real *inputs, const model_real *targets, model_real *outputs, model_real *loss);

/* Write the learner into MODEL_SAVED_BYTES bytes, and read it back where numbers are kept in the same way. */
void model_save(unsigned char *buffer);
int model_load(const unsigned char *buffer);

#ifdef __cplusplus
}
#endif

#endif
"""

MAIN = """\
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUTS = MODEL_INPUTS, NUMBERS = MODEL_INPUTS + MODEL_TARGETS, LONGEST = 64 * NUMBERS + 64 };

static char line[LONGEST];
static model_real sample[NUMBERS + 1], outputs[MODEL_OUTPUTS];

/* The numbers of the line, or -1 if it holds something else, or too many of them. */
static int read_line(void) {
    const char *at = line;
    int count = 0;
    for (;;) {
        char *end;
        at += strspn(at, " \\t\\r\\n,;");
        if (*at == '\\0') {
            return count;
        }
        if (count == NUMBERS) {
            return -1;
        }
        sample[count++] = (model_real)strtod(at, &end);
        if (end == at) {
            return -1;
        }
        at = end;
    }
}

/* A line is a sample: inputs and targets to learn from, or inputs alone to predict. An empty line is a reset. */
int main(void) {
    long number = 0;
    model_init();
    while (fgets(line, LONGEST, stdin) != NULL) {
        model_real loss = 0;
        const int whole = strchr(line, '\\n') != NULL || feof(stdin);
        const int count = whole ? read_line() : -1;
        int answer = MODEL_OK;
        number++;
        if (count == NUMBERS) {
            answer = model_learn(sample, sample + INPUTS, outputs, &loss);
        } else if (count == 0) {
            model_reset();
            continue;
        } else if (count == INPUTS) {
            answer = model_predict(sample, outputs);
        } else {
            fprintf(stderr, "line %ld: expected %d inputs, or %d inputs and targets.\\n", number, INPUTS, NUMBERS);
            return 2;
        }
        if (answer != MODEL_OK) {
            const char *const why = answer == MODEL_BAD_TARGET ? "a label is not a class" : "something is not finite";
            fprintf(stderr, "line %ld: %s.\\n", number, why);
            return 1;
        }
        for (int i = 0; i < MODEL_OUTPUTS; i++) {
            printf(i > 0 ? " %.DIGITSg" : "%.DIGITSg", (double)outputs[i]);
        }
        if (count == NUMBERS) {
            printf(" %.DIGITSg", (double)loss);
        }
        printf("\\n");
    }
    return fflush(stdout) != 0 || ferror(stdin) ? 1 : 0;
}
"""

MAKEFILE = """\
CC = cc
CFLAGS = -O2 -std=c99 -Wall -Wextra -Wconversion -pedantic

learner: main.c model.c model.h
\t$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ main.c model.c -lm

clean:
\trm -f learner

.PHONY: clean
"""
