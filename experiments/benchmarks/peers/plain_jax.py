"""JAX and optax without a library: one jitted step in a Python loop; with several networks, its vmap."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.peers.jaxes import ACTIVATIONS, device as device, mean_loss, optimizer
from experiments.benchmarks.workloads import Data, Setting, Train, Trained, Workload, minibatches

PACKAGES = ("optax", "jax", "jaxlib")


def init(workload: Workload, key: jax.Array) -> Any:
    """Weights and biases of each layer."""
    draw = jax.nn.initializers.lecun_normal()
    keys = jax.random.split(key, len(workload.shapes))
    return [(draw(k, shape), jnp.zeros(shape[1])) for k, shape in zip(keys, workload.shapes, strict=True)]


def apply_network(workload: Workload, params: Any, x: jax.Array) -> jax.Array:
    """The outputs' pre-activations, examples as rows."""
    h = ACTIVATIONS[workload.activation]
    for w, b in params[:-1]:
        z = h(x @ w + b)
        x = jnp.concatenate([x, z], axis=-1) if workload.shortcuts else z
    w, b = params[-1]
    return x @ w + b


def prepare(workload: Workload, data: Data, setting: Setting) -> Train:
    """The data lie on the device, a batch is gathered inside the step, the old parameters' memory is used again."""
    rule = optimizer(workload.optimizer, workload.learning_rate)
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)
    many = workload.members > 1

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return mean_loss(workload.loss, apply_network(workload, params, x), y)

    def update(params: Any, state: Any, x: jax.Array, y: jax.Array, rows: Any) -> Any:
        if rows is not None:
            x, y = x[rows], y[rows]
        updates, state = rule.update(jax.grad(loss)(params, x, y), state, params)
        return optax.apply_updates(params, updates), state

    def begin(key: jax.Array) -> Any:
        params = init(workload, key)
        return params, rule.init(params)

    apply = jax.jit(lambda params, x: apply_network(workload, params, x))
    if many:
        update, begin = jax.vmap(update, (0, 0, None, None, 0)), jax.vmap(begin)
        apply = jax.jit(jax.vmap(lambda params, x: apply_network(workload, params, x), (0, None)))
    step, begin = jax.jit(update, donate_argnums=(0, 1)), jax.jit(begin)

    def batches(seed: int) -> Any:
        if not many:
            return minibatches(workload, seed, len(x))
        first = seed * workload.members
        each = (minibatches(workload, first + member, len(x)) for member in range(workload.members))
        return map(np.stack, zip(*each, strict=True))

    def train(seed: int) -> Trained:
        key = jax.random.key(seed)
        params, state = begin(jax.random.split(key, workload.members) if many else key)
        for rows in batches(seed):
            params, state = step(params, state, x, y, rows)
        jax.block_until_ready(params)
        return Trained(lambda x: np.asarray(apply(params, x)))

    return train
