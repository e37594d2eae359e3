"""Backpropagation by hand (slides "Backpropagation I" to "V"): no function here is differentiated by JAX.

    forward   a_i = Σ_j w_ij z_j,  z_i = h(a_i)
    output    δ_i = ∂E/∂a_i, from the likelihood (z_i − y_i for the canonical ones)
    hidden    δ_i = h'(a_i) Σ_k w_ki δ_k
    gradient  ∂E/∂w_ij = δ_i z_j

Everything is a plain JAX function of arrays, so it works under `jit`, `vmap` and `scan`, and can itself be
differentiated. Second derivatives, by hand too, are in `jnn.curvature`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from jnn import objectives
from jnn.checks import check_floating
from jnn.likelihoods import Likelihood
from jnn.networks import Network, Params
from jnn.networks.base import as_rows, laid_out, leading_axes

Inputs = Num[Array | np.ndarray, "*batch d"]
Targets = Num[Array | np.ndarray, "..."]


def _forward_and_deltas(
    network: Network, likelihood: Likelihood, params: Params, x: Array, y: Array, counts: Any = None
) -> tuple[Array, Any, Any]:
    """−ln p of each example, what the forward pass kept, and δ of every neuron, each example counted so often."""
    a, kept = network.forward(params, x)
    nll, delta = likelihood.nll(a.T, y), likelihood.delta(a.T, y)
    if counts is not None:
        counts = jnp.asarray(counts, delta.dtype)
        nll = counts * nll
        delta = jnp.broadcast_to(counts, nll.shape)[:, None] * delta
    found, _ = network.backward(params, kept, laid_out(delta.T))
    return nll, kept, found


def value_and_grad(
    network: Network,
    likelihood: Likelihood,
    *,
    reduction: objectives.Reduction = "mean",
    weight_decay: Any = 0.0,
    mask: Params | None = None,
) -> Callable[..., tuple[Float[Array, ""], Params]]:
    """The objective and its gradient, by hand-written backpropagation.

        J = (E + γ/2 ‖w‖²) / N  or  E + γ/2 ‖w‖²,   ∂E/∂w_ij = Σ_n v_n δ_i z_j

    The same arguments as `jnn.objectives.objective`, and the same value; the gradient is the one that autodiff finds.
    Returned is a function `(params, x, y, weights=None) -> (value, gradient)`, with `x` `(..., d)`, `y` as the
    likelihood takes it, and `weights` v_n of the batch's shape. Raises ValueError for an unknown reduction, and, when
    called, for shapes that do not fit.

    Source: slides "Backpropagation I" to "V", "Weight-decay".
    """
    objectives.check_reduction(reduction)
    weight_decay = objectives.checked_decay(weight_decay)
    mask = objectives.decay_mask(network, likelihood) if mask is None else mask

    def evaluate(params: Params, x: Array, y: Array, weights: Array | None = None) -> tuple[Array, Params]:
        columns, y, weights = objectives.examples(network, params, x, y, weights)
        counts, gamma = objectives.shares(reduction, weight_decay, columns.shape[1], weights)
        nll, kept, found = _forward_and_deltas(network, likelihood, params, columns, y, counts)
        value, grads = jnp.sum(nll), network.gradients(kept, found)
        if not objectives.is_zero(weight_decay):
            value = value + gamma * objectives.penalty(params, mask)
            decay = objectives.penalty_gradient(params, mask)
            grads = jax.tree.map(lambda g, w: g + jnp.asarray(gamma, w.dtype) * w, grads, decay)
        return value, grads

    return evaluate


def _of_examples(
    network: Network, likelihood: Likelihood, params: Params, x: Inputs, y: Targets
) -> tuple[tuple[Any, ...], Any, Any]:
    """The batch axes, what the forward pass kept, and δ of every neuron for every example, each counted once."""
    columns, y, _ = objectives.examples(network, params, x, y, None)
    _, kept, found = _forward_and_deltas(network, likelihood, params, columns, y)
    return np.shape(x)[:-1], kept, found


def deltas(network: Network, likelihood: Likelihood, params: Params, x: Inputs, y: Targets) -> Any:
    """δ_i = ∂E^n/∂a_i of every neuron that computes, for every example (slides "Backpropagation II" to "IV").

    For an MLP a tuple over its layers of `(..., size)`; for a DAG one array `(..., M + K)`, from neuron d+1 on.
    """
    batch, _, found = _of_examples(network, likelihood, params, x, y)
    return as_rows(network.traced_deltas(found), batch)


def per_example_gradients(network: Network, likelihood: Likelihood, params: Params, x: Inputs, y: Targets) -> Params:
    """∂E^n/∂w for every example n at once: the structure of `params`, each leaf with the batch axes in front."""
    batch, kept, found = _of_examples(network, likelihood, params, x, y)
    grads = network.per_example_gradients(kept, found)
    return jax.tree.map(lambda g: g.reshape(*batch, *g.shape[1:]), grads)


def per_example_gradient_norms(
    network: Network, likelihood: Likelihood, params: Params, x: Inputs, y: Targets
) -> Float[Array, "*batch"]:
    """‖∂E^n/∂w‖ over all weights and biases, for every example n, without forming the gradients (Goodfellow 2015)."""
    batch, kept, found = _of_examples(network, likelihood, params, x, y)
    return jnp.sqrt(network.squared_norms(kept, found)).reshape(batch)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _apply(network: Network, params: Params, x: Array) -> Array:
    return network.forward(params, x)[0]


def _apply_forward(network: Network, params: Params, x: Array) -> tuple[Array, Any]:
    a, kept = network.forward(params, x)
    return a, (params, x, kept)


def _apply_backward(network: Network, residuals: Any, delta: Array) -> tuple[Params, Array]:
    params, x, kept = residuals
    found, by_inputs = network.backward(params, kept, delta)
    grads = network.gradients(kept, found)
    like = functools.partial(jax.tree.map, lambda g, p: g.astype(p.dtype))
    return like(grads, params), like(by_inputs, x)


_apply.defvjp(_apply_forward, _apply_backward)


def apply(network: Network, params: Params, x: Inputs) -> Float[Array, "*batch K"]:
    """`network.apply`, differentiated by hand: the gradient of any loss of it runs the backward pass of this module.

    The cotangent that reaches the outputs is their δ; it is propagated to the weights and to `x`.
    """
    leading_axes(network, params, lead=())
    columns, batch = network.columns(params, x)
    return as_rows(_apply(network, params, columns), batch)


def differentiable(
    value_and_gradient: Callable[..., tuple[Array, Params]], *batch: Array | None
) -> Callable[[Params], Array]:
    """What `value_and_grad` returned, on a fixed batch, as a function of the parameters with that very gradient.

    For optimizers that differentiate the objective themselves, as line searches do.
    """

    @jax.custom_vjp
    def value(params: Params) -> Array:
        return value_and_gradient(params, *batch)[0]

    def backward(grads: Params, cotangent: Array) -> tuple[Params]:
        return (jax.tree.map(lambda g: cotangent * g, grads),)

    value.defvjp(lambda params: value_and_gradient(params, *batch), backward)

    def checked(params: Params) -> Array:
        check_floating(params, "weights")
        return value(params)

    return checked
