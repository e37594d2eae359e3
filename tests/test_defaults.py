"""What is not given: whoever changes a default changes what everybody's scripts compute."""

import inspect

import numpy as np
import pytest
from sklearn import neural_network

import jnn
from jnn import backprop, curvature, data, ensembles, laplace, likelihoods, networks, objectives
from jnn.likelihoods import Gaussian
from jnn.model import Model
from jnn.posterior import Posterior
from jnn.sklearn import leverages, linear, recipe
from jnn.training.settings import DEFAULTS
from jnn.transforms import Clip, Encode, Pieces, Squash, Whiten

SUMS = {"reduction": "mean", "weight_decay": 0.0, "mask": None}
EXPECTED = {
    objectives.objective: SUMS,
    backprop.value_and_grad: SUMS,
    curvature.hessian: SUMS,
    curvature.gauss_newton: SUMS,
    curvature.hessian_vector_product: SUMS,
    curvature.gauss_newton_vector_product: SUMS,
    curvature.diagonal: SUMS | {"of": "gauss_newton"},
    curvature.kronecker_factors: {"reduction": "mean"},
    curvature.differentiable: SUMS,
    jnn.mlp: {"hidden": "tanh", "shortcuts": False},
    jnn.dag: {"hidden": "tanh", "neurons": None, "evaluation": None},
    networks.Network.init: {"bias": 0.0},
    likelihoods.Likelihood.nll: {"complete": False},
    Gaussian: {"s": 1.0},
    likelihoods.SquaredError: {"output": "logistic", "s": 1.0},
    Squash.fit: {"bound": 3.0, "beyond": 4.0},  # where columns end, and what a heavy tail is, in deviations
    Clip.fit: {"margin": 0.5},  # half a range
    Whiten.fit: {"components": None},
    Encode.fit: {"categories": ()},
    Pieces.fit: {"numbers": None, "multiple_of": 1},
    laplace.fit: {"structure": "full", "noise": None, "weights": None},
    laplace.train: {"restarts": 8, "keep": 1, "rounds": 20, "epochs": 50, "structure": "full", "tolerance": 1e-3},
    laplace.leverages: {"weight_decay": 0.01},
    laplace.sampling_covariance: {"kind": "observed", "of": None},
    data.parquet: {"weights": None, "columns": None, "dtype": np.float32, "memory": 2**28},
    data.arrow: {"weights": None, "columns": None, "dtype": np.float32, "memory": 2**28},
    ensembles.fit: {"members": None, "lanes": None, "callback_every": 1},
    ensembles.cross_validate: {"folds": 5, "score": None},
    Model.interval: {"coverage": 0.95},
    Posterior: {"noise": 1.0},
}


@pytest.mark.parametrize("function", EXPECTED, ids=lambda f: f.__qualname__)
def test_defaults_are_those_that_scripts_were_written_for(function) -> None:
    parameters = inspect.signature(inspect.unwrap(function)).parameters
    expected = EXPECTED[function]
    assert {name: parameters[name].default for name in expected} == expected


def test_numbers_of_the_estimators() -> None:
    """Chosen by hand, and what the published tables of `experiments` were made with."""
    np.testing.assert_allclose(linear.PENALTIES, 10 ** np.arange(-5, 3.5, 0.5))
    assert (linear.DOUBT, linear.TOLERANCE, linear.CAUTION) == (5, 1e-3, 8)
    np.testing.assert_allclose(leverages.DECAYS, 10 ** np.arange(-3, 4.5, 0.5))
    assert (leverages.AGAINST, leverages.KEPT, leverages.MOST) == (1, 2048, 512)
    assert recipe.RECIPE == {"activation": "silu", "alpha": 1.0, "learning_rate_init": 0.02, "members": 8}
    assert (recipe.HIDDEN, recipe.HIDDEN_FOR_FEW, recipe.FEW) == ((64, 64), (32, 32), 400)
    assert (recipe.LAST_RATE, recipe.BATCH_SIZES, recipe.UPDATES, recipe.EPOCHS) == (0.02, (32, 27), 1000, (40, 100))
    theirs = inspect.signature(neural_network.MLPRegressor).parameters
    expected = {name: theirs[name].default for name in recipe.SCIKIT_LEARNS if name != "members"}
    assert {**expected, "members": 1} == recipe.SCIKIT_LEARNS


def test_defaults_of_training() -> None:
    plain = {name: value for name, value in DEFAULTS.items() if name not in ("optimizer", "initializer")}
    assert plain == {
        "epochs": 100, "batch_size": 32, "shuffle": True, "validate_every": 1, "stopping": None, "weight_decay": 0.0,
        "mask": None, "reduction": "mean", "gradient": "backprop", "progress": False,
    }  # fmt: skip
    assert DEFAULTS["optimizer"] == jnn.adam(1e-3, 0.9, 0.999, 1e-8)
    assert DEFAULTS["initializer"] == networks.fan_in_normal
