"""SciPy's L-BFGS-B over a value and gradient that JAX compiled, in the workload's float32 arithmetic."""

from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import scipy
import scipy.optimize

from experiments.benchmarks.peers.jaxes import device as device, mean_loss
from experiments.benchmarks.peers.plain_jax import apply_network, init
from experiments.benchmarks.workloads import Data, Setting, Train, Trained, Workload

VARIANTS_WITH_THREADS = ("",)
PACKAGES = ("scipy", "jax", "jaxlib")


def prepare(workload: Workload, data: Data, setting: Setting) -> Train:
    """Full batch."""
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)
    _, unravel = jax.flatten_util.ravel_pytree(init(workload, jax.random.key(0)))

    @jax.jit
    @jax.value_and_grad
    def objective(flat: jax.Array) -> jax.Array:
        params = unravel(flat)
        squares = sum(jnp.sum(w**2) for w, _ in params)
        return (
            mean_loss(workload.loss, apply_network(workload, params, x), y)
            + workload.weight_decay / 2 / len(x) * squares
        )

    def evaluate(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(flat.astype(np.float32))
        return float(value), np.asarray(gradient, np.float64)

    def train(seed: int) -> Trained:
        start, _ = jax.flatten_util.ravel_pytree(init(workload, jax.random.key(seed)))
        options = {"maxiter": workload.epochs, "maxcor": 10, "gtol": 1e-6}
        found: Any = scipy.optimize.minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options)
        params = unravel(jnp.asarray(found.x, jnp.float32))
        norm = sum(float(jnp.sum(w**2)) for w, _ in params)
        return Trained(lambda x: np.asarray(apply_network(workload, params, jnp.asarray(x))), norm, int(found.nit))

    return train
