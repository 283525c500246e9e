"""The job behind `forwardgrad train`: learn to predict a series one step ahead, stop, go on, report."""

from forwardgrad.training.curve import curve_picture
from forwardgrad.training.folder import CHECKPOINT, Hold, prepare
from forwardgrad.training.keeping import Every, Keeper, train
from forwardgrad.training.results import read_report, report, write
from forwardgrad.training.resuming import begin
from forwardgrad.training.run import Run, Trained
from forwardgrad.training.settings import Settings, baselines, ends
from forwardgrad.training.stopping import Signals, Stopped

__all__ = [
    "CHECKPOINT",
    "Every",
    "Hold",
    "Keeper",
    "Run",
    "Settings",
    "Signals",
    "Stopped",
    "Trained",
    "baselines",
    "begin",
    "curve_picture",
    "ends",
    "prepare",
    "read_report",
    "report",
    "train",
    "write",
]
