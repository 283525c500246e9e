"""The text of `model.c`: arrays, the functions of a step, and those by which a device learns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forwardgrad.array_program.in_c.device import DeviceCode, static_array
from forwardgrad.array_program.in_c.expressions import Dialect
from forwardgrad.array_program.in_c.names import comment, identifier
from forwardgrad.device.c_losses import losses_text
from forwardgrad.device.c_optimizers import DeviceUpdate
from forwardgrad.device.ports import Ports
from forwardgrad.device.whole_sample import FUNCTIONS, Sample
from forwardgrad.ops import Array


@dataclass(frozen=True)
class Model:
    """A learner as it is about to be written.

    Args:
        code: the functions of its program.
        sample: a step of it.
        ports: the inputs and targets of a sample.
        update: how parameters change.
        dialect: how numbers are spelled.
        trained, frozen: initial parameters, and those that never change, by name.
        start: the state before the first sample.
        losses: the loss of each output, by name.
    """

    code: DeviceCode
    sample: Sample
    ports: Ports
    update: DeviceUpdate
    dialect: Dialect
    trained: Mapping[str, Array]
    frozen: Mapping[str, Array]
    start: Mapping[str, Array]
    losses: Mapping[str, str]

    @property
    def parameters(self) -> int:
        """The entries of the parameters that are trained."""
        return sum(array.size for array in self.trained.values())

    @property
    def numbers(self) -> int:
        """The numbers that are kept from one sample to the next."""
        return sum(each.size for each in self.sample.kept)

    @property
    def saved(self) -> int:
        """The bytes of a saved learner: a mark, a checksum, parameters, optimizer memory and state."""
        return 8 + max(self.numbers, 1) * self.dialect.size + 8 * self.update.powers

    @property
    def memory(self) -> int:
        """The bytes of memory that is written to."""
        return self.saved - 8 + max(self.sample.size, 1) * self.dialect.size

    @property
    def constants(self) -> int:
        """The bytes of arrays that are only read."""
        arrays = [*self.trained.values(), *self.frozen.values(), *self._begun.values()]
        return self.code.constants + sum(array.size for array in arrays) * self.dialect.size

    @property
    def _begun(self) -> Mapping[str, Array]:
        """Arrays of the state that do not begin with zeros."""
        return {key: array for key, array in self.start.items() if np.any(array)}


def model_text(model: Model, head: Sequence[str], mark: int) -> str:
    """The text of `model.c`.

    Args:
        model: the learner.
        head: lines that say what it is.
        mark: a number by which a saved learner is known to be one of this network.
    """
    parts = [
        "\n".join(head),
        '#include "model.h"\n\n#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n\ntypedef model_real real;',
        model.code.text.rstrip(),
        losses_text(set(model.losses.values()), model.dialect.single).rstrip(),
        *_arrays(model),
        *_step(model),
        *_learning(model),
        *_saving(model, mark),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def frozen_arrays(frozen: Mapping[str, Array]) -> dict[str, str]:
    """The names in C of parameters that never change."""
    return {name: identifier("c", place, name) for place, name in enumerate(frozen)}


def _arrays(model: Model) -> Iterable[str]:
    """The memory, and what is only read."""
    sample, dialect = model.sample, model.dialect
    places: list[str] = []
    first = 0
    for each in sample.kept:
        places.append(f"    {each.name} = {first},")
        first += each.size
    yield "/* Where arrays begin that are kept from one sample to the next. */"
    yield _enum([*places, f"    PARAMETERS = {model.parameters},", f"    KEPT = {max(first, 1)}"])
    yield "/* Where arrays begin that a step makes. Some lie where others have ended. */"
    yield _enum(
        [*(f"    {word} = {place}," for word, place in sample.work.items()), f"    WORK = {max(sample.size, 1)}"]
    )
    powers = f"\nstatic double powers[{model.update.powers}];" if model.update.powers else ""
    yield f"static real kept[KEPT], work[WORK];{powers}"
    names = frozen_arrays(model.frozen)
    for name, array in model.frozen.items():
        yield static_array(names[name], array, "real", dialect).rstrip()
    if model.trained:
        initial = np.concatenate([array.ravel() for array in model.trained.values()])
        yield "/* The parameters that learning begins with. */"
        yield static_array("initial", initial, "real", dialect).rstrip()


def _enum(lines: Sequence[str]) -> str:
    return "\n".join(["enum {", *lines, "};"])


def _step(model: Model) -> Iterable[str]:
    """The functions of the program in turn, and what is made of their results."""
    sample, functions = model.sample, model.code.functions
    for part, names in (("observe", FUNCTIONS[:3]), ("assign_credit", FUNCTIONS[3:])):
        lines: list[str] = []
        for name in names:
            arrays = [f"            (void *)({array})," for array in sample.calls[name]]
            lines += ["    {", "        void *const arrays[] = {", *(arrays or ["            NULL,"]), "        };"]
            lines += [f"        {functions[name].name}(arrays, (char *)({sample.rest[name]}));", "    }"]
        yield "\n".join([f"static void {part}(const real *inputs) {{", "    (void)inputs;", *lines, "}"])
    yield ALL_FINITE.rstrip()
    rows = [f"    {{{_kept_name(sample, 'state', key)}, {size}, {sample.after[key]}}}," for key, size in _sizes(model)]
    yield _table("The state, and what it is after a step.", "extent first, size; const real *after;", "states", rows)
    yield KEEP_STATE.rstrip() if rows else "static void keep_state(void) {\n}"
    checks = "\n".join(["static int is_state_finite(void) {", *(_SOUND if rows else []), "    return 1;", "}"])
    yield checks


_SOUND = [
    "    for (size_t n = 0; n < sizeof states / sizeof states[0]; n++) {",
    "        if (!all_finite(states[n].size, states[n].after)) {",
    "            return 0;",
    "        }",
    "    }",
]


def _sizes(model: Model) -> list[tuple[str, int]]:
    return [(each.key, each.size) for each in model.sample.kept if each.group == "state"]


def _kept_name(sample: Sample, group: str, key: str) -> str:
    return next(each.name for each in sample.kept if (each.group, each.key) == (group, key))


def _table(doc: str, fields: str, name: str, rows: Sequence[str]) -> str:
    if not rows:
        return ""
    return "\n".join([*comment(doc), f"static const struct {{ {fields} }} {name}[] = {{", *rows, "};"])


def _learning(model: Model) -> Iterable[str]:
    """What a device calls."""
    sample, update, ports = model.sample, model.update, model.ports
    gradients = [
        f"    {{{_kept_name(sample, 'params', name)}, {array.size}, {sample.gradients[name]}}},"
        for name, array in model.trained.items()
    ]
    fields = "extent first, size; const real *gradient;"
    yield _table("The parameters and their gradients.", fields, "parameters", gradients)
    if gradients:
        yield _update(update)
    yield _begin(model)
    copies: list[str] = []
    for node, (first, size) in ports.outputs.items():
        copies.append(f"    copy({size}, {sample.outputs[node]}, outputs + {first});")
    yield "\n".join(["static void give(real *outputs) {", *copies, "}"])
    sound = " && ".join(
        [
            *(f"all_finite({size}, {sample.outputs[node]})" for node, (_, size) in ports.outputs.items()),
            "is_state_finite()",
        ]
    )
    yield PREDICT.replace("SOUND", sound).rstrip()
    losses: list[str] = []
    checks: list[str] = []
    for node, name in model.losses.items():
        first, size = ports.targets[node][0], ports.outputs[node][1]
        losses.append(
            f"    sum += loss_{name}({size}, {sample.outputs[node]}, targets + {first}, {sample.slopes[node]});"
        )
        if name == "cross_entropy":
            checks += [f"    if (!is_class(targets[{first}], {size})) {{", "        return MODEL_BAD_TARGET;", "    }"]
    text = LEARN.replace("CHECKS\n", "".join(f"{line}\n" for line in checks))
    text = text.replace("LOSSES", "\n".join(losses)).replace("SOUND", sound)
    if not gradients:
        text = text.replace(" || !are_gradients_finite()", "").replace("    update();\n", "")
    yield text.rstrip()


def _update(update: DeviceUpdate) -> str:
    memory = ["            real *const m = p + PARAMETERS;"] if update.memory else []
    return "\n".join(
        [
            "static int are_gradients_finite(void) {",
            "    for (size_t n = 0; n < sizeof parameters / sizeof parameters[0]; n++) {",
            "        if (!all_finite(parameters[n].size, parameters[n].gradient)) {",
            "            return 0;",
            "        }",
            "    }",
            "    return 1;",
            "}",
            "",
            "static void update(void) {",
            *(f"    {line}" for line in update.before),
            "    for (size_t n = 0; n < sizeof parameters / sizeof parameters[0]; n++) {",
            "        for (extent i = 0; i < parameters[n].size; i++) {",
            "            real *const p = kept + parameters[n].first + i;",
            *memory,
            "            const real g = parameters[n].gradient[i];",
            *(f"            {line}" for line in update.each),
            "        }",
            "    }",
            "}",
        ]
    )


def _begin(model: Model) -> str:
    """`model_init` and `model_reset`."""
    state = sum(size for _, size in _sizes(model))
    lines: list[str] = ["void model_reset(void) {"]
    if state:
        lines.append(f"    fill({state}, 0, kept + {model.numbers - state});")
    begun = model._begun  # pyright: ignore[reportPrivateUsage]
    arrays: list[str] = []
    for place, (key, array) in enumerate(begun.items()):
        word = identifier("start", place, key)
        arrays.append(static_array(word, array, "real", model.dialect))
        lines.append(f"    copy({array.size}, {word}, kept + {_kept_name(model.sample, 'state', key)});")
    lines += ["}", "", "void model_init(void) {"]
    if model.trained:
        lines.append("    copy(PARAMETERS, initial, kept);")
        if rest := len(model.update.memory) * model.parameters:
            lines.append(f"    fill({rest}, 0, kept + PARAMETERS);")
    lines += [f"    powers[{place}] = 1;" for place in range(model.update.powers)]
    fill = [FILL] if any("fill(" in line for line in lines) else []
    return "\n".join([COPY, *fill, *arrays, *lines, "    model_reset();", "}"])


def _saving(model: Model, mark: int) -> Iterable[str]:
    powers = ["    {powers, sizeof powers},"] if model.update.powers else []
    yield SAVE.replace("MARK", f"0x{mark:08x}u").replace("POWERS\n", "".join(f"{line}\n" for line in powers)).rstrip()


ALL_FINITE = """\
static int all_finite(extent size, const real *numbers) {
    for (extent i = 0; i < size; i++) {
        if (!isfinite(numbers[i])) {
            return 0;
        }
    }
    return 1;
}
"""

KEEP_STATE = """\
static void keep_state(void) {
    for (size_t n = 0; n < sizeof states / sizeof states[0]; n++) {
        for (extent i = 0; i < states[n].size; i++) {
            kept[states[n].first + i] = states[n].after[i];
        }
    }
}
"""

COPY = """\
static void copy(extent size, const real *from, real *to) {
    for (extent i = 0; i < size; i++) {
        to[i] = from[i];
    }
}
"""

FILL = """\
static void fill(extent size, real number, real *to) {
    for (extent i = 0; i < size; i++) {
        to[i] = number;
    }
}
"""

PREDICT = """\
int model_predict(const model_real *inputs, model_real *outputs) {
    if (!all_finite(MODEL_INPUTS, inputs)) {
        return MODEL_NOT_FINITE;
    }
    observe(inputs);
    if (!(SOUND)) {
        return MODEL_NOT_FINITE;
    }
    give(outputs);
    keep_state();
    return MODEL_OK;
}
"""

LEARN = """\
int model_learn(const model_real *inputs, const model_real *targets, model_real *outputs, model_real *loss) {
    real sum = 0;
    if (!all_finite(MODEL_INPUTS, inputs)) {
        return MODEL_NOT_FINITE;
    }
CHECKS
    observe(inputs);
LOSSES
    assign_credit(inputs);
    if (!isfinite(sum) || !(SOUND) || !are_gradients_finite()) {
        return MODEL_NOT_FINITE;
    }
    give(outputs);
    *loss = sum;
    update();
    keep_state();
    return MODEL_OK;
}
"""

SAVE = """\
/* What is saved: a mark of this network, a checksum, and all that is kept from one sample to the next. */
static const struct { void *memory; size_t size; } saved[] = {
    {kept, sizeof kept},
POWERS
};

static uint32_t checksum(const unsigned char *bytes, size_t size) {
    uint32_t sum = 2166136261u;
    for (size_t i = 0; i < size; i++) {
        sum = (sum ^ bytes[i]) * 16777619u;
    }
    return sum;
}

static void put(uint32_t number, unsigned char *to) {
    for (int i = 0; i < 4; i++) {
        to[i] = (unsigned char)(number >> 8 * i & 255u);
    }
}

static int is_there(uint32_t number, const unsigned char *from) {
    unsigned char bytes[4];
    put(number, bytes);
    return bytes[0] == from[0] && bytes[1] == from[1] && bytes[2] == from[2] && bytes[3] == from[3];
}

void model_save(unsigned char *buffer) {
    unsigned char *to = buffer + 8;
    for (size_t n = 0; n < sizeof saved / sizeof saved[0]; n++) {
        const unsigned char *const from = saved[n].memory;
        for (size_t i = 0; i < saved[n].size; i++) {
            *to++ = from[i];
        }
    }
    put(MARK, buffer);
    put(checksum(buffer + 8, MODEL_SAVED_BYTES - 8), buffer + 4);
}

int model_load(const unsigned char *buffer) {
    const unsigned char *from = buffer + 8;
    if (!is_there(MARK, buffer) || !is_there(checksum(from, MODEL_SAVED_BYTES - 8), buffer + 4)) {
        return MODEL_BAD_SAVE;
    }
    for (size_t n = 0; n < sizeof saved / sizeof saved[0]; n++) {
        unsigned char *const to = saved[n].memory;
        for (size_t i = 0; i < saved[n].size; i++) {
            to[i] = *from++;
        }
    }
    return MODEL_OK;
}
"""
