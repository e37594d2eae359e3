"""What else follows from the backward pass: deltas, per-example gradients, the custom rule, second derivatives."""

import ast
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnn
from experiments.crosscheck import general_edges
from jnn import backprop, likelihoods, objectives

NETWORKS = {
    "linear": jnn.mlp([3, 2]),
    "mlp": jnn.mlp([3, 4, 5, 2], ["tanh", "softplus"]),
    "shortcuts": jnn.mlp([3, 4, 5, 2], ["tanh", "logistic"], shortcuts=True),
    "blocks": jnn.dag(3, 2, general_edges(3, 6, 2), evaluation="blocks"),
    "sweep": jnn.dag(3, 2, [*general_edges(3, 6, 2), (0, 5), (0, 10)], evaluation="sweep"),
}
GAUSSIAN = likelihoods.Gaussian()
each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


def problem(network, key, n=5):
    keys = jax.random.split(key, 3)
    params = network.init(keys[0], bias=0.2, dtype=jnp.float64)
    return params, jax.random.normal(keys[1], (n, 3)), jax.random.normal(keys[2], (n, 2))


def assert_close(found, expected, rtol=1e-12):
    """Equal structure, and each leaf to `rtol` of its largest element (a few dozen roundings: 1e-14; room for sums)."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert f.shape == e.shape
        np.testing.assert_allclose(f, e, rtol=0, atol=rtol * max(float(np.max(np.abs(e))), 1e-300))


def test_no_autodiff_in_the_module():
    """backprop imports and calls nothing that differentiates."""
    differentiators = {"grad", "value_and_grad", "vjp", "jvp", "linearize", "jacrev", "jacfwd", "hessian", "vjp3"}
    for node in ast.walk(ast.parse(pathlib.Path(backprop.__file__).read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "jax":
            assert node.attr not in differentiators
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jax"):
            assert not differentiators & {alias.name for alias in node.names}


@each_network
def test_deltas_are_derivatives_by_the_weighted_sums(network, key):
    """δ_i = ∂E^n/∂a_i, by shifting each neuron's bias: ∂E^n/∂w_i0 = δ_i · 1."""
    params, x, y = problem(network, key)
    found = backprop.deltas(network, GAUSSIAN, params, x, y)
    by_autodiff = jax.jit(jax.vmap(jax.grad(objectives.objective(network, GAUSSIAN)), (None, 0, 0)))(params, x, y)
    if isinstance(network, jnn.networks.Dag):
        expected = by_autodiff["b"]
        found = jnp.where(network.biased, found, 0)
    else:
        expected = tuple(p["b"] for p in by_autodiff)
    assert_close(found, expected)
    single = backprop.deltas(network, GAUSSIAN, params, x[2], y[2])
    for one, all_of_them in zip(jax.tree.leaves(single), jax.tree.leaves(found), strict=True):
        biased = network.biased if isinstance(network, jnn.networks.Dag) else True
        np.testing.assert_allclose(jnp.where(biased, one, 0), all_of_them[2], rtol=1e-12, atol=1e-14)


def test_output_delta_is_z_minus_y(key):
    """The three canonical cases of slide "Other error functions", at the output neurons of a network."""
    network = jnn.mlp([3, 4, 2])
    params, x, _ = problem(network, key)
    a = network.apply(params, x)
    logistic = 1 / (1 + np.exp(-a))
    softmax = np.exp(a) / np.exp(a).sum(axis=1, keepdims=True)
    y = jnp.array([[1, 0], [0, 1], [1, 0], [0, 1], [0, 1]])
    for likelihood, z in (
        (likelihoods.Gaussian(), a),
        (likelihoods.Bernoulli(), logistic),
        (likelihoods.Categorical(), softmax),
    ):
        delta = backprop.deltas(network, likelihood, params, x, y)[-1]
        np.testing.assert_allclose(delta, z - y, rtol=1e-13, atol=1e-15)


@each_network
def test_per_example_gradients_and_norms(network, key):
    params, x, y = problem(network, key)
    expected = jax.jit(jax.vmap(jax.grad(objectives.objective(network, GAUSSIAN)), (None, 0, 0)))(params, x, y)
    found = backprop.per_example_gradients(network, GAUSSIAN, params, x, y)
    assert_close(found, expected)
    total = backprop.value_and_grad(network, GAUSSIAN, reduction="sum")(params, x, y)[1]
    assert_close(jax.tree.map(lambda g: g.sum(axis=0), found), total)
    norms = backprop.per_example_gradient_norms(network, GAUSSIAN, params, x, y)
    squares = sum(np.sum(np.square(g).reshape(len(x), -1), axis=1) for g in jax.tree.leaves(expected))
    np.testing.assert_allclose(norms, np.sqrt(squares), rtol=1e-12)
    batched = backprop.per_example_gradients(network, GAUSSIAN, params, x[None, :2], y[None, :2])
    assert_close(jax.tree.map(lambda g: g[0], batched), jax.tree.map(lambda g: g[:2], expected))
    assert backprop.per_example_gradient_norms(network, GAUSSIAN, params, x[0], y[0]).shape == ()


@each_network
def test_custom_rule_carries_any_loss_to_weights_and_inputs(network, key):
    params, x, _ = problem(network, key)

    def loss(apply, params, x):
        a = apply(params, x.reshape(5, 1, 3))
        return jnp.sum(jnp.sin(a) * jnp.arange(1.0, 3.0)[None, None, :]) + jnp.sum(a) ** 2

    by_hand = jax.grad(functools.partial(loss, functools.partial(backprop.apply, network)), argnums=(0, 1))(params, x)
    autodiff = jax.grad(functools.partial(loss, network.apply), argnums=(0, 1))(params, x)
    assert_close(by_hand, autodiff)
    # One is compiled as a whole, the other operation by operation: a rounding.
    np.testing.assert_allclose(backprop.apply(network, params, x), network.apply(params, x), rtol=1e-14, atol=1e-15)


def test_the_custom_rule_is_used():
    """With a wrong derivative in the activation, the custom rule is wrong as well, and autodiff is not."""
    wrong = jnn.mlp([3, 4, 2], (jnp.tanh, lambda a: 2 * (1 - jnp.tanh(a) ** 2)))
    params, x, _ = problem(wrong, jax.random.key(0))
    by_hand = jax.grad(lambda p: jnp.sum(backprop.apply(wrong, p, x)))(params)[0]["W"]
    autodiff = jax.grad(lambda p: jnp.sum(wrong.apply(p, x)))(params)[0]["W"]
    np.testing.assert_allclose(by_hand, 2 * autodiff, rtol=1e-12)


@each_network
def test_hessian_vector_products_through_it(network, key):
    """The derivative of the hand-written gradient, in both modes, against that of autodiff's gradient."""
    params, x, y = problem(network, key)
    y = jax.nn.softmax(y)
    likelihood = likelihoods.Categorical()
    tangent = jax.tree.map(lambda p: jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape), params)
    gradient = jax.grad(objectives.objective(network, likelihood, weight_decay=0.1))
    by_hand = backprop.value_and_grad(network, likelihood, weight_decay=0.1)
    through_rule = jax.grad(lambda p: jnp.mean(likelihood.nll(backprop.apply(network, p, x), y)))
    undecayed = jax.grad(objectives.objective(network, likelihood))

    @jax.jit
    def products(params, tangent):
        _, expected = jax.jvp(lambda p: gradient(p, x, y), (params,), (tangent,))
        _, forward = jax.jvp(lambda p: by_hand(p, x, y)[1], (params,), (tangent,))
        (reverse,) = jax.vjp(lambda p: by_hand(p, x, y)[1], params)[1](tangent)
        _, rule = jax.jvp(through_rule, (params,), (tangent,))
        _, plain = jax.jvp(lambda p: undecayed(p, x, y), (params,), (tangent,))
        return expected, forward, reverse, rule, plain

    expected, forward, reverse, rule, plain = products(params, tangent)
    # Twice the operations of a gradient, so ten times its bound.
    assert_close(forward, expected, rtol=1e-11)
    assert_close(reverse, expected, rtol=1e-11)
    assert_close(rule, plain, rtol=1e-11)


@pytest.mark.parametrize("name", ["shortcuts", "blocks", "sweep"])
def test_under_jit_vmap_and_scan(name, key):
    network = NETWORKS[name]
    evaluate = backprop.value_and_grad(network, GAUSSIAN, weight_decay=0.1)
    keys = jax.random.split(key, 3)
    members = [problem(network, k) for k in keys]
    singly = [evaluate(*member) for member in members]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    together = jax.jit(jax.vmap(evaluate))(*stacked)
    assert_close(together, jax.tree.map(lambda *leaves: jnp.stack(leaves), *singly))
    _, scanned = jax.lax.scan(lambda carry, member: (carry, evaluate(*member)), 0, stacked)
    assert_close(scanned, together)


@each_network
def test_value_is_the_objective(network, key):
    params, x, y = problem(network, key)
    weights = jnp.array([0.5, 2.0, 0.0, 1.0, 3.0])
    a = np.asarray(network.apply(params, x))
    mask = objectives.decay_mask(network, likelihoods.Bernoulli())
    squares = sum(
        np.sum(np.broadcast_to(m, w.shape) * np.square(w))
        for w, m in zip(jax.tree.leaves(params), jax.tree.leaves(mask), strict=True)
    )
    targets = (y > 0).astype(float)
    errors = np.sum(np.logaddexp(0, -a) * targets + np.logaddexp(0, a) * (1 - targets), axis=1)
    total = np.sum(weights * errors) + 0.3 / 2 * squares
    for reduction, expected in (("sum", total), ("mean", total / 6.5)):
        evaluate = backprop.value_and_grad(network, likelihoods.Bernoulli(), reduction=reduction, weight_decay=0.3)
        np.testing.assert_allclose(evaluate(params, x, targets, weights)[0], expected, rtol=1e-13)


def test_weights_are_repetitions(key):
    network = NETWORKS["mlp"]
    params, x, y = problem(network, key)
    counts = jnp.array([2, 0, 1, 3, 1])
    evaluate = backprop.value_and_grad(network, GAUSSIAN, weight_decay=0.2)
    assert_close(evaluate(params, x, y, counts), evaluate(params, np.repeat(x, counts, 0), np.repeat(y, counts, 0)))


def test_any_multiple_of_a_batchs_objective_is_differentiated(key):
    """For optimizers that differentiate the objective themselves, with a cotangent that is not 1."""
    network = jnn.mlp([3, 2])
    params, x, y = problem(network, key)
    evaluate = backprop.value_and_grad(network, GAUSSIAN)
    value = backprop.differentiable(evaluate, x, y, jnp.arange(1.0, 6.0))
    expected, gradient = evaluate(params, x, y, jnp.arange(1.0, 6.0))
    found, slope = jax.value_and_grad(lambda p: 0.5 * value(p) ** 2)(params)
    np.testing.assert_allclose(found, expected**2 / 2, rtol=1e-14)
    assert_close(slope, jax.tree.map(lambda g: expected * g, gradient))
    with pytest.raises(TypeError, match="expected weights of a real floating-point dtype"):
        value(jax.tree.map(lambda leaf: leaf.astype(int), params))


def test_vanishing_gradient_bound(key):
    """With logistic neurons, each layer multiplies δ by at most 0.25 ‖W‖ (slide "Vanishing gradient")."""
    network = jnn.mlp([3] + [4] * 6 + [2], "logistic")
    params, x, y = problem(network, key)
    found = backprop.deltas(network, GAUSSIAN, params, x, y)
    for layer in range(6):
        bound = 0.25 * np.linalg.norm(params[layer + 1]["W"], 2) * np.linalg.norm(found[layer + 1], axis=1)
        assert (np.linalg.norm(found[layer], axis=1) <= bound * (1 + 1e-12)).all()


def test_bad_arguments(key):
    network = NETWORKS["mlp"]
    params, x, y = problem(network, key)
    with pytest.raises(ValueError, match='reduction "mean" or "sum", got \'average\''):
        backprop.value_and_grad.__wrapped__(network, GAUSSIAN, reduction="average")
    evaluate = backprop.value_and_grad(network, GAUSSIAN)
    with pytest.raises(ValueError, match=r"x is a batch of \(5,\), but y has shape \(4, 2\)"):
        evaluate(params, x, y[:4])
    with pytest.raises(ValueError, match=r"weights of shape \(5,\).*got \(4,\)"):
        evaluate(params, x, y, jnp.ones(4))
    with pytest.raises(ValueError, match=r"x of shape \(\.\.\., 3\)"):
        evaluate(params, x[:, :2], y)
