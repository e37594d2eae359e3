"""Posteriors against Bayesian linear regression, dense matrices, numerical integrals; and as a part of models."""

import inspect
import itertools
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
from jnn.posterior import Posterior, predictive
from jnn.transforms import Standardize

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


def test_a_posterior_made_by_hand_has_plain_numbers(key):
    params, x, y = trained(key)
    made = laplace.fit(NETWORK, GAUSSIAN, params, x, y, weight_decay=0.5, noise=1.0)
    by_hand = Posterior(made.basis, 0.5)  # its noise is 1, its evidence is not known
    found, expected = (Model(NETWORK, GAUSSIAN, params, posterior=p).moments(x[:3]) for p in (by_hand, made))
    np.testing.assert_array_equal(found.variance, expected.variance)


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


# --- predictions


def integrals(likelihood, a, deviation):
    """E and Var of y for a scalar output a ~ N(a, deviation²), by a fine sum."""
    grid = np.linspace(-9, 9, 20001)
    share = np.exp(-0.5 * grid**2)
    share /= share.sum()
    at = jnp.asarray(a + deviation * grid)[:, None]
    mean, within = np.asarray(likelihood.mean(at))[:, 0], np.asarray(likelihood.variance(at))[:, 0]
    return share @ mean, share @ within + share @ (mean - share @ mean) ** 2


@pytest.mark.parametrize("likelihood", [likelihoods.Bernoulli(), likelihoods.Poisson(), GAUSSIAN])
def test_uncertain_outputs_through_the_likelihood(likelihood, key):
    network = jnn.mlp([2, 3, 1])
    params = network.init(key, dtype=jnp.float64)
    x = np.asarray(jax.random.normal(key, (12, 2)))
    y = np.asarray(likelihood.sample(key, network.apply(params, x)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", laplace.NotConvergedWarning)
        posterior = laplace.fit(network, likelihood, params, x, y, weight_decay=2.0, noise=1.0)
    z = jnp.array([0.7, -1.2])
    mean, variance = jax.jit(predictive, static_argnums=(0, 1))(network, likelihood, posterior, params, z)
    j = np.concatenate(
        [leaf.reshape(1, -1) for leaf in jax.tree.leaves(curvature.jacobian(network, params, z))], axis=1
    )
    deviation = float(np.sqrt(posterior.covariance(jnp.asarray(j))[0, 0]))
    expected = integrals(likelihood, float(network.apply(params, z)[0]), deviation)
    np.testing.assert_allclose((mean[0], variance[0]), expected, rtol=1e-6)  # what 24 nodes leave of a logistic


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
    """All orders and signs of the neurons that are different weights; the twins, 0 and 3, keep their signs."""
    network = jnn.mlp([1, 4, 2, 1], activation)
    own = {"W": np.array([[2.0, -1, 0.5, 2]]), "b": np.array([0.1, 2, -1, 0.1])}
    params = (own, {"W": np.array([[3.0, 1], [-2, 2], [1, 1], [3, 1]]), "b": np.array([1.0, -1])})
    params += ({"W": np.array([[2.0], [-3]]), "b": np.zeros(1)},)
    x = np.linspace(-1, 1, 50)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", laplace.NotConvergedWarning)
        posterior = laplace.fit(network, GAUSSIAN, params, x, np.sin(x), weight_decay=0.1, noise=1e-4)
    signs = [1, -1] if activation == "tanh" else [1]
    first = {
        tuple(tuple(sign * v for v in (own["W"][0, n], own["b"][n])) for n, sign in zip(order, flips, strict=True))
        for order in itertools.permutations(range(4))
        for flips in itertools.product(signs, repeat=4)
        if all(sign == 1 for n, sign in zip(order, flips, strict=True) if n in (0, 3))
    }
    found = itertools.product(first, itertools.permutations(range(2)), itertools.product(signs, repeat=2))
    assert laplace._log_count(network, params, posterior) == pytest.approx(np.log(len(list(found))))
    network, same = jnn.networks.as_dag(network, params)
    assert laplace._log_count(network, same, posterior) == 0


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


def test_covariances_need_a_minimum(key):
    params = NETWORK.init(key, dtype=jnp.float64)
    _, x, y = trained(key)
    for decay in (-1.0, np.nan):
        with pytest.raises(ValueError, match="expected weight_decay to be finite and ≥ 0"):
            laplace.sampling_covariance(NETWORK, GAUSSIAN, params, x, y, weight_decay=decay)
    with pytest.raises(ValueError, match="the Hessian is not positive definite"):
        laplace.sampling_covariance(NETWORK, GAUSSIAN, params, x, y - 10, weight_decay=0.0)


# --- leverages of ensembles


def test_leverages_of_a_linear_ensemble_are_those_of_regression(key):
    """Var = σ² (1 + h) + spread, each member's h over its own training examples, σ² from those it held out."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2))
    y = x[:, :1] + 0.2 * rng.normal(size=(40, 1))
    network, gamma = jnn.mlp([2, 1]), 0.1
    trained = jnn.ensembles.fit(
        network, GAUSSIAN, x, y, key=key, members=3, validation=0.25, optimizer=jnn.levenberg_marquardt(), epochs=20
    )
    model = laplace.leverages(trained, x, y, weight_decay=gamma)
    new = np.array([[0.0, 0.0], [6.0, -6.0]])
    design, far = np.c_[x, np.ones(40)], np.c_[new, np.ones(2)]
    h, squares = [], []
    for m in range(3):
        rows, held_out = (
            np.asarray(part.index[m])[: int(part.count[m])]
            for part in (trained.result.state.rows, trained.result.state.held_out)
        )
        assert (len(rows), len(held_out), len({*rows} & {*held_out})) == (30, 10, 0)
        inverse = np.linalg.inv(design[rows].T @ design[rows] + gamma * np.eye(3))
        residual = (y - np.asarray(trained.member_means(x)[m]))[held_out, 0]
        leverage = np.einsum("ni,ij,nj->n", design[held_out], inverse, design[held_out])
        squares.append(residual**2 / (1 + leverage))
        h.append(np.einsum("ni,ij,nj->n", far, inverse, far))
    means = np.asarray(trained.member_means(new))[:, :, 0]
    expected = np.mean(squares) * (1 + np.mean(h, axis=0)) + means.var(axis=0)
    np.testing.assert_allclose(model.moments(new).variance[:, 0], expected, rtol=1e-9)
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
