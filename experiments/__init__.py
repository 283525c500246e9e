"""Experiments: systems and questions of the literature, each run by one command, `python -m experiments NAME`.

Raw results are `results/NAME.json`; `python -m experiments.report` makes docs/results.md and its plots from them.
"""
