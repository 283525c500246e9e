"""Learners for devices: a program as C99 that needs no Python, no heap and no library but that of mathematics."""

from __future__ import annotations

from forwardgrad.device.exporting import Exported as Exported
from forwardgrad.device.exporting import export as export
