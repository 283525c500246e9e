"""Losses in C: the value of one sample, and its derivative by each unit of the output."""

from __future__ import annotations

from collections.abc import Mapping

LOSSES: Mapping[str, str] = {
    "mse": """\
/* The mean square of the errors. */
static real loss_mse(extent size, const real *y, const real *target, real *slope) {
    real sum = 0;
    for (extent i = 0; i < size; i++) {
        const real error = y[i] - target[i];
        sum += error * error;
        slope[i] = 2 * error / (real)size;
    }
    return sum / (real)size;
}
""",
    "bernoulli": """\
/* The mean of log(1 + exp(y)) - t y. */
static real loss_bernoulli(extent size, const real *y, const real *target, real *slope) {
    real sum = 0;
    for (extent i = 0; i < size; i++) {
        sum += (y[i] > 0 ? y[i] : 0) + log1p~(exp~(-fabs~(y[i]))) - target[i] * y[i];
        slope[i] = (HALF * (1 + tanh~(HALF * y[i])) - target[i]) / (real)size;
    }
    return sum / (real)size;
}
""",
    "signal": """\
/* The product with a learning signal. */
static real loss_signal(extent size, const real *y, const real *target, real *slope) {
    real sum = 0;
    for (extent i = 0; i < size; i++) {
        sum += y[i] * target[i];
        slope[i] = target[i];
    }
    return sum;
}
""",
    "cross_entropy": """\
/* -log softmax(y) at the class that the target names. */
static real loss_cross_entropy(extent size, const real *y, const real *target, real *slope) {
    const extent label = (extent)target[0];
    real most = y[0], sum = 0;
    for (extent i = 1; i < size; i++) {
        most = y[i] > most ? y[i] : most;
    }
    for (extent i = 0; i < size; i++) {
        slope[i] = exp~(y[i] - most);
        sum += slope[i];
    }
    for (extent i = 0; i < size; i++) {
        slope[i] /= sum;
    }
    slope[label] -= 1;
    return log~(sum) - (y[label] - most);
}
""",
}
"""By name; `~` is the suffix of functions of `math.h`."""

LABELLED = """\
/* Whether a target is the number of one of the classes. */
static int is_class(real target, extent classes) {
    return target >= 0 && target < (real)classes && target == (real)(extent)target;
}
"""


def losses_text(names: set[str], single: bool) -> str:
    """The functions of these losses."""
    text = "\n".join(LOSSES[name] for name in sorted(names))
    text = text.replace("~", "f" if single else "").replace("HALF", "0.5f" if single else "0.5")
    return f"{LABELLED}\n{text}" if "cross_entropy" in names else text
