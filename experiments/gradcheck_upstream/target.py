"""What is checked: a public function of a library, and the inputs at which it is tried."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

f32, bf16 = jnp.float32, jnp.bfloat16

Make = Callable[[], tuple[Any, ...]]


class OutsideError(Exception):
    """The value is not finite at these inputs."""


class UnsupportedError(Exception):
    """The function does not take these inputs."""


@dataclass(frozen=True)
class Target:
    """A function `name`, as a function of arrays, and by label the arguments at which it is tried.

    `rules` names the custom rules inside, where they were looked for; `check` are further arguments of the check;
    `within` makes a context in which all is run.
    """

    name: str
    fun: Callable[..., Any]
    inputs: Mapping[str, Make]
    rules: tuple[str, ...] = ()
    check: Mapping[str, Any] = field(default_factory=dict)
    within: Callable[[], AbstractContextManager[Any]] = nullcontext


def normal(seed: int, *shape: int, scale: float = 1.0, dtype: Any = f32) -> jax.Array:
    """Standard normal numbers times `scale`."""
    return jnp.asarray((np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32), dtype)


def uniform(seed: int, *shape: int, low: float = 0.0, high: float = 1.0, dtype: Any = f32) -> jax.Array:
    """Uniform numbers."""
    return jnp.asarray(np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32), dtype)


def integers(seed: int, high: int, *shape: int) -> jax.Array:
    """Integers below `high`."""
    return jnp.asarray(np.random.default_rng(seed).integers(0, high, shape).astype(np.int32))


def spd(seed: int, n: int) -> jax.Array:
    """A symmetric positive definite matrix."""
    a = np.random.default_rng(seed).standard_normal((n, n))
    return jnp.asarray((a @ a.T / n + 0.5 * np.eye(n)).astype(np.float32))


def vector(*values: float, dtype: Any = f32) -> jax.Array:
    """These numbers."""
    return jnp.asarray(np.asarray(values, np.float64).astype(np.float32), dtype)


def at(**inputs: Any) -> dict[str, Make]:
    """Inputs by label: a tuple of arguments, or one argument."""
    return {name: (lambda v=value: v if isinstance(v, tuple) else (v,)) for name, value in inputs.items()}


def elementwise(low: float, high: float, n: int = 5) -> dict[str, Make]:
    """A vector between `low` and `high`, and one close to both ends."""
    near = np.asarray([low + 0.02 * (high - low), high - 0.02 * (high - low)])
    inside = np.linspace(low, high, n + 2)[1:-1] * 1.003
    return at(inside=vector(*inside), ends=vector(*near))
