"""Feed-forward neural networks as pure functions over parameter pytrees.

Losses are derived as negative log-likelihoods, gradients come from hand-written backpropagation and from autodiff, each
checked against the other, and training is one compiled program. See the README for a tour.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jnn import (
    activations as activations,
    backprop as backprop,
    curvature as curvature,
    data as data,
    likelihoods as likelihoods,
    model as model,
    networks as networks,
    objectives as objectives,
    optimizers as optimizers,
    schedules as schedules,
    training as training,
    transforms as transforms,
)
from jnn.compilation import enable_compilation_cache as enable_compilation_cache
from jnn.model import Model as Model
from jnn.networks import dag as dag, describe as describe, mlp as mlp
from jnn.optimizers import (
    adam as adam,
    levenberg_marquardt as levenberg_marquardt,
    rprop as rprop,
    steepest_descent as steepest_descent,
)
from jnn.training import Checkpoints as Checkpoints, fit as fit, stopping as stopping

# Imported when first used: a short script that trains one network starts sooner without them.
if TYPE_CHECKING:
    from jnn import ensembles as ensembles, gradcheck as gradcheck, laplace as laplace, persistence as persistence


def __getattr__(name: str) -> Any:
    if name in ("ensembles", "gradcheck", "laplace", "persistence"):
        return importlib.import_module(f"jnn.{name}")
    raise AttributeError(f"module 'jnn' has no attribute {name!r}")
