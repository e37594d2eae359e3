"""Training: one compiled program from initial weights to the best hypothesis."""

from jnn.training import stopping as stopping
from jnn.training.checkpoints import CheckpointError as CheckpointError, Checkpoints as Checkpoints
from jnn.training.fitting import (
    Callback as Callback,
    DivergenceWarning as DivergenceWarning,
    Snapshot as Snapshot,
    fit as fit,
)
from jnn.training.result import FitResult as FitResult, History as History
from jnn.training.settings import NoGradientWarning as NoGradientWarning, Settings as Settings
