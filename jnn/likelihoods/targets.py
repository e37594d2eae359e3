"""Host-side checks of targets: each error says what was expected, what came, and what to do."""

from collections.abc import Sequence

import jax
import jax.core
import jax.dtypes
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Bool

from jnn.checks import real_array


def as_targets(y: ArrayLike | Sequence, name: str) -> np.ndarray | Array:
    """Return y as a NumPy array (a tracer as itself), or raise if it is empty, not numeric, or not finite."""
    remedy = "encode labels with OneHot.fit(labels).indices(labels), or convert with y.astype(float)"
    array = real_array(y, name, remedy)
    array = array if isinstance(array, jax.core.Tracer) else np.asarray(array)
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one example, got an empty array of shape {array.shape}")
    if isinstance(array, np.ndarray) and is_real_float(array):
        reject(array, ~np.isfinite(array), name, "finite numbers", "remove those examples")
    return array


def is_real_float(y: np.ndarray | Array) -> bool:
    """Say whether y has a floating-point dtype (bfloat16 and its kin, which NumPy does not know, included)."""
    return jnp.issubdtype(y.dtype, jnp.floating)


def check_shape(y: np.ndarray | Array, components: int, name: str) -> None:
    """Raise ValueError unless y is `(..., components)`; `(n,)` counts as one example, not as a column."""
    column = y.ndim == 1 and components == 1
    if y.ndim >= 1 and y.shape[-1] == components:
        return
    hint = "use y[:, None]: a column, one row per example" if column else "each row belongs to one example"
    if y.ndim == 1 and not column:
        hint += f", and needs {components} columns"
    raise ValueError(f"{name}: expected shape (..., {components}) for {components} outputs, got {y.shape}; {hint}")


def reject(
    y: np.ndarray | np.generic, bad: Bool[np.ndarray, "..."] | np.bool_, name: str, expected: str, remedy: str
) -> None:
    """Raise ValueError if any target is bad, naming the first."""
    if not np.any(bad):
        return
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    at = f"y[{', '.join(map(str, where))}]" if where else "y"
    found = f"{at} = {np.asarray(y)[where]} ({np.count_nonzero(bad)} such of {np.size(bad)})"
    raise ValueError(f"{name}: expected {expected}, got {found}; {remedy}")


def converted(y: np.ndarray | Array, name: str) -> Array:
    """Return y as a JAX array, or raise ValueError if a number is too large for JAX's precision."""
    if not isinstance(y, np.ndarray):
        return jnp.asarray(y)
    with np.errstate(over="ignore"):  # (jnp.asarray would compile something for every shape)
        result = jax.device_put(y.astype(jax.dtypes.canonicalize_dtype(y.dtype)))
    if is_real_float(y) and result.dtype != y.dtype:
        reject(y, ~np.isfinite(np.asarray(result)), name, f"numbers within {result.dtype}", "scale the targets")
    return result
