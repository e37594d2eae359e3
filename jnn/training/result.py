"""What training returns."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.core
import numpy as np
from jaxtyping import Array, Float, Int

from jnn.networks import Params
from jnn.training.program import DIVERGED, RUNNING, Settings, State, reasons


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class History:
    """Risks per example, epoch after epoch; NaN for epochs that were not run, or that had no validation.

    Attributes:
        train_error: E / N over the epoch's examples, each as it was met, so before its own update.
        validation_error: E / N over the validation examples after the epoch.
    """

    train_error: Float[Array, "*members epochs"]
    validation_error: Float[Array, "*members epochs"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FitResult:
    """A trained network and how it came about. A pytree, so that it leaves `vmap` and `jit`.

    Attributes:
        params: the hypothesis with the lowest validation risk; without validation the last one.
        last_params: the last hypothesis (the last finite one if training diverged).
        history: risks by epoch.
        epochs: number of epochs run.
        best_epoch: the epoch whose hypothesis `params` is.
        best_validation_error: the lowest validation risk; inf without validation.
        code: why it stopped, as a number that survives `vmap`; see `stop_reason`.
        state: all that is needed to go on: pass the result as `fit(..., resume=result)`.
    """

    params: Params
    last_params: Params
    history: History
    epochs: Int[Array, "*members"]
    best_epoch: Int[Array, "*members"]
    best_validation_error: Float[Array, "*members"]
    code: Int[Array, "*members"]
    state: State
    reasons: tuple[str, ...] = field(metadata={"static": True})
    interruption: str | None = field(default=None, metadata={"static": True})

    @property
    def stop_reason(self) -> Any:
        """Why training stopped, in words; for a batch of results a NumPy array of them."""
        if isinstance(self.code, jax.core.Tracer):
            raise ValueError("stop_reason needs values; inside jit or vmap use `code`, and read it outside")
        words = np.array(self.reasons)[np.asarray(self.code)]
        if np.ndim(words):
            return words
        return self.interruption if self.interruption and int(self.code) == RUNNING else str(words)

    @property
    def diverged(self) -> Any:
        """Whether the error or a parameter became infinite or NaN."""
        return self.code == DIVERGED


def as_result(settings: Settings, state: State, interruption: str | None = None) -> FitResult:
    """What a state says to the user; of a batch of states, a batch of results."""
    return FitResult(
        params=state.best_params,
        last_params=state.params,
        history=History(state.train_error, state.validation_error),
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        best_validation_error=state.best_error,
        code=state.code,
        state=state,
        reasons=reasons(settings),
        interruption=interruption,
    )
