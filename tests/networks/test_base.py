"""What all networks have in common: tables, shapes of parameters, activations by any name, first biases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnn
from jnn import activations
from jnn.networks import Layer, Layered, with_shortcuts
from jnn.networks.base import leading_axes, one_each

KEY = jax.random.key(0)
EDGES = [(0, 4), (1, 3), (1, 4), (2, 5), (3, 6), (5, 6), (4, 7), (5, 7), (6, 7)]
GENERAL = jnn.dag(2, 1, EDGES, ["tanh", "relu", "tanh", "tanh"])


def cells(network):
    return [line.split() for line in str(network).splitlines()]


def test_the_table_of_layers() -> None:
    """Shapes, and their products: (3 + 1) 4, (3 + 4 + 1) 5, (3 + 4 + 5 + 1) 2."""
    assert cells(jnn.mlp([3, 4, 5, 2], ["relu", "tanh"], shortcuts=True)) == [
        ["neurons", "activation", "reads", "weights", "number"],
        ["input", "3"],
        ["hidden", "1", "4", "relu", "input", "(3,", "4)", "+", "4", "16"],
        ["hidden", "2", "5", "tanh", "input,", "hidden", "1", "(7,", "5)", "+", "5", "40"],
        ["output", "2", "(likelihood)", "input,", "hidden", "1,", "hidden", "2", "(12,", "2)", "+", "2", "26"],
        ["total", "82"],
    ]
    assert cells(jnn.mlp([30, 50, 20]))[2:4] == [
        ["hidden", "1", "50", "tanh", "input", "(30,", "50)", "+", "50", "1,550"],
        ["output", "20", "(likelihood)", "hidden", "1", "(50,", "20)", "+", "20", "1,020"],
    ]


def test_the_table_of_levels() -> None:
    """Neurons 3 and 5, then 4 with its bias, 6, and the output 7, which reads three."""
    assert cells(GENERAL)[1:] == [
        ["input", "2"],
        ["level", "1", "2", "tanh", "1", "to", "1", "neurons", "each", "2", "+", "0", "2"],
        ["level", "1", "1", "relu", "1", "to", "1", "neurons", "each", "1", "+", "1", "2"],
        ["level", "2", "1", "tanh", "2", "to", "2", "neurons", "each", "2", "+", "0", "2"],
        ["output", "1", "(likelihood)", "3", "to", "3", "neurons", "each", "3", "+", "0", "3"],
        ["total", "9"],
    ]
    wide = cells(jnn.dag(2, 1, [(1, 3), (2, 3), (1, 4), (3, 5), (4, 5)]))
    assert wide[2] == ["level", "1", "2", "tanh", "1", "to", "2", "neurons", "each", "3", "+", "2", "5"]


@pytest.mark.parametrize(("levels", "cut"), [(47, None), (48, 3), (100, 55)])
def test_of_many_levels_the_first_and_the_last_are_shown(levels, cut) -> None:
    """24 lines with the inputs before, 22 with the outputs after."""
    chain = jnn.dag(1, 1, [(n, n + 1) for n in range(1, levels + 1)])
    lines = cells(chain)[1:-1]
    if cut is None:
        assert len(lines) == levels + 1
        assert [line[1] for line in lines[1:-1]] == [str(n) for n in range(1, levels)]
        return
    assert len(lines) == 47
    assert [line[1] for line in lines[1:24]] == [str(n) for n in range(1, 24)]
    assert lines[24] == ["...", f"({cut}", "more", "levels)"]
    assert [line[1] for line in lines[25:-1]] == [str(n) for n in range(levels - 21, levels)]


def test_what_networks_say_of_their_neurons() -> None:
    network = jnn.mlp([3, 4, 5, 2], ["relu", "tanh"])
    assert network.hidden_activations == (activations.relu, activations.tanh)
    assert (network.neurons, network.outputs, network.inputs, network.sizes) == (11, 2, 3, (3, 4, 5, 2))
    assert jnn.mlp([3, 2]).hidden_activations == ()
    assert [h.name for h in GENERAL.hidden_activations] == ["tanh", "relu", "tanh", "tanh"]
    assert (GENERAL.neurons, GENERAL.hidden, GENERAL.weight_count) == (5, 4, 9)
    assert GENERAL != "a network"
    assert jnn.dag(2, 1, [*EDGES, (0, 3)], ["tanh", "relu", "tanh", "tanh"]) != GENERAL  # another bias alone


def test_biases_are_0_at_first_unless_it_is_said() -> None:
    for network in (jnn.mlp([2, 3, 1]), GENERAL):
        params = network.init(KEY)
        biases = params["b"] if isinstance(params, dict) else jnp.concatenate([p["b"] for p in params])
        np.testing.assert_array_equal(biases, 0)
    np.testing.assert_array_equal(GENERAL.init(KEY, bias=0.5)["b"], [0, 0.5, 0, 0, 0])  # where there is none, none


def test_first_weights_of_a_general_network_are_scaled_by_gain_and_fan_in() -> None:
    """A relu neuron that reads one input: √2; an output that reads 200 relu neurons: 1 / √200."""
    edges = [(1, n) for n in range(2, 202)] + [(n, 202 + k) for k in range(5) for n in range(2, 202)]
    w = np.asarray(jnn.dag(1, 5, edges, "relu").init(KEY, dtype=jnp.float64)["w"])
    # The standard deviation of n normal numbers is known to 1/√(2n): five of those.
    assert abs(w[:200].std() / np.sqrt(2) - 1) < 5 / np.sqrt(400)
    assert abs(w[200:].std() * np.sqrt(200) - 1) < 5 / np.sqrt(2000)


def test_weights_of_neurons_that_read_one_other_have_the_gains_deviation() -> None:
    w = jnn.mlp([1, 2000, 1], "relu").init(KEY, dtype=jnp.float64)[0]["W"]
    assert abs(float(w.std()) / np.sqrt(2) - 1) < 5 / np.sqrt(4000)


def test_deviations_and_bounds_of_0_are_just_allowed() -> None:
    for make in (jnn.networks.normal, jnn.networks.uniform):
        np.testing.assert_array_equal(jnn.mlp([2, 3]).init(KEY, weights=make(0.0))[0]["W"], 0)
        with pytest.raises(ValueError, match="a number ≥ 0"):
            make(-1e-9)


# --- activations by any name

SINE, COSINE = jnp.sin, jnp.cos
THREE = (SINE, COSINE, lambda a: -jnp.sin(a))


@pytest.mark.parametrize(
    "one", ["tanh", activations.tanh, (SINE, COSINE), THREE], ids=["name", "itself", "two", "three"]
)
def test_one_activation_is_everybodys(one) -> None:
    found = one_each(one, 3, "hidden layer")
    assert len(found) == 3
    assert len(set(found)) == 1
    assert found[0] == activations.get(one)


def test_several_activations_are_one_each() -> None:
    for several in (["tanh", "relu"], ("tanh", "relu"), (activations.tanh, activations.relu)):
        assert one_each(several, 2, "hidden layer") == (activations.tanh, activations.relu)
    pairs = ((SINE, COSINE), "relu", THREE)
    assert one_each(pairs, 3, "hidden layer") == tuple(activations.get(h) for h in pairs)
    assert one_each(["tanh"], 1, "hidden layer") == (activations.tanh,)
    assert one_each([], 0, "hidden layer") == ()
    with pytest.raises(ValueError, match="a list of 3, one for each hidden layer; got 2"):
        one_each(("tanh", "relu"), 3, "hidden layer")
    with pytest.raises(ValueError, match="a list of 3, one for each hidden layer; got 4"):
        one_each((SINE,) * 4, 3, "hidden layer")


# --- parameters


@pytest.mark.parametrize("lead", [(), (4,), (4, 1), (1, 4)])
@pytest.mark.parametrize("network", [jnn.mlp([2, 3, 1]), GENERAL], ids=["layers", "general"])
def test_axes_before_a_networks_own_are_an_ensembles(network, lead) -> None:
    params = jax.tree.map(lambda leaf: jnp.zeros((*lead, *leaf.shape)), network.init(KEY))
    assert leading_axes(network, params) == lead
    assert leading_axes(network, params, lead=lead) == lead
    with pytest.raises(ValueError, match=r"as network\.init gives; got"):
        leading_axes(network, params, lead=(7,))


def test_parameters_of_another_kind_or_shape_are_named() -> None:
    network = jnn.mlp([2, 3, 1])
    params = network.init(KEY)
    (first, last), ones = params, jnp.ones

    def told(changed, message, error=ValueError, **given):
        with pytest.raises(error, match=message):
            leading_axes(network, changed, **given)

    told((first,), "expected params of the structure that network.init gives")
    told(({**first, "W": ones((3, 3))}, last), r"params\[0\]\['W'\] of shape \(2, 3\) after any axes of an ensemble")
    told(({**first, "W": ones((4, 2, 3))}, last), r"params\[0\]\['b'\] of shape \(4, 3\), as network.init gives; got")
    told(({**first, "b": ones(())}, last), r"params\[0\]\['b'\] of shape \(3,\), as network.init gives; got \(\)")
    told(params, r"of shape \(5, 2, 3\), as network.init", lead=(5,))
    told(params, r"v\[0\]\['W'\] of shape", lead=(5,), what="v")
    whole = ({**first, "b": ones(3, int)}, last)
    told(whole, r"params\[0\]\['b'\] as an array of floating-point numbers, got \w+ of dtype int64", TypeError)
    told(
        ({**first, "b": 1.0}, last), r"params\[0\]\['b'\] as an array of floating-point numbers, got float$", TypeError
    )


def test_parameters_may_be_numpys_and_inputs_integers() -> None:
    network = jnn.mlp([2, 3, 1])
    params = network.init(KEY, bias=0.3, dtype=jnp.float64)
    x = np.array([[1, -2], [0, 3]])
    expected = network.apply(params, jnp.asarray(x, float))
    for given in (jax.tree.map(np.asarray, params), (jax.tree.map(np.asarray, params[0]), params[1]), params):
        np.testing.assert_allclose(network.apply(given, x), expected, rtol=1e-14)
    with pytest.raises(TypeError, match="floating-point numbers, got ndarray of dtype int64"):
        network.apply(jax.tree.map(lambda leaf: np.ones(leaf.shape, int), params), x)
    with pytest.raises(ValueError, match=r"structure that network\.init gives"):
        network.apply((), x)


# --- shortcuts added


def test_shortcuts_are_added_where_there_are_none_and_their_weights_are_0() -> None:
    tanh, identity = activations.tanh, activations.identity
    some = Layered(2, (Layer(3, tanh, (0,)), Layer(2, tanh, (1,)), Layer(1, identity, (0, 2))))
    params = some.init(KEY, bias=0.2, dtype=jnp.float64)
    whole, filled = with_shortcuts(some, params)
    assert whole == jnn.mlp([2, 3, 2, 1], "tanh", shortcuts=True)
    np.testing.assert_array_equal(filled[0]["W"], params[0]["W"])
    np.testing.assert_array_equal(filled[1]["W"], np.concatenate([np.zeros((2, 2)), params[1]["W"]]))
    last = np.asarray(params[2]["W"])
    np.testing.assert_array_equal(filled[2]["W"], np.concatenate([last[:2], np.zeros((3, 1)), last[2:]]))
    for own, more in zip(params, filled, strict=True):
        np.testing.assert_array_equal(own["b"], more["b"])
    x = jax.random.normal(KEY, (4, 2))
    np.testing.assert_allclose(whole.apply(filled, x), some.apply(params, x), rtol=1e-14)
