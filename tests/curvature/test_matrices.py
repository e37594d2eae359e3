"""Second derivatives by hand against autodiff, and what must be true of the matrices."""

import ast
import functools
import inspect
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jnn
from experiments import crosscheck
from experiments.crosscheck import general_edges
from jnn import curvature, gradcheck, likelihoods, objectives

CASES = list(crosscheck.cases(quick=True))
ACTIVATIONS_OF = "two layers"
NAMES = sorted({case.name for case in CASES})


def slow_if(name: str) -> bool:
    """Kinds of networks that call what others call, or are slow to compile, wait for the long suite."""
    network, likelihood = name.split(" / ")
    if network == ACTIVATIONS_OF:
        return likelihood not in ("heteroscedastic Gaussian", "Bernoulli", "softmax + squared error")
    return network != "linear" and likelihood != "heteroscedastic Gaussian"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if slow_if(name) else ()) for name in NAMES]
)
def test_by_hand_equals_autodiff(name):
    """Hessian products, Gauss-Newton products, Jacobian, the Hessian's diagonal; bounds as for gradients."""
    some = [case for case in CASES if case.name == name]
    for case in some[:1] if "sweep" in name or "blocks" in name else some:
        errors = crosscheck.measure(case, order=2)
        assert errors.float64 <= 1e-12, case
        excess = errors.excess
        if excess > 1:  # the worst element of one draw may have lost digits by cancelling
            excess = np.median([crosscheck.measure(case, seed, order=2).excess for seed in range(1, 4)])
        assert excess <= 1, (case, errors)


# --- what must be true of the matrices

NETWORKS = {
    "mlp": jnn.mlp([3, 4, 5, 2], ["tanh", "softplus"]),
    "shortcuts": jnn.mlp([3, 4, 5, 2], ["tanh", "logistic"], shortcuts=True),
    "sweep": jnn.dag(3, 2, [*general_edges(3, 6, 2), (0, 5), (0, 10)], evaluation="sweep"),
}
each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
SETTINGS = {"reduction": "mean", "weight_decay": 0.3}


def problem(network, likelihood, key, n=7):
    keys = jax.random.split(key, 4)
    params = network.init(keys[0], bias=0.2, dtype=jnp.float64)
    x = jax.random.normal(keys[1], (n, network.inputs))
    y = likelihood.sample(keys[2], jax.random.normal(keys[3], (n, network.outputs)))
    return params, x, y, jnp.linspace(0.5, 2, n)


@functools.cache
def matrices(network, likelihood):
    @jax.jit
    def compute(params, x, y, weights):
        return (
            curvature.hessian(network, likelihood, **SETTINGS)(params, x, y, weights),
            curvature.gauss_newton(network, likelihood, **SETTINGS)(params, x, weights),
        )

    return compute


def eigenvalues(matrix):
    return np.linalg.eigvalsh((matrix + matrix.T) / 2)


@each_network
def test_the_hessian_is_symmetric_and_that_of_autodiff(network, key):
    likelihood = likelihoods.HeteroscedasticGaussian()
    params, x, y, weights = problem(network, likelihood, key)
    hessian, gauss_newton = matrices(network, likelihood)(params, x, y, weights)
    # The two halves are sums of the same few dozen products in two orders.
    np.testing.assert_allclose(hessian, hessian.T, rtol=0, atol=1e-14 * np.abs(hessian).max())
    flat, unravel = ravel_pytree(params)
    objective = objectives.objective(network, likelihood, **SETTINGS)
    expected = jax.jit(jax.hessian(lambda flat: objective(unravel(flat), x, y, weights)))(flat)
    np.testing.assert_allclose(hessian, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    assert eigenvalues(hessian)[0] < -1e-3  # far from a minimum it is indefinite,
    assert eigenvalues(gauss_newton)[0] > -1e-14 * eigenvalues(gauss_newton)[-1]  # and G never


@pytest.mark.parametrize("likelihood", [likelihoods.Gaussian(0.7), likelihoods.Categorical(), likelihoods.Poisson()])
def test_without_hidden_neurons_and_with_a_canonical_likelihood_g_is_the_hessian(likelihood, key):
    network = jnn.mlp([3, 2])
    params, x, y, weights = problem(network, likelihood, key)
    hessian, gauss_newton = matrices(network, likelihood)(params, x, y, weights)
    np.testing.assert_allclose(gauss_newton, hessian, rtol=0, atol=1e-14 * np.abs(hessian).max())


def test_of_a_linear_network_without_weights_the_sum_of_squares_is_that_of_the_rows(key):
    """∂a_k/∂W_ik = x_i and ∂a_k/∂b_k = 1, so that both matrices are Σ_nk j_nk j_nkᵀ."""
    network, likelihood = jnn.mlp([3, 2]), likelihoods.Gaussian()
    params, x, y, _ = problem(network, likelihood, key)
    every = objectives.every_weight_mask(network)  # so that a decay that nobody asked for would show
    units = np.eye(2)
    rows = np.stack([ravel_pytree(({"W": np.outer(row, e), "b": e},))[0] for row in np.asarray(x) for e in units])
    for found in (
        curvature.hessian(network, likelihood, reduction="sum", mask=every)(params, x, y),
        curvature.gauss_newton(network, likelihood, reduction="sum", mask=every)(params, x),
    ):
        np.testing.assert_allclose(found, rows.T @ rows, rtol=1e-12, atol=1e-12)
    for found in (
        curvature.diagonal(network, likelihood, reduction="sum", mask=every)(params, x, y),
        curvature.diagonal(network, likelihood, reduction="sum", mask=every)(params, x, None),
    ):
        np.testing.assert_allclose(ravel_pytree(found)[0], np.sum(rows**2, axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        np.linalg.norm(curvature.root_rows(network, likelihood, params, x) @ np.ones(rows.shape[1])) ** 2,
        np.sum((rows @ np.ones(rows.shape[1])) ** 2),
        rtol=1e-12,
    )
    v = jax.tree.map(jnp.ones_like, params)
    for found in (
        curvature.hessian_vector_product(network, likelihood, reduction="sum", mask=every)(params, v, x, y),
        curvature.gauss_newton_vector_product(network, likelihood, reduction="sum", mask=every)(params, v, x),
    ):
        np.testing.assert_allclose(ravel_pytree(found)[0], rows.T @ rows @ np.ones(rows.shape[1]), rtol=1e-12)


@each_network
def test_g_by_rows_products_blocks_and_its_diagonal(network, key, monkeypatch):
    likelihood = likelihoods.Categorical()
    params, x, y, weights = problem(network, likelihood, key)
    _, whole = matrices(network, likelihood)(params, x, y, weights)
    scale = 1e-14 * np.abs(whole).max()
    flat, unravel = ravel_pytree(params)
    product = jax.jit(curvature.gauss_newton_vector_product(network, likelihood, **SETTINGS))
    by_products = np.stack([ravel_pytree(product(params, unravel(e), x, weights))[0] for e in np.eye(len(flat))])
    np.testing.assert_allclose(by_products, whole, rtol=0, atol=4 * scale)
    diagonal = ravel_pytree(jax.jit(curvature.diagonal(network, likelihood, **SETTINGS))(params, x, None, weights))[0]
    np.testing.assert_allclose(diagonal, np.diag(whole), rtol=0, atol=4 * scale)
    rows = jax.jit(functools.partial(curvature.root_rows, network, likelihood))(params, x, weights)
    decays = objectives.penalty_gradient(
        jax.tree.map(jnp.ones_like, params), objectives.decay_mask(network, likelihood)
    )
    expected = (rows.T @ rows + 0.3 * jnp.diag(ravel_pytree(decays)[0])) / weights.sum()
    np.testing.assert_allclose(whole, expected, rtol=0, atol=4 * scale)
    monkeypatch.setattr(curvature, "BLOCK", 3 * network.weight_count * network.outputs)  # 7 examples as 3 + 3 + 1
    in_blocks = jax.jit(curvature.gauss_newton(network, likelihood, **SETTINGS))(params, x, weights)
    np.testing.assert_allclose(in_blocks, whole, rtol=0, atol=4 * scale)
    if isinstance(network, jnn.networks.Layered):
        monkeypatch.setattr(curvature, "BLOCK", 1)  # no room for one example: one by one
        one_by_one = jax.jit(curvature.gauss_newton(network, likelihood, **SETTINGS))(params, x, weights)
        np.testing.assert_allclose(one_by_one, whole, rtol=0, atol=4 * scale)


def test_sums_are_means_times_the_weight_of_the_examples(key):
    network, likelihood = NETWORKS["mlp"], likelihoods.Gaussian()
    params, x, y, weights = problem(network, likelihood, key)
    hessian, gauss_newton = matrices(network, likelihood)(params, x, y, weights)
    summed = {"reduction": "sum", "weight_decay": 0.3}
    total = float(weights.sum())
    found = jax.jit(curvature.gauss_newton(network, likelihood, **summed))(params, x, weights)
    np.testing.assert_allclose(found, total * gauss_newton, rtol=1e-12, atol=1e-13)
    found = jax.jit(curvature.hessian(network, likelihood, **summed))(params, x, y, weights)
    np.testing.assert_allclose(found, total * hessian, rtol=1e-12, atol=1e-13)


def test_examples_of_weight_zero_do_not_count(key):
    network, likelihood = NETWORKS["mlp"], likelihoods.Gaussian()
    params, x, y, _ = problem(network, likelihood, key)
    some = jnp.array([1.0, 1, 1, 1, 0, 0, 0])
    found = matrices(network, likelihood)(params, x.at[4:].set(1e3), y, some)
    expected = matrices(network, likelihood)(params, x[:4], y[:4], jnp.ones(4))
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=0, atol=1e-14 * np.abs(e).max())


def test_kronecker_factors(key):
    """By loops over examples and neurons; and exact for one example."""
    network, likelihood = NETWORKS["shortcuts"], likelihoods.Categorical()
    params, x, _, weights = problem(network, likelihood, key)
    factors = jax.jit(curvature.kronecker_factors(network, likelihood, reduction="sum"))(params, x, weights)
    trace = network.trace(params, x)
    root = np.asarray(likelihood.fisher_root(trace.a[-1]))
    for number, layer in enumerate(network.layers):
        read = np.concatenate([*(trace.z[s] for s in layer.sources), np.ones((7, 1))], axis=1)
        A = np.einsum("n,ni,nj->ij", weights / weights.sum(), read, read)
        np.testing.assert_allclose(factors[number].A, A, rtol=1e-12)
        if number == len(network.layers) - 1:
            expected = np.einsum("n,nir,njr->ij", weights, root, root)
            np.testing.assert_allclose(factors[number].B, expected, rtol=0, atol=1e-14 * np.abs(expected).max())
    for v in (None, weights):
        total = len(x) if v is None else weights.sum()
        summed = curvature.kronecker_factors(network, likelihood, reduction="sum")(params, x, v)
        mean = curvature.kronecker_factors(network, likelihood)(params, x, v)
        for s, m in zip(summed, mean, strict=True):
            np.testing.assert_allclose(m.A, s.A, rtol=1e-12)
            np.testing.assert_allclose(m.B * total, s.B, rtol=0, atol=1e-13 * np.abs(s.B).max())
    plain, ones = (curvature.kronecker_factors(network, likelihood)(params, x, v) for v in (None, jnp.ones(7)))
    jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, rtol=1e-13, atol=1e-15), plain, ones)
    one = jnp.ones(1)
    factors = jax.jit(curvature.kronecker_factors(network, likelihood, reduction="sum"))(params, x[:1], one)
    whole = jax.jit(curvature.gauss_newton(network, likelihood, reduction="sum"))(params, x[:1], one)
    first = factors[0]
    size = network.layers[0].size * 3
    weights_block = jnp.einsum("ij,kl->ikjl", first.A[:-1, :-1], first.B).reshape(size, size)
    np.testing.assert_allclose(weights_block, whole[:size, :size], rtol=0, atol=1e-14 * float(np.abs(whole).max()))


def test_the_jacobian_is_autodiffs_for_any_batch(key):
    network = NETWORKS["mlp"]
    params, x, *_ = problem(network, likelihoods.Gaussian(), key, n=6)
    for rows in (x[0], x, x.reshape(2, 3, 3)):
        found = jax.jit(functools.partial(curvature.jacobian, network))(params, rows)
        expected = jax.jit(jax.jacrev(lambda params, rows=rows: network.apply(params, rows)))(params)
        for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert f.shape == e.shape
            np.testing.assert_allclose(f, e, rtol=0, atol=1e-14)


# --- checked by gradcheck, of order 2


@pytest.mark.parametrize("name", ["one layer", pytest.param("shortcuts", marks=pytest.mark.slow)])
@pytest.mark.parametrize("likelihood", [likelihoods.HeteroscedasticGaussian(), likelihoods.Categorical()])
def test_gradcheck_of_order_two_passes(name, likelihood, key):
    network = crosscheck.build(name, "gelu")
    params, x, y, weights = problem(network, likelihood, key, n=3)
    objective = curvature.differentiable(network, likelihood, **SETTINGS)
    report = gradcheck.check(lambda params: objective(params, x, y, weights), params, order=2)
    assert report.verdict == "pass", str(report)


def test_gradcheck_of_order_two_finds_a_missing_bend(key):
    """As if h'' were 0: the gradient stays right, its derivative does not."""
    likelihood = likelihoods.Gaussian()
    gelu = jnn.activations.gelu
    network = jnn.mlp([3, 5, 4], (gelu.h, gelu.derivative, jnp.zeros_like))
    params, x, y, weights = problem(network, likelihood, key, n=3)
    objective = curvature.differentiable(network, likelihood, **SETTINGS)
    verdicts = [
        gradcheck.check(lambda params: objective(params, x, y, weights), params, order=order).verdict
        for order in (1, 2)
    ]
    assert verdicts == ["pass", "fail"]


def test_any_multiple_of_the_objective_is_differentiated_twice(key):
    """As within a loss of one's own: the cotangent is not 1."""
    network, likelihood = jnn.mlp([3, 2, 2]), likelihoods.Categorical()
    params, x, y, weights = problem(network, likelihood, key, n=3)
    by_hand = curvature.differentiable(network, likelihood, **SETTINGS)
    by_autodiff = objectives.objective(network, likelihood, **SETTINGS)
    direction = jax.tree.map(jnp.cos, params)

    def both(objective):
        gradient = jax.grad(lambda p: jnp.sin(3 * objective(p, x, y, weights)))
        product = jax.vjp(gradient, params)[1](direction)[0]
        return objective(params, x, y, weights), gradient(params), product

    found, expected = jax.jit(lambda: both(by_hand))(), jax.jit(lambda: both(by_autodiff))()
    for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-11, atol=1e-13)


def test_no_autodiff_in_the_module():
    differentiators = {"grad", "value_and_grad", "vjp", "jvp", "linearize", "jacrev", "jacfwd", "hessian", "vjp3"}
    for node in ast.walk(ast.parse(pathlib.Path(curvature.__file__).read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "jax":
            assert node.attr not in differentiators
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jax"):
            assert not differentiators & {alias.name for alias in node.names}


# --- bad input


def test_bad_input(key):
    network, likelihood = jnn.mlp([3, 4, 2], (jnp.sin, jnp.cos)), likelihoods.Gaussian()
    params, x, y, _ = problem(network, likelihood, key)
    with pytest.raises(ValueError, match=r"second derivatives need h'' of the activation sin"):
        curvature.hessian(network, likelihood)(params, x, y)
    assert curvature.gauss_newton(network, likelihood)(params, x).shape == (26, 26)  # without h''
    with pytest.raises(ValueError, match="expected a target for each example"):
        curvature.hessian(network, likelihood)(params, x, y[:3])
    with pytest.raises(ValueError, match="expected weights of shape"):
        curvature.gauss_newton(network, likelihood)(params, x, jnp.ones(3))
    with pytest.raises(ValueError, match='expected reduction "mean" or "sum"'):
        inspect.unwrap(curvature.hessian)(network, likelihood, reduction="none")
    with pytest.raises(ValueError, match='expected of as "gauss_newton" or "hessian"'):
        inspect.unwrap(curvature.diagonal)(network, likelihood, of="fisher")
    with pytest.raises(ValueError, match="Kronecker factors need layers"):
        curvature.kronecker_factors(NETWORKS["sweep"], likelihood)
