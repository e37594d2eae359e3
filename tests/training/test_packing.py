"""Parameters as one vector: there and back without a change, and only where that is known to be right."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnn import adam, dag, mlp, rprop, steepest_descent
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
    packed = packing.packing(params, optimizer)
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
    ("network", "optimizer"),
    [
        (mlp([3, 4, 2]), optax.chain(optax.clip_by_global_norm(1.0), adam())),  # a norm over each layer's arrays
        (mlp([3, 4, 2]), optax.lbfgs()),
        (mlp([3, 300, 300, 2]), adam()),  # large: copying would cost more than it saves
    ],
    ids=["chain", "lbfgs", "large"],
)
def test_what_is_not_known_to_allow_it_stays_as_it_is(network, optimizer, key):
    assert packing.packing(network.init(key), optimizer) is packing.AS_THEY_ARE


def test_parameters_of_several_dtypes_stay_as_they_are(key):
    params = mlp([3, 4, 2]).init(key)
    mixed = (params[0], jax.tree.map(lambda w: w.astype(jnp.bfloat16), params[1]))
    assert packing.packing(mixed, adam()) is packing.AS_THEY_ARE
