"""Networks of different widths as one: padded with neurons that never matter.

A neuron that a member does not have gets no weights, neither in nor out, and keeps none: gradients are masked. Whatever
its h(0) is, nobody reads it.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jnn.networks import Layered, Network, Params
from jnn.networks.layered import Layer


def widest(networks: Sequence[Network]) -> Network:
    """The network whose every layer is as wide as the widest of those given.

    Raises:
        ValueError: if they differ in more than the sizes of hidden layers.
    """
    first = networks[0]
    if all(network == first for network in networks):
        return first
    for network in networks:
        if not (isinstance(network, Layered) and isinstance(first, Layered) and _same_but_for_widths(network, first)):
            raise ValueError(
                "expected networks that differ in the sizes of their hidden layers only (layers, activations, "
                f"shortcuts, inputs and outputs the same); got\n{first}\nand\n{network}"
            )
    layered = [network for network in networks if isinstance(network, Layered)]
    layers = tuple(
        Layer(max(layer.size for layer in same), same[0].activation, same[0].sources)
        for same in zip(*(network.layers for network in layered), strict=True)
    )
    return Layered(layered[0].inputs, layers)


def _same_but_for_widths(one: Layered, other: Layered) -> bool:
    kinds = [[(layer.activation, layer.sources) for layer in network.layers] for network in (one, other)]
    return (one.inputs, one.outputs, kinds[0]) == (other.inputs, other.outputs, kinds[1])


def widen(network: Network, to: Network, params: Params) -> Params:
    """The parameters in the wider network: zeros where this one has none."""
    return params if network == to else _moved(network, to, params, outwards=True)


def narrow(network: Network, of: Network, params: Params) -> Params:
    """The parameters of this network out of those of the wider one."""
    return params if network == of else _moved(network, of, params, outwards=False)


def present(network: Network, to: Network, like: Params) -> Params:
    """1 for weights of the wider network that this one has, 0 for the others, in the dtypes of `like`."""
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    ones = jax.tree.map(lambda shape, leaf: jnp.ones(shape.shape, leaf.dtype), shapes, like)
    return widen(network, to, ones)


def _moved(network: Network, wide: Network, params: Params, outwards: bool) -> Params:
    assert isinstance(network, Layered)
    assert isinstance(wide, Layered)

    def place(w: Array, block: Array, rows: slice) -> Array:
        return w.at[rows.start : rows.start + block.shape[0], : block.shape[1]].set(block)

    moved = []
    for layer, wide_layer, p in zip(network.layers, wide.layers, params, strict=True):
        ours, theirs = network.blocks(layer), wide.blocks(wide_layer)
        if outwards:
            w = jnp.zeros((wide.fan_in(wide_layer), wide_layer.size), p["W"].dtype)
            for (_, small), (_, large) in zip(ours, theirs, strict=True):
                w = place(w, p["W"][small], large)
            b = jnp.zeros(wide_layer.size, p["b"].dtype).at[: layer.size].set(p["b"])
        else:
            blocks = [
                p["W"][large.start : large.start + small.stop - small.start, : layer.size]
                for (_, small), (_, large) in zip(ours, theirs, strict=True)
            ]
            w, b = jnp.concatenate(blocks), p["b"][: layer.size]
        moved.append({"W": w, "b": b})
    return tuple(moved)
