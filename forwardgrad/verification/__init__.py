"""A compiled program's own decisions, replayed on small sizes and compared with the oracle."""

from forwardgrad.verification.verifying import Replay, Verification, verify

__all__ = ["Replay", "Verification", "verify"]
