"""When to stop: rules over what is observed after each epoch, as pure functions that compile into the training loop.

E_tr(t) and E_va(t) are the training and validation risks after epoch t (slide "Early stopping"). GL, P_k and PQ are
those of Prechelt, "Proben1" (1994) and "Early stopping - but when?" (1998); they are ratios, made for errors that are
positive, as the negative log-likelihoods of classes and counts and the sum-of-squares error are.
"""

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, dataclass_transform

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jnn.checks import count, number


class Observation(NamedTuple):
    """What is seen after an epoch."""

    epoch: Any  # from 1 on
    train_error: Any
    validation_error: Any  # any number in an epoch without validation
    gradient_norm: Any  # ‖∇J‖, if a rule asks for it; else any number
    validated: Any = True  # whether there was a validation
    finite: Any = True  # whether errors and parameters are
    active: Any = True  # whether the network is still in training, as others of an ensemble may be
    hypothesis: Any = None  # the parameters, as the program keeps them
    optimizer: Any = None  # the optimizer's state


class Observer(abc.ABC):
    """Something that watches training: a state, taken on by one epoch after the other. All of it is compiled.

    Numbers in the state must be finite, also before anything has been seen, for `jax_debug_nans` to be of use.
    """

    @abc.abstractmethod
    def init(self, dtype: Any) -> Any:
        """The state before the first epoch."""

    @abc.abstractmethod
    def update(self, state: Any, seen: Observation) -> tuple[Any, Bool[Array, ""]]:
        """The state after the epoch, and whether to stop."""


class StoppingRule(Observer):
    """An observer that may stop the training. Its numbers are leaves of a pytree (see `rule`)."""

    needs_validation: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = False
    says: ClassVar[str]
    """The reason, with the fields' names in braces."""
    positive: ClassVar[tuple[str, ...]] = ()
    """Fields that must be > 0."""
    counted: ClassVar[tuple[str, ...]] = ()
    """Fields that must be integers of at least 1."""

    def __post_init__(self) -> None:
        # JAX builds rules again from leaves of all kinds: only what is a number by now is looked at.
        self._check({name: value for name, value in vars(self).items() if _known(value)})

    def check(self) -> None:
        """TypeError or ValueError for a field that is no number, or not one as it should be."""
        self._check(vars(self))

    def _check(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if name in self.counted:
                if not _known(value) and not isinstance(value, jax.core.Tracer):
                    raise ValueError(f"expected {name} as an integer of at least 1, got {value!r}")
                numbers = np.ones((), int) if isinstance(value, jax.core.Tracer) else np.asarray(value)
                if not np.issubdtype(numbers.dtype, np.integer) or not np.all(numbers >= 1):
                    raise ValueError(f"expected {name} as an integer of at least 1, got {value!r}")
            elif name in self.positive:
                number(name, value, "a number > 0", lambda x: x > 0)
            elif name != "monitor":
                number(name, value, "a number", np.isfinite)

    @property
    def reason(self) -> str:
        """Why training stopped, if by this rule."""
        return self.says.format(**{name: _shown(value) for name, value in vars(self).items()})


R = TypeVar("R", bound=type)


@dataclass_transform(frozen_default=True)
def rule(*structure: str) -> Callable[[R], R]:
    """Make a class of stopping rules a frozen dataclass and a pytree: its fields are leaves, but for those named."""

    def decorate(cls: R) -> R:
        made = dataclass(frozen=True)(cls)
        names = [field.name for field in fields(made)]
        data = [name for name in names if name not in structure]
        return jax.tree_util.register_dataclass(made, data_fields=data, meta_fields=list(structure))

    return decorate


def _known(value: Any) -> bool:
    return isinstance(value, (str, bool, int, float, np.number, np.ndarray, jax.Array)) and not isinstance(
        value, jax.core.Tracer
    )


def _shown(value: Any) -> str:
    """A number as in a sentence; of several, or of one that is not known yet, that it is one's own."""
    if isinstance(value, str):
        return value
    return f"{np.asarray(value).item():g}" if _known(value) and np.ndim(value) == 0 else "its own number of"


class Lowest(NamedTuple):
    """The lowest risk so far and its epoch; epoch 0 while none has been seen."""

    risk: Float[Array, ""]
    epoch: Int[Array, ""]


def _lowest(dtype: Any) -> Lowest:
    return Lowest(jnp.zeros((), dtype), jnp.zeros((), int))


def _lower(state: Lowest, risk: Any, there: Any, epoch: Any, margin: Any = 0.0) -> Lowest:
    """Take a risk, if it is there and lower by more than the margin."""
    lower = there & ((state.epoch == 0) | (risk < state.risk - margin))
    return Lowest(jnp.where(lower, risk, state.risk), jnp.where(lower, epoch, state.epoch))


@rule("monitor")
class Patience(StoppingRule):
    """Stop when the lowest risk so far is `epochs` epochs old.

    Only a risk lower than the lowest by more than `min_delta` counts as lower. An epoch without validation decides
    nothing.

    Args:
        epochs: how long to wait.
        min_delta: what counts as an improvement.
        monitor: "validation" or "train".
    """

    epochs: Any = 20
    min_delta: Any = 0.0
    monitor: Literal["validation", "train"] = "validation"
    says: ClassVar[str] = "the {monitor} risk did not fall for {epochs} epochs"
    counted: ClassVar[tuple[str, ...]] = ("epochs",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.monitor not in ("validation", "train"):
            raise ValueError(f'expected monitor "validation" or "train", got {self.monitor!r}')

    @property
    def needs_validation(self) -> bool:  # type: ignore[override]
        """Whether it watches the validation risk."""
        return self.monitor == "validation"

    def init(self, dtype: Any) -> Any:
        return _lowest(dtype)

    def update(self, state: Any, seen: Observation) -> tuple[Any, Bool[Array, ""]]:
        watched = self.needs_validation
        there = jnp.asarray(seen.validated if watched else True)
        state = _lower(state, seen.validation_error if watched else seen.train_error, there, seen.epoch, self.min_delta)
        return state, there & (seen.epoch - state.epoch >= self.epochs)


@rule()
class GeneralizationLoss(StoppingRule):
    """Stop as soon as GL(t) = 100 (E_va(t) / min_{t' ≤ t} E_va(t') − 1) > alpha (Prechelt's GL_α)."""

    alpha: Any = 5.0
    says: ClassVar[str] = "the generalization loss GL exceeded {alpha}"
    needs_validation: ClassVar[bool] = True
    positive: ClassVar[tuple[str, ...]] = ("alpha",)

    def init(self, dtype: Any) -> Any:
        return _lowest(dtype)

    def update(self, state: Any, seen: Observation) -> tuple[Any, Bool[Array, ""]]:
        state = _lower(state, seen.validation_error, jnp.asarray(seen.validated), seen.epoch)
        return state, seen.validated & (_loss(seen.validation_error, state) > self.alpha * state.risk)


# Ratios are compared without dividing: a risk may be 0.


def _loss(risk: Array, lowest: Lowest) -> Array:
    """GL · min E_va = 100 (E_va − min E_va)."""
    return 100 * (risk - lowest.risk)


class _Strip(NamedTuple):
    """The last k training errors, and the lowest validation risk."""

    errors: Float[Array, "k"]
    lowest: Lowest


def _progress(errors: Array) -> Array:
    """P_k · min E_tr = 1000 (Σ E_tr / k − min E_tr) over the strip of the last k training errors."""
    return 1000 * (jnp.mean(errors) - jnp.min(errors))


class _AtStrips(StoppingRule):
    """Judges at the end of each strip of k epochs."""

    strip: int
    counted: ClassVar[tuple[str, ...]] = ("strip",)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "strip", count("strip", self.strip))  # structure: hashable

    @abc.abstractmethod
    def _stops(self, strip: _Strip, seen: Observation) -> Any:
        """Whether to stop at the end of this strip."""

    def init(self, dtype: Any) -> _Strip:
        return _Strip(jnp.zeros(self.strip, dtype), _lowest(dtype))

    def update(self, state: _Strip, seen: Observation) -> tuple[_Strip, Bool[Array, ""]]:
        errors = state.errors.at[(seen.epoch - 1) % self.strip].set(seen.train_error)
        state = _Strip(errors, _lower(state.lowest, seen.validation_error, jnp.asarray(seen.validated), seen.epoch))
        return state, (seen.epoch % self.strip == 0) & self._stops(state, seen)


@rule("strip")
class TrainingProgress(_AtStrips):
    """Stop at the end of a strip of k epochs with P_k(t) = 1000 (Σ E_tr / (k min E_tr) − 1) < threshold.

    Both the sum and the minimum are over the strip (Prechelt's training progress; Proben1: k = 5, threshold 0.1).
    """

    threshold: Any = 0.1
    strip: int = 5
    says: ClassVar[str] = "the training progress P_{strip} fell below {threshold}"
    positive: ClassVar[tuple[str, ...]] = ("threshold",)

    def _stops(self, strip: _Strip, seen: Observation) -> Any:
        return _progress(strip.errors) < self.threshold * jnp.min(strip.errors)


@rule("strip")
class ProgressQuotient(_AtStrips):
    """Stop at the end of a strip of k epochs with GL(t) / P_k(t) > alpha (Prechelt's PQ_α).

    Overfitting is borne longer while the training error still falls fast. Judged where a strip's end is also an epoch
    with validation: let `validate_every` divide the strip.
    """

    alpha: Any = 0.5
    strip: int = 5
    says: ClassVar[str] = "the quotient PQ of generalization loss and training progress exceeded {alpha}"
    positive: ClassVar[tuple[str, ...]] = ("alpha",)
    needs_validation: ClassVar[bool] = True

    def _stops(self, strip: _Strip, seen: Observation) -> Any:
        # GL > α P rather than GL / P > α, with both denominators: P is zero when training stands still.
        loss = _loss(seen.validation_error, strip.lowest) * jnp.min(strip.errors)
        return seen.validated & (loss > self.alpha * _progress(strip.errors) * strip.lowest.risk)


@rule()
class GradientNorm(StoppingRule):
    """Stop when ‖∇J‖ ≤ tolerance, over all parameters; with mini-batches, the mean of the epoch's gradients."""

    tolerance: Any = 1e-5
    says: ClassVar[str] = "the gradient's norm fell to {tolerance}"
    needs_gradient: ClassVar[bool] = True
    positive: ClassVar[tuple[str, ...]] = ("tolerance",)

    def init(self, dtype: Any) -> Any:
        return ()

    def update(self, state: Any, seen: Observation) -> tuple[Any, Bool[Array, ""]]:
        return state, seen.gradient_norm <= self.tolerance


class _OfLevenbergMarquardt(StoppingRule):
    """A rule that `fit` adds of itself, with the optimizer's number."""

    tolerance: Any

    def init(self, dtype: Any) -> Any:
        return ()

    def update(self, state: Any, seen: Observation) -> tuple[Any, Bool[Array, ""]]:
        return state, self._holds(seen.optimizer)

    @abc.abstractmethod
    def _holds(self, state: Any) -> Bool[Array, ""]:
        """Whether the optimizer's state says so."""


@rule()
class SmallGradient(_OfLevenbergMarquardt):
    """Stop when no element of the gradient exceeds the tolerance."""

    tolerance: Any = 1e-7
    says: ClassVar[str] = "no element of the gradient exceeds {tolerance}"

    def _holds(self, state: Any) -> Bool[Array, ""]:
        return state.gradient <= self.tolerance


@rule()
class SmallStep(_OfLevenbergMarquardt):
    """Stop when a step is smaller than the tolerance, relative to the weights."""

    tolerance: Any = 1e-7
    says: ClassVar[str] = "the step fell to {tolerance} of the weights"

    def _holds(self, state: Any) -> Bool[Array, ""]:
        return state.step <= self.tolerance


@rule()
class LargeDamping(_OfLevenbergMarquardt):
    """Stop when steps have failed so often that the damping exceeds the limit, relative to the largest curvature."""

    tolerance: Any = 1e10
    says: ClassVar[str] = "no step lowered the objective, down to a damping of {tolerance} times the largest curvature"

    def _holds(self, state: Any) -> Bool[Array, ""]:
        return state.relative_damping > self.tolerance
