"""`identity`: values pass as they are; there is no weight."""

from forwardgrad.weights.forms import FORMS
from forwardgrad.weights.kind import Kind

IDENTITY = Kind("identity", FORMS["identity"])
