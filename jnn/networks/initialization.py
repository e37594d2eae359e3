"""How weights are drawn at first: small, and the smaller the more of them a neuron sums.

With inputs of unit variance, weights of standard deviation gain / √fan-in keep the variance of `a` near gain², where
sigmoids are neither linear nor saturated (LeCun et al., Efficient BackProp, 1998: gain 1) and where a rectifier, which
drops half of it, passes the variance on (He et al., 2015: gain √2). Each activation names its gain.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jnn.checks import number


@runtime_checkable
class Initializer(Protocol):
    """Draws weights of the given shape; `fan_in` and `gain` are scalars or one value a weight."""

    def __call__(self, key: Key[Array, ""], shape: tuple[int, ...], fan_in: Any, gain: Any, dtype: Any) -> Array:
        """Draw the weights."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Independent(Initializer):
    """Draws each weight by itself, uniform within ± width or normal with that standard deviation."""

    uniform: bool = field(metadata={"static": True})
    width: Any = None  # None: such that the standard deviation is gain / √fan-in

    def __call__(self, key: Key[Array, ""], shape: tuple[int, ...], fan_in: Any, gain: Any, dtype: Any) -> Array:
        if self.width is not None:
            if np.ndim(self.width):
                raise ValueError(f"expected one number for an initializer, got shape {np.shape(self.width)}")
            width = jnp.asarray(self.width, dtype)
        else:
            width = jnp.asarray(gain / jnp.sqrt(jnp.asarray(fan_in)), dtype)
            width = width * np.sqrt(3).astype(dtype) if self.uniform else width
        unit = jax.random.uniform(key, shape, dtype, -1, 1) if self.uniform else jax.random.normal(key, shape, dtype)
        return unit * width


fan_in_normal: Initializer = _Independent(uniform=False)
"""Normal with standard deviation gain / √fan-in (LeCun et al. 1998; He et al. 2015)."""

fan_in_uniform: Initializer = _Independent(uniform=True)
"""Uniform with standard deviation gain / √fan-in, so within ± gain √(3 / fan-in)."""


def uniform(bound: Any) -> Initializer:
    """Uniform within ± bound, a leaf of a pytree, whatever the fan-in (Proben1 draws within ± 0.01)."""
    return _Independent(uniform=True, width=number("bound", bound, "a number ≥ 0", lambda x: x >= 0))


def normal(deviation: Any) -> Initializer:
    """Normal with the given standard deviation, a leaf of a pytree, whatever the fan-in."""
    return _Independent(uniform=False, width=number("deviation", deviation, "a number ≥ 0", lambda x: x >= 0))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _NguyenWidrow(Initializer):
    """Draws hidden neurons' weights and biases together."""

    def __call__(self, key: Key[Array, ""], shape: tuple[int, ...], fan_in: Any, gain: Any, dtype: Any) -> Array:
        """Of linear outputs: as many others do."""
        return fan_in_normal(key, shape, fan_in, gain, dtype)

    def layer(
        self, key: Key[Array, ""], shape: tuple[int, int], gain: Any, dtype: Any
    ) -> tuple[Float[Array, "_ size"], Float[Array, "size"]]:
        """A hidden layer's weights and biases."""
        fan_in, size = shape
        directions = jax.random.normal(key, shape, dtype)
        reach = gain * 0.7 * size ** (1 / fan_in)
        weights = reach * directions / jnp.linalg.norm(directions, axis=0, keepdims=True)
        return weights, reach * np.linspace(-1, 1, size).astype(dtype) * jnp.sign(directions[0])


nguyen_widrow: Initializer = _NguyenWidrow()
r"""Hidden neurons spread over inputs within ±1, each active in a part of them of its own (Nguyen, Widrow, 1990).

The n weights of each of a layer's H neurons point anywhere, with the norm β = gain · 0.7 H^(1/n), and the biases are
spaced evenly from −β to β, where others let all neurons be active at 0. For Levenberg-Marquardt above all: from biases
of 0 it may take fifty times as many steps. Outputs are drawn by `fan_in_normal`. For layers (`mlp`), not for a `dag`.
"""


def draw_layers(
    initializer: Initializer, key: Key[Array, ""], layers: Sequence[tuple[tuple[int, int], int, float]], dtype: Any
) -> list[tuple[Float[Array, "_ _"], Any]]:
    """The weights of layers, each given by its shape (fan-in, size), its fan-in, and its activation's gain; and what is
    to be added to their biases. The last layer is that of the outputs.
    """
    if not isinstance(initializer, _Independent):
        keys = jax.random.split(key, len(layers))
        each = [(k, layer) for k, layer in zip(keys, layers, strict=True)]
        if isinstance(initializer, _NguyenWidrow):
            hidden = [initializer.layer(k, shape, gain, dtype) for k, (shape, _, gain) in each[:-1]]
            return [*hidden, (initializer(each[-1][0], *each[-1][1], dtype), 0)]
        return [(initializer(k, *layer, dtype), 0) for k, layer in each]
    # All layers' at once, which compiles faster.
    shapes, *others = zip(*layers, strict=True)
    sizes = [math.prod(shape) for shape in shapes]
    wide = np.promote_types(dtype, np.float32)
    fan_in, gain = (
        jnp.concatenate([jnp.full(size, value, wide) for size, value in zip(sizes, values, strict=True)])
        for values in others
    )
    drawn = initializer(key, (sum(sizes),), fan_in, gain, dtype)
    parts = jnp.split(drawn, np.cumsum(sizes)[:-1])
    return [(part.reshape(shape), 0) for part, shape in zip(parts, shapes, strict=True)]
