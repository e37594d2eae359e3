"""From an estimator's parameters and the number of examples to the settings of training: all defaults stand here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from jnn import schedules
from jnn.networks.base import Hidden
from jnn.optimizers import Optimizer, adam, parametrized, steepest_descent
from jnn.training import Settings, stopping
from jnn.training.structure import COARSE, LEAST, rounded_up

AUTO = "auto"

MEMBERS = 8
HIDDEN = (64, 64)
HIDDEN_FOR_FEW = (32, 32)
FEW = 400
ACTIVATION = "silu"
LEARNING_RATE = 0.02
LAST_RATE = 0.02
ALPHA = 1.0
BATCH_SIZE = 32
UPDATES = 1000
EPOCHS = (40, 100)
"""The recipe's numbers, the same for all data but for the smaller networks of `FEW` examples, as good there and
faster. Chosen by hand on some thirty sets of the KEEL collection; `experiments/estimators.py` shows what they reach."""

Validation = Literal["folds", "own"] | float | None


@dataclass(frozen=True)
class Plan:
    """What is trained, and how."""

    hidden: tuple[int, ...]
    activation: Hidden
    members: int
    settings: Settings  # for `jnn.ensembles.fit`; L-BFGS takes what it has of them
    lbfgs: bool  # whether SciPy's L-BFGS is to train, on all examples at once
    validation: Validation  # "folds": each member holds out its own; "own": given by the user; a fraction, or None
    squashes: bool  # whether scalings are allowed that no weights can take up: an ensemble has no `coefs_`
    expects_an_end: bool  # whether a rule should end training, so that running out of epochs is worth a warning


def make_plan(
    parameters: Mapping[str, Any],
    examples: int,
    own_validation: bool,
    streaming: bool = False,
    loss_unit: float = 1.0,
) -> Plan:
    """Fill in what was left to "auto".

    With neither `max_iter` nor `early_stopping` given, solver "adam" follows the recipe: each member holds out another
    fold, Adam's learning rate falls along a cosine to its end, and each member keeps its best hypothesis. Otherwise one
    network is trained with scikit-learn's own defaults, and training ends as there: by `tol` and `n_iter_no_change`, on
    the training or the validation risk.

    Raises:
        ValueError: if parameters do not go together.
    """
    given = {name: None if _is_auto(value) else value for name, value in parameters.items()}
    own_optimizer = given["optimizer"]
    lbfgs = given["solver"] == "lbfgs" and own_optimizer is None
    adam_like = given["solver"] == "adam" and own_optimizer is None
    recipe = adam_like and not streaming and given["max_iter"] is None and given["early_stopping"] is None
    _check_validation(given, lbfgs, own_validation)
    make = _recipe if recipe else _as_in_scikit_learn
    return make(given, examples, own_validation, streaming, loss_unit, lbfgs)


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == AUTO


def _check_validation(given: Mapping[str, Any], lbfgs: bool, own: bool) -> None:
    if own and lbfgs:
        raise ValueError("solver='lbfgs' does not validate: leave out X_val and y_val, or use 'adam' or 'sgd'")
    if own and given["early_stopping"] is False:
        raise ValueError(
            "X_val and y_val are for early stopping, and early_stopping=False was given; to validate without stopping, "
            "give early_stopping=True and n_iter_no_change=numpy.inf"
        )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _recipe(
    given: Mapping[str, Any], examples: int, own_validation: bool, streaming: bool, loss_unit: float, lbfgs: bool
) -> Plan:
    del streaming, loss_unit, lbfgs
    members = _or(given["members"], MEMBERS)
    # Decided by a size that data of nearly as many examples share, as they are to share a program.
    size = rounded_up(examples, COARSE, LEAST)
    validation = "own" if own_validation else _held_out(given, members, examples)
    rows = size - size // members if validation == "folds" else size
    batch_size = int(_or(given["batch_size"], _even_batches(rows)))
    steps = -(-rows // batch_size)
    epochs = int(np.clip(UPDATES // steps, *EPOCHS))
    rate = schedules.cosine(_or(given["learning_rate_init"], LEARNING_RATE), float(steps * epochs), LAST_RATE)
    patience = given["n_iter_no_change"]
    patient = validation is not None and patience not in (None, math.inf)
    return Plan(
        hidden=_sizes(given, HIDDEN_FOR_FEW if size <= FEW else HIDDEN),
        activation=_or(given["activation"], ACTIVATION),
        members=members,
        settings={
            "optimizer": adam(rate, given["beta_1"], given["beta_2"], given["epsilon"]),
            "epochs": epochs,
            "batch_size": batch_size,
            "shuffle": bool(given["shuffle"]),
            "stopping": (stopping.Patience(int(patience)),) if patience is not None and patient else None,
            "weight_decay": float(_or(given["alpha"], ALPHA)),
            "progress": bool(given["verbose"]),
        },
        lbfgs=False,
        validation=validation,
        squashes=members > 1,
        expects_an_end=False,
    )


def _held_out(given: Mapping[str, Any], members: int, examples: int) -> Validation:
    """A fold of its own for each member, if there are enough examples; else a fraction; of few nothing."""
    if 1 < members <= examples // 2:
        return "folds"
    return given["validation_fraction"] if examples >= 20 else None


def _even_batches(rows: int) -> int:
    """About `BATCH_SIZE`, such that the last mini-batch is not a few examples with the weight of many."""
    return -(-rows // max(1, round(rows / BATCH_SIZE)))


def _sizes(given: Mapping[str, Any], default: tuple[int, ...]) -> tuple[int, ...]:
    sizes = given["hidden_layer_sizes"]
    return default if sizes is None else tuple(int(size) for size in np.atleast_1d(np.asarray(sizes, int)))


def _as_in_scikit_learn(
    given: Mapping[str, Any], examples: int, own_validation: bool, streaming: bool, loss_unit: float, lbfgs: bool
) -> Plan:
    validation: Validation = "own" if own_validation else None
    if not (own_validation or lbfgs or streaming) and given["early_stopping"] is True:
        validation = given["validation_fraction"]
    held_out = round(validation * examples) if isinstance(validation, float) else 0
    batch_size = min(int(_or(given["batch_size"], min(200, examples))), examples)
    tol = 1e-4 if given["tol"] is None else given["tol"] * loss_unit
    rate = float(_or(given["learning_rate_init"], 1e-3))
    steps = -(-(examples - held_out) // batch_size)
    rules = (
        None
        if lbfgs or streaming
        else _rule(given, rate, float(tol), watched="train" if validation is None else "validation")
    )
    return Plan(
        hidden=_sizes(given, (100,)),
        activation=_or(given["activation"], "relu"),
        members=_or(given["members"], 1),
        settings={
            "optimizer": given["optimizer"] or _solver(given, rate, steps, batch_size, float(tol)),
            "epochs": int(_or(given["max_iter"], 200)),
            "batch_size": batch_size,
            "shuffle": bool(given["shuffle"]),
            "stopping": rules,
            "weight_decay": float(_or(given["alpha"], 1e-4)),
            "progress": bool(given["verbose"]),
        },
        lbfgs=lbfgs,
        validation=validation,
        squashes=False,
        expects_an_end=not streaming,
    )


def _rule(given: Mapping[str, Any], rate: float, tol: float, watched: Any) -> stopping.Patience | None:
    patience = _or(given["n_iter_no_change"], 10)
    if patience == math.inf:
        return None
    adaptive = given["solver"] == "sgd" and given["learning_rate"] == "adaptive"
    reductions = math.ceil(math.log(max(rate / SMALLEST_RATE, 5), 5)) if adaptive else 0
    return stopping.Patience(int(patience) + 2 * reductions, tol, watched)


def _solver(given: Mapping[str, Any], rate: float, steps: int, batch_size: int, tol: float) -> Any:
    """The solver's update rule, without its alternatives' numbers."""
    if given["solver"] == "adam":
        return adam(rate, given["beta_1"], given["beta_2"], given["epsilon"])
    momentum, nesterov = float(given["momentum"]), bool(given["nesterovs_momentum"])
    if given["learning_rate"] == "adaptive":
        numbers = {"learning_rate": rate, "momentum": momentum, "tol": tol, "steps": steps}
        return parametrized(adaptive_descent, **numbers, nesterov=nesterov)
    learning_rate: Any = rate
    if given["learning_rate"] == "invscaling":
        learning_rate = schedules.inverse_scaling(rate, float(given["power_t"]), steps, batch_size)
    return steepest_descent(learning_rate, momentum, nesterov)


SMALLEST_RATE = 1e-6


class AdaptiveState(NamedTuple):
    """What `adaptive_descent` remembers."""

    inner: Any  # the rule's own state
    updates: Array  # in this epoch
    total: Array  # of their losses
    lowest: Array  # mean loss of an epoch
    waited: Array  # epochs since; −1 before the first
    scale: Array  # the share of the first rate that is left


def adaptive_descent(
    learning_rate: Any, momentum: Any, tol: Any, steps: Any, nesterov: bool
) -> optax.GradientTransformationExtraArgs:
    """Steepest descent whose rate is divided by 5 after each two epochs in which the mean loss fell by less than tol.

    Source: scikit-learn, `learning_rate="adaptive"`.
    """
    inner: Optimizer = steepest_descent(learning_rate, momentum, nesterov)

    def init(params: Any) -> AdaptiveState:
        zero, count = jnp.zeros(()), jnp.zeros((), jnp.int32)
        return AdaptiveState(inner.init(params), count, zero, zero, count - 1, jnp.ones(()))

    def update(updates: Any, state: AdaptiveState, params: Any = None, *, value: Any, **extra: Any) -> Any:
        made, inner_state = inner.update(updates, state.inner, params, **extra)
        made = jax.tree.map(lambda step: state.scale.astype(step.dtype) * step, made)
        count, total = state.updates + 1, state.total + value
        ended = count >= steps
        mean = total / count
        first = state.waited < 0
        lower = first | (mean < state.lowest - tol)
        waited = jnp.where(lower, 0, state.waited + 1)
        reduce = waited >= 2
        smallest = jnp.minimum(SMALLEST_RATE / learning_rate, 1.0)
        new = AdaptiveState(
            inner_state,
            jnp.where(ended, 0, count),
            jnp.where(ended, 0, total).astype(state.total.dtype),
            jnp.where(ended & lower, mean, state.lowest).astype(state.lowest.dtype),
            jnp.where(ended, jnp.where(reduce, 0, waited), state.waited),
            jnp.where(ended & reduce, jnp.maximum(0.2 * state.scale, smallest), state.scale).astype(state.scale.dtype),
        )
        return made, new

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]  (its own state)
