"""What is taken where nothing is said: the same in Python and in every command."""

RULE = "rtrl"
"""The exact gradient: who asks for less knows what for."""

BACKEND = "numpy"
"""It needs nothing else."""

DTYPE = "float64"
"""In it gradients of two programs can be compared. `float32` is faster and takes half the memory."""
