"""MLPs and shortcut MLPs against a plain NumPy reading of z_i = h(Σ_j w_ij z_j)."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnn
from jnn.activations import Activation

from .. import typechecker

H = {"tanh": np.tanh, "logistic": lambda a: 1 / (1 + np.exp(-a)), "softsign": lambda a: a / (1 + np.abs(a))}


def numpy_forward(sizes, hidden, shortcuts, params, x):
    """Layer by layer and neuron by neuron, from the slide; returns every layer's a."""
    z, all_a = [np.asarray(x)], []
    for layer in range(1, len(sizes)):
        read = np.concatenate(z, axis=1) if shortcuts else z[-1]
        W, b = np.asarray(params[layer - 1]["W"]), np.asarray(params[layer - 1]["b"])
        a = np.empty((len(x), sizes[layer]))
        for i in range(sizes[layer]):
            a[:, i] = b[i] + sum(W[j, i] * read[:, j] for j in range(read.shape[1]))
        all_a.append(a)
        if layer < len(sizes) - 1:
            z.append(H[hidden[layer - 1]](a))
    return all_a, z


@pytest.mark.parametrize("shortcuts", [False, True])
@pytest.mark.parametrize("sizes", [(3, 2), (3, 4, 2), (2, 3, 4, 1), (1, 1, 1, 1, 1)])
def test_forward_is_the_slides(sizes, shortcuts, key):
    hidden = ["tanh", "logistic", "softsign"][: len(sizes) - 2]
    network = jnn.mlp(sizes, hidden, shortcuts=shortcuts)
    params = network.init(key, bias=0.3, dtype=jnp.float64)
    x = jax.random.normal(key, (5, sizes[0]))
    all_a, all_z = numpy_forward(sizes, hidden, shortcuts, params, x)
    # Sums of at most 9 terms of order 1 in another order: a few ulps.
    np.testing.assert_allclose(network.apply(params, x), all_a[-1], rtol=1e-14, atol=1e-15)
    trace = network.trace(params, x)
    for found, expected in zip(trace.a, all_a, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)
    for found, expected in zip(trace.z, all_z, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


def test_shapes_of_any_batch(key):
    network = jnn.mlp([3, 4, 2])
    params = network.init(key)
    x = jax.random.normal(key, (2, 5, 3), jnp.float32)
    a = network.apply(params, x)
    assert a.shape == (2, 5, 2)
    np.testing.assert_allclose(network.apply(params, x[1, 2]), a[1, 2], rtol=1e-5)
    assert network.apply(params, x[0, 0]).shape == (2,)
    assert network.apply(params, x[:0]).shape == (0, 5, 2)
    assert [z.shape for z in network.trace(params, x).z] == [(2, 5, 3), (2, 5, 4)]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtype_follows_parameters_and_inputs(dtype, key):
    network = jnn.mlp([3, 4, 2], shortcuts=True)
    params = network.init(key, dtype=dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    assert network.apply(params, jnp.ones((2, 3), dtype)).dtype == dtype
    assert network.apply(params, jnp.ones((2, 3), int)).dtype == dtype


def test_custom_activations_and_one_for_each_layer(key):
    square = (lambda a: a * a, lambda a: 2 * a)
    network = jnn.mlp([2, 3, 3, 1], [square, "relu"])
    assert [layer.activation.name for layer in network.layers] == ["<lambda>", "relu", "identity"]
    params = network.init(key, dtype=jnp.float64)
    x = jax.random.normal(key, (4, 2))
    trace = network.trace(params, x)
    np.testing.assert_array_equal(trace.z[1], trace.a[0] ** 2)
    assert jnn.mlp([2, 3, 1], square).layers[0].activation.h is square[0]
    pair = jnn.mlp([2, 3, 3, 1], (jnn.activations.tanh, jnn.activations.relu))
    assert [layer.activation.name for layer in pair.layers[:2]] == ["tanh", "relu"]


def test_static_hashable_and_equal_by_value():
    assert jnn.mlp([2, 3, 1]) == jnn.mlp((2, 3, 1), "tanh")
    assert hash(jnn.mlp([2, 3, 1])) == hash(jnn.mlp([2, 3, 1]))
    assert jnn.mlp([2, 3, 1]) != jnn.mlp([2, 3, 1], shortcuts=True) or len(jnn.mlp([2, 3, 1]).layers) == 1
    assert jnn.mlp([2, 3, 1]) != jnn.mlp([2, 3, 1], "relu")
    traced = []

    def apply(network, params, x):
        traced.append(network)
        return network.apply(params, x)

    compiled = jax.jit(apply, static_argnums=0)
    params = jnn.mlp([2, 3, 1]).init(jax.random.key(0))
    for _ in range(2):
        compiled(jnn.mlp([2, 3, 1]), params, jnp.ones((4, 2), jnp.float32))
    assert len(traced) == 1


def test_shortcut_weights_are_counted_and_used(key):
    plain, wide = jnn.mlp([3, 4, 2, 1]), jnn.mlp([3, 4, 2, 1], shortcuts=True)
    assert plain.weight_count == 3 * 4 + 4 + 4 * 2 + 2 + 2 + 1
    assert wide.weight_count == 3 * 4 + 4 + (3 + 4) * 2 + 2 + (3 + 4 + 2) + 1
    params = wide.init(key, dtype=jnp.float64)
    x = jax.random.normal(key, (4, 3))
    for layer, rows in enumerate([3, 7, 9]):
        assert params[layer]["W"].shape[0] == rows
        for row in range(rows):
            changed = jax.tree.map(lambda w: w, params)
            changed[layer]["W"] = changed[layer]["W"].at[row].add(1.0)
            assert np.abs(wide.apply(changed, x) - wide.apply(params, x)).max() > 1e-6, (layer, row)


def test_describe_prints_layers_shapes_and_number(capsys):
    jnn.describe(jnn.mlp([3, 4, 2], "relu", shortcuts=True))
    printed = capsys.readouterr().out
    assert "hidden 1" in printed
    assert "relu" in printed
    assert "(7, 2) + 2" in printed
    assert printed.strip().splitlines()[-1].split() == ["total", "32"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([3],), "at least two sizes"),
        (([3, 0, 1],), "at least 1 each"),
        (([3, 2.5, 1],), "list of integers"),
        ((5,), "list of integers"),
        (([3, 4, 4, 1], ["tanh"]), r"list of 2, one for each hidden layer; got 1"),
        (([3, 4, 1], "tahn"), "did you mean 'tanh'"),
    ],
)
def test_bad_descriptions(arguments, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(jnn.mlp)(*arguments)  # the message that users see, not the type checker's


def test_a_function_without_its_derivative_is_refused():
    with typechecker.off(), pytest.raises(TypeError, match="a function alone is not enough"):
        jnn.mlp([3, 4, 1], jnp.tanh)


def test_bad_inputs(key):
    network = jnn.mlp([3, 4, 2])
    params = network.init(key)
    for shape in [(5, 4), (3, 5), (4,), ()]:
        with pytest.raises(ValueError, match=r"expected x of shape \(..., 3\)"):
            inspect.unwrap(type(network).apply)(network, params, jnp.zeros(shape, jnp.float32))


def test_initial_weights_are_small_scaled_by_fan_in_and_gain(key):
    he = Activation("he", jnp.tanh, lambda a: 1 - jnp.tanh(a) ** 2, gain=2.0)
    network = jnn.mlp([400, 300, 200, 50], ["tanh", he], shortcuts=True)
    params = network.init(key, bias=0.25)
    for layer, p in zip(network.layers, params, strict=True):
        expected = layer.activation.gain / np.sqrt(network.fan_in(layer))
        # The standard deviation of n normal numbers is known to 1/√(2n): here below 1%; 5 of those.
        assert abs(float(jnp.std(p["W"])) / expected - 1) < 5 / np.sqrt(2 * p["W"].size)
        assert abs(float(jnp.mean(p["W"]))) < 5 * expected / np.sqrt(p["W"].size)
        np.testing.assert_array_equal(p["b"], 0.25)
    first, second = (network.init(k)[0]["W"] for k in jax.random.split(key))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("initializer", "bound", "deviation"),
    [
        (jnn.networks.fan_in_uniform, np.sqrt(3 / 200), 1 / np.sqrt(200)),
        (jnn.networks.uniform(0.01), 0.01, 0.01 / np.sqrt(3)),
        (jnn.networks.normal(0.5), np.inf, 0.5),
    ],
)
def test_other_initializers(initializer, bound, deviation, key):
    w = jnn.mlp([200, 300, 1]).init(key, weights=initializer)[0]["W"]
    assert float(jnp.max(jnp.abs(w))) <= bound * (1 + 1e-6)
    assert abs(float(jnp.std(w)) / deviation - 1) < 5 / np.sqrt(w.size)
    assert w.dtype == jnp.float32
