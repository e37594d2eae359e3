"""Random cotangents and tangents, each leaf's drawn from a seed of its own.

The seed of a leaf's numbers is derived from the user's seed, the purpose and the leaf's name, so that a leaf added to
the arguments changes no other leaf's directions.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jnn.gradcheck.oracle.problem import Leaf


def generator(seed: int, purpose: str, path: str) -> np.random.Generator:
    """The random numbers of one leaf for one purpose."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{path}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def signed(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, grain: float = 0.0, *, full: bool = False
) -> np.ndarray:
    """Numbers of either sign and of magnitude 0.5 to 1.5: none is small, none is constant.

    With the spacing `grain` of a coarse dtype, they are multiples of twice that: they and the sums of two of them are
    numbers of that dtype, and casts to it on their way change nothing; with `full` they have all digits of that dtype,
    so that sums of a few of them are not exact in it. (A fine dtype needs no grid, and without one a rule that rounds
    its cotangent without being asked to is seen.)
    """

    def drawn() -> Any:
        size = rng.uniform(0.5, 1.5, shape)
        if grain >= COARSE:
            unit = np.where(size < 1, 0.5 * grain, grain) if full else min(2 * grain, 0.5)
            size = np.round(size / unit) * unit
        return size * rng.choice([-1.0, 1.0], shape)

    values = drawn()
    if np.issubdtype(dtype, np.complexfloating):
        values = values + 1j * drawn()
    return np.asarray(values).astype(dtype)


COARSE = 2.0**-10
"""The spacing at one of float16."""


def border(shape: tuple[int, ...]) -> np.ndarray:
    """A mask of the first and the last index along every axis."""
    mask = np.zeros(shape, bool)
    for axis, n in enumerate(shape):
        if n:
            index: list[Any] = [slice(None)] * len(shape)
            for end in (0, n - 1):
                index[axis] = end
                mask[tuple(index)] = True
    return mask


def corners(shape: tuple[int, ...]) -> np.ndarray:
    """A mask of the very first and the very last element."""
    mask = np.zeros(int(np.prod(shape, dtype=np.int64)), bool)
    mask[:1] = mask[-1:] = True
    return mask.reshape(shape)


@dataclasses.dataclass(frozen=True)
class Probe:
    """One set of cotangents (or tangents), by leaf: arrays, or (of large ones) what makes them when they are needed."""

    name: str
    made: tuple[np.ndarray, ...] | Callable[[], tuple[np.ndarray, ...]]

    @property
    def values(self) -> tuple[np.ndarray, ...]:
        """The arrays."""
        return self.made() if callable(self.made) else self.made


LARGE = 200_000


def cotangents(outputs: Sequence[Leaf], seed: int, large: bool, grain: float = 0.0) -> list[Probe]:
    """The cotangents of a check: signed random ones, then sparse ones that isolate leaves, borders and elements."""
    total = sum(o.size for o in outputs)

    def drawn(name: str, mask: Callable[[int, Leaf], Any] = lambda k, o: True, *, full: bool = False) -> Probe:
        def values(o: Leaf) -> np.ndarray:
            return signed(generator(seed, "cotangent " + name, o.path), o.shape, o.dtype, grain, full=full)

        def made() -> tuple[np.ndarray, ...]:
            return tuple(np.where(mask(k, o), values(o), 0).astype(o.dtype) for k, o in enumerate(outputs))

        return Probe(name, made if large else made())

    probes = [drawn("random 1"), drawn("random 2", full=True)]
    if total == 1:
        first, second = probes
        flip = -1.0 if np.sign(np.real(first.values[0])) == np.sign(np.real(second.values[0])) else 1.0
        return [first, Probe(second.name, tuple(np.asarray(flip * v, v.dtype) for v in second.values))]
    if total <= 8:
        return probes + [
            drawn(f"only {o.path}{list(map(int, np.unravel_index(i, o.shape))) if o.shape else ''}",
                  lambda k, _, j=j, i=i: _only(outputs[k].shape, i) if k == j else False)
            for j, o in enumerate(outputs) for i in range(o.size)
        ]  # fmt: skip
    if 1 < len(outputs) <= 4 and not large:
        probes += [drawn(f"only {o.path}", lambda k, _, j=j: k == j) for j, o in enumerate(outputs)]
    probes.append(drawn("corners", lambda _, o: corners(o.shape)))
    if not large:
        probes.append(drawn("borders", lambda _, o: border(o.shape)))
    return probes


def _only(shape: tuple[int, ...], index: int) -> np.ndarray:
    mask = np.zeros(int(np.prod(shape, dtype=np.int64)), bool)
    mask[index] = True
    return mask.reshape(shape)


def tangents(inputs: Sequence[Leaf], seed: int, large: bool, grain: float = 0.0) -> list[Probe]:
    """The tangents of a check: one in all leaves, then one in each."""

    def drawn(name: str, mask: Callable[[int], bool]) -> Probe:
        values = [signed(generator(seed, "tangent", i.path), i.shape, i.dtype, grain) for i in inputs]
        return Probe(name, tuple(v if mask(k) else np.zeros_like(v) for k, v in enumerate(values)))

    probes = [drawn("all leaves", lambda k: True)]
    if len(inputs) > 1:
        probes += [drawn(f"only {i.path}", lambda k, j=j: k == j) for j, i in enumerate(inputs)]
    return probes


def varied(values: Sequence[Any], paths: Sequence[str], seed: int, round_: int, eps: float) -> list[Any]:
    """Arrays with every element changed by a random relative amount of at most eps (None stays None)."""
    changed = []
    for value, path in zip(values, paths, strict=True):
        if value is None:
            changed.append(None)
            continue
        rng = generator(seed, f"variation {round_}", path)
        array = np.asarray(value)
        factor = rng.uniform(-1, 1, array.shape)
        factor = 1 + np.multiply(factor, eps, out=factor if array.ndim else None)
        wide = array.astype(np.result_type(array.dtype, np.float64) if array.dtype.kind == "c" else np.float64)
        place = factor if array.ndim and wide.dtype == factor.dtype else None
        changed.append(np.multiply(wide, factor, out=place).astype(array.dtype, copy=False))
    return changed
