"""What watches every training: the record of its risks, its best hypothesis, and whether it diverged.

They are observers like the stopping rules (`jnn.training.stopping`), and see what those see.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jnn.training.stopping import Observation, Observer


class Recorded(NamedTuple):
    """Risks by epoch, in arrays with room for more; what was not observed is 0."""

    train_error: Float[Array, "room"]
    validation_error: Float[Array, "room"]
    validated: Bool[Array, "room"]


class Record(Observer):
    """Writes down the risks."""

    def __init__(self, room: int) -> None:
        self.room = room

    def init(self, dtype: Any) -> Recorded:
        return Recorded(jnp.zeros(self.room, dtype), jnp.zeros(self.room, dtype), jnp.zeros(self.room, bool))

    def update(self, state: Recorded, seen: Observation) -> tuple[Recorded, Bool[Array, ""]]:
        """Write in the epoch's place; of a network that has ended, beyond the end, where nothing is written."""
        place = jnp.where(seen.active, seen.epoch - 1, self.room)

        def put(array: Array, value: Any) -> Array:
            return array.at[place].set(jnp.asarray(value, array.dtype), mode="drop")

        validation = jnp.where(seen.validated, seen.validation_error, 0)
        new = (put(state.train_error, seen.train_error), put(state.validation_error, validation))
        return Recorded(*new, put(state.validated, seen.validated)), jnp.asarray(False)


class Best(NamedTuple):
    """The best hypothesis: parameters, validation risk, epoch, and whether anything was validated."""

    params: Any
    error: Float[Array, ""]
    epoch: Int[Array, ""]
    validated: Bool[Array, ""]


class KeepBest(Observer):
    """Keeps the hypothesis of the lowest validation risk; until something has been validated, the newest.

    Source: slide "Early stopping".
    """

    def __init__(self, first: Any) -> None:
        self.first = first

    def init(self, dtype: Any) -> Best:
        return Best(self.first, jnp.zeros((), dtype), jnp.zeros((), int), jnp.asarray(False))

    def update(self, state: Best, seen: Observation) -> tuple[Best, Bool[Array, ""]]:
        """Take the newest hypothesis if it is better, or nothing is known of either."""
        lower = seen.validated & (~state.validated | (seen.validation_error < state.error))
        good = jnp.asarray(seen.finite & seen.active)
        take = good & (lower | ~(state.validated | seen.validated))
        return Best(
            params=jax.tree.map(lambda new, old: jnp.where(take, new, old), seen.hypothesis, state.params),
            error=jnp.where(good & lower, seen.validation_error, state.error),
            epoch=jnp.where(take, seen.epoch, state.epoch),
            validated=state.validated | (good & seen.validated),
        ), jnp.asarray(False)


class Divergence(Observer):
    """Stops when an error or a parameter is NaN or infinite."""

    reason = "the training error, the validation risk or a parameter became NaN or infinite"

    def init(self, dtype: Any) -> tuple[()]:
        return ()

    def update(self, state: tuple[()], seen: Observation) -> tuple[tuple[()], Bool[Array, ""]]:
        return state, ~jnp.asarray(seen.finite)
