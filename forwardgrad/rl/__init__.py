"""Reinforcement learning: environments of gymnasium, several side by side, and runs of an actor-critic in them."""

from forwardgrad.learning.actor_critic import ActorCritic, TDSettings
from forwardgrad.rl.environments import MemoryChain, TracePatterning, make
from forwardgrad.rl.rounds import Learned, Round, RunSettings, evaluate, fitted, learn
from forwardgrad.rl.side_by_side import Moment, SideBySide

__all__ = [
    "ActorCritic",
    "Learned",
    "MemoryChain",
    "Moment",
    "Round",
    "RunSettings",
    "SideBySide",
    "TDSettings",
    "TracePatterning",
    "evaluate",
    "fitted",
    "learn",
    "make",
]
