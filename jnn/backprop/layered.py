"""The backward pass over layers. Neurons are rows and examples are columns, as in the forward pass."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jnn.networks import Layered, Params
from jnn.networks.layered import LayerTrace

Columns = tuple[Float[Array, "_ n"], ...]


def laid_out(a: Array) -> Array:
    """`a` in an order of memory of its own, first axis slowest.

    XLA would leave a transpose to the product that reads it, and on a CPU multiplies matrices several times slower
    where both are read against their order (see `experiments/benchmarks/NOTES.md`).
    """
    return jax.lax.optimization_barrier(a)


def deltas(
    network: Layered, params: Params, kept: LayerTrace, delta: Float[Array, "K n"]
) -> tuple[Columns, Float[Array, "d n"]]:
    """δ_l = h_l'(a_l) ⊙ Σ_k W_kl δ_k for every layer, in reverse order (slide "Backpropagation IV"); and ∂E/∂x.

    Args:
        network: the layers.
        params: their weights.
        kept: `a` and `z` from the forward pass.
        delta: ∂E/∂a of the output layer.

    Returns:
        δ of each layer, the outputs' included, and Σ_k W_k0 δ_k, the derivative by the inputs.
    """
    count = len(network.layers)
    found: list[Array] = [delta] * count
    # Σ_k W_kl δ_k by source l, filled while the layers k > l are visited.
    pulled: list[Array | None] = [None] * count
    for number in range(count, 0, -1):
        layer = network.layers[number - 1]
        if number < count:
            total = pulled[number]
            slope = layer.activation.derivative(kept.a[number - 1])
            found[number - 1] = jnp.zeros_like(slope) if total is None else slope * total
        for source, rows in network.blocks(layer):
            product = laid_out(params[number - 1]["W"][rows]) @ found[number - 1]
            before = pulled[source]
            pulled[source] = product if before is None else before + product
    by_inputs = pulled[0]
    return tuple(found), jnp.zeros_like(kept.z[0]) if by_inputs is None else by_inputs


def gradients(network: Layered, kept: LayerTrace, found: Columns) -> Params:
    """∂E/∂w_ij = Σ_n δ_i z_j and ∂E/∂w_i0 = Σ_n δ_i (slide "Backpropagation II"), summed over the examples."""
    return tuple(
        # (δ zᵀ)ᵀ, not z δᵀ: by neuron, as the training program keeps weights (see `jnn.training.packing`).
        {"W": jnp.concatenate([delta @ kept.z[s].T for s in layer.sources], axis=1).T, "b": jnp.sum(delta, axis=1)}
        for layer, delta in zip(network.layers, found, strict=True)
    )


def per_example_gradients(network: Layered, kept: LayerTrace, found: Columns) -> Params:
    """∂E^n/∂w_ij = δ_i z_j for every example n: one outer product each, examples on the first axis."""
    return tuple(
        {
            "W": jnp.concatenate([kept.z[s] for s in layer.sources]).T[:, :, None] * delta.T[:, None, :],
            "b": delta.T,
        }
        for layer, delta in zip(network.layers, found, strict=True)
    )


def squared_norms(network: Layered, kept: LayerTrace, found: Columns) -> Float[Array, "n"]:
    """Σ_ij (δ_i z_j)² = Σ_layers ‖δ‖² (1 + ‖z‖²) for every example, without forming its gradient (Goodfellow 2015)."""
    squares = [jnp.sum(z * z, axis=0) for z in kept.z]
    total = jnp.zeros_like(squares[0])
    for layer, delta in zip(network.layers, found, strict=True):
        total += jnp.sum(delta * delta, axis=0) * (1 + sum(squares[s] for s in layer.sources))
    return total
