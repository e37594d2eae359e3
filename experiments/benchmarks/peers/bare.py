"""The barest loop of the same arithmetic (`experiments.benchmarks.bare_loop`)."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import bare_loop
from experiments.benchmarks.peers.jaxes import device as device, versions as _versions
from experiments.benchmarks.workloads import Data, Setting, Train, Trained, Workload


def versions() -> dict[str, str]:
    """Of JAX."""
    return _versions()


def prepare(workload: Workload, data: Data, setting: Setting) -> Train:
    """64-100-10 at mini-batch 32 is all that it can do."""
    loop = bare_loop.bare_loop(jnp.asarray(data.x), jnp.asarray(data.y), workload.epochs)

    def train(seed: int) -> Trained:
        w1, b1, w2, b2 = jax.block_until_ready(loop(jax.random.key(seed)))
        return Trained(lambda x: np.asarray(np.tanh(x @ w1 + b1) @ w2 + b2))

    return train
