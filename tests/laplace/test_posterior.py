"""Posteriors against Bayesian linear regression, dense matrices, numerical integrals; and as a part of models."""

import inspect
import itertools
import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.stats
from jax.flatten_util import ravel_pytree

import jnn
from jnn import Model, curvature, laplace, likelihoods, persistence
from jnn.model import MismatchError, mixture_quantiles
from jnn.posterior import Full, Posterior, predictive
from jnn.transforms import Standardize
from tests import typechecker

GAUSSIAN = likelihoods.Gaussian()
NETWORK = jnn.mlp([2, 3, 2])


def trained(key, likelihood=GAUSSIAN, n=20, gamma=1.0, network=NETWORK):
    """A network at the minimum, and its examples."""
    keys = jax.random.split(key, 3)
    x = np.asarray(jax.random.normal(keys[0], (n, 2)))
    a = jnp.stack([jnp.sin(2 * x[:, 0]), 0.5 * x[:, 1]], axis=1)
    y = np.asarray(likelihood.sample(keys[1], a)) if likelihood != GAUSSIAN else np.asarray(a) + 0.1
    settings = {"optimizer": jnn.levenberg_marquardt(gradient_tolerance=1e-9), "epochs": 500}
    return jnn.fit(network, likelihood, x, y, key=keys[2], weight_decay=gamma, **settings).params, x, y


@pytest.mark.parametrize("n", [30, 6], ids=["more examples than weights", "fewer"])
def test_a_linear_model_is_bayesian_linear_regression(n):
    rng = np.random.default_rng(0)
    d, gamma, s2 = 9, 0.7, 0.09
    x = rng.normal(size=(n, d))
    y = x[:, :1] - 0.5 * x[:, 1:2] + 0.3 * rng.normal(size=(n, 1))
    design, network = np.c_[x, np.ones(n)], jnn.mlp([d, 1])
    precision = design.T @ design + gamma * np.eye(d + 1)
    w = np.linalg.solve(precision, design.T @ y)
    params = ({"W": jnp.asarray(w[:d]), "b": jnp.asarray(w[d])},)
    posterior = laplace.fit(network, GAUSSIAN, params, x, y, weight_decay=gamma, noise=s2)
    model = Model(network, GAUSSIAN, params, posterior=posterior)
    new = rng.normal(size=(5, d))
    rows = np.c_[new, np.ones(5)]
    expected = s2 + s2 * np.einsum("ni,ij,nj->n", rows, np.linalg.inv(precision), rows)
    # The bound; everything is computed in float64, and solved by eigenvalues on one side.
    np.testing.assert_allclose(model.moments(new).variance[:, 0], expected, rtol=1e-10)
    np.testing.assert_allclose(model.moments(new).mean, model.mean(new), rtol=1e-12)
    covariance = s2 * np.eye(n) + s2 / gamma * design @ design.T
    evidence = scipy.stats.multivariate_normal(np.zeros(n), covariance).logpdf(y[:, 0])
    assert float(posterior.log_evidence) == pytest.approx(evidence, rel=1e-10)
    smoother = design @ np.linalg.solve(precision, design.T)
    assert float(posterior.effective_weights) == pytest.approx(np.trace(smoother), rel=1e-10)
    if n > d + 1:
        own = laplace.fit(network, GAUSSIAN, params, x, y, weight_decay=gamma)
        rss = float(np.sum((design @ w - y) ** 2))
        assert float(own.noise) == pytest.approx(rss / (n - np.trace(smoother)), rel=1e-10)


def test_repetitions_and_a_deviation_of_ones_own_in_a_linear_model():
    """v_n times the n-th example, y ~ N(a, σ² s²), w ~ N(0, σ²/γ): in closed form, by the repeated rows."""
    rng = np.random.default_rng(3)
    v, gamma, s, sigma2 = np.array([1, 2, 0, 3, 1, 2, 2, 1]), 0.7, 0.5, 1.3
    x = rng.normal(size=(8, 2))
    y = np.c_[x @ [1, -2], x[:, 0]] + rng.normal(size=(8, 2))
    design = np.repeat(np.c_[x, np.ones(8)], v, axis=0)
    n, target = len(design), np.repeat(y, v, axis=0)
    precision = design.T @ design / s**2 + gamma * np.eye(3)
    w = np.linalg.solve(precision, design.T @ target / s**2)
    params = ({"W": jnp.asarray(w[:2]), "b": jnp.asarray(w[2])},)
    of = {"weight_decay": gamma, "weights": v.astype(float)}
    network, likelihood = jnn.mlp([2, 2]), likelihoods.Gaussian(s)
    posterior = laplace.fit(network, likelihood, params, x, y, noise=sigma2, **of)
    covariance = sigma2 * s**2 * np.eye(n) + sigma2 / gamma * design @ design.T
    evidence = sum(scipy.stats.multivariate_normal(np.zeros(n), covariance).logpdf(column) for column in target.T)
    assert float(posterior.log_evidence) == pytest.approx(evidence, rel=1e-10)
    effective = 2 * np.trace(np.linalg.solve(precision, design.T @ design / s**2))
    assert float(posterior.effective_weights) == pytest.approx(effective, rel=1e-10)
    own = laplace.fit(network, likelihood, params, x, y, **of)
    residual = np.sum((design @ w - target) ** 2) / s**2
    assert float(own.noise) == pytest.approx(residual / (2 * n - effective), rel=1e-10)


@pytest.mark.parametrize("likelihood", [likelihoods.Poisson(), likelihoods.Categorical()])
def test_the_evidence_of_other_likelihoods_is_laplaces(likelihood, key):
    """ln p(S | w) − γ/2 ‖w‖² − ½ ln det(1 + G/γ), the first by SciPy, G = Σ v Jᵀ Λ J by autodiff; no noise."""
    keys, gamma = jax.random.split(key, 4), 0.3
    params = NETWORK.init(keys[0], bias=0.3, dtype=jnp.float64)
    x, v = np.asarray(jax.random.normal(keys[1], (6, 2))), np.array([1.0, 2, 0.5, 3, 1, 0.25])
    first, last = jax.tree.map(np.asarray, params)
    a = np.tanh(x @ first["W"] + first["b"]) @ last["W"] + last["b"]
    y = np.asarray(likelihood.sample(keys[2], jnp.asarray(a)))
    p = np.exp(a) / np.exp(a).sum(axis=1, keepdims=True)
    if y.ndim == 1:
        said, information = np.log(p[np.arange(6), y]), np.stack([np.diag(q) - np.outer(q, q) for q in p])
    else:
        said, information = (
            scipy.stats.poisson.logpmf(y, np.exp(a)).sum(axis=1),
            np.stack([np.diag(np.exp(q)) for q in a]),
        )
    flat, unravel = ravel_pytree(params)
    j = np.asarray(jax.jit(jax.jacrev(lambda w: NETWORK.apply(unravel(w), x)))(flat))
    g = np.einsum("n,nkp,nkl,nlq->pq", v, j, information, j)
    expected = v @ said - gamma / 2 * float(flat @ flat) - 0.5 * np.linalg.slogdet(np.eye(len(g)) + g / gamma)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", laplace.NotConvergedWarning)
        posterior = laplace.fit(NETWORK, likelihood, params, x, y, weight_decay=gamma, weights=v)
    assert float(posterior.log_evidence) == pytest.approx(expected, rel=1e-10)
    assert float(posterior.noise) == 1


def test_how_far_away_the_minimum_is_is_told():
    """δᵀ Σ⁻¹ δ = 3.04² of a linear model moved by δ from its minimum; nothing is said of less than one deviation."""
    rng = np.random.default_rng(0)
    x, gamma, sigma2 = rng.normal(size=(12, 3)), 0.4, 0.25
    y, design = rng.normal(size=(12, 1)), np.c_[x, np.ones(12)]
    precision = design.T @ design + gamma * np.eye(4)
    w, delta = np.linalg.solve(precision, design.T @ y)[:, 0], rng.normal(size=4)
    delta *= np.sqrt(sigma2 / (delta @ precision @ delta))

    def fitted(deviations):
        moved = w + deviations * delta
        params = ({"W": jnp.asarray(moved[:3, None]), "b": jnp.asarray(moved[3:])},)
        return laplace.fit(jnn.mlp([3, 1]), GAUSSIAN, params, x, y, weight_decay=gamma, noise=sigma2)

    with pytest.warns(laplace.NotConvergedWarning, match=r"the minimum is 3\.0 posterior standard deviations"):
        fitted(3.04)
    fitted(0.99)


def test_targets_that_are_met_exactly_leave_next_to_no_noise():
    params = ({"W": jnp.zeros((2, 1), float), "b": jnp.zeros(1, float)},)
    x = np.random.default_rng(0).normal(size=(8, 2))
    posterior = laplace.fit(jnn.mlp([2, 1]), GAUSSIAN, params, x, np.zeros((8, 1)), weight_decay=1.0)
    assert 0 < float(posterior.noise) < 1e-300
    assert np.isfinite(float(posterior.log_evidence))


def dense(structure, params, x, gamma, likelihood):
    """(G + γ)⁻¹, 0 for weights that are certain."""
    g = np.asarray(curvature.gauss_newton(NETWORK, likelihood, reduction="sum")(params, jnp.asarray(x)))
    p = len(g)
    if structure == "last_layer":
        result = np.zeros((p, p))
        result[9:, 9:] = np.linalg.inv(g[9:, 9:] + gamma * np.eye(p - 9))
        return result
    if structure == "diagonal":
        g = np.diag(np.diag(g))
    if structure == "kronecker":
        factors = curvature.kronecker_factors(NETWORK, likelihood, reduction="sum")(params, jnp.asarray(x))
        g = scipy.linalg.block_diag(*(np.kron(f.A, f.B) for f in factors))
    return np.linalg.inv(g + gamma * np.eye(p))


@pytest.mark.parametrize("structure", ["full", "kronecker", "diagonal", "last_layer"])
def test_every_structure_is_its_dense_matrix(structure, key):
    params, x, y = trained(key)
    posterior = laplace.fit(NETWORK, GAUSSIAN, params, x, y, weight_decay=1.0, structure=structure, noise=0.3)
    expected = 0.3 * dense(structure, params, x, 1.0, GAUSSIAN)
    np.testing.assert_allclose(posterior.covariance(jnp.eye(len(expected))), expected, rtol=0, atol=1e-12)
    draws = jax.jit(jax.vmap(lambda k: ravel_pytree(posterior.sample(k, params))[0]))(jax.random.split(key, 4000))
    found = np.cov(np.asarray(draws).T)
    away = np.mean(np.asarray(draws), axis=0) - np.asarray(ravel_pytree(params)[0])  # five standard errors
    assert np.max(np.abs(away) - 5 * np.sqrt(np.diag(expected) / 4000)) <= 1e-12
    # Of 4,000 draws a covariance is known to some √(2/4000) of the variances: five such.
    variances = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.max(np.abs(found - expected) - 5 * np.sqrt(2 / 4000) * variances) <= 1e-12


def test_samples_and_variances_with_fewer_examples_than_weights(key):
    params, x, y = trained(key, n=4)
    posterior = laplace.fit(NETWORK, GAUSSIAN, params, x, y, weight_decay=1.0, noise=0.3)
    assert posterior.basis.values.shape[0] <= 8 < NETWORK.weight_count
    expected = 0.3 * dense("full", params, x, 1.0, GAUSSIAN)
    np.testing.assert_allclose(posterior.covariance(jnp.eye(len(expected))), expected, rtol=0, atol=1e-12)
    draws = jax.jit(jax.vmap(lambda k: ravel_pytree(posterior.sample(k, params))[0]))(jax.random.split(key, 4000))
    np.testing.assert_allclose(np.cov(np.asarray(draws).T), expected, rtol=0, atol=5 * 0.3 * np.sqrt(2 / 4000))
    away = np.mean(np.asarray(draws), axis=0) - np.asarray(ravel_pytree(params)[0])
    np.testing.assert_allclose(away, 0, rtol=0, atol=5 * np.sqrt(0.3 / 4000))
    for rows in (jnp.eye(len(expected)), jnp.asarray(np.random.default_rng(0).normal(size=(3, len(expected))))):
        variances = np.einsum("ij,jk,ik->i", rows, expected, rows)
        np.testing.assert_allclose(posterior.variances(rows), variances, rtol=1e-10)


def test_a_posterior_made_by_hand_has_plain_numbers(key):
    params, x, y = trained(key)
    made = laplace.fit(NETWORK, GAUSSIAN, params, x, y, weight_decay=0.5, noise=1.0)
    by_hand = Posterior(made.basis, 0.5)  # its noise is 1, its evidence is not known
    found, expected = (Model(NETWORK, GAUSSIAN, params, posterior=p).moments(x[:3]) for p in (by_hand, made))
    np.testing.assert_array_equal(found.variance, expected.variance)
    # Of all weights, unless it is said of which.
    whole = Posterior(Full(jnp.eye(3), jnp.array([1.0, 2, 3])), 0.5)
    np.testing.assert_allclose(whole.covariance(jnp.eye(3)), np.diag(1 / np.array([1.5, 2.5, 3.5])), rtol=1e-14)


def test_examples_that_repeat_add_no_directions_whatever_their_scale():
    rng = np.random.default_rng(0)
    x = 1e4 * np.tile(rng.normal(size=(3, 9)), (2, 1))  # 6 examples, 3 of them others, for 10 weights
    y = x[:, :1] * 1e-4
    params = ({"W": jnp.zeros((9, 1), float), "b": jnp.zeros(1, float)},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", laplace.NotConvergedWarning)  # the covariance of a linear model is one anywhere
        posterior = laplace.fit(jnn.mlp([9, 1]), GAUSSIAN, params, x, y, weight_decay=1.0, noise=1.0)
    assert posterior.basis.values.shape == (3,)
    design = np.c_[x, np.ones(6)]
    # (I + XᵀX)⁻¹ by Woodbury's identity and a QR decomposition: eigenvalues of 1e9 beside 1 would cost 9 digits.
    q, r = np.linalg.qr(design[:3].T)
    inner = np.linalg.inv(2 * r @ r.T + np.eye(3))
    expected = np.eye(10) - q @ q.T + q @ inner @ q.T
    np.testing.assert_allclose(posterior.covariance(jnp.eye(10)), expected, rtol=0, atol=1e-10)
    # Where nothing is uncertain but for rounding, a variance is not below 0.
    assert (posterior.variances(jnp.asarray(rng.normal(size=(50, 6)) @ design)) >= 0).all()


# --- predictions


def integrals(likelihood, a, deviation, noise):
    """E and Var of y for a scalar output a ~ N(a, deviation²), by a fine sum; `noise` in units of the variance."""
    grid = np.linspace(-9, 9, 20001)
    share = np.exp(-0.5 * grid**2)
    share /= share.sum()
    at = jnp.asarray(a + deviation * grid)[:, None]
    mean, within = np.asarray(likelihood.mean(at))[:, 0], np.asarray(likelihood.variance(at))[:, 0]
    return share @ mean, noise * (share @ within) + share @ (mean - share @ mean) ** 2


@pytest.mark.parametrize(
    ("likelihood", "noise"),
    [(likelihoods.Bernoulli(), 1.0), (likelihoods.Poisson(), 1.5), (GAUSSIAN, 0.4), (likelihoods.SquaredError(), 1.0)],
)
def test_uncertain_outputs_through_the_likelihood(likelihood, noise, key):
    network = jnn.mlp([2, 3, 1])
    params = network.init(key, dtype=jnp.float64)
    x = np.asarray(jax.random.normal(key, (12, 2)))
    y = np.asarray(likelihood.sample(key, network.apply(params, x)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", laplace.NotConvergedWarning)
        posterior = laplace.fit(network, likelihood, params, x, y, weight_decay=2.0, noise=noise)
    z = jnp.array([0.7, -1.2])
    mean, variance = jax.jit(predictive, static_argnums=(0, 1))(network, likelihood, posterior, params, z)
    j = np.concatenate(
        [leaf.reshape(1, -1) for leaf in jax.tree.leaves(curvature.jacobian(network, params, z))], axis=1
    )
    deviation = float(np.sqrt(posterior.covariance(jnp.asarray(j))[0, 0]))
    expected = integrals(likelihood, float(network.apply(params, z)[0]), deviation, noise)
    np.testing.assert_allclose((mean[0], variance[0]), expected, rtol=1e-6)  # what 24 nodes leave of a logistic


@pytest.mark.parametrize("likelihood", [likelihoods.Categorical(), likelihoods.SquaredError("softmax", 0.5)])
def test_outputs_of_classes_are_shrunk_by_mackays_factor(likelihood, key):
    """softmax(a / √(1 + π/8 Var[a])), the variances by dense matrices."""
    x, gamma = np.asarray(jax.random.normal(key, (12, 2))), 0.7
    params = NETWORK.init(key, bias=0.2, dtype=jnp.float64)
    labels = np.arange(12) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", laplace.NotConvergedWarning)
        posterior = laplace.fit(
            NETWORK, likelihood, params, x,
            labels if isinstance(likelihood, likelihoods.Categorical) else np.eye(2)[labels], weight_decay=gamma,
        )  # fmt: skip
    model = Model(NETWORK, likelihood, params, posterior=posterior)
    flat, unravel = ravel_pytree(params)
    j = np.asarray(jax.jit(jax.jacrev(lambda w: NETWORK.apply(unravel(w), x)))(flat))
    spread = np.einsum("nkp,pq,nkq->nk", j, dense("full", params, x, gamma, likelihood), j)
    a = np.asarray(NETWORK.apply(params, x)) / np.sqrt(1 + np.pi / 8 * spread)
    p = np.exp(a) / np.exp(a).sum(axis=1, keepdims=True)
    mean, variance = model.moments(x)
    np.testing.assert_allclose(mean, p, rtol=1e-10)
    np.testing.assert_allclose(model.mean(x), p, rtol=1e-10)
    expected = p * (1 - p) if isinstance(likelihood, likelihoods.Categorical) else np.full_like(p, 0.25)
    np.testing.assert_allclose(variance, expected, rtol=1e-10)


def test_classes_become_less_sure(key):
    likelihood = likelihoods.Categorical()
    params, x, y = trained(key, likelihood)
    posterior = laplace.fit(NETWORK, likelihood, params, x, y, weight_decay=1.0)
    certain, model = Model(NETWORK, likelihood, params), Model(NETWORK, likelihood, params, posterior=posterior)
    far = np.array([[4.0, -4.0], [0.1, 0.2]])
    p, q = certain.mean(far), model.mean(far)
    np.testing.assert_allclose(q.sum(axis=1), 1)
    assert (q.max(axis=1) < p.max(axis=1)).all()
    np.testing.assert_array_equal(np.argmax(p, axis=1), np.argmax(q, axis=1))


def test_intervals(key):
    params, x, y = trained(key)
    posterior = laplace.fit(NETWORK, GAUSSIAN, params, x, y, weight_decay=1.0, noise=0.04)
    model = Model(NETWORK, GAUSSIAN, params, posterior=posterior)
    low, high = model.interval(x[:3], 0.9)
    mean, variance = model.moments(x[:3])
    np.testing.assert_allclose(high, mean + 1.6448536269514722 * np.sqrt(variance), rtol=1e-7)
    np.testing.assert_allclose(low, mean - 1.6448536269514722 * np.sqrt(variance), rtol=1e-7)
    # In the raw targets' units, also with JAX arrays, and of two members: the quantiles of a mixture.
    scaled = Model(
        NETWORK,
        GAUSSIAN,
        params,
        posterior=posterior,
        target_transform=Standardize(np.array([1.0, 2]), np.array([3.0, 4])),
    )
    np.testing.assert_allclose(scaled.interval(jnp.asarray(x[:3]), 0.9)[1], high * [3, 4] + [1, 2], rtol=1e-6)
    means, deviations = np.array([[0.0], [2.0]]), np.array([[1.0], [0.5]])
    (found,) = mixture_quantiles(means, deviations, (0.9,))

    def cdf(value):
        return float(np.mean(scipy.stats.norm.cdf(value, means, deviations)))

    assert found[0] == pytest.approx(scipy.optimize.brentq(lambda v: cdf(v) - 0.9, 0, 5), abs=1e-9)
    with pytest.raises(ValueError, match="expected Gaussian noise"):
        Model(NETWORK, likelihoods.Poisson(), params).interval(x)
    with pytest.raises(ValueError, match="expected coverage to be between 0 and 1"):
        model.interval(x, 95)


def test_intervals_widen_away_from_the_examples(key):
    params, x, y = trained(key)
    for structure in ("full", "kronecker"):
        posterior = laplace.fit(NETWORK, GAUSSIAN, params, x, y, weight_decay=1.0, structure=structure, noise=0.01)
        model = Model(NETWORK, GAUSSIAN, params, posterior=posterior)
        of_function = model.moments(np.array([[0.0, 0.0], [5.0, 5.0]])).variance - 0.01
        assert (of_function[1] > 1.2 * of_function[0]).all()


# --- of ensembles, and saved


@pytest.mark.parametrize("structure", ["full", "kronecker", "diagonal"])
def test_members_have_their_own_and_a_file_keeps_them(structure, key, tmp_path):
    params, x, y = trained(key)
    other = jax.tree.map(lambda leaf: 0.9 * leaf, params)
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, other)
    with pytest.warns(laplace.NotConvergedWarning, match="posterior standard deviations from these parameters"):
        posterior = laplace.fit(
            NETWORK, GAUSSIAN, both, x, y, weight_decay=np.array([1.0, 2.0]), structure=structure, noise=1e-4
        )
    model = Model(NETWORK, GAUSSIAN, both, posterior=posterior)
    alone = laplace.fit(NETWORK, GAUSSIAN, params, x, y, weight_decay=1.0, structure=structure, noise=1e-4)
    assert posterior.effective_weights.shape == (2,)
    assert float(posterior.effective_weights[0]) == pytest.approx(float(alone.effective_weights), rel=1e-12)
    persistence.save(tmp_path / "model", model)
    again = persistence.load(tmp_path / "model")
    for f, e in zip(again.moments(x), model.moments(x), strict=True):
        np.testing.assert_array_equal(f, e)
    with pytest.raises(MismatchError, match="expected a posterior of the members"):
        Model(NETWORK, GAUSSIAN, params, posterior=posterior).check()


def test_members_may_have_bases_of_several_ranks(key):
    """Fewer examples than weights: a member whose weights are 0 has fewer gradients that differ."""
    params, x, y = trained(key, n=4)
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, 0 * leaf]), params)
    with pytest.warns(laplace.NotConvergedWarning):
        posterior = laplace.fit(NETWORK, GAUSSIAN, both, x, y, weight_decay=1.0, noise=0.1)
    assert posterior.basis.values.shape[-1] > np.count_nonzero(posterior.basis.values[1])
    for m in range(2):
        own = jax.tree.map(lambda leaf, m=m: leaf[m], both)
        one = jax.tree.map(lambda leaf, m=m: leaf[m], posterior)
        expected = 0.1 * dense("full", own, x, 1.0, GAUSSIAN)
        np.testing.assert_allclose(one.covariance(jnp.eye(len(expected))), expected, rtol=0, atol=1e-12)


# --- what is refused


def test_bad_input(key):
    params, x, y = trained(key)
    with pytest.raises(
        ValueError, match="expected weight_decay to be finite and > 0, as without it the prior is improper"
    ):
        laplace.fit(NETWORK, GAUSSIAN, params, x, y, weight_decay=0.0)
    for wrong, message in (
        ({"noise": -1.0}, "expected noise to be finite and > 0"),
        ({"noise": np.nan}, "expected noise to be finite and > 0"),
        ({"noise": 0.0}, "expected noise to be finite and > 0"),
        ({"weight_decay": [1.0, 2.0]}, "expected weight_decay to be"),
        ({"x": np.where(x > x.min(), x, np.nan)}, "x has NaN or infinite values"),
        ({"x": x[:, :1]}, "one row an example"),
        ({"weights": -np.ones(len(x))}, "expected weights that are finite, ≥ 0"),
        ({"params": jax.tree.map(lambda leaf: leaf * jnp.nan, params)}, "params has NaN"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            inspect.unwrap(laplace.fit)(
                NETWORK, GAUSSIAN, **{"params": params, "x": x, "y": y, "weight_decay": 1.0, **wrong}
            )
    with pytest.raises(ValueError, match="leave no residuals to tell the noise from"):
        laplace.fit(NETWORK, GAUSSIAN, params, x[:2], y[:2], weight_decay=1e-9)
    with pytest.raises(ValueError, match="expected structure as one of full, kronecker"):
        inspect.unwrap(laplace.fit)(NETWORK, GAUSSIAN, params, x, y, weight_decay=1.0, structure="block")
    network, same = jnn.networks.as_dag(NETWORK, params)
    with pytest.raises(ValueError, match="kronecker needs a network of layers"):
        laplace.fit(network, GAUSSIAN, same, x, y, weight_decay=1.0, structure="kronecker")
    of_dag = laplace.fit(network, GAUSSIAN, same, x, y, weight_decay=1.0)
    of_layers = laplace.fit(NETWORK, GAUSSIAN, params, x, y, weight_decay=1.0)
    assert float(of_dag.log_evidence) == pytest.approx(float(of_layers.log_evidence), rel=1e-10)
    with pytest.raises(ValueError, match="expected keep from 1 to the 2 restarts"):
        laplace.train(NETWORK, GAUSSIAN, x, y, key=key, restarts=2, keep=3)


def test_float32_parameters_have_posteriors_as_float64_ones(key):
    params, x, y = trained(key)
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    found = laplace.fit(NETWORK, GAUSSIAN, narrow, x, y, weight_decay=1.0, noise=0.1)
    expected = laplace.fit(NETWORK, GAUSSIAN, params, x, y, weight_decay=1.0, noise=0.1)
    assert found.basis.values.dtype == jnp.float32
    np.testing.assert_allclose(found.basis.values, expected.basis.values, rtol=1e-5, atol=1e-5)


# --- evidence


def test_training_by_evidence_on_the_noisy_sine():
    """MATLAB's example of trainbr: two periods, 41 points, noise 0.1. Figures over 20 seeds are the experiment's."""
    x = np.linspace(-1, 1, 41)[:, None]
    y = np.sin(2 * np.pi * x) + 0.1 * np.random.default_rng(1).normal(size=x.shape)
    network = jnn.mlp([1, 12, 1])
    model = laplace.train(network, GAUSSIAN, x, y, key=jax.random.key(1), restarts=4, keep=2)
    assert model.members == (2,)
    first, second = np.asarray(model.posterior.log_evidence)
    assert first >= second
    assert 8 < float(model.posterior.effective_weights[0]) < 16
    assert 0.07 < float(model.posterior.noise[0]) ** 0.5 < 0.13
    truth = np.sin(2 * np.pi * x)
    assert np.sqrt(np.mean((model.mean(x) - truth) ** 2)) < 0.06
    # MacKay's fixed point: γ/σ² = γ_eff / ‖w‖².
    flat = np.concatenate([np.asarray(leaf[0]).ravel() for leaf in jax.tree.leaves(model.params)])
    alpha = model.posterior.weight_decay[0] / model.posterior.noise[0]
    assert float(alpha) == pytest.approx(float(model.posterior.effective_weights[0]) / (flat @ flat), rel=5e-3)


@pytest.mark.parametrize("activation", ["tanh", "logistic"])
def test_minima_that_are_one_another_with_neurons_traded_are_counted(activation, key):
    """All orders and signs of the neurons that are different weights; the twins, 0, 3 and 4, keep their signs.

    Of 1 and 2 the weights hardly differ beside their prior, but beside what the examples tell.
    """
    network = jnn.mlp([1, 5, 2, 1], activation)
    own = {"W": np.array([[2.0, -1, -0.85, 2, 2]]), "b": np.array([0.1, 0.5, 0.5, 0.1, 0.1])}
    params = (own, {"W": np.array([[3.0, 1], [-2, 2], [-1.85, 2], [3, 1], [3, 1]]), "b": np.array([1.0, -1])})
    params += ({"W": np.array([[2.0], [-3]]), "b": np.zeros(1)},)
    x = np.linspace(-1, 1, 50)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", laplace.NotConvergedWarning)
        posterior = laplace.fit(network, GAUSSIAN, params, x, np.sin(x), weight_decay=1e-3, noise=1e-4)
    assert 1e-3 * 2 * 2 * 0.15**2 < 1e-4
    signs = [1, -1] if activation == "tanh" else [1]
    first = {
        tuple(tuple(sign * v for v in (own["W"][0, n], own["b"][n])) for n, sign in zip(order, flips, strict=True))
        for order in itertools.permutations(range(5))
        for flips in itertools.product(signs, repeat=5)
        if all(sign == 1 for n, sign in zip(order, flips, strict=True) if n in (0, 3, 4))
    }
    found = itertools.product(first, itertools.permutations(range(2)), itertools.product(signs, repeat=2))
    assert laplace._log_count(network, params, posterior) == pytest.approx(np.log(len(list(found))))
    network, same = jnn.networks.as_dag(network, params)
    assert laplace._log_count(network, same, posterior) == 0


@pytest.mark.parametrize(("share", "determined"), [(0.9, 0.0), (1.1, 0.0), (0.3, 0.6), (0.3, 0.8)])
def test_neurons_are_twins_whose_trading_places_moves_less_than_a_deviation(share, determined):
    """γ ‖Δw‖² + Δwᵀ G Δw ≤ σ², with both parts in shares of σ²: of twins, and of others with 2 · 2² minima."""
    noise, apart = 0.5, 1.7
    params = (
        {"W": np.array([[1.0, 1.0]]), "b": np.array([0.3, 0.3 + apart])},
        {"W": np.ones((2, 1)), "b": np.zeros(1)},
    )
    moved = 2 * apart**2
    basis = types.SimpleNamespace(
        coordinates=lambda swap: np.array([-2.0, 1.0]) if np.isclose(swap @ swap, moved) else pytest.fail("no swap"),
        eigenvalues=np.array([determined * noise / 4, 0.0]),
    )
    posterior = types.SimpleNamespace(weight_decay=share * noise / moved, noise=noise, basis=basis)
    with typechecker.off():
        found = laplace._log_count(jnn.mlp([1, 2, 1]), params, posterior)
    assert found == pytest.approx(0 if share + determined <= 1 else np.log(8))


def test_rounds_end_when_every_decay_is_settled(key, monkeypatch):
    """And go on with better ones where they are not; which network is kept, evidence and number of minima decide."""
    network, x = jnn.mlp([1, 1]), np.array([[-1.0], [0.2], [1.0], [0.5]])
    y = x + np.array([[0.1], [-0.1], [0.1], [0.3]])
    better = {1: [1e-3, 20.0], 2: [1e-3, 30.0], 3: [1.0005e-3, 30.0]}  # by round; the tolerance is relative
    decays, calls = [], itertools.count()
    train = jnn.ensembles.fit
    monkeypatch.setattr(
        laplace.ensembles,
        "fit",
        lambda *given, **named: decays.append(named["weight_decay"].copy()) or train(*given, **named),
    )
    monkeypatch.setattr(
        laplace, "_better_decay", lambda posterior, params: better[min(len(decays), 3)][next(calls) % 2]
    )
    likelier = {"second": [0.0, 1e6], "first": [1e6, 0.0]}
    settings = {"key": key, "restarts": 2, "epochs": 20}
    for name, kept in (("second", 1), ("first", 0)):
        decays.clear()
        counts = itertools.cycle(likelier[name])
        monkeypatch.setattr(laplace, "_log_count", lambda *_, counts=counts: next(counts))
        model = laplace.train(network, GAUSSIAN, x, y, **settings)
        np.testing.assert_allclose(decays, [[1e-3, 10], [1e-3, 20], [1e-3, 30]], rtol=1e-12)
        assert float(model.posterior.weight_decay) == pytest.approx([1e-3, 30][kept])
        # Ridge regression: Levenberg-Marquardt ends there to a gradient of 1e-7.
        design = np.c_[x, np.ones(4)]
        w = np.linalg.solve(design.T @ design + [1e-3, 30][kept] * np.eye(2), design.T @ y)
        np.testing.assert_allclose(model.params[0]["W"], w[:1], atol=1e-5)
    both = laplace.train(network, GAUSSIAN, x, y, keep=2, **settings)
    np.testing.assert_allclose(both.posterior.weight_decay, [1e-3, 30], rtol=1e-6)
    assert both.params[0]["W"].shape == (2, 1, 1)
    decays.clear()
    with pytest.warns(laplace.NotConvergedWarning, match="still changes after 2 rounds"):
        model = laplace.train(network, GAUSSIAN, x, y, rounds=2, **settings | {"keep": 2}, tolerance=0.0)
    assert len(decays) == 2
    np.testing.assert_allclose(model.posterior.weight_decay, [1e-3, 20], rtol=1e-6)  # what they were trained with


# --- covariances over samples


def test_covariances_of_a_linear_model_are_those_of_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(25, 2))
    y = x[:, :1] + (0.1 + np.abs(x[:, :1])) * rng.normal(size=(25, 1))
    design, network = np.c_[x, np.ones(25)], jnn.mlp([2, 1])
    inverse = np.linalg.inv(design.T @ design)
    w = inverse @ design.T @ y
    params = ({"W": jnp.asarray(w[:2]), "b": jnp.asarray(w[2])},)
    residual = (y - design @ w)[:, 0]
    leverage = np.einsum("ni,ij,nj->n", design, inverse, design)
    observed = laplace.sampling_covariance(network, GAUSSIAN, params, x, y, weight_decay=0.0)
    np.testing.assert_allclose(observed, residual @ residual / 22 * inverse, rtol=1e-10)
    robust = laplace.sampling_covariance(network, GAUSSIAN, params, x, y, weight_decay=0.0, kind="hc3")
    scaled = design * (residual / (1 - leverage))[:, None]
    expected = inverse @ scaled.T @ scaled @ inverse
    np.testing.assert_allclose(robust, expected, rtol=1e-10, atol=1e-15)
    at = jnp.array([[1.0, 2.0]])
    of = laplace.sampling_covariance(
        network, GAUSSIAN, params, x, y, weight_decay=0.0, kind="hc3", of=lambda p: network.apply(p, at)
    )
    row = np.array([1.0, 2.0, 1.0])
    np.testing.assert_allclose(of, [[row @ expected @ row]], rtol=1e-10)


def test_hc3_is_that_of_statsmodels():
    """Made by statsmodels 0.15.0: `OLS(y, np.c_[x, np.ones(12)]).fit().get_robustcov_results("HC3").cov_params()`."""
    x = np.cos(np.arange(1, 25)).reshape(12, 2)
    y = x[:, 0] + (0.2 + np.abs(x[:, 1])) * np.sin(3 * np.arange(1, 13))
    w = np.linalg.lstsq(np.c_[x, np.ones(12)], y, rcond=None)[0]
    params = ({"W": jnp.asarray(w[:2, None]), "b": jnp.asarray(w[2:])},)
    found = {
        kind: laplace.sampling_covariance(jnn.mlp([2, 1]), GAUSSIAN, params, x, y[:, None], weight_decay=0.0, kind=kind)
        for kind in ("observed", "hc3")
    }
    hc3 = [
        [0.09236545227235736, -0.04260747227045238, -0.03838358014190417],
        [-0.04260747227045238, 0.22519556953536773, 0.0032876897300180953],
        [-0.03838358014190417, 0.003287689730018091, 0.06213927599820206],
    ]
    usual = [  # .cov_params() of the fit itself
        [0.13321537016354576, -0.06418649696965988, 0.0028784259812729565],
        [-0.06418649696965988, 0.13591950391273303, 0.0036758843332518262],
        [0.0028784259812729565, 0.0036758843332518262, 0.04974011323925229],
    ]
    np.testing.assert_allclose(found["hc3"], hc3, rtol=1e-10)
    np.testing.assert_allclose(found["observed"], usual, rtol=1e-10)


def test_covariances_with_a_decay_of_several_outputs_and_of_classes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(15, 2))
    x[:, 1] = np.arange(15) == 3  # an example that a weight is there for alone: its leverage is 1
    y = np.c_[x[:, 0], -x[:, 0]] + 0.3 * rng.normal(size=(15, 2))
    design, gamma = np.c_[x, np.ones(15)], 0.4
    precision = design.T @ design + gamma * np.eye(3)
    w = np.linalg.solve(precision, design.T @ y)
    params = ({"W": jnp.asarray(w[:2]), "b": jnp.asarray(w[2])},)
    of = (jnn.mlp([2, 2]), GAUSSIAN)
    residual, inverse = y - design @ w, np.linalg.inv(precision)
    noise = np.sum(residual**2) / (30 - 2 * np.trace(inverse @ design.T @ design))
    found = laplace.sampling_covariance(*of, params, x, y, weight_decay=gamma)
    np.testing.assert_allclose(found, noise * np.kron(inverse, np.eye(2)), rtol=1e-10, atol=1e-14)
    found = laplace.sampling_covariance(*of, params, x, y, weight_decay=gamma, kind="hc3")
    leverage = np.einsum("ni,ij,nj->n", design, inverse, design)
    scaled = np.einsum("ni,nk->nik", design, residual / (1 - leverage)[:, None]).reshape(15, 6)
    inverse = np.kron(inverse, np.eye(2))
    np.testing.assert_allclose(found, inverse @ scaled.T @ scaled @ inverse, rtol=1e-9, atol=1e-14)
    # Without the decay the example's residual is 0, as is what its leverage leaves: 0/0 is 0.
    w = np.linalg.lstsq(design, y)[0]
    params = ({"W": jnp.asarray(w[:2]), "b": jnp.asarray(w[2])},)
    found = laplace.sampling_covariance(*of, params, x, y, weight_decay=0.0, kind="hc3")
    others = np.delete(design[:, [0, 2]], 3, axis=0)
    few = jnn.mlp([1, 2])
    params = ({"W": jnp.asarray(w[:1]), "b": jnp.asarray(w[2])},)
    expected = laplace.sampling_covariance(
        few, GAUSSIAN, params, others[:, :1], np.delete(y, 3, axis=0), weight_decay=0.0, kind="hc3"
    )
    kept = [0, 1, 4, 5]
    np.testing.assert_allclose(found[np.ix_(kept, kept)], expected, rtol=1e-6, atol=1e-12)
    # Logistic regression: H = Xᵀ diag(p (1 − p)) X + γ, whatever the targets, and no noise beside it.
    params = ({"W": jnp.asarray([[0.5], [-1.0]]), "b": jnp.asarray([0.2])},)
    p = 1 / (1 + np.exp(-design @ [0.5, -1.0, 0.2]))
    labels = (y[:, :1] > 0).astype(float)
    found = laplace.sampling_covariance(jnn.mlp([2, 1]), likelihoods.Bernoulli(), params, x, labels, weight_decay=gamma)
    expected = np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]) + gamma * np.eye(3))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_covariances_need_a_minimum(key):
    params = NETWORK.init(key, dtype=jnp.float64)
    _, x, y = trained(key)
    for decay in (-1.0, np.nan):
        with pytest.raises(ValueError, match="expected weight_decay to be finite and ≥ 0"):
            laplace.sampling_covariance(NETWORK, GAUSSIAN, params, x, y, weight_decay=decay)
    with pytest.raises(ValueError, match="the Hessian is not positive definite"):
        laplace.sampling_covariance(NETWORK, GAUSSIAN, params, x, y - 10, weight_decay=0.0)


# --- leverages of ensembles


@pytest.mark.parametrize("given", ["a fraction", "rows"])
def test_leverages_of_a_linear_ensemble_are_those_of_regression(given, key):
    """Var = σ² (s² + h) + spread, each member's h over its own training examples, σ² from those it held out."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2))
    y = np.c_[x[:, 0], -x[:, 1]] + 0.2 * rng.normal(size=(40, 2))
    network, gamma, s = jnn.mlp([2, 2]), 0.1, 0.7
    aside = {"validation": 0.25} if given == "a fraction" else {"held_out": np.arange(30).reshape(3, 10)}
    trained = jnn.ensembles.fit(
        *(network, likelihoods.Gaussian(s), x, y), key=key, members=3, optimizer=jnn.levenberg_marquardt(),
        epochs=20, **aside,
    )  # fmt: skip
    model = laplace.leverages(trained, x, y, weight_decay=gamma)
    new = np.array([[0.0, 0.0], [6.0, -6.0]])
    design, far = np.c_[x, np.ones(40)], np.c_[new, np.ones(2)]
    h, squares = [], []
    for m in range(3):
        state = trained.result.state
        held_out = np.asarray(state.held_out.index[m])[: int(state.held_out.count[m])]
        if given == "a fraction":
            rows = np.asarray(state.rows.index[m])[: int(state.rows.count[m])]
            assert (len(rows), len(held_out), len({*rows} & {*held_out})) == (30, 10, 0)
        else:  # all train on all
            rows = np.arange(40)
            np.testing.assert_array_equal(held_out, 10 * m + np.arange(10))
        inverse = np.linalg.inv(design[rows].T @ design[rows] / s**2 + gamma * np.eye(3))
        residual = (y - np.asarray(trained.member_means(x)[m]))[held_out] / s
        leverage = np.einsum("ni,ij,nj->n", design[held_out], inverse, design[held_out]) / s**2
        squares.append(residual**2 / (1 + leverage)[:, None])
        h.append(np.einsum("ni,ij,nj->n", far, inverse, far))
    means = np.asarray(trained.member_means(new))
    expected = np.mean(squares) * (s**2 + np.mean(h, axis=0))[:, None] + means.var(axis=0)
    np.testing.assert_allclose(model.moments(new).variance, expected, rtol=1e-9)
    np.testing.assert_allclose(model.mean(new), trained.mean(new), rtol=1e-12)


def test_leverages_ask_for_what_was_held_out(key):
    _, x, y = trained(key)
    settings = {"key": key, "members": 2, "epochs": 1}
    with pytest.raises(ValueError, match="leverages need examples that were held out"):
        laplace.leverages(jnn.ensembles.fit(NETWORK, GAUSSIAN, x, y, **settings), x, y)
    of_others = jnn.ensembles.fit(NETWORK, likelihoods.Poisson(), x, np.ones_like(y), validation=0.2, **settings)
    with pytest.raises(ValueError, match="leverages need Gaussian noise of one variance"):
        laplace.leverages(of_others, x, y)
    held_out = jnn.ensembles.fit(NETWORK, GAUSSIAN, x, y, validation=0.2, **settings)
    with pytest.raises(ValueError, match="expected weight_decay to be finite and > 0"):
        laplace.leverages(held_out, x, y, weight_decay=0.0)
    narrow, wide = np.array([[0.0, 0.0]]), np.array([[9.0, 9.0]])
    model = laplace.leverages(held_out, x, y)  # fewer examples than weights: the dual form
    assert (model.moments(wide).variance > model.moments(narrow).variance).all()
