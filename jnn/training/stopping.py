"""When to stop: rules over what is observed after each epoch, as pure functions that compile into the training loop.

E_tr(t) and E_va(t) are the training and validation risks after epoch t (slide "Early stopping"). GL, P_k and PQ are
those of Prechelt, "Proben1" (1994) and "Early stopping - but when?" (1998); they are ratios, made for errors that are
positive, as the negative log-likelihoods of classes and counts and the sum-of-squares error are.
"""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Observation(NamedTuple):
    """What a rule sees after an epoch; the validation risk is NaN in epochs without validation."""

    epoch: Int[Array, ""]
    train_error: Float[Array, ""]
    validation_error: Float[Array, ""]
    gradient_norm: Float[Array, ""]


class StoppingRule(abc.ABC):
    """A rule with a state: `init` makes it, `update` takes it on by one epoch and says whether to stop."""

    needs_validation: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = False

    @abc.abstractmethod
    def init(self, dtype: Any) -> Any:
        """The state before the first epoch."""

    @abc.abstractmethod
    def update(self, state: Any, seen: Observation) -> tuple[Any, Bool[Array, ""]]:
        """The state after the epoch, and whether to stop."""

    @property
    @abc.abstractmethod
    def reason(self) -> str:
        """Why training stopped, if by this rule."""


def _positive(value: float | int, name: str) -> None:
    if not value > 0:
        raise ValueError(f"expected {name} > 0, got {value}")


def _positive_integer(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"expected {name} as an integer of at least 1, got {value!r}")


@dataclass(frozen=True)
class Patience(StoppingRule):
    """Stop when the lowest risk so far is `epochs` epochs old.

    Only a risk lower than the lowest by more than `min_delta` counts as lower. An epoch without validation decides
    nothing.

    Args:
        epochs: how long to wait.
        min_delta: what counts as an improvement.
        monitor: "validation" or "train".
    """

    epochs: int = 20
    min_delta: float | int = 0.0
    monitor: Literal["validation", "train"] = "validation"

    def __post_init__(self) -> None:
        _positive_integer(self.epochs, "epochs")
        if self.monitor not in ("validation", "train"):
            raise ValueError(f'expected monitor "validation" or "train", got {self.monitor!r}')

    @property
    def needs_validation(self) -> bool:  # type: ignore[override]
        """Whether it watches the validation risk."""
        return self.monitor == "validation"

    def init(self, dtype: Any) -> Any:
        """The lowest risk and its epoch."""
        return jnp.asarray(jnp.inf, dtype), jnp.zeros((), int)

    def update(self, state: Any, seen: Observation) -> tuple[Any, Bool[Array, ""]]:
        """Compare with the lowest risk."""
        lowest, epoch = state
        risk = seen.validation_error if self.needs_validation else seen.train_error
        lower = risk < lowest - self.min_delta
        epoch = jnp.where(lower, seen.epoch, epoch)
        stop = ~jnp.isnan(risk) & (seen.epoch - epoch >= self.epochs)
        return (jnp.where(lower, risk, lowest), epoch), stop

    @property
    def reason(self) -> str:
        """Why training stopped."""
        return f"the {self.monitor} risk did not fall for {self.epochs} epochs"


@dataclass(frozen=True)
class GeneralizationLoss(StoppingRule):
    """Stop as soon as GL(t) = 100 (E_va(t) / min_{t' ≤ t} E_va(t') − 1) > alpha (Prechelt's GL_α)."""

    alpha: float | int = 5.0
    needs_validation: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive(self.alpha, "alpha")

    def init(self, dtype: Any) -> Any:
        """The lowest validation risk."""
        return jnp.asarray(jnp.inf, dtype)

    def update(self, state: Any, seen: Observation) -> tuple[Any, Bool[Array, ""]]:
        """Compare with the lowest risk; False in epochs without validation, since NaN compares false."""
        lowest = jnp.fmin(state, seen.validation_error)
        return lowest, _generalization_loss(seen.validation_error, lowest) > self.alpha

    @property
    def reason(self) -> str:
        """Why training stopped."""
        return f"the generalization loss GL exceeded {self.alpha}"


def _generalization_loss(risk: Array, lowest: Array) -> Array:
    return 100 * (risk / lowest - 1)


class _Strip(NamedTuple):
    """The last k training errors, and the lowest validation risk."""

    errors: Float[Array, "k"]
    lowest: Float[Array, ""]


def _progress(errors: Array) -> Array:
    """P_k = 1000 (Σ E_tr / (k min E_tr) − 1) over the strip of the last k training errors."""
    return 1000 * (jnp.mean(errors) / jnp.min(errors) - 1)


@dataclass(frozen=True)
class TrainingProgress(StoppingRule):
    """Stop at the end of a strip of k epochs with P_k(t) = 1000 (Σ E_tr / (k min E_tr) − 1) < threshold.

    Both the sum and the minimum are over the strip (Prechelt's training progress; Proben1: k = 5, threshold 0.1).
    """

    threshold: float | int = 0.1
    strip: int = 5

    def __post_init__(self) -> None:
        _positive(self.threshold, "threshold")
        _positive_integer(self.strip, "strip")

    def init(self, dtype: Any) -> Any:
        """An empty strip."""
        return _Strip(jnp.full(self.strip, jnp.nan, dtype), jnp.asarray(jnp.inf, dtype))

    def update(self, state: Any, seen: Observation) -> tuple[Any, Bool[Array, ""]]:
        """Judge at the end of each strip."""
        errors = state.errors.at[(seen.epoch - 1) % self.strip].set(seen.train_error)
        return state._replace(errors=errors), (seen.epoch % self.strip == 0) & (_progress(errors) < self.threshold)

    @property
    def reason(self) -> str:
        """Why training stopped."""
        return f"the training progress P_{self.strip} fell below {self.threshold}"


@dataclass(frozen=True)
class ProgressQuotient(StoppingRule):
    """Stop at the end of a strip of k epochs with GL(t) / P_k(t) > alpha (Prechelt's PQ_α).

    Overfitting is borne longer while the training error still falls fast. Judged where a strip's end is also an epoch
    with validation: let `validate_every` divide the strip.
    """

    alpha: float | int = 0.5
    strip: int = 5
    needs_validation: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive(self.alpha, "alpha")
        _positive_integer(self.strip, "strip")

    def init(self, dtype: Any) -> Any:
        """An empty strip."""
        return _Strip(jnp.full(self.strip, jnp.nan, dtype), jnp.asarray(jnp.inf, dtype))

    def update(self, state: Any, seen: Observation) -> tuple[Any, Bool[Array, ""]]:
        """Judge at the end of each strip."""
        errors = state.errors.at[(seen.epoch - 1) % self.strip].set(seen.train_error)
        lowest = jnp.fmin(state.lowest, seen.validation_error)
        # GL > α P rather than GL / P > α: P is zero when training stands still, and GL may be.
        exceeded = _generalization_loss(seen.validation_error, lowest) > self.alpha * _progress(errors)
        return _Strip(errors, lowest), (seen.epoch % self.strip == 0) & exceeded

    @property
    def reason(self) -> str:
        """Why training stopped."""
        return f"the quotient PQ of generalization loss and training progress exceeded {self.alpha}"


@dataclass(frozen=True)
class GradientNorm(StoppingRule):
    """Stop when ‖∇J‖ ≤ tolerance, over all parameters; with mini-batches, the mean of the epoch's gradients."""

    tolerance: float | int = 1e-5
    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive(self.tolerance, "tolerance")

    def init(self, dtype: Any) -> Any:
        """Nothing to remember."""
        return ()

    def update(self, state: Any, seen: Observation) -> tuple[Any, Bool[Array, ""]]:
        """Compare the norm."""
        return state, seen.gradient_norm <= self.tolerance

    @property
    def reason(self) -> str:
        """Why training stopped."""
        return f"the gradient's norm fell to {self.tolerance}"
