"""Synthetic tasks of the literature, one file each."""

from forwardgrad.learning.tasks.adding_problem import adding_problem
from forwardgrad.learning.tasks.collection import Labelled, Reference, Valued
from forwardgrad.learning.tasks.copy_memory import copy_memory
from forwardgrad.learning.tasks.cued_count import cued_count
from forwardgrad.learning.tasks.delayed_add import delayed_add
from forwardgrad.learning.tasks.delayed_xor import delayed_xor
from forwardgrad.learning.tasks.embedded_reber import embedded_reber
from forwardgrad.learning.tasks.evidence_accumulation import evidence_accumulation
from forwardgrad.learning.tasks.memory_chain import memory_chain
from forwardgrad.learning.tasks.pattern_generation import pattern_generation
from forwardgrad.learning.tasks.recall import recall
from forwardgrad.learning.tasks.temporal_order import temporal_order
from forwardgrad.learning.tasks.trace_patterning import trace_patterning

__all__ = [
    "Labelled",
    "Reference",
    "Valued",
    "adding_problem",
    "copy_memory",
    "cued_count",
    "delayed_add",
    "delayed_xor",
    "embedded_reber",
    "evidence_accumulation",
    "memory_chain",
    "pattern_generation",
    "recall",
    "temporal_order",
    "trace_patterning",
]
