"""The layout `lossless`: all influence, in the words that are derived for it."""

from __future__ import annotations

from forwardgrad.layouts.layout import Layout
from forwardgrad.layouts.traces import Traces

LOSSLESS = Layout(
    "lossless", Traces, keeps="all influence, each as narrow as its structure word allows", source="", lossless=True
)
