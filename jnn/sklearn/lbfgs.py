"""SciPy's L-BFGS on all examples, for `solver="lbfgs"`: it needs no more compiled than the gradient."""

import functools
from itertools import zip_longest
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
from jnn.sklearn.recipe import Plan
from jnn.training import FitResult
from jnn.training.observers import Best, Recorded
from jnn.training.problem import fill
from jnn.training.program import FIRST_RULE, RUNNING, State
from jnn.training.structure import FINE, rounded_up


def fit(
    network: Network,
    likelihood: Likelihood,
    x: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray | None,
    plan: Plan,
    *,
    key: Array,
    params: Params | None,
    evaluations: int,
) -> FitResult:
    """Minimize (E + α/2 ‖w‖²) / N for one member after another; returned is what `jnn.ensembles.fit` finds."""
    n, size, dtype = len(x), rounded_up(len(x), FINE), x.dtype
    v = np.ones(n, dtype) if weights is None else weights.astype(dtype)
    given = (fill(x, size), fill(y, size), jnp.asarray(np.pad(v, (0, size - n))))
    alpha, tol = plan.settings.get("weight_decay"), plan.tol
    # Below 64 roundings nothing is left to decrease.
    roundings = 64 * float(np.finfo(dtype).eps)
    ends = {"maxiter": plan.settings.get("epochs"), "maxfun": evaluations, "gtol": tol, "ftol": roundings}

    def minimum(start: Params) -> tuple[Params, list[float], bool]:
        first, unravel = ravel_pytree(start)
        curve: list[float] = []

        def evaluate(w: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = _value_and_gradient(network, likelihood, unravel(jnp.asarray(w, dtype)), *given, alpha)
            return float(value), np.asarray(ravel_pytree(gradient)[0], np.float64)

        def record(intermediate_result: Any) -> None:  # SciPy knows what to pass by the argument's name
            curve.append(float(intermediate_result.fun))

        found = scipy.optimize.minimize(
            evaluate, np.asarray(first, np.float64), jac=True, method="L-BFGS-B", callback=record, options=ends
        )
        return unravel(jnp.asarray(found.x, dtype)), curve or [float(found.fun)], found.status == 0

    starts = _drawn(network, key, plan.members, dtype) if params is None else params
    members = [jax.tree.map(lambda leaf, m=m: jnp.asarray(leaf[m]), starts) for m in range(plan.members)]
    each, curves, converged = zip(*map(minimum, members), strict=True)
    params = jax.tree.map(lambda *leaves: np.stack(jax.device_get(leaves)), *each)
    xp: Any = np  # where states are annotated as JAX arrays
    epochs, risks = xp.array([*map(len, curves)]), xp.array([*zip_longest(*curves, fillvalue=0.0)]).T
    code, none = xp.where(converged, FIRST_RULE, RUNNING), xp.zeros(len(epochs), bool)
    record = Recorded(risks, xp.zeros_like(risks), xp.zeros_like(risks, bool))
    best = Best(params, error=0.0 * epochs, epoch=epochs, validated=none)
    state = State(params, None, none, epochs, code, record, best, rules=(), rows=None, held_out=None)
    return FitResult(state, (), limit=risks.shape[1])


@functools.partial(jax.jit, static_argnames=("network", "likelihood"))
def _value_and_gradient(
    network: Network, likelihood: Likelihood, params: Params, x: Array, y: Array, weights: Array, alpha: Any
) -> tuple[Array, Params]:
    return backprop.value_and_grad(network, likelihood, reduction="mean", weight_decay=alpha)(params, x, y, weights)


@functools.partial(jax.jit, static_argnames=("network", "members", "dtype"))
def _drawn(network: Network, key: Array, members: int, dtype: Any) -> Params:
    return jax.vmap(lambda key: network.init(key, dtype=dtype))(jax.random.split(key, members))
