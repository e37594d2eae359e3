"""The barest loop of the same arithmetic: a hand-written `lax.scan` over autodiff and Adam, with nothing else."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.peers.jaxes import device as device
from experiments.benchmarks.workloads import Data, Setting, Train, Trained, Workload

PACKAGES = ("jax", "jaxlib")
BATCH = 32


def bare_loop(x: jax.Array, y: jax.Array, epochs: int) -> Callable[[jax.Array], Any]:
    """Initial weights, shuffling, gradients by autodiff and Adam, compiled; nothing is kept but the weights."""
    count = len(x)
    steps = -(-count // BATCH)

    def error(params: Any, x: jax.Array, y: jax.Array, counts: jax.Array) -> jax.Array:
        w1, b1, w2, b2 = params
        a = jnp.tanh(x @ w1 + b1[None, :]) @ w2 + b2[None, :]
        return jnp.sum(counts * (jax.nn.logsumexp(a, axis=-1) - jnp.take_along_axis(a, y[:, None], axis=1)[:, 0]))

    def step(carry: Any, batch: Any) -> Any:
        params, m, v, t = carry
        rows, number = batch
        present = jnp.minimum(BATCH, count - number * BATCH)
        counts = jnp.where(jnp.arange(BATCH) < present, 1 / present, 0.0)
        g = jax.grad(error)(params, x[rows], y[rows], counts)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        m_scale, v_scale = 1 - 0.9**t, 1 - 0.999**t
        params = jax.tree.map(lambda w, m, v: w - 1e-3 * (m / m_scale) / (jnp.sqrt(v / v_scale) + 1e-8), params, m, v)
        return (params, m, v, t), None

    def epoch(carry: Any, key: jax.Array) -> Any:
        order = jnp.pad(jax.random.permutation(key, count), (0, steps * BATCH - count)).reshape(steps, BATCH)
        return jax.lax.scan(step, carry, (order, jnp.arange(steps)))

    @jax.jit
    def train(key: jax.Array) -> Any:
        keys = jax.random.split(key, 3)
        params = (
            jax.random.normal(keys[0], (64, 100)) / 8, jnp.zeros(100),
            jax.random.normal(keys[1], (100, 10)) / 10, jnp.zeros(10),
        )  # fmt: skip
        zeros = jax.tree.map(jnp.zeros_like, params)
        return jax.lax.scan(epoch, (params, zeros, zeros, 0.0), jax.random.split(keys[2], epochs))[0][0]

    return train


def prepare(workload: Workload, data: Data, setting: Setting) -> Train:
    """64-100-10 at mini-batch 32 is all that it can do."""
    loop = bare_loop(jnp.asarray(data.x), jnp.asarray(data.y), workload.epochs)

    def train(seed: int) -> Trained:
        params = jax.block_until_ready(loop(jax.random.key(seed)))

        def outputs(x: np.ndarray) -> np.ndarray:
            w1, b1, w2, b2 = jax.device_get(params)
            return np.tanh(x @ w1 + b1) @ w2 + b2

        return Trained(outputs)

    return train
