"""Training: one compiled program from initial weights to the best hypothesis."""

from jnn.training import stopping as stopping
from jnn.training.fitting import Callback as Callback
from jnn.training.fitting import DivergenceWarning as DivergenceWarning
from jnn.training.fitting import Snapshot as Snapshot
from jnn.training.fitting import fit as fit
from jnn.training.result import FitResult as FitResult
from jnn.training.result import History as History
from jnn.training.settings import NoGradientWarning as NoGradientWarning
from jnn.training.settings import Settings as Settings
