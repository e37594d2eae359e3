"""Setting a part of the examples aside for validation, inside a compiled program."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key


class Rows(NamedTuple):
    """Numbers of examples. The first `count` places hold them; what the others hold is never used."""

    index: Int[Array | np.ndarray, "*members places"]  # pyright: ignore[reportIncompatibleMethodOverride]
    count: Int[Array | np.ndarray, "*members"]  # pyright: ignore[reportIncompatibleMethodOverride]

    def numbers(self) -> Int[np.ndarray, "count"]:
        """The numbers, of one network, on the host."""
        return np.asarray(self.index)[: int(self.count)]


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
    train, validation = split_places(key, count, held_out, (count - held_out, held_out), count, classes)
    return jnp.asarray(train.index), jnp.asarray(validation.index)


def split_places(
    key: Key[Array, ""],
    count: Any,
    held_out: Any,
    places: tuple[int, int],
    size: int,
    classes: Int[Array | np.ndarray, "size"] | None = None,
) -> tuple[Rows, Rows]:
    """As `split`, of numbers that may be traced: the first `count` of `size` examples, `held_out` of them held out."""
    line = shuffled(key, size, count)
    place = jnp.arange(size)
    if classes is None:
        out = place < held_out
    else:
        number = jnp.where(line < size, jnp.asarray(classes)[line], 0)
        line = line[jnp.lexsort((place, number, place >= count))]
        start = jax.random.bits(jax.random.fold_in(key, 1)) % jnp.asarray(count, np.uint32)
        rest = (_times_modulo(place, held_out, count) + start.astype(int)) % count
        out = rest + held_out >= count
    rank = jnp.where(place < count, out, 2)  # 0: to train on, 1: held out, 2: none
    train = line[jnp.argsort(rank, stable=True)][: places[0]]
    validation = line[jnp.argsort(jnp.where(rank == 1, -1, rank), stable=True)][: places[1]]
    return Rows(train, jnp.asarray(count - held_out, int)), Rows(validation, jnp.asarray(held_out, int))


def _times_modulo(i: Int[Array, "size"], h: Any, n: Any) -> Int[Array, "size"]:
    """i h mod n for i < n < 2³⁰ without larger numbers, by doubling and adding."""

    def double_and_add(bit: Array, r: Array) -> Array:
        r = (2 * r) % n
        return jnp.where((jnp.asarray(h) >> (29 - bit)) & 1, (r + i) % n, r)

    return jax.lax.fori_loop(0, 30, double_and_add, jnp.zeros_like(i))


def shuffled(key: Key[Array, ""], size: int, count: Any = None) -> Int[Array, "size"]:
    """0, ..., count − 1 in random order: that of as many random 32-bit numbers; then count, ..., size − 1.

    The order of the first does not depend on `size`. One sort where `jax.random.permutation` takes two from 1,626 on,
    so that no two numbers can be equal: here the few that are (one pair in 100,000 examples, a hundred in a million)
    keep their order.
    """
    numbers = jax.random.bits(key, (size,), np.uint32)
    if count is not None:
        none: Bool[Array, "size"] = jnp.arange(size) >= count
        numbers = jnp.where(none, np.uint32(2**32 - 1), numbers >> 1)
    return jnp.argsort(numbers)


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
