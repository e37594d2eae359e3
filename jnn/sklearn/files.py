"""Estimators as files: a `jnn.persistence.Model`, with what is the estimator's own among its extras."""

import dataclasses
import os
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from jnn import persistence
from jnn.sklearn.scaling import Scaling

E = TypeVar("E", bound=Any)

PARTS = ("network_", "likelihood_", "params_")
SCALINGS = ("_scaling", "_target_scaling")
LEFT_OUT = ("_random", "_stream", "_last")
"""What only goes on training needs: a loaded estimator predicts, and starts a stream with new moments."""


def as_model(estimator: BaseEstimator, **more: Any) -> persistence.Model:
    """What a fitted estimator computes, without the estimator; `more` are the model's other parts."""
    check_is_fitted(estimator, "params_")
    own = vars(estimator)
    inputs, target = (own.get(name) for name in SCALINGS)
    return persistence.Model(
        own["network_"],
        own["likelihood_"],
        own["params_"],
        transforms=() if inputs is None else inputs.as_transforms(),
        target_transform=None if target is None else target.as_transforms()[0],
        **more,
    )


def save(estimator: BaseEstimator, path: str | os.PathLike[str]) -> None:
    """Save a fitted estimator."""
    check_is_fitted(estimator, "params_")
    own = {k: v for k, v in vars(estimator).items() if k.endswith("_") or k.startswith("_")}
    given = estimator.get_params(deep=False)
    for name in ("optimizer", "device"):
        if given[name] is not None:
            raise persistence.UnsupportedError(
                f"{name} is an object of this program, which a file cannot hold: set_params({name}=None) before saving"
            )
    given["likelihood"] = None  # the fitted one is a part of the model
    given["random_state"] = None if isinstance(given["random_state"], np.random.RandomState) else given["random_state"]
    extra = {
        "estimator": type(estimator).__name__,
        "parameters": given,
        "own_likelihood": getattr(estimator, "likelihood", None) is not None,
        "fitted": {k: v for k, v in own.items() if k not in (*PARTS, *SCALINGS, *LEFT_OUT)},
        "scalings": {k: dataclasses.astuple(own[k]) for k in SCALINGS if own.get(k) is not None},
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
    for name in SCALINGS:
        setattr(estimator, name, Scaling(*extra["scalings"][name]) if name in extra["scalings"] else None)
    vars(estimator).update(extra["fitted"])
    estimator._last, estimator._stream = model.params, None
    estimator._random = check_random_state(estimator.random_state)
    return estimator
