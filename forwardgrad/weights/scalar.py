"""`scalar`: one number for all units."""

from forwardgrad.weights.forms import FORMS
from forwardgrad.weights.kind import Kind

SCALAR = Kind("scalar", FORMS["scalar"], init="uniform(0.1, 0.9)", read_off=0)
