"""What training minimizes: the error E of the likelihood, and weight decay.

    E = −Σ_n v_n ln p(y_n | x_n; w) without its w-independent terms,   J = (E + γ/2 ‖w‖²) / N   or   E + γ/2 ‖w‖²

E is the lecture's, a *sum* over examples, each counted v_n times (once by default). `reduction="mean"` divides the
whole objective by N = Σ_n v_n, `reduction="sum"` does not: the minimizer is the same, and γ means the same
(scikit-learn's `alpha`). ‖w‖ leaves out the biases and the weights of linear output neurons (slide "Weight-decay").
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from jnn.checks import check_floating, floats, one_number, real_array
from jnn.likelihoods import Likelihood
from jnn.networks import Network, Params
from jnn.networks.base import leading_axes

Reduction = Literal["mean", "sum"]
Numbers = Num[Array | np.ndarray, "..."]


def examples(
    network: Network, params: Params, x: Numbers, y: Numbers, weights: Numbers | None
) -> tuple[Float[Array, "d n"], Num[Array, "n ..."], Float[Array, "n"] | None]:
    """Inputs as columns, targets and weights with the batch axes made one; ValueError if those differ."""
    leading_axes(network, params, lead=())
    columns, batch = network.columns(params, x)
    y = real_array(y, "y")
    y = floats(y, "y") if jnp.issubdtype(y.dtype, jnp.floating) else jnp.asarray(y)
    if y.shape[: len(batch)] != batch:
        raise ValueError(f"expected a target for each example: x is a batch of {batch}, but y has shape {y.shape}")
    if weights is not None:
        weights = floats(weights, "weights", columns.dtype)
        if weights.shape != batch:
            raise ValueError(f"expected weights of shape {batch}, one for each example; got {weights.shape}")
        weights = weights.reshape(-1).astype(columns.dtype)
    return columns, y.reshape(columns.shape[1], *y.shape[len(batch) :]), weights


def shares(
    reduction: Reduction, weight_decay: Any, count: int, weights: Float[Array, "n"] | None
) -> tuple[Float[Array, "n"] | Any, Any]:
    """What the objective multiplies each example's error by (None: 1 each), and ½ ‖w‖²: v_n and γ, or those over N."""
    if reduction == "sum":
        return weights, weight_decay
    scale = 1 / (count if weights is None else jnp.sum(weights))
    return scale if weights is None else weights * scale, weight_decay * scale


def decay_mask(network: Network, likelihood: Likelihood) -> Params:
    """Which weights the norm ‖w‖ counts, as a pytree that broadcasts against the parameters.

    True but for biases and the weights into linear output neurons, σ(a) = a, whose size says nothing about how
    smooth the function is (slide "Weight-decay").
    """
    return network.decay_mask(~np.array(likelihood.linear_outputs(network.outputs), bool))


def all_weights_mask(network: Network) -> Params:
    """The mask that counts every weight, those of linear outputs too, but no bias (scikit-learn's penalty)."""
    return network.decay_mask(np.ones(network.outputs, bool))


def every_weight_mask(network: Network) -> Params:
    """The mask that counts every weight and every bias: a proper Gaussian prior."""
    return jax.tree.map(lambda _: np.array(True), network.decay_mask(np.ones(network.outputs, bool)))


def penalty(params: Params, mask: Params) -> Float[Array, ""]:
    """½ ‖w‖² over the weights that the mask counts."""
    _check_trees(params, mask)

    def squares(w: Array, counted: Any) -> Array:
        if not isinstance(counted, jax.Array) and not np.any(counted):
            return jnp.zeros((), jnp.result_type(w))
        return jnp.sum(jnp.where(counted, w * w, 0))

    return 0.5 * sum(jax.tree.leaves(jax.tree.map(squares, params, mask)))  # type: ignore[return-value]


def penalty_gradient(params: Params, mask: Params) -> Params:
    """∂/∂w ½ ‖w‖²: w where the mask counts it, else 0."""
    _check_trees(params, mask)
    return jax.tree.map(lambda w, counted: jnp.where(counted, w, 0), params, mask)


def _check_trees(params: Params, mask: Params) -> None:
    check_floating(params, "weights")
    if (got := jax.tree.structure(params)) != (wanted := jax.tree.structure(mask)):
        raise ValueError(f"expected weights of the mask's structure, {wanted}; got {got}")


def checked_decay(weight_decay: Any) -> Any:
    """γ as one number; TypeError or ValueError unless it is one, ≥ 0."""
    return one_number("weight_decay", weight_decay, "a number ≥ 0", lambda x: x >= 0)


def is_zero(weight_decay: Any) -> bool:
    """Whether the decay is a plain zero, known before anything is compiled."""
    return isinstance(weight_decay, (int, float)) and bool(weight_decay == 0)


def check_reduction(reduction: str) -> None:
    """Raise a ValueError unless `reduction` is one of the two."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f'expected reduction "mean" or "sum", got {reduction!r}')


def objective(
    network: Network,
    likelihood: Likelihood,
    *,
    reduction: Reduction = "mean",
    weight_decay: Any = 0.0,
    mask: Params | None = None,
) -> Callable[..., Float[Array, ""]]:
    """The objective J as a function `(params, x, y, weights=None)`, for `jax.grad` to differentiate.

    `weight_decay` is γ ≥ 0, and `mask` says which weights decay; `decay_mask(network, likelihood)` by default.
    """
    check_reduction(reduction)
    weight_decay = checked_decay(weight_decay)
    mask = decay_mask(network, likelihood) if mask is None else mask

    def evaluate(params: Params, x: Array, y: Array, weights: Array | None = None) -> Array:
        columns, y, weights = examples(network, params, x, y, weights)
        a, _ = network.forward(params, columns)
        nll = likelihood.nll(a.T, y)
        value = jnp.sum(nll if weights is None else weights * nll)
        if not is_zero(weight_decay):
            value = value + weight_decay * penalty(params, mask)
        if reduction == "mean":
            value = value / (columns.shape[1] if weights is None else jnp.sum(weights))
        return value

    return evaluate
