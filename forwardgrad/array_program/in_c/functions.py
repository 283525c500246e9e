"""exp and tanh in C, without branches, so that loops which call them can be vectorised.

Both are within 2 units in the last place of the exact value, and keep what is not a number. Results of `exp` below
twice the smallest normal number become zero. Forms and coefficients are those of Cephes (S. Moshier,
netlib.org/cephes).
"""

from __future__ import annotations

from collections.abc import Mapping

DOUBLE: Mapping[str, str] = {
    "exp_of": """\
/* exp(x): 2^n exp(r), where r is at most half of log(2). Adding 1.5 * 2^52 leaves n in the last bits. */
static inline double exp_of(double x) {
    const double within = x > 709.8 ? 709.8 : x < -709.0 ? -709.0 : x;
    union { double number; uint64_t bits; } n = {within * 1.4426950408889634 + 6755399441055744.0};
    const double whole = n.number - 6755399441055744.0;
    const double r = within - whole * 6.93145751953125e-1 - whole * 1.42860682030941723212e-6;
    const double s = r * r;
    const double p = r * ((1.26177193074810590878e-4 * s + 3.02994407707441961300e-2) * s + 9.99999999999999999910e-1);
    double q = (3.00198505138664455042e-6 * s + 2.52448340349684104192e-3) * s + 2.27265548208155028766e-1;
    q = q * s + 2;
    n.bits = (n.bits + 1022) << 52;
    return x < -708.0 ? 0 : (1 + 2 * (p / (q - p))) * n.number * 2;
}
""",
    "tanh_of": """\
/* tanh(x): near zero a rational function, and 1 - 2 / (exp(2 x) + 1) elsewhere. */
static inline double tanh_of(double x) {
    const double size = fabs(x), s = x * x;
    const double p = (-9.64399179425052238628e-1 * s - 9.92877231001918586564e1) * s - 1.61468768441708447952e3;
    const double q = ((s + 1.12811678491632931402e2) * s + 2.23548839060100448583e3) * s + 4.84406305325125486048e3;
    const double far = 1 - 2 / (exp_of(2 * size) + 1);
    return size < 0.625 ? x + x * s * (p / q) : x < 0 ? -far : far;
}
""",
}

SINGLE: Mapping[str, str] = {
    "exp_of": """\
/* exp(x): 2^n exp(r), where r is at most half of log(2). Adding 1.5 * 2^23 leaves n in the last bits. */
static inline float exp_of(float x) {
    const float within = x > 88.8f ? 88.8f : x < -87.0f ? -87.0f : x;
    union { float number; uint32_t bits; } n = {within * 1.44269504f + 12582912.0f};
    const float whole = n.number - 12582912.0f;
    const float r = within - whole * 0.693359375f + whole * 2.12194440e-4f;
    float p = (1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f;
    p = ((p * r + 4.1665795894e-2f) * r + 1.6666665459e-1f) * r + 5.0000001201e-1f;
    n.bits = (n.bits + 126) << 23;
    return x < -86.6f ? 0 : (p * (r * r) + r + 1) * n.number * 2;
}
""",
    "tanh_of": """\
/* tanh(x): near zero a polynomial, and 1 - 2 / (exp(2 x) + 1) elsewhere. */
static inline float tanh_of(float x) {
    const float size = fabsf(x), s = x * x;
    float p = (-5.70498872745e-3f * s + 2.06390887954e-2f) * s - 5.37397155531e-2f;
    p = (p * s + 1.33314422036e-1f) * s - 3.33332819422e-1f;
    const float far = 1 - 2 / (exp_of(2 * size) + 1);
    return size < 0.625f ? p * s * x + x : x < 0 ? -far : far;
}
""",
}
