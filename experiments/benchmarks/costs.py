"""What the parts of a step cost alone, measured in jnn's process: the matrix rate, tanh, exp, Adam."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.floors import Costs, work
from experiments.benchmarks.workloads import Data, Setting, Workload

LEAST_ELEMENTS = 16384
"""Fewer would measure the loop around them."""

REPEATS = 7


def measure(workload: Workload, data: Data, setting: Setting) -> dict[str, Any]:
    """Each elementwise cost on arrays as large as those of all the workload's networks together."""
    needed = work(workload, len(data.x), data.edges)

    def elements(each: float) -> int:
        return max(LEAST_ELEMENTS, int(each) * workload.members)

    rates = matrix_rates(setting)
    costs = Costs(
        matrix_rate=max(rates.values()),
        tanh=loop_cost(lambda z: jnp.tanh(z + 0.1), jnp.zeros(elements(needed.tanh))),
        exp=loop_cost(lambda z: jnp.exp(-z), jnp.zeros(elements(needed.exp))),
        adam=adam_cost(elements(needed.weights)),
    )
    return {**costs._asdict(), "matrix_rates": rates}


@functools.cache
def matrix_rates(setting: Setting) -> dict[str, float]:
    """The best rate of large square products, by XLA, and on a CPU by NumPy's BLAS too."""
    sizes = (1024, 2048) if setting.device == "cpu" else (4096, 8192)
    product = jax.jit(lambda a, b: a @ b)
    found = {"xla": 0.0}
    for size in sizes:
        a = jax.random.normal(jax.random.key(0), (size, size))
        flops = 2 * size**3
        found["xla"] = max(found["xla"], flops / _best(lambda a=a: product(a, a)))
        if setting.device == "cpu":
            b = np.asarray(a)
            found["blas"] = max(found.get("blas", 0.0), flops / _best(lambda b=b: b @ b))
    return found


def _best(run: Callable[[], Any]) -> float:
    """The least seconds of a few runs, after one to compile."""
    seconds = []
    for _ in range(REPEATS + 1):
        begun = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - begun)
    return min(seconds[1:])


def loop_cost(f: Callable[[Any], Any], start: Any, elements: int | None = None) -> float:
    """Seconds for each element of applying f in a compiled loop, the result being its next argument."""
    count = elements or jax.tree.leaves(start)[0].size
    times = max(10, 20_000_000 // count)
    looped = jax.jit(lambda z: jax.lax.fori_loop(0, times, lambda _, z: f(z), z))
    return _best(lambda: looped(start)) / (times * count)


def adam_cost(count: int) -> float:
    """Seconds for each weight of Adam's update, with a gradient that lies in memory."""
    ones = jnp.ones(count)

    def update(carry: Any) -> Any:
        w, m, v, g = carry
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * (g * g)
        return w - 1e-3 * m / (jnp.sqrt(v) + 1e-8), m, v, g

    return loop_cost(update, (ones, ones, ones, 0.5 * ones), count)
