"""SciPy's L-BFGS on all examples, for `solver="lbfgs"`: it needs no more compiled than the gradient."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from jnn import backprop
from jnn.likelihoods import Likelihood
from jnn.networks import Network, Params
from jnn.training.problem import fill
from jnn.training.structure import FINE, rounded_up


@dataclass(frozen=True)
class Minimum:
    """Where L-BFGS ended: parameters, the objective at each iteration, and whether it converged."""

    params: Params
    curve: list[float]
    converged: bool


def minimize(
    network: Network,
    likelihood: Likelihood,
    x: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray | None,
    *,
    start: Params,
    alpha: float,
    iterations: int,
    evaluations: int,
    tol: float,
) -> Minimum:
    """Minimize (E + α/2 ‖w‖²) / N."""
    n, size, dtype = len(x), rounded_up(len(x), FINE), x.dtype
    v = np.ones(n, dtype) if weights is None else weights.astype(dtype)
    given = (fill(x, size), fill(y, size), jnp.asarray(np.pad(v, (0, size - n))))
    first, unravel = ravel_pytree(start)
    curve: list[float] = []

    def evaluate(w: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = _value_and_gradient(network, likelihood, unravel(jnp.asarray(w, dtype)), *given, alpha)
        return float(value), np.asarray(ravel_pytree(gradient)[0], np.float64)

    def record(intermediate_result: Any) -> None:  # SciPy knows what to pass by the argument's name
        curve.append(float(intermediate_result.fun))

    solution = scipy.optimize.minimize(
        evaluate,
        np.asarray(first, np.float64),
        jac=True,
        method="L-BFGS-B",
        callback=record,
        # Below 64 roundings nothing is left to decrease.
        options={
            "maxiter": iterations,
            "maxfun": evaluations,
            "gtol": tol,
            "ftol": 64 * float(np.finfo(dtype).eps),
        },
    )
    return Minimum(unravel(jnp.asarray(solution.x, dtype)), curve or [float(solution.fun)], solution.status == 0)


@functools.partial(jax.jit, static_argnames=("network", "likelihood"))
def _value_and_gradient(
    network: Network, likelihood: Likelihood, params: Params, x: Array, y: Array, weights: Array, alpha: Any
) -> tuple[Array, Params]:
    return backprop.value_and_grad(network, likelihood, reduction="mean", weight_decay=alpha)(params, x, y, weights)


@functools.partial(jax.jit, static_argnames=("network", "members", "dtype"))
def draw(network: Network, key: Array, members: int, dtype: Any) -> Params:
    """First weights, with a first axis over the members."""
    return jax.vmap(lambda key: network.init(key, dtype=dtype))(jax.random.split(key, members))
