"""All parameters as one vector, inside the compiled program.

A step over a small network is a dozen small operations, so that half of its time goes into starting them. An optimizer
that treats each weight by itself (each of jnn's own) makes one pass over one vector instead of several over every
layer's arrays. Matrices are laid out by neuron, transposed, those of large networks too: the forward pass then reads
them row by row.

So it is on a CPU. Accelerators read matrices either way, and there copying into the vector and out of it costs more
than it saves, most of all for many networks: they take all parameters as they are.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from jnn.networks import Params
from jnn.optimizers import is_elementwise


@dataclass(frozen=True)
class Packing:
    """How parameters and an optimizer's state are kept while the program runs, and how they get there and back.

    A mask of weights, which may be one number for a whole array, only gets there.
    """

    pack: Callable[[Params], Any]
    unpack: Callable[[Any], Params]
    pack_mask: Callable[[Params], Any]
    pack_state: Callable[[Any], Any]
    unpack_state: Callable[[Any], Any]


def _same(tree: Any) -> Any:
    return tree


def _transposed(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.T, tree)


LARGE = 2**16
"""From so many weights on, copying them into one vector and out of it costs more than starting operations."""

AS_THEY_ARE = Packing(_same, _same, _same, _same, _same)
BY_NEURON = Packing(_transposed, _transposed, _transposed, _transposed, _transposed)


def packing(params: Params, optimizer: optax.GradientTransformation, platform: str) -> Packing:
    """One vector, for small networks of one dtype; for others matrices by neuron.

    Only on a CPU, and only for optimizers that treat each weight by itself: what others get stays as it is.
    """
    leaves, structure = jax.tree.flatten(params)
    weights = sum(leaf.size for leaf in leaves)
    if platform != "cpu" or not is_elementwise(optimizer):
        return AS_THEY_ARE
    if len({leaf.dtype for leaf in leaves}) > 1 or weights > LARGE:
        return BY_NEURON
    shapes = [leaf.shape for leaf in leaves]
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])

    def in_line(leaves: list[Array]) -> Array:
        return jnp.concatenate([leaf.T.reshape(-1) for leaf in leaves])

    def pack(tree: Params) -> Float[Array, "weights"]:
        return in_line(jax.tree.leaves(tree))

    def unpack(vector: Float[Array, "weights"]) -> Params:
        parts = [vector[a:b] for a, b in itertools.pairwise(ends)]
        return structure.unflatten([p.reshape(shape[::-1]).T for p, shape in zip(parts, shapes, strict=True)])

    def pack_mask(tree: Params) -> Bool[Array, "weights"]:
        pairs = zip(jax.tree.leaves(tree), shapes, strict=True)
        return in_line([jnp.broadcast_to(leaf, shape) for leaf, shape in pairs])

    def is_params(node: Any) -> bool:
        return jax.tree.structure(node) == structure

    def pack_state(state: Any) -> Any:
        return jax.tree.map(lambda node: pack(node) if is_params(node) else node, state, is_leaf=is_params)

    def unpack_state(state: Any) -> Any:
        # Whatever else an elementwise optimizer keeps (a count, an error) is a scalar.
        return jax.tree.map(lambda leaf: unpack(leaf) if leaf.shape == (int(ends[-1]),) else leaf, state)

    return Packing(pack, unpack, pack_mask, pack_state, unpack_state)
