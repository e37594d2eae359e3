"""Setting a part of the examples aside for validation, inside a compiled program."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key


def split(
    key: Key[Array, ""], count: int, fraction: float, classes: Int[Array | np.ndarray, "count"] | None = None
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
    by_chance = shuffled(key, count)
    if classes is None:
        return by_chance[held_out:], by_chance[:held_out]
    line = by_chance[jnp.argsort(jnp.asarray(classes)[by_chance], stable=True)]
    start = (jax.random.bits(jax.random.fold_in(key, 1)) % np.uint32(count)).astype(int)
    train, validation = _systematic(count, held_out, start)
    return line[train], line[validation]


def shuffled(key: Key[Array, ""], count: int, last: Bool[Array, "count"] | None = None) -> Int[Array, "count"]:
    """0, ..., count − 1 in random order: that of as many random 32-bit numbers.

    One sort where `jax.random.permutation` takes two from 1,626 on, so that no two numbers can be equal: here the few
    that are (one pair in 100,000 examples, a hundred in a million) keep their order. Those marked come last.
    """
    numbers = jax.random.bits(key, (count,), np.uint32)
    if last is not None:
        numbers = jnp.where(last, np.uint32(2**32 - 1), numbers >> 1)
    return jnp.argsort(numbers)


def _systematic(count: int, held_out: int, start: Array) -> tuple[Array, Array]:
    """The places in line of the training and of the held-out examples, for a start in 0, ..., count − 1.

    Before place i, c(i) = ⌊(i h + start) / N⌋ are held out, so that the k-th that is, k = 1, ..., h, stands in place
    ⌈(k N − start) / h⌉ − 1, and the t-th that is not in place t + ⌊(t h + start) / (N − h)⌋. The products are divided
    in NumPy, whose integers are long enough.
    """
    trained = count - held_out
    t, k = np.arange(trained, dtype=np.int64), np.arange(1, held_out + 1, dtype=np.int64)
    whole, rest = np.divmod(t * held_out, trained)
    train = jnp.asarray(t + whole) + (jnp.asarray(rest) + start) // trained
    whole, rest = np.divmod(k * count, held_out)
    validation = jnp.asarray(whole) - (start - jnp.asarray(rest)) // held_out - 1  # ⌈−b / h⌉ = −⌊b / h⌋
    return train, validation


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
