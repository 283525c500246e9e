"""The job behind `forwardgrad train`: learn from a series or a file, stop, go on, report; serve what was learned."""

from forwardgrad.training.curve import curve_picture
from forwardgrad.training.folder import CHECKPOINT, Hold, prepare
from forwardgrad.training.keeping import Every, Keeper, train
from forwardgrad.training.results import read_report, report, write
from forwardgrad.training.resuming import begin
from forwardgrad.training.run import Run, Trained
from forwardgrad.training.serving import Served
from forwardgrad.training.settings import Settings, baselines, ends
from forwardgrad.training.stopping import Signals, Stopped
from forwardgrad.training.tasks import Task

__all__ = [
    "CHECKPOINT",
    "Every",
    "Hold",
    "Keeper",
    "Run",
    "Served",
    "Settings",
    "Signals",
    "Stopped",
    "Task",
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
