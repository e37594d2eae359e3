"""Estimators as files: a `jnn.persistence.Model`, with what is the estimator's own among its extras."""

import os
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from jnn import persistence
from jnn.likelihoods import Likelihood
from jnn.model import Model
from jnn.networks import Layered
from jnn.optimizers import Optimizer
from jnn.tables import Table
from jnn.transforms import Standardize

MODELS = ("network_", "likelihood_", "params_", "_transforms", "_target_scaling", "_model", "_columns")
LEFT_OUT = ("_random", "_stream", "_last", "_leverages")
"""What only goes on training needs: a loaded estimator predicts, and starts a stream with new moments."""


class Saved:
    """What estimators have, and what they do with files."""

    network_: Layered
    likelihood_: Likelihood
    n_outputs_: int
    _target_scaling: Standardize | None = None
    _parameter_constraints: dict[str, Any]

    def as_model(self: Any) -> Model:
        """From raw inputs, tables included, to means, for `jnn.persistence.export` and `export_onnx`.

        Its `mean` is in raw units; of two classes it is the probability of the second.
        """
        check_is_fitted(self, "params_")
        table = self._columns if self._columns.names or self._columns.has_categories else None
        return replace(self._model, target_transform=self._target_scaling, table=table)

    def save(self: Any, path: str | os.PathLike[str]) -> None:
        """Save as one safetensors file (see `jnn.persistence`): no pickle, no code, exact to the bit."""
        model = self.as_model()
        given = self.get_params(deep=False)
        for name, held in (("optimizer", Optimizer), ("device", type(None))):
            if not isinstance(given[name], held | None):
                raise persistence.UnsupportedError(
                    f"{name} is an object of this program, which a file cannot hold: set_params({name}=None) first"
                )
        given["likelihood"] = None  # the fitted one is a part of the model
        given["checkpoint"] = None  # it has been trained
        if isinstance(given["random_state"], np.random.RandomState):
            given["random_state"] = None
        extra = {
            "estimator": type(self).__name__,
            "parameters": given,
            "own_likelihood": self.likelihood is not None,
            "fitted": {k: v for k, v in vars(self).items() if "_" in (k[0], k[-1]) and k not in MODELS + LEFT_OUT},
        }
        persistence.save(path, replace(model, extra=extra))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Any:
        """Load what `save` wrote.

        Raises:
            ForeignFileError: if the file has a model, but not an estimator of this kind.
            PersistenceError: as `persistence.load` does.
        """
        model = persistence.load(path)
        found = model.extra.get("estimator", "a model without an estimator, which jnn.persistence.load reads")
        if found != cls.__name__:
            raise persistence.ForeignFileError(f"{os.fspath(path)}: expected a saved {cls.__name__}, found {found}")
        estimator: Any = cls(**model.extra["parameters"])
        if model.extra["own_likelihood"]:
            estimator.likelihood = model.likelihood
        vars(estimator).update(
            model.extra["fitted"],
            network_=model.network,
            likelihood_=model.likelihood,
            params_=model.params,
            _transforms=model.transforms,
            _target_scaling=model.target_transform,
            _model=replace(model, target_transform=None, table=None, extra={}),
            _columns=model.table or Table(None, (None,) * model.inputs),
            _stream=None,
            _leverages=None,
            _random=check_random_state(estimator.random_state),
        )
        estimator._last = estimator._in_units(model.params, of="training")
        return estimator
