"""Synthetic tasks of the literature, one file each."""

from forwardgrad.learning.tasks.recall import Labelled, recall

__all__ = ["Labelled", "recall"]
