"""`embedding`: a column for each token of a vocabulary, `(size of target, size of vocabulary)`."""

from forwardgrad.weights.forms import FORMS
from forwardgrad.weights.kind import Kind

EMBEDDING = Kind("embedding", FORMS["dense"], init="normal(1.0)", sizing=("value", "init"))
