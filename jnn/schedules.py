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


cosine = Cosine
inverse_scaling = InverseScaling
