"""What training returns."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jnn.networks import Params
from jnn.training.observers import Divergence
from jnn.training.program import DIVERGED, FIRST_RULE, RUNNING, State
from jnn.training.structure import is_traced, restored

Values = Float[Array | np.ndarray, "..."]


class History(NamedTuple):
    """Risks per example, epoch after epoch; NaN for epochs that were not run, or that had no validation."""

    train_error: Values
    """E / N over each epoch's examples, each as it was met, so before its own update: `(*members, limit)`."""
    validation_error: Values
    """E / N over the validation examples after each epoch: `(*members, limit)`."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FitResult:
    """A trained network and how it came about. A pytree, so that it leaves `vmap` and `jit`.

    Attributes:
        state: all that is needed to go on: pass the result as `fit(..., resume=result)`.
        rules: the stopping rules, as the program took them.
        limit: the most epochs.
        interruption: who interrupted training, or None.
    """

    state: State
    rules: tuple[Any, ...]
    limit: int = field(metadata={"static": True})
    interruption: str | None = field(default=None, metadata={"static": True})

    @property
    def params(self) -> Params:
        """The hypothesis with the lowest validation risk; without validation the last one."""
        return self.state.best.params

    @property
    def last_params(self) -> Params:
        """The last hypothesis (the last finite one if training diverged)."""
        return self.state.params

    @property
    def history(self) -> History:
        """Risks by epoch."""
        train, validation, validated = self.state.record
        xp: Any = jnp if is_traced(self.state) else np  # NumPy has no program to compile for another limit

        epochs = xp.asarray(self.epochs)[..., None]
        run = np.arange(self.limit).reshape((1,) * (epochs.ndim - 1) + (-1,)) < epochs

        def shown(values: Any, there: Any) -> Any:
            values = xp.asarray(values)[..., : self.limit]
            return xp.where(there, values, xp.asarray(np.nan, values.dtype))

        return History(shown(train, run), shown(validation, run & xp.asarray(validated)[..., : self.limit]))

    @property
    def epochs(self) -> Int[Array | np.ndarray, "*members"]:
        """The number of epochs run."""
        return self.state.epoch

    @property
    def best_epoch(self) -> Int[Array | np.ndarray, "*members"]:
        """The epoch whose hypothesis `params` is."""
        return self.state.best.epoch

    @property
    def best_validation_error(self) -> Values:
        """The lowest validation risk; inf without validation."""
        error, known = self.state.best.error, self.state.best.validated
        xp: Any = jnp if is_traced(error) else np
        return xp.where(known, error, xp.asarray(np.inf, error.dtype))

    @property
    def code(self) -> Int[Array | np.ndarray, "*members"]:
        """Why training stopped, as a number that survives `vmap`; see `stop_reason`."""
        return self.state.code

    @property
    def diverged(self) -> Bool[Array | np.ndarray, "*members"]:
        """Whether the error or a parameter became infinite or NaN."""
        return self.code == DIVERGED if is_traced(self.code) else np.asarray(np.asarray(self.code) == DIVERGED)

    @property
    def stop_reason(self) -> Any:
        """Why training stopped, in words; for a batch of results a NumPy array of them."""
        if is_traced(self.code):
            raise ValueError("stop_reason needs values; inside jit or vmap use `code`, and read it outside")
        codes, epochs = np.asarray(self.code), np.asarray(self.epochs)
        if codes.ndim == 0:
            return self._reason(int(codes), int(epochs), ())
        return np.array([self._reason(int(codes[i]), int(epochs[i]), i) for i in np.ndindex(codes.shape)]).reshape(
            codes.shape
        )

    def __repr__(self) -> str:
        """How long, why it ended and how good it became, in a line; the numbers themselves are in the attributes."""
        if not isinstance(self.state.code, (np.generic, np.ndarray, jax.Array)) or is_traced(self.state):
            return "FitResult(of values not known yet)"
        epochs = np.asarray(self.epochs)
        parts = [f"{_range(epochs)} epochs" + ("" if epochs.ndim else f", since {self.stop_reason}")]
        if epochs.ndim:
            parts.insert(0, f"{epochs.size} members")
        if lost := int(np.sum(self.diverged)):
            parts += [f"{lost} diverged"] * (epochs.ndim > 0)
        if np.isfinite(risk := np.asarray(self.best_validation_error)).all() and risk.size:
            parts.append(f"validation risk {_range(risk)}" + ("" if epochs.ndim else f" in epoch {self.best_epoch}"))
        return f"FitResult({'; '.join(parts)})"

    def _reason(self, code: int, epochs: int, member: tuple[int, ...]) -> str:
        if code == DIVERGED:
            return Divergence.reason
        if code >= FIRST_RULE:
            own = jax.tree.map(lambda leaf: leaf[member] if np.ndim(leaf) else leaf, self.rules)
            return restored(own)[code - FIRST_RULE].reason
        if self.interruption and code == RUNNING:
            return self.interruption
        return f"all {self.limit} epochs were run" if epochs >= self.limit else "interrupted"


def _range(values: np.ndarray) -> str:
    """The lowest and the highest, or the one."""
    lowest, highest = (f"{value:.4g}" for value in (values.min(), values.max()))
    return lowest if lowest == highest else f"{lowest} to {highest}"
