"""What does `fit` cost beside the barest training loop of the same arithmetic?

    python -m experiments.benchmarks.bare_loop [--rounds 31] [--epochs 20]

Digits, 64-100-10 tanh, mini-batch 32, Adam: `jnn.fit` with its checks, history and host visits, and a hand-written
`lax.scan` over autodiff and Adam with nothing else, in turn in one process. Prints the median of the ratios.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import jnn
from jnn import likelihoods

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


def measure(rounds: int, epochs: int) -> np.ndarray:
    """Seconds of both, `(rounds, 2)`, after one run each to compile."""
    x, y = map(np.asarray, load_digits(return_X_y=True))
    x, y = (x[:1437] / 16).astype(np.float32), y[:1437]
    network, likelihood = jnn.mlp([64, 100, 10]), likelihoods.Categorical()
    contestants = (
        lambda key: jnn.fit(network, likelihood, x, y, key=key, epochs=epochs, batch_size=BATCH).params,
        bare_loop(jnp.asarray(x), jnp.asarray(y), epochs),
    )
    seconds = np.empty((rounds + 1, 2))
    for round_, key in enumerate(jax.random.split(jax.random.key(0), rounds + 1)):
        for which, train in enumerate(contestants):
            begun = time.perf_counter()
            jax.block_until_ready(train(key))
            seconds[round_, which] = time.perf_counter() - begun
    return seconds[1:]


def main() -> None:
    """Print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    seconds = measure(options.rounds, options.epochs)
    fit, bare = 1e3 * np.median(seconds, axis=0)
    low, middle, high = np.quantile(seconds[:, 0] / seconds[:, 1], [0.25, 0.5, 0.75])
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}: fit {fit:.1f} ms, bare loop {bare:.1f} ms")
    print(f"ratio {middle:.2f} (quartiles {low:.2f} to {high:.2f}, {options.rounds} rounds in turn)")


if __name__ == "__main__":
    main()
