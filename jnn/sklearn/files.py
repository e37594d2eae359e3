"""Estimators as files: a `jnn.persistence.Model`, with what is the estimator's own among its extras."""

import os
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from jnn import persistence
from jnn.model import Model
from jnn.optimizers import Optimizer

E = TypeVar("E", bound=Any)

PARTS = ("network_", "likelihood_", "params_", "_transforms", "_target_scaling")
"""What the model holds."""
LEFT_OUT = ("_random", "_stream", "_last", "_predictor")
"""What only goes on training needs: a loaded estimator predicts, and starts a stream with new moments."""


def as_model(estimator: BaseEstimator, **more: Any) -> Model:
    """What a fitted estimator computes, without the estimator; `more` are the model's other parts."""
    check_is_fitted(estimator, "params_")
    own = vars(estimator)
    return Model(
        own["network_"],
        own["likelihood_"],
        own["params_"],
        transforms=own["_transforms"],
        target_transform=own.get("_target_scaling"),
        **more,
    )


def save(estimator: BaseEstimator, path: str | os.PathLike[str]) -> None:
    """Save a fitted estimator."""
    check_is_fitted(estimator, "params_")
    own = {k: v for k, v in vars(estimator).items() if k.endswith("_") or k.startswith("_")}
    given = estimator.get_params(deep=False)
    for name, held in (("optimizer", Optimizer), ("device", type(None))):
        if not isinstance(given[name], held | None):
            raise persistence.UnsupportedError(
                f"{name} is an object of this program, which a file cannot hold: set_params({name}=None) before saving"
            )
    given["likelihood"] = None  # the fitted one is a part of the model
    given["random_state"] = None if isinstance(given["random_state"], np.random.RandomState) else given["random_state"]
    extra = {
        "estimator": type(estimator).__name__,
        "parameters": given,
        "own_likelihood": getattr(estimator, "likelihood", None) is not None,
        "fitted": {k: v for k, v in own.items() if k not in (*PARTS, *LEFT_OUT)},
    }
    persistence.save(path, as_model(estimator, extra=extra))


def load(kind: type[E], path: str | os.PathLike[str]) -> E:
    """Load a fitted estimator.

    Raises:
        ForeignFileError: if the file has a model, but not an estimator of this kind.
        PersistenceError: as `persistence.load` does.
    """
    model = persistence.load(path)
    if model.extra.get("estimator") != kind.__name__:
        found = model.extra.get("estimator", "a model without an estimator, which jnn.persistence.load reads")
        raise persistence.ForeignFileError(f"{os.fspath(path)}: expected a saved {kind.__name__}, found {found}")
    extra = dict(model.extra)
    estimator = kind(**extra["parameters"])
    if extra["own_likelihood"]:
        estimator.likelihood = model.likelihood
    estimator.network_, estimator.likelihood_, estimator.params_ = model.network, model.likelihood, model.params
    estimator._transforms, estimator._target_scaling = model.transforms, model.target_transform
    vars(estimator).update(extra["fitted"])
    estimator._last, estimator._stream = model.params, None
    estimator._predictor = estimator._made_model()
    estimator._random = check_random_state(estimator.random_state)
    return estimator
