"""Would a wrong engine or compiler be noticed? Faults are planted on purpose, and the oracle must then disagree.

`python -m tests.mutations` prints how each is noticed; `tests/test_mutations.py` holds the suite to it.
"""
