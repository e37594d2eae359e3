"""Learning rates that change from update to update, as pytrees of their numbers.

    jnn.adam(jnn.schedules.cosine(0.01, updates=2000))

A schedule is called with the number t = 0, 1, ... of updates made so far. Its numbers are leaves, as an optimizer's
are, so that another one needs no other program. Any function will do as well (optax's schedules); it is then a part of
the program's structure, equal to itself only. A function of one's own gets leaves from `jax.tree_util.Partial`:
`Partial(lambda rate, count: rate / (count + 1), 0.1)`.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jnn.checks import number


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cosine:
    """η_t = η₀ (r + (1 − r) (1 + cos(π min(t / T, 1))) / 2): from η₀ along a half-wave to r η₀.

    Source: Loshchilov, Hutter, "SGDR", ICLR 2017, equation 5.
    """

    learning_rate: Any  # η₀
    updates: Any  # T
    final: Any = 0.0  # r

    def __call__(self, count: Int[Array, ""]) -> Float[Array, ""]:
        """η_t."""
        done = jnp.minimum(count / self.updates, 1.0)
        return self.learning_rate * (self.final + (1 - self.final) * 0.5 * (1 + jnp.cos(jnp.pi * done)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class InverseScaling:
    """η_t = η₀ / (n + 1)^p, n = ⌊t / s⌋ s B the examples seen up to the last epoch's end.

    Source: scikit-learn, `learning_rate="invscaling"`.
    """

    learning_rate: Any  # η₀
    power: Any  # p
    steps: Any  # s, updates an epoch
    batch_size: Any  # B, examples an update

    def __call__(self, count: Int[Array, ""]) -> Float[Array, ""]:
        """η_t."""
        seen = count // jnp.asarray(self.steps, int) * jnp.asarray(self.steps * self.batch_size, int)
        return self.learning_rate / (seen + 1.0) ** self.power


def cosine(learning_rate: Any, updates: Any, final: Any = 0.0) -> Cosine:
    """`Cosine` of numbers that are checked: η₀ ≥ 0, T > 0, r ≥ 0."""
    return Cosine(
        number("learning_rate", learning_rate, "a number ≥ 0", lambda x: x >= 0),
        number("updates", updates, "a number > 0", lambda x: x > 0),
        number("final", final, "a number ≥ 0", lambda x: x >= 0),
    )


def inverse_scaling(learning_rate: Any, power: Any, steps: Any, batch_size: Any) -> InverseScaling:
    """`InverseScaling` of numbers that are checked: η₀ ≥ 0, p ≥ 0, and s and B of at least 1."""
    return InverseScaling(
        number("learning_rate", learning_rate, "a number ≥ 0", lambda x: x >= 0),
        number("power", power, "a number ≥ 0", lambda x: x >= 0),
        *(number(name, value, "a number ≥ 1", lambda x: x >= 1)
          for name, value in (("steps", steps), ("batch_size", batch_size))),
    )  # fmt: skip
