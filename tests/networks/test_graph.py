"""General networks against a neuron-by-neuron reading of the slide, in both evaluations, and at size."""

import subprocess
import sys

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
    params = network.init(key, dtype=jnp.float64) | {"b": jnp.full(11, 0.4)}  # also where there is no bias
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
    # A hidden neuron that reads 71 others; rows of 4 slots, 2 rows a step: its sum spreads over 9 steps.
    monkeypatch.setattr("jnn.networks.sweep._shape", lambda fans: (4, 2))
    edges = [(1, i) for i in range(2, 72)] + [(i, 72) for i in range(1, 72)] + [(72, 73)]
    network = jnn.dag(1, 1, edges, evaluation="sweep")
    assert network.passes.ahead.edge.shape[1:] == (2, 4)
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


AT_SIZE = """
import pathlib, re, sys, time
import jax, jax.numpy as jnp, numpy as np
import jnn
from jnn import likelihoods

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)


def cascade(neurons=300, inputs=8):  # each neuron reads all earlier ones: as many levels as neurons
    connections = np.tril(np.ones((1 + inputs + neurons,) * 2, bool), -1)
    connections[: inputs + 1] = False
    return jnn.dag(inputs, 1, connections)


def random_graph(neurons=10_000, edges=85_000, inputs=50, outputs=10):  # about 100,000 edges: each neuron has its part
    first, last, hidden = inputs + 1, inputs + neurons, inputs + neurons - outputs
    target = rng.integers(first, last + 1, edges)
    source = 1 + (rng.random(edges) * (np.minimum(target, hidden + 1) - 1)).astype(int)
    pairs = {*zip(source.tolist(), target.tolist())}
    pairs |= {(n, int(rng.integers(max(n + 1, first), last + 1))) for n in range(first, hidden + 1)}
    pairs |= {(int(rng.integers(1, n)), n) for n in range(first, last + 1)}
    return jnn.dag(inputs, outputs, sorted(pairs))


begun = time.perf_counter(), time.process_time()
network = globals()[sys.argv[1]]()
key = jax.random.key(0)
params = network.init(key, dtype=jnp.float64)
x, y = jax.random.normal(key, (16, network.inputs)), jnp.zeros((16, network.outputs))
value_and_grad = jax.jit(jnn.backprop.value_and_grad(network, likelihoods.Gaussian()))
value, grads = jax.block_until_ready(value_and_grad(params, x, y))
seconds, cpu = time.perf_counter() - begun[0], time.process_time() - begun[1]
status = pathlib.Path("/proc/self/status")  # getrusage would report the parent's peak, from before exec
megabytes = int(re.search("VmHWM: *\\\\s*([0-9]+)", status.read_text())[1]) / 1024 if status.exists() else 0

# The gradient against a central difference along itself, whose error is of order step² and of rounding / step.
slope = float(sum(jnp.vdot(g, g) for g in jax.tree.leaves(grads)))
step = 1e-5 / slope**0.5
there, back = (
    value_and_grad(jax.tree.map(lambda w, g: w + s * g, params, grads), x, y)[0] for s in (step, -step)
)
print(network.evaluation, network.depths.max(), len(network.edges), cpu, megabytes, (there - back) / (2 * step) / slope)
"""


@pytest.mark.parametrize(("shape", "levels", "edges"), [("cascade", 300, 47_000), ("random_graph", 50, 97_000)])
def test_deep_and_large_networks_compile_and_run(shape, levels, edges):
    """Under 10 s and 2 GB, in a process of its own: unrolled or dense, either would miss that by far."""
    run = subprocess.run([sys.executable, "-c", AT_SIZE, shape], capture_output=True, text=True, check=True)
    evaluation, depth, count, cpu, megabytes, ratio = run.stdout.split()
    assert evaluation == "sweep"
    assert int(depth) >= levels
    assert int(count) >= edges
    assert float(cpu) < 10  # of processor time, which other processes do not lengthen
    assert float(megabytes) < 2000
    assert abs(float(ratio) - 1) < 1e-5
