"""What users pass, checked where it comes in: errors say what was expected, what came, and what to do.

Only shapes and dtypes of traced values are looked at, so inside a compiled program nothing of this takes time.
"""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

NATIVE = np.dtype(np.float64).itemsize
"""Wider floating-point numbers are for NumPy alone."""


def real_array(x: Any, name: str, remedy: str | None = None) -> Any:
    """`x` as an array of real numbers in the machine's own order of bytes, whatever has rows and columns.

    JAX arrays stay as they are, and anything else becomes a NumPy array.

    Raises:
        TypeError: if these are no real numbers.
        ValueError: if they are none that fill an array, or some are masked.
    """
    if isinstance(x, jax.Array):
        return _real(x, name, remedy)
    if hasattr(x, "toarray"):
        raise TypeError(f"expected {name} as a dense array, got a sparse {type(x).__name__}; use .toarray()")
    if np.ma.is_masked(x):
        raise ValueError(f"expected {name} without missing entries, got a masked array; remove or impute them")
    try:
        array = np.asarray(x)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"expected {name} as an array, got a ragged or nested {type(x).__name__}; "
            "give every row equally many entries"
        ) from error
    if array.dtype == object and not any(value is None for value in array.flat):
        array = _of_objects(array)  # tables of several dtypes, pandas' own dtypes for numbers that may be missing
    array = _real(array, name, remedy)
    if array.dtype.byteorder not in "=|":
        array = array.astype(array.dtype.newbyteorder("="))
    return array.astype(np.float64) if array.dtype.kind == "f" and array.dtype.itemsize > NATIVE else array


def _of_objects(array: np.ndarray) -> np.ndarray:
    if any(isinstance(value, (str, bytes)) for value in array.flat):
        return array
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        return array


REMEDIES = {"c": "pass real and imaginary parts", "M": "subtract a date, and divide", "m": "divide by a duration"}


def _real(array: Any, name: str, remedy: str | None) -> Any:
    if jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.kind in "iub":
        return array
    first = ""
    if not isinstance(array, jax.Array) and array.size:
        first = f" (the first is {array.flat[0]!r:.60})"
    remedy = REMEDIES.get(array.dtype.kind, remedy or "encode categories first")
    raise TypeError(f"expected {name} of real numbers, got dtype {array.dtype}{first}; {remedy}")


def floats(x: Any, name: str, dtype: Any = None) -> jax.Array:
    """`x` as a JAX array of floating-point numbers: in its own dtype; integers in `dtype`, or JAX's default one."""
    array = real_array(x, name)
    wanted = array.dtype if jnp.issubdtype(array.dtype, jnp.floating) else dtype or jnp.result_type(float)
    if isinstance(array, jax.Array):
        return array if array.dtype == wanted else array.astype(wanted)
    with np.errstate(over="ignore"):  # infinite, in JAX's precision
        return jax.device_put(array.astype(jax.dtypes.canonicalize_dtype(wanted)))


def is_floating(leaf: Any) -> bool:
    """Whether a compiled program takes it for floating-point numbers; NumPy's subclasses it does not."""
    if isinstance(leaf, np.ndarray):
        strange = isinstance(leaf, (np.matrix, np.ma.MaskedArray)) or not leaf.dtype.isnative
        return not strange and leaf.dtype.itemsize <= NATIVE and jnp.issubdtype(leaf.dtype, jnp.floating)
    kinds = (jax.Array, jax.ShapeDtypeStruct, np.floating, float)
    return isinstance(leaf, kinds) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def check_floating(tree: Any, what: str) -> None:
    """TypeError unless all leaves of a tree are floating-point numbers."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if not is_floating(leaf):
            name = jax.tree_util.keystr(path) or "the only leaf"
            raise TypeError(
                f"expected {what} of a real floating-point dtype, got {getattr(leaf, 'dtype', type(leaf).__name__)} "
                f"at {name}; convert it, or keep what is not trained out of the tree (optax.masked)."
            )


def example_weights(weights: Any, shape: tuple[int, ...], dtype: Any, which: str = "") -> Any:
    """Weights for the examples (the last axis of `shape`), or for each member as well: finite, ≥ 0, not all zero."""
    if weights is None:
        return None
    weights = real_array(weights, f"{which}weights")
    if weights.shape not in (shape, shape[-1:]):
        raise ValueError(f"expected {which}weights of shape {shape}, got {weights.shape}")
    if isinstance(weights, jax.core.Tracer):
        return weights.astype(dtype)
    values = np.asarray(weights, np.float64)
    with np.errstate(over="ignore"):
        total = values.sum(axis=-1, dtype=dtype)
    if not (np.isfinite(values).all() and (values >= 0).all() and np.isfinite(total).all() and (total > 0).all()):
        raise ValueError(
            f"expected {which}weights that are finite, ≥ 0 and not all zero, of a finite sum, got sum {total}; "
            "leave out examples that do not count, or scale the weights"
        )
    return values.astype(dtype)


def number(name: str, value: Any, expected: str, holds: Callable[[Any], Any]) -> Any:
    """A number, or an array of them, in floating point; of a traced one only the dtype is checked.

    Raises:
        TypeError: if it is none.
        ValueError: if it, or one of them, is not finite or not as it should be.
    """
    numeric = isinstance(value, int | float | np.generic | np.ndarray | jax.Array)
    try:
        kind = jnp.result_type(value) if numeric else bool
    except (TypeError, OverflowError):  # of a dtype that JAX does not know; of an integer that it cannot hold
        kind = bool
    if not (jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)):
        raise TypeError(f"expected {name} to be {expected}, got {value!r}.")
    if not isinstance(value, jax.core.Tracer):
        numbers = np.asarray(value, np.float64)
        if not (np.isfinite(numbers).all() and all(holds(x) for x in numbers.flat)):
            raise ValueError(f"expected {name} to be {expected}, got {value}.")
    if isinstance(value, int | float | np.number):
        return float(value)
    return jnp.asarray(value, float) if jnp.issubdtype(kind, jnp.integer) else value


def one_number(name: str, value: Any, expected: str, holds: Callable[[Any], Any]) -> Any:
    """As `number`, and ValueError if there are several."""
    found = number(name, value, expected, holds)
    if np.ndim(found):
        raise ValueError(f"expected one number for {name}, got shape {np.shape(found)}; vmap over several.")
    return found


def count(name: str, value: Any, least: int = 1) -> int:
    """An integer of at least `least`, as a Python one; ValueError for anything else."""
    try:
        found = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        found = None
    if found is None or found < least:
        raise ValueError(f"expected {name} as an integer of at least {least}, got {value!r}")
    return found


def one_key(key: Any) -> jax.Array:
    """TypeError unless `key` is one typed key."""
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0):
        raise TypeError(f"expected one typed key, as from jax.random.key(seed), got {key!r}; vmap over several")
    return key
