"""One pass over a chunk of a stream: what `partial_fit` does."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from jnn.ensembles.scheduling import start_lanes
from jnn.likelihoods import Likelihood
from jnn.networks import Layered, Params, fan_in_normal
from jnn.sklearn.plan import Plan
from jnn.sklearn.training import first_weights
from jnn.training.checking import prepare
from jnn.training.program import Data, run_lanes


def one_pass(
    network: Layered,
    likelihood: Likelihood,
    plan: Plan,
    x: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray | None,
    *,
    key: Key[Array, ""],
    members: int,
    params: Params | None,
    optimizer_state: Any,
    shuffle: bool,
) -> tuple[Any, Params, float]:
    """Take every member once through the examples, with the optimizer's moments of the pass before.

    Args:
        network: f(x; w).
        likelihood: p(y | x; w).
        plan: how to train.
        x: inputs, standardized.
        y: targets.
        weights: of the examples.
        key: for the first weights and the order.
        members: how many.
        params: the members' parameters, or None to draw them.
        optimizer_state: the optimizer's states, or None for new ones.
        shuffle: whether in random order.

    Returns:
        The optimizer's states and the parameters, with a first axis over the members, as NumPy arrays; and the
        members' mean risk.
    """
    assert plan.optimizer is not None  # L-BFGS takes no streams
    weights_key, key = jax.random.split(key)  # as for `train`
    if params is None:
        params = first_weights(network, weights_key, members, x.dtype)
    keys = jax.random.split(key, members)
    settings, data = prepare(
        network,
        likelihood,
        x,
        y,
        optimizer=plan.optimizer,
        epochs=1,
        batch_size=plan.batch_size,
        weights=None if weights is None else weights.astype(x.dtype),
        validation=None,
        validate_every=1,
        stopping=None,
        weight_decay=plan.alpha,
        mask=None,
        reduction="mean",
        gradient="backprop",
        params=None,
        initializer=fan_in_normal,
        key=key,
        shuffle=shuffle,
    )
    common = Data._make([None] * len(Data._fields))  # nothing differs from member to member
    states = start_lanes(settings, common, data, keys, params)
    if optimizer_state is not None:
        states = states._replace(optimizer=jax.tree.map(jnp.asarray, optimizer_state))
    states = run_lanes(settings, common, data, states, jnp.asarray(1), jnp.asarray(1))
    return jax.device_get(states.optimizer), jax.device_get(states.params), float(np.mean(states.train_error))
