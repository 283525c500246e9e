"""`dense`: a matrix, `(size of target, size of source)`."""

from forwardgrad.weights.forms import FORMS
from forwardgrad.weights.kind import Kind

DENSE = Kind("dense", FORMS["dense"], init="glorot", read_off=2, sizing=("value", "init"))
