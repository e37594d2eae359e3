"""Setting a part of the examples aside for validation, inside a compiled program."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key


def split(
    key: Key[Array, ""], count: int, fraction: float, classes: Int[Array, "count"] | None = None
) -> tuple[Int[Array, "train"], Int[Array, "held_out"]]:
    """Draw `round(fraction · count)` examples for validation; stratified if their classes are given.

    Stratified, the examples are lined up class by class, in random order within each, and a systematic sample is held
    out: with h of N to hold out and a random U, the i-th in line if a multiple of N lies in (i h + U, (i + 1) h + U].
    Every class gives its share, rounded up or down.

    Args:
        key: decides who is held out.
        count: number of examples.
        fraction: share to hold out, 0 < fraction < 1.
        classes: each example's class, numbered from 0.

    Returns:
        The indices of the training and of the validation examples, in no particular order.

    Raises:
        ValueError: if either part would be empty.
    """
    held_out = held_out_count(count, fraction)
    by_chance = jax.random.permutation(key, count)
    if classes is None:
        return by_chance[held_out:], by_chance[:held_out]
    line = by_chance[jnp.argsort(jnp.asarray(classes)[by_chance], stable=True)]
    start = jax.random.randint(jax.random.fold_in(key, 1), (), 0, count)
    places = np.arange(count, dtype=np.int64) * held_out % count  # in NumPy, whose integers are long enough
    is_held_out = (jnp.asarray(places) + start) % count >= count - held_out
    (train,) = jnp.nonzero(~is_held_out, size=count - held_out)
    (validation,) = jnp.nonzero(is_held_out, size=held_out)
    return line[train], line[validation]


def held_out_count(count: int, fraction: Any) -> int:
    """How many of `count` examples the fraction holds out."""
    if not 0 < fraction < 1:
        raise ValueError(f"expected a validation fraction between 0 and 1, got {fraction}")
    held_out = round(fraction * count)
    if held_out < 1 or held_out >= count:
        raise ValueError(
            f"a validation fraction of {fraction} of {count} examples leaves {count - held_out} for training and "
            f"{held_out} for validation; expected at least one each"
        )
    return held_out
