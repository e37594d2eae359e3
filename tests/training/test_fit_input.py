"""What `fit` refuses, by message, and what it warns of. Nothing here trains longer than an epoch."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import adam, dag, fit, mlp, stopping
from jnn.likelihoods import Bernoulli, Categorical, Gaussian
from jnn.training import NoGradientWarning

from .. import typechecker

X = np.random.default_rng(0).normal(size=(6, 2))
Y = X[:, :1]
NAN = np.where(np.arange(12).reshape(6, 2) == 7, np.nan, X)
PARAMS = mlp([2, 1]).init(jax.random.key(0))
MASK = jax.tree.map(lambda w: np.array(True), PARAMS)

CASES = {
    # name: (settings, exception, message)
    "columns": ({"x": X[:, :1]}, ValueError, r"expected x of shape \(n, 2\), one row an example; got \(6, 1\)"),
    "no examples": ({"x": X[:0], "y": Y[:0]}, ValueError, "expected at least one example, got none"),
    "nan": ({"x": NAN}, ValueError, r"x has NaN or infinite values \(in float64\) in 1 rows, the first is row 3"),
    "inf": (
        {"x": np.full((6, 2), np.inf)},
        ValueError,
        "infinite values .* in 6 rows, the first is row 0",
    ),
    "too large": (
        {"x": 1e300 * X, "params": PARAMS},
        ValueError,
        r"x has NaN or infinite values \(in float32\) in 6 rows",
    ),
    "complex": ({"x": X + 0j}, TypeError, "x of real numbers, got dtype complex128 .*; pass real and imaginary"),
    "words": ({"x": np.full((6, 2), "a")}, TypeError, "expected x of real numbers, got dtype <U1"),
    "objects": ({"x": np.full((6, 2), None)}, TypeError, "expected x of real numbers, got dtype object"),
    "fewer targets": ({"y": Y[:5]}, ValueError, "expected a target for each of the 6 examples, got 5"),
    "target columns": (
        {"y": X},
        ValueError,
        r"expected shape \(..., 1\) for 1 outputs, got \(6, 2\)",
    ),
    "flat targets": ({"y": Y[:, 0]}, ValueError, r"use y\[:, None\]"),
    "deep targets": ({"y": np.zeros((6, 2, 1))}, ValueError, r"expected y of shape \(n, K\), or .*; got \(6, 2, 1\)"),
    "nan targets": ({"y": np.full((6, 1), np.nan)}, ValueError, "Gaussian targets: expected finite numbers"),
    "targets beyond 0, 1": ({"likelihood": Bernoulli()}, ValueError, "expected only 0 and 1"),
    "one class": ({"likelihood": Categorical(), "y": np.zeros(6, int)}, ValueError, "at least two outputs"),
    "epochs": ({"epochs": 0}, ValueError, "expected epochs as an integer of at least 1, got 0"),
    "batch size": ({"batch_size": 0}, ValueError, "expected batch_size as an integer of at least 1, got 0"),
    "validate_every": ({"validate_every": 0}, ValueError, "expected validate_every as an integer of at least 1, got 0"),
    "rare validation": (
        {"validate_every": 3, "validation": 0.5},
        ValueError,
        "expected validate_every of at most the 1 epochs, got 3",
    ),
    "decay": ({"weight_decay": -0.1}, ValueError, "expected weight_decay to be a number ≥ 0, got -0.1"),
    "nan decay": ({"weight_decay": float("nan")}, ValueError, "expected weight_decay to be a number ≥ 0, got nan"),
    "infinite decay": ({"weight_decay": float("inf")}, ValueError, "expected weight_decay to be a number ≥ 0, got inf"),
    "decay beyond float32": (
        {"x": X.astype(np.float32), "weight_decay": 1e39},
        ValueError,
        "expected weight_decay within float32's range, got 1e",
    ),
    "weights' shape": ({"weights": np.ones((6, 1))}, ValueError, r"expected weights of shape \(6,\), got \(6, 1\)"),
    "negative weights": ({"weights": np.arange(6) - 1.0}, ValueError, "weights that are finite, ≥ 0 and not all zero"),
    "nan weights": ({"weights": np.full(6, np.nan)}, ValueError, "weights that are finite, ≥ 0 and not all zero"),
    "zero weights": ({"weights": np.zeros(6)}, ValueError, "weights that are finite, ≥ 0 and not all zero"),
    "fraction 0": ({"validation": 0.0}, ValueError, "expected a validation fraction between 0 and 1, got 0.0"),
    "fraction 1": ({"validation": 1.0}, ValueError, "expected a validation fraction between 0 and 1, got 1.0"),
    "small fraction": ({"validation": 0.01}, ValueError, "leaves 6 for training and 0 for validation"),
    "validation alone": ({"validation": (X,)}, ValueError, r"\(x, y\) or \(x, y, weights\), got 1 arrays"),
    "validation columns": ({"validation": (Y, Y)}, ValueError, r"expected validation x of shape \(n, 2\)"),
    "validation nan": ({"validation": (NAN, Y)}, ValueError, "validation x has NaN or infinite values"),
    "validation targets": ({"validation": (X, Y[:5])}, ValueError, "for each of the 6 validation examples, got 5"),
    "validation weights": ({"validation": (X, Y, -(Y[:, 0] ** 2))}, ValueError, "expected validation weights that are"),
    "rule without validation": (
        {"stopping": stopping.Patience()},
        ValueError,
        r"Patience\(.*\) watches the validation risk: pass validation, a fraction or \(x, y\)",
    ),
    "params' structure": ({"params": PARAMS * 2}, ValueError, "expected params of the structure that network.init"),
    "params' shape": (
        {"params": mlp([2, 2]).init(jax.random.key(0))},
        ValueError,
        r"expected params\[0\]\['W'\] of shape \(2, 1\), as network.init gives; got \(2, 2\)",
    ),
    "integer params": (
        {"params": jax.tree.map(lambda w: w.astype(int), PARAMS)},
        TypeError,
        r"expected params\[0\]\['W'\] as an array of floating-point numbers, got .* of dtype int64",
    ),
    "mask's structure": ({"mask": MASK[0]}, ValueError, "expected mask of the structure that network.init gives"),
    "mask's shape": ({"mask": ({"W": np.ones(3, bool), "b": np.array(False)},)}, ValueError, r"got \(3,\)"),
    # jaxtyping, which only the tests have on, comes before these: what is checked is that both refuse.
    "gradient": ({"gradient": "forward"}, (ValueError, TypeError), "forward"),
    "reduction": ({"reduction": "max"}, (ValueError, TypeError), "max"),
    "not a rule": ({"stopping": "patience"}, TypeError, "patience"),
    "half an epoch": ({"epochs": 1.5}, (ValueError, TypeError), "1.5"),
    "a seed for a key": ({"key": 0}, TypeError, "0"),
    "an old key": ({"key": np.zeros(2, np.uint32)}, TypeError, "key"),
    "validation list": ({"validation": [X, Y]}, TypeError, "validation"),
    "flat x": ({"x": X[:, 0]}, (ValueError, TypeError), "x"),
    "decays": ({"weight_decay": np.ones(2)}, (ValueError, TypeError), "weight_decay"),
    "an optimizer's name": ({"optimizer": "adam"}, TypeError, "adam"),
    "an optimizer's builder": ({"optimizer": adam}, TypeError, "adam"),
    "rates": ({"optimizer": adam(np.ones(3))}, ValueError, r"one number for learning_rate, got shape \(3,\)"),
    "patiences": (
        {"stopping": stopping.Patience(np.arange(1, 3), monitor="train")},
        ValueError,
        r"one number for Patience.epochs, got shape \(2,\)",
    ),
    "a misspelt setting": (
        {"epoch": 3},
        TypeError,
        "unexpected argument 'epoch'; the settings of training are optimizer",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_named(name):
    settings, kind, message = CASES[name]
    settings = {"likelihood": Gaussian(), "x": X, "y": Y, "key": jax.random.key(0), "epochs": 1} | settings
    with np.errstate(all="ignore"), pytest.raises(kind, match=message):
        fit(mlp([2, 1]), settings.pop("likelihood"), settings.pop("x"), settings.pop("y"), **settings)


UNCHECKED = {
    "gradient": 'expected gradient "backprop" or "autodiff", got \'forward\'',
    "reduction": 'expected reduction "mean" or "sum", got \'max\'',
    "not a rule": "expected stopping rules from jnn.training.stopping, got 'patience'",
    "half an epoch": "expected epochs as an integer of at least 1, got 1.5",
    "a seed for a key": r"expected one typed key, as from jax.random.key\(seed\), got 0",
    "an old key": r"expected one typed key, as from jax.random.key\(seed\)",
    "validation list": r"expected validation as a fraction, \(x, y\) or \(x, y, weights\), got <class 'list'>",
    "flat x": r"expected x of shape \(n, 2\), one row an example; got \(6,\)",
    "an optimizer's name": r"expected an optimizer, as jnn.adam\(1e-3\) or one of optax's, got 'adam'",
    "an optimizer's builder": r"expected an optimizer, as jnn.adam\(1e-3\) or one of optax's, got <function adam",
    "decays": r"expected weight_decay as one number, got shape \(2,\); jnn.ensembles.fit takes one for each member",
}


def test_what_is_no_network_or_likelihood_is_named():
    key = jax.random.key(0)
    with typechecker.off():
        with pytest.raises(TypeError, match=r"expected a likelihood, as jnn.likelihoods.Categorical\(\), got <class"):
            fit(mlp([2, 1]), Gaussian, X, Y, key=key)
        with pytest.raises(TypeError, match=r"expected a network, as from jnn.mlp or jnn.dag, got \[2, 1\]"):
            fit([2, 1], Gaussian(), X, Y, key=key)


@pytest.mark.parametrize("name", UNCHECKED)
def test_users_without_run_time_types_get_the_message(name):
    settings, _, _ = CASES[name]
    settings = {"x": X, "y": Y, "key": jax.random.key(0), "epochs": 1} | settings
    with typechecker.off(), pytest.raises((ValueError, TypeError), match=UNCHECKED[name]):
        fit(mlp([2, 1]), Gaussian(), settings.pop("x"), settings.pop("y"), **settings)


def test_whatever_has_rows_will_do():
    """Nested lists, for those without run-time types."""
    with typechecker.off():
        result = fit(mlp([2, 1]), Gaussian(), X.tolist(), Y.tolist(), key=jax.random.key(0), epochs=1)
    expected = fit(mlp([2, 1]), Gaussian(), X, Y, key=jax.random.key(0), epochs=1)
    np.testing.assert_array_equal(result.params[0]["W"], expected.params[0]["W"])


def test_shapes_are_checked_under_jit_too():
    with pytest.raises(ValueError, match=r"expected x of shape \(n, 2\)"):
        jax.jit(lambda x: fit(mlp([2, 1]), Gaussian(), x, Y, key=jax.random.key(0)))(X[:, :1])


@pytest.mark.parametrize(
    "network",
    [mlp([2, 3, 3, 1], ["tanh", "step"]), dag(2, 1, [(1, 3), (2, 3), (1, 4), (3, 5), (4, 5)], ["tanh", "step"])],
    ids=["mlp", "dag"],
)
def test_threshold_units_are_warned_of(network):
    with pytest.warns(NoGradientWarning, match="no gradient passes through step: the weights before those neurons"):
        fit(network, Gaussian(), X, Y, key=jax.random.key(0), epochs=1)


def test_smooth_units_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(mlp([2, 3, 1]), Gaussian(), X, jnp.asarray(Y), key=jax.random.key(0), epochs=1)
