"""Structure is static, numbers are data: what a program is compiled for, told apart from what it computes with.

A setting (an optimizer, a stopping rule, an initializer) is a pytree. Its leaves that are numbers are data. Leaves that
are not, such as optax's functions, are wrapped in `Static`, which JAX compares by value and never traces.

Sizes are structure, too. They are rounded up to a few, so that data of nearly the same size share a program.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


@jax.tree_util.register_static
@dataclass(frozen=True)
class Static:
    """Something that is no number, as a part of a pytree's structure."""

    value: Any


def as_data(setting: Any, dtype: Any) -> Any:
    """A setting whose every leaf is an array: floating-point numbers of `dtype`, integers, booleans.

    Numbers that are equal but for their type then need one program, and the same as all members of an ensemble.
    """
    return jax.tree.map(lambda leaf: _array(leaf, dtype) if _is_number(leaf) else Static(leaf), setting)


def restored(setting: Any) -> Any:
    """What `as_data` was given, with arrays for numbers."""
    return jax.tree.map(
        lambda node: node.value if isinstance(node, Static) else node,
        setting,
        is_leaf=lambda node: isinstance(node, Static),
    )


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, (bool, int, float, np.number, np.bool_, np.ndarray, jax.Array))


def _array(leaf: Any, dtype: Any) -> Array | np.ndarray:
    kind = jnp.result_type(leaf)
    wanted = dtype if jnp.issubdtype(kind, jnp.floating) else bool if jnp.issubdtype(kind, jnp.bool_) else int
    if isinstance(leaf, jax.core.Tracer):
        return leaf.astype(wanted)
    return np.asarray(leaf, jnp.dtype(jax.dtypes.canonicalize_dtype(wanted)))


def is_traced(*values: Any) -> bool:
    """Whether any leaf is being traced, as under `jit` and `vmap`."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


COARSE, FINE = 3, 6
"""Sizes an octave, as powers of two: 8, at most 12.5% too large, where padding takes memory only; 64, at most 1.6%,
where it takes time as well, as in batch learning."""
LEAST, LEAST_VALIDATED = 256, 16
"""The smallest sizes of what mini-batches are taken from, and of what is validated on."""


def rounded_up(count: int, steps: int = COARSE, least: int = 1) -> int:
    """The smallest size that is at least `count`: a multiple of 2^-steps of the power of two at or below it."""
    count = max(count, least)
    step = 1 << max(0, count.bit_length() - 1 - steps)
    return -(-count // step) * step


def room_for(epochs: int) -> int:
    """How many epochs a history has room for: a power of two."""
    return max(64, 1 << (epochs - 1).bit_length())
