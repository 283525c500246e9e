"""Do readers of what anybody may have written end in the library's own errors, in bounded time, and run nothing?

`python -m tests.fuzz --inputs N` is the long campaign; `tests/test_fuzz.py` a short one in every run.
"""
