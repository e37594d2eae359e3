"""Setting a part of the examples aside for validation, inside a compiled program."""

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, UInt32

from jnn.training.structure import COARSE, LEAST, is_traced, rounded_up


def split_key(key: Key[Array, ""], count: int) -> Key[Array, "count"]:
    """`jax.random.split(key, count)`, of which numbers up to the next power of two share a program."""
    data: Any = np.asarray(jax.random.key_data(jax.random.split(key, rounded_up(count, 0))))[:count]
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))


class Rows(NamedTuple):
    """Numbers of examples. The first `count` places hold them; what the others hold is never used."""

    index: Int[Array | np.ndarray, "*members places"]  # pyright: ignore[reportIncompatibleMethodOverride]
    count: Int[Array | np.ndarray, "*members"]  # pyright: ignore[reportIncompatibleMethodOverride]

    def numbers(self) -> Int[np.ndarray, "count"]:
        """The numbers, of one network, on the host."""
        return np.asarray(self.index)[: int(self.count)]


def split(
    key: Key[Array, ""], count: int, fraction: float, classes: Int[Array | np.ndarray, "count"] | None = None
) -> tuple[Int[Array | np.ndarray, "train"], Int[Array | np.ndarray, "held_out"]]:
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
    size = rounded_up(count, COARSE, LEAST)
    xp: Any = jnp if is_traced(key, classes) else np  # where nothing has to be compiled for each number of examples
    given = None if classes is None else xp.pad(xp.asarray(classes), (0, size - count))
    train, validation = _split_places(key, count, held_out, (size, size), size, given)
    return xp.asarray(train.index)[: count - held_out], xp.asarray(validation.index)[:held_out]


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
        line = line[in_order(jnp.where(place < count, jnp.asarray(classes)[line], -1).astype(np.uint32))]
        start = jax.random.bits(jax.random.fold_in(key, 1)) % jnp.asarray(count, np.uint32)
        rest = (_times_modulo(place, held_out, count) + start.astype(int)) % count
        out = rest + held_out >= count
    rank = jnp.where(place < count, jnp.where(out, 2, 1), 3).astype(np.uint32)  # 1: to train on, 2: held out, 3: none
    train = line[in_order(rank, 2)][: places[0]]
    validation = line[in_order(jnp.where(rank == 2, 0, rank), 2)][: places[1]]
    return Rows(train, jnp.asarray(count - held_out, int)), Rows(validation, jnp.asarray(held_out, int))


_split_places = jax.jit(split_places, static_argnames=("places", "size"))


def _times_modulo(i: Int[Array, "size"], h: Any, n: Any) -> Int[Array, "size"]:
    """i h mod n for i < n < 2³⁰ without larger numbers, by doubling and adding."""

    def double_and_add(bit: Array, r: Array) -> Array:
        r = (2 * r) % n
        return jnp.where((jnp.asarray(h) >> (29 - bit)) & 1, (r + i) % n, r)

    return jax.lax.fori_loop(0, 30, double_and_add, jnp.zeros_like(i))


def shuffled(key: Key[Array, ""], size: int, count: Any = None) -> Int[Array, "size"]:
    """0, ..., count − 1 in random order, that of as many random numbers; then count, ..., size − 1."""
    return in_order(random_numbers(key, size, count), MOST_BITS if size > 2048 else LEAST_BITS)


def random_numbers(key: Key[Array, ""], size: int, count: Any = None) -> UInt32[Array, "size"]:
    """Random numbers for the first `count` of `size` places; the others, which come last, get the largest there is.

    The numbers have 21 to 31 bits, so many that hardly any are equal: of up to 2¹⁶ examples one pair at most is to be
    expected (of 100 examples in one order of 400), of a million 233; these keep their order. The order of the first
    does not depend on `size`.
    """
    count = jnp.asarray(size if count is None else count, np.uint32)
    length = 32 - jax.lax.clz(count - 1).astype(np.int32)
    bits = jnp.clip(2 * length - 1, LEAST_BITS, MOST_BITS).astype(np.uint32)
    drawn = jax.random.bits(key, (size,), np.uint32) >> (32 - bits)
    return jnp.where(jnp.arange(size, dtype=np.uint32) < count, drawn, (np.uint32(1) << bits) - 1)


LEAST_BITS, MOST_BITS = 21, 31
"""Of a random number that puts examples in order. Up to 2,048 examples need no more than the least."""


A = TypeVar("A", Array, np.ndarray)


def in_order(numbers: A, bits: int = 32) -> A:
    """A stable argsort of uint32 numbers with at most so many bits.

    Number and place are sorted as one, on CPUs in a third to a fifth of the time that XLA takes for two; NumPy's, for
    what lies on the host, takes a fifth of that again.
    """
    own = (len(numbers) - 1).bit_length()  # bits of a place
    word: Any = np.uint32 if bits + own <= 32 else np.uint64
    if isinstance(numbers, np.ndarray):
        line = np.sort((numbers.astype(word) << word(own)) | np.arange(len(numbers), dtype=word))
        return (line & word((1 << own) - 1)).astype(int)
    with jax.enable_x64(True):
        line = jax.lax.sort((numbers.astype(word) << word(own)) | jnp.arange(len(numbers), dtype=word))
        places = (line & word((1 << own) - 1)).astype(np.uint32)
    return places.astype(int)


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
