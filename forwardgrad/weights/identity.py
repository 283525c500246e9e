"""`identity`: values pass unchanged, without a weight."""

from forwardgrad.weights.forms import FORMS
from forwardgrad.weights.kind import Kind

IDENTITY = Kind("identity", FORMS["identity"])
