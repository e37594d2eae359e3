"""How weights are drawn at first: small, and the smaller the more of them a neuron sums.

With inputs of unit variance, weights of standard deviation gain / √fan-in keep the variance of `a` near gain², where
sigmoids are neither linear nor saturated (LeCun et al., Efficient BackProp, 1998: gain 1) and where a rectifier, which
drops half of it, passes the variance on (He et al., 2015: gain √2). Each activation names its gain.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key


@runtime_checkable
class Initializer(Protocol):
    """Draws weights of the given shape; `fan_in` and `gain` are scalars or one value a weight."""

    def __call__(self, key: Key[Array, ""], shape: tuple[int, ...], fan_in: Any, gain: Any, dtype: Any) -> Array:
        """Draw the weights."""
        ...


def _drawn(draw: Callable[..., Array], key: Key[Array, ""], shape: tuple[int, ...], *arguments: Any) -> Array:
    """What `draw` draws for the shape, drawn in one dimension, which compiles several times as fast, to the same."""
    return draw(key, (math.prod(shape),), *arguments).reshape(shape)


def _deviation(fan_in: Any, gain: Any, dtype: Any) -> Array:
    return jnp.asarray(np.asarray(gain) / np.sqrt(np.maximum(fan_in, 1)), dtype)


def fan_in_normal(
    key: Key[Array, ""], shape: tuple[int, ...], fan_in: Any, gain: Any, dtype: Any
) -> Float[Array, "..."]:
    """Normal with standard deviation gain / √fan-in (LeCun et al. 1998; He et al. 2015)."""
    return _drawn(jax.random.normal, key, shape, dtype) * _deviation(fan_in, gain, dtype)


def fan_in_uniform(
    key: Key[Array, ""], shape: tuple[int, ...], fan_in: Any, gain: Any, dtype: Any
) -> Float[Array, "..."]:
    """Uniform with standard deviation gain / √fan-in, so within ± gain √(3 / fan-in)."""
    half_width = _deviation(fan_in, gain, dtype) * np.sqrt(3).astype(dtype)
    return _drawn(jax.random.uniform, key, shape, dtype, -1, 1) * half_width


def uniform(bound: float) -> Initializer:
    """Uniform within ± bound, whatever the fan-in (Proben1 draws within ± 0.01)."""

    def draw(key: Key[Array, ""], shape: tuple[int, ...], fan_in: Any, gain: Any, dtype: Any) -> Array:
        del fan_in, gain
        return _drawn(jax.random.uniform, key, shape, dtype, -bound, bound)

    return draw


def normal(deviation: float) -> Initializer:
    """Normal with the given standard deviation, whatever the fan-in."""

    def draw(key: Key[Array, ""], shape: tuple[int, ...], fan_in: Any, gain: Any, dtype: Any) -> Array:
        del fan_in, gain
        return _drawn(jax.random.normal, key, shape, dtype) * jnp.asarray(deviation, dtype)

    return draw
