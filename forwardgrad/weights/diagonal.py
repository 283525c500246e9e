"""`diagonal`: a number per unit, which reads the unit of the same index."""

from forwardgrad.weights.forms import FORMS
from forwardgrad.weights.kind import Kind

DIAGONAL = Kind("diagonal", FORMS["diagonal"], init="uniform(0.1, 0.9)", read_off=1, sizing=("value", "init"))
