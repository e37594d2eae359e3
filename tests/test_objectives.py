"""The objective against plain sums: reductions, weights, and which weights decay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import dag, mlp, objectives
from jnn.likelihoods import Bernoulli, Categorical, Gaussian, HeteroscedasticGaussian, Poisson

RNG = np.random.default_rng(4)
X = jnp.asarray(RNG.normal(size=(7, 3)))
Y = jnp.asarray(RNG.normal(size=(7, 2)))
V = jnp.asarray(RNG.uniform(0.5, 3, 7))
NETWORK = mlp([3, 4, 2])
DAG = dag(3, 2, [(1, 4), (2, 4), (3, 5), (4, 5), (4, 6), (5, 6), (5, 7), (1, 7)])


def error_and_norm(params, v):
    """E and ‖w‖² of the hidden layer, for sum of squares."""
    first, last = jax.tree.map(np.asarray, params)
    a = np.tanh(np.asarray(X) @ first["W"] + first["b"]) @ last["W"] + last["b"]
    return np.sum(v * 0.5 * np.sum((a - np.asarray(Y)) ** 2, axis=1)), np.sum(first["W"] ** 2)


@pytest.mark.parametrize("decay", [0.0, 0.6])
@pytest.mark.parametrize("weights", [None, V], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_objective_is_the_lectures(reduction, weights, decay, key):
    """J = E + γ/2 ‖w‖², or that divided by N = Σ v."""
    params = NETWORK.init(key, dtype=jnp.float64, bias=0.3)
    error, norm = error_and_norm(params, np.ones(7) if weights is None else np.asarray(weights))
    expected = error + decay / 2 * norm
    if reduction == "mean":
        expected /= 7 if weights is None else V.sum()
    evaluate = objectives.objective(NETWORK, Gaussian(), reduction=reduction, weight_decay=decay)
    # About ten additions and two matrix products, each rounded: 1e-14.
    np.testing.assert_allclose(evaluate(params, X, Y, weights), expected, rtol=1e-14)


def test_batches_of_any_shape(key):
    params = NETWORK.init(key, dtype=jnp.float64)
    evaluate = objectives.objective(NETWORK, Gaussian(), weight_decay=0.1)
    flat = evaluate(params, X[:6], Y[:6], V[:6])
    shaped = evaluate(params, X[:6].reshape(2, 3, 3), Y[:6].reshape(2, 3, 2), V[:6].reshape(2, 3))
    np.testing.assert_allclose(shaped, flat, rtol=1e-15)
    one = evaluate(params, X[0], Y[0])
    np.testing.assert_allclose(one, evaluate(params, X[:1], Y[:1]), rtol=1e-15)


MASKS = {
    # likelihood, network: which weights into the outputs count
    "gaussian": (Gaussian(), mlp([3, 4, 2]), [False, False]),
    "heteroscedastic": (HeteroscedasticGaussian(), mlp([3, 4, 2]), [False, True]),
    "bernoulli": (Bernoulli(), mlp([3, 4, 2]), [True, True]),
    "categorical": (Categorical(), mlp([3, 4, 2]), [True, True]),
    "poisson": (Poisson(), mlp([3, 4, 2]), [True, True]),
    "shortcuts": (Gaussian(), mlp([3, 4, 2], shortcuts=True), [False, False]),
    "linear model": (Gaussian(), mlp([3, 2]), [False, False]),
}


@pytest.mark.parametrize("name", MASKS)
def test_biases_and_linear_outputs_are_spared(name, key):
    likelihood, network, counted = MASKS[name]
    params = network.init(key, dtype=jnp.float64, bias=0.7)
    mask = objectives.decay_mask(network, likelihood)
    *hidden, last = params
    expected = sum(np.sum(np.square(p["W"])) for p in hidden) + np.sum(np.square(last["W"][:, np.array(counted)]))
    np.testing.assert_allclose(objectives.penalty(params, mask), 0.5 * expected, rtol=1e-14)
    gradient = objectives.penalty_gradient(params, mask)
    for g, p in zip(gradient, params, strict=True):
        np.testing.assert_array_equal(g["b"], 0)
        np.testing.assert_array_equal(g["W"], p["W"] if p is not last else p["W"] * np.array(counted)[None, :])


@pytest.mark.parametrize(
    ("likelihood", "spared"),
    [(Gaussian(), [6, 7]), (HeteroscedasticGaussian(), [6]), (Categorical(), []), (Bernoulli(), [])],
    ids=["gaussian", "heteroscedastic", "categorical", "bernoulli"],
)
def test_in_a_dag_edges_into_linear_outputs_are_spared(likelihood, spared, key):
    params = DAG.init(key, dtype=jnp.float64, bias=0.7)
    mask = objectives.decay_mask(DAG, likelihood)
    counted = ~np.isin(DAG.edges[:, 1], spared)
    expected = 0.5 * np.sum(np.square(params["w"])[counted])
    np.testing.assert_allclose(objectives.penalty(params, mask), expected, rtol=1e-14)
    gradient = objectives.penalty_gradient(params, mask)
    np.testing.assert_array_equal(gradient["w"], params["w"] * counted)
    np.testing.assert_array_equal(gradient["b"], 0)


@pytest.mark.parametrize("network", [NETWORK, DAG], ids=["mlp", "dag"])
def test_the_mask_of_all_weights_spares_biases_only(network, key):
    params = network.init(key, dtype=jnp.float64, bias=0.7)
    weights = [w for path, w in jax.tree.leaves_with_path(params) if "b" not in jax.tree_util.keystr(path)]
    found = objectives.penalty(params, objectives.all_weights_mask(network))
    np.testing.assert_allclose(found, 0.5 * sum(np.sum(np.square(w)) for w in weights), rtol=1e-14)


@pytest.mark.parametrize("network", [NETWORK, DAG], ids=["mlp", "dag"])
def test_the_penalty_gradient_is_its_gradient(network, key):
    params = network.init(key, dtype=jnp.float64, bias=0.7)
    for mask in (objectives.decay_mask(network, Gaussian()), objectives.all_weights_mask(network)):
        by_hand = objectives.penalty_gradient(params, mask)
        jax.tree.map(np.testing.assert_array_equal, by_hand, jax.grad(objectives.penalty)(params, mask))
        traced = jax.jit(objectives.penalty)(params, mask)  # a mask may be traced as well
        np.testing.assert_allclose(traced, objectives.penalty(params, mask), rtol=1e-14)


def test_a_mask_of_ones_own(key):
    params = NETWORK.init(key, dtype=jnp.float64)
    mask = ({"W": RNG.uniform(size=(3, 4)) < 0.5, "b": np.array(True)}, {"W": np.array(False), "b": np.array(False)})
    expected = np.sum(np.square(params[0]["W"])[mask[0]["W"]]) + np.sum(np.square(params[0]["b"]))
    with_mask = objectives.objective(NETWORK, Gaussian(), reduction="sum", weight_decay=3.0, mask=mask)
    without = objectives.objective(NETWORK, Gaussian(), reduction="sum")
    np.testing.assert_allclose(with_mask(params, X, Y) - without(params, X, Y), 1.5 * expected, rtol=1e-12)


def test_a_traced_decay_is_a_decay(key):
    """Zero under `vmap` is not known to be zero; the results are the same as for numbers."""
    params = NETWORK.init(key, dtype=jnp.float64)
    value = lambda decay: objectives.objective(NETWORK, Gaussian(), weight_decay=decay)(params, X, Y)  # noqa: E731
    np.testing.assert_allclose(jax.vmap(value)(jnp.array([0.0, 0.6])), [value(0.0), value(0.6)], rtol=1e-14)


def test_float32_stays_float32(key):
    params = NETWORK.init(key)
    x, y, v = (t.astype(jnp.float32) for t in (X, Y, V))
    evaluate = objectives.objective(NETWORK, Gaussian(), weight_decay=0.6)
    found = evaluate(params, x, y, v)
    assert found.dtype == jnp.float32
    wide = jax.tree.map(lambda w: w.astype(jnp.float64), params)
    # Some twenty roundings of 6e-8.
    np.testing.assert_allclose(found, evaluate(wide, *(t.astype(jnp.float64) for t in (x, y, v))), rtol=2e-6)


def test_is_zero_means_known_to_be_zero():
    assert objectives.is_zero(0)
    assert objectives.is_zero(0.0)
    assert not objectives.is_zero(1e-300)
    assert not objectives.is_zero(jnp.zeros(()))


@pytest.mark.parametrize(
    ("x", "y", "v", "message"),
    [
        (X, Y[:6], None, r"expected a target for each example: x is a batch of \(7,\), but y has shape \(6, 2\)"),
        (X, Y, V[:6], r"expected weights of shape \(7,\), one for each example; got \(6,\)"),
        (X, Y, V[:, None], r"expected weights of shape \(7,\), one for each example; got \(7, 1\)"),
        (X[:, :2], Y, None, r"expected x of shape \(..., 3\), one column for each input"),
        (X, Y[:, :1], None, "expected targets of shape"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(x, y, v, message, key):
    params = NETWORK.init(key, dtype=jnp.float64)
    with pytest.raises(ValueError, match=message):
        objectives.objective(NETWORK, Gaussian())(params, x, y, v)


def test_unknown_reductions_are_refused():
    with pytest.raises(ValueError, match='expected reduction "mean" or "sum", got \'max\''):
        objectives.check_reduction("max")
    with pytest.raises((ValueError, TypeError), match="max"):
        objectives.objective(NETWORK, Gaussian(), reduction="max")
