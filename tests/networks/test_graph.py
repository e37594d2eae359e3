"""General networks against a neuron-by-neuron reading of the slide, in both evaluations, and at size."""

import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnn
from experiments.crosscheck import general_edges
from jnn import likelihoods
from jnn.networks import as_dag, with_shortcuts

KINDS = ["tanh", "logistic", "softsign"]
H = {"tanh": np.tanh, "logistic": lambda a: 1 / (1 + np.exp(-a)), "softsign": lambda a: a / (1 + np.abs(a))}


def numpy_forward(network, params, x):
    """z_0 = 1, z_1..z_d = x, z_i = h(Σ_j w_ij z_j), in order of the numbers (slide "Notation II")."""
    d, m = network.inputs, network.hidden
    z = np.ones((len(x), 1 + d + m + network.outputs))
    a = np.zeros_like(z)
    z[:, 1 : d + 1] = x
    w = np.zeros((z.shape[1],) * 2)
    for (j, i), weight in zip(network.edges, np.asarray(params["w"]), strict=True):
        w[i, j] = weight
    w[d + 1 :, 0] = np.where(network.biased, params["b"], 0)
    for i in range(d + 1, z.shape[1]):
        a[:, i] = sum(w[i, j] * z[:, j] for j in range(i))
        if i <= d + m:
            z[:, i] = H[network.neuron_activations[i - d - 1].name](a[:, i])
    return a[:, d + 1 :], z[:, : d + m + 1]


@pytest.mark.parametrize("evaluation", ["blocks", "sweep"])
@pytest.mark.parametrize("biased", [True, False])
def test_both_evaluations_are_the_slides(evaluation, biased, key):
    edges = general_edges(3, 9, 2) + ([] if biased else [(0, 5), (0, 13)])
    network = jnn.dag(3, 2, edges, [KINDS[n % 3] for n in range(9)], evaluation=evaluation)
    params = network.init(key, bias=0.4, dtype=jnp.float64)
    x = jax.random.normal(key, (4, 3))
    a, z = numpy_forward(network, params, x)
    # Sums of a few terms of order 1 in another order.
    np.testing.assert_allclose(network.apply(params, x), a[:, -2:], rtol=1e-13, atol=1e-15)
    trace = network.trace(params, x)
    np.testing.assert_allclose(trace.a, a, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(trace.z, z, rtol=1e-13, atol=1e-15)
    single = network.trace(params, x[1])
    np.testing.assert_allclose(single.z, z[1], rtol=1e-13, atol=1e-15)


def test_rows_longer_than_a_step_are_summed_in_parts(key, monkeypatch):
    # One output that reads 70 neurons; rows of 4 slots, 2 rows a step: its sum spreads over 9 steps.
    monkeypatch.setattr("jnn.networks.sweep._shape", lambda fans: (4, 2))
    edges = [(1, i) for i in range(2, 72)] + [(i, 72) for i in range(1, 72)]
    network = jnn.dag(1, 1, edges, evaluation="sweep")
    assert network.plan.forward.edge.shape[1:] == (2, 4)
    params = network.init(key, bias=0.1, dtype=jnp.float64)
    x = jax.random.normal(key, (3, 1))
    np.testing.assert_allclose(network.apply(params, x), numpy_forward(network, params, x)[0][:, -1:], rtol=1e-13)
    value_and_grad = jnn.backprop.value_and_grad(network, likelihoods.Gaussian())
    objective = jnn.objectives.objective(network, likelihoods.Gaussian())
    found, expected = value_and_grad(params, x, x)[1], jax.grad(objective)(params, x, x)
    for leaf in ("w", "b"):
        np.testing.assert_allclose(found[leaf], expected[leaf], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("evaluation", ["blocks", "sweep"])
@pytest.mark.parametrize("shortcuts", [False, True])
def test_converters_are_exact(evaluation, shortcuts, key):
    network = jnn.mlp([4, 6, 5, 3], ["tanh", "softsign"], shortcuts=shortcuts)
    params = network.init(key, bias=0.2, dtype=jnp.float64)
    general, moved = as_dag(network, params, evaluation=evaluation)
    x = jax.random.normal(key, (7, 4))
    expected = network.apply(params, x)
    assert np.abs(general.apply(moved, x) - expected).max() <= 1e-13 * np.abs(expected).max()
    values = np.sort(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)]))
    np.testing.assert_array_equal(np.sort(np.concatenate([moved["w"], moved["b"]])), values)
    assert general.weight_count == network.weight_count
    wide, filled = with_shortcuts(network, params)
    assert wide == jnn.mlp([4, 6, 5, 3], ["tanh", "softsign"], shortcuts=True)
    assert np.abs(wide.apply(filled, x) - expected).max() <= 1e-13 * np.abs(expected).max()


def test_fan_in_of_each_neuron_sets_its_weights(key):
    edges = [(j, i) for i in (401, 402) for j in range(1, 401)] + [(401, 403), (402, 403)]
    network = jnn.dag(400, 1, edges)
    assert network.fan_ins.tolist() == [400, 400, 2]
    params = network.init(key)
    deviation = float(jnp.std(params["w"][:800]))
    assert abs(deviation * 20 - 1) < 5 / np.sqrt(1600)


def test_describe_shows_levels(capsys):
    jnn.describe(jnn.dag(3, 2, general_edges(3, 9, 2)))
    printed = capsys.readouterr().out
    assert "level 1" in printed
    assert "output" in printed
    jnn.describe(jnn.dag(1, 1, [(i - 1, i) for i in range(2, 102)]))
    printed = capsys.readouterr().out
    assert "more levels" in printed
    assert printed.strip().splitlines()[-1].split() == ["total", "200"]


def cascade(neurons, inputs=8):
    """Each neuron reads all earlier ones: as many levels as neurons."""
    count = 1 + inputs + neurons
    connections = np.tril(np.ones((count, count), bool), -1)
    connections[: inputs + 1] = False
    return jnn.dag(inputs, 1, connections)


def random_graph(neurons, edges, inputs=50, outputs=10):
    rng = np.random.default_rng(0)
    first, last = inputs + 1, inputs + neurons
    target = rng.integers(first, last + 1, edges)
    source = 1 + (rng.random(edges) * (np.minimum(target, last - outputs + 1) - 1)).astype(int)
    reach = [(n, int(rng.integers(max(n + 1, first), last + 1))) for n in range(first, last - outputs + 1)]
    feed = [(int(rng.integers(1, n)), n) for n in range(first, last - outputs + 1)]
    pairs = {*zip(source.tolist(), target.tolist(), strict=True), *reach, *feed}
    pairs |= {(1, n) for n in range(last - outputs + 1, last + 1)}
    return jnn.dag(inputs, outputs, sorted(pairs))


@pytest.mark.parametrize(("build", "levels"), [(lambda: cascade(300), 300), (lambda: random_graph(10_000, 85_000), 50)])
def test_deep_and_large_networks_compile_and_run(build, levels, key):
    """In under 10 s and 2 GB: an unrolled or a dense form misses that by far, a sweep has room."""
    before = time.process_time()
    network = build()
    params = network.init(key, dtype=jnp.float64)
    x = jax.random.normal(key, (16, network.inputs))
    y = jnp.zeros((16, network.outputs))
    value, grads = jax.jit(jnn.backprop.value_and_grad(network, likelihoods.Gaussian()))(params, x, y)
    jax.block_until_ready(grads)
    seconds = time.process_time() - before
    assert network.evaluation == "sweep"
    assert network.depths.max() >= levels
    assert np.isfinite(value)
    assert seconds < 20  # of both cores
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2_000_000
    # The gradient, along itself, against a central difference: its error is of order step² and rounding / step.
    objective = jax.jit(jnn.objectives.objective(network, likelihoods.Gaussian()))
    slope = sum(jnp.vdot(g, g) for g in jax.tree.leaves(grads))
    step = 1e-5 / jnp.sqrt(slope)
    there, back = (
        objective(jax.tree.map(lambda w, g: w + s * g, params, grads), x, y)  # noqa: B023
        for s in (step, -step)
    )
    assert abs((there - back) / (2 * step) / slope - 1) < 1e-5
