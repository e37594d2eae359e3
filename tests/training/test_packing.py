"""Parameters as one vector: there and back without a change, and only where that is known to be right."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnn import adam, dag, fit, mlp, rprop, steepest_descent
from jnn.likelihoods import Gaussian
from jnn.training import packing

NETWORKS = {
    "chain": mlp([3, 4, 2]),
    "shortcuts": mlp([3, 4, 2], shortcuts=True),
    "dag": dag(2, 1, [(1, 3), (2, 3), (1, 4), (3, 4)]),
}
RULES = {
    "adam": adam(),
    "momentum": steepest_descent(0.1, momentum=0.9),
    "plain": steepest_descent(0.1),
    "iRprop+": rprop(),
    "Rprop-": rprop(variant="Rprop-"),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("network", NETWORKS)
def test_there_and_back_nothing_changes(network, rule, key):
    params = NETWORKS[network].init(key)
    optimizer = RULES[rule]
    _, state = optimizer.update(params, optimizer.init(params), params, value=jnp.float32(2))
    packed = packing.packing(params, optimizer, "cpu")
    vector = packed.pack(params)
    assert vector.shape == (NETWORKS[network].weight_count,)
    for before, after in ((params, packed.unpack(vector)), (state, packed.unpack_state(packed.pack_state(state)))):
        assert jax.tree.structure(before) == jax.tree.structure(after)
        jax.tree.map(np.testing.assert_array_equal, before, after)
    # An update of the vector is the update of the tree.
    grads = jax.tree.map(jnp.cos, params)
    expected, _ = optimizer.update(grads, state, params, value=jnp.float32(3))
    got, _ = optimizer.update(packed.pack(grads), packed.pack_state(state), vector, value=jnp.float32(3))
    jax.tree.map(np.testing.assert_array_equal, expected, packed.unpack(got))


@pytest.mark.parametrize(
    "optimizer",
    [optax.chain(optax.clip_by_global_norm(1.0), adam()), optax.lbfgs()],  # a norm over each layer's arrays; sums
    ids=["chain", "lbfgs"],
)
def test_what_is_not_known_to_allow_it_stays_as_it_is(optimizer, key):
    assert packing.packing(mlp([3, 4, 2]).init(key), optimizer, "cpu") is packing.AS_THEY_ARE


def test_accelerators_take_parameters_as_they_are(key):
    assert packing.packing(mlp([3, 4, 2]).init(key), adam(), "gpu") is packing.AS_THEY_ARE


@pytest.mark.parametrize("kind", ["large", "mixed"])
def test_large_networks_and_several_dtypes_are_only_transposed(kind, key):
    params = mlp([3, 300, 300, 2] if kind == "large" else [3, 4, 2]).init(key)
    if kind == "mixed":
        params = (params[0], *jax.tree.map(lambda w: w.astype(jnp.bfloat16), params[1:]))
    packed = packing.packing(params, adam(), "cpu")
    assert packed is packing.BY_NEURON
    assert [p["W"].shape for p in packed.pack(params)] == [p["W"].shape[::-1] for p in params]
    jax.tree.map(np.testing.assert_array_equal, params, packed.unpack(packed.pack(params)))


@pytest.mark.parametrize("large", [2**16, 0], ids=["one vector", "by neuron"])
@pytest.mark.parametrize("mask", [None, "own"])
def test_what_is_learned_does_not_depend_on_it(large, mask, key, monkeypatch):
    """Against the same rule as a chain of optax's, which is not known to allow any of it; with masked decay."""
    jax.clear_caches()
    monkeypatch.setattr(packing, "LARGE", large)
    x = jax.random.normal(key, (40, 3))
    y = jnp.sin(x[:, :2])
    network = mlp([3, 5, 4, 2], shortcuts=True)
    if mask == "own":
        mask = jax.tree.map(lambda w: w > 0, network.init(jax.random.key(1)))
    fits = [
        fit(network, Gaussian(), x, y, key=key, optimizer=rule, epochs=3, batch_size=16, weight_decay=0.5, mask=mask)
        for rule in (adam(0.01), optax.chain(adam(0.01)))
    ]
    tolerance = 1e-12  # float64, another order of sums
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), *(f.params for f in fits)
    )
    np.testing.assert_allclose(*(f.history.train_error for f in fits), rtol=tolerance)
