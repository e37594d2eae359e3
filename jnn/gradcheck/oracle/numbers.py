"""Arrays as float64, and the spacing of a dtype's numbers."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

EPS64 = float(np.finfo(np.float64).eps)
PART = 1 << 16
"""Large leaves are judged in parts of so many elements, so that temporary arrays stay small."""


def real_dtype(dtype: Any) -> np.dtype:
    """The dtype of the real and imaginary parts."""
    dtype = np.dtype(dtype)
    if np.issubdtype(dtype, np.complexfloating):
        return np.dtype(np.float32 if dtype == np.complex64 else np.float64)
    return dtype


def eps_of(dtype: Any) -> float:
    """The spacing at one."""
    return float(jnp.finfo(real_dtype(dtype)).eps)


def tiny_of(dtype: Any) -> float:
    """The smallest normal number."""
    return float(jnp.finfo(real_dtype(dtype)).tiny)


def reals(array: object) -> np.ndarray:
    """An array as float64; the parts of a complex one along a new last axis."""
    array = np.asarray(array)
    if np.issubdtype(array.dtype, np.complexfloating):
        return np.stack([np.real(array), np.imag(array)], axis=-1).astype(np.float64, copy=False)
    return array.astype(np.float64, copy=False)


def ulp(values: np.ndarray, dtype: Any) -> np.ndarray:
    """The spacing of the dtype's numbers at |values|, that of its smallest normal number below that."""
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(np.where(np.isfinite(values), values, 0.0)), tiny_of(dtype))
        return eps_of(dtype) * 2.0 ** np.floor(np.log2(size))


def parts(size: int) -> Iterator[slice]:
    """Slices of at most `PART` that cover so many elements."""
    for start in range(0, size, PART):
        yield slice(start, start + PART)


def largest(values: np.ndarray) -> float:
    """The largest finite magnitude; 0 where there is none."""
    found = 0.0
    for place in parts(values.size):
        part = values[place]
        found = max(found, float(np.max(np.abs(part[np.isfinite(part)]), initial=0.0)))
    return found
