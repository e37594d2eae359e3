"""The backward pass over a general network: as layers where it runs as layers, else as a sweep."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jnn.backprop import layered
from jnn.networks import Dag, Params
from jnn.networks import sweep as sweeps


def deltas(network: Dag, params: Params, kept: Any, delta: Float[Array, "K n"]) -> tuple[Any, Float[Array, "d n"]]:
    """δ_j = h'(a_j) Σ_k w_kj δ_k of all neurons (slide "Backpropagation IV"), and ∂E/∂x.

    Returns:
        δ by layer if the network runs in blocks, else by neuron; and the derivative by the inputs.
    """
    if network.evaluation == "blocks":
        return layered.deltas(network.layered[0], network.matrices(params), kept, delta)
    found = sweeps.backward(network.plan, params["w"], kept[0], delta)
    source, reader = _ends(network)
    of_input = np.flatnonzero(source < network.inputs)
    weighted = params["w"][of_input][:, None] * found[reader[of_input]]
    by_inputs = jnp.zeros((network.inputs, delta.shape[1]), found.dtype).at[source[of_input]].add(weighted)
    return found, by_inputs


def gradients(network: Dag, kept: Any, found: Any) -> Params:
    """∂E/∂w_ij = Σ_n δ_i z_j for each edge, ∂E/∂w_i0 = Σ_n δ_i for each bias (slide "Backpropagation II")."""
    if network.evaluation == "blocks":
        dense = layered.gradients(network.layered[0], kept, found)
        flat = jnp.concatenate([layer["W"].reshape(-1) for layer in dense])
        bias = network.by_neuron([layer["b"][:, None] for layer in dense])[:, 0]
        return {"w": flat[_places(network)], "b": _masked(network, bias, axis=0)}
    source, reader = _ends(network)
    w = jnp.einsum("en,en->e", kept[1][source], found[reader])
    return {"w": w, "b": _masked(network, jnp.sum(found, axis=1), axis=0)}


def per_example_gradients(network: Dag, kept: Any, found: Any) -> Params:
    """∂E^n/∂w_ij = δ_i z_j for every example n, examples on the first axis."""
    z, delta = _by_neuron(network, kept, found)
    source, reader = _ends(network)
    return {"w": (z[source] * delta[reader]).T, "b": _masked(network, delta.T, axis=1)}


def squared_norms(network: Dag, kept: Any, found: Any) -> Float[Array, "n"]:
    """Σ_ij (δ_i z_j)² for every example."""
    z, delta = _by_neuron(network, kept, found)
    source, reader = _ends(network)
    by_weights = jnp.einsum("en,en->n", jnp.square(z)[source], jnp.square(delta)[reader])
    return by_weights + jnp.sum(jnp.square(_masked(network, delta, axis=0)), axis=0)


def _ends(network: Dag) -> tuple[np.ndarray, np.ndarray]:
    """Where each edge begins among inputs and hidden neurons, and where it ends among the neurons from d+1 on."""
    return network.edges[:, 0] - 1, network.edges[:, 1] - network.inputs - 1


def _places(network: Dag) -> np.ndarray:
    """Where each edge's weight stands in all the matrices of the layered network, one after another."""
    flat = np.concatenate([table.reshape(-1) for table in network.layered[1]])
    places = np.empty(len(network.edges), int)
    filled = flat < len(network.edges)
    places[flat[filled]] = np.flatnonzero(filled)
    return places


def _by_neuron(network: Dag, kept: Any, found: Any) -> tuple[Array, Array]:
    """z of inputs and hidden neurons, and δ of the neurons from d+1 on, however the network ran."""
    if network.evaluation == "sweep":
        return kept[1], found
    hidden = network.by_neuron([*kept.z[1:], kept.a[-1]])[: network.hidden]
    return jnp.concatenate([kept.z[0], hidden]), network.by_neuron(found)


def _masked(network: Dag, bias_gradient: Array, axis: int) -> Array:
    """Zero for neurons without a bias."""
    if network.biased.all():
        return bias_gradient
    shape = [1] * bias_gradient.ndim
    shape[axis] = -1
    return jnp.where(network.biased.reshape(shape), bias_gradient, jnp.zeros_like(bias_gradient))
