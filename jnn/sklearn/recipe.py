"""From an estimator's parameters and the number of examples to the settings of training: all defaults stand here."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from jnn import schedules
from jnn.networks import fan_in_normal, nguyen_widrow
from jnn.networks.base import Hidden
from jnn.optimizers import Optimizer, adam, levenberg_marquardt, parametrized, steepest_descent, takes_curvature
from jnn.training import Settings, stopping
from jnn.training.splitting import held_out_count
from jnn.training.structure import COARSE, rounded_up

AUTO = "auto"

RECIPE: dict[str, Any] = {"activation": "silu", "alpha": 1.0, "learning_rate_init": 0.02, "members": 8}
HIDDEN, HIDDEN_FOR_FEW, FEW = (64, 64), (32, 32), 400
LAST_RATE, BATCH_SIZES, UPDATES, EPOCHS = 0.02, (32, 27), 1000, (40, 100)
"""The recipe's numbers, the same for all data but for the smaller networks of `FEW` examples, as good there and
faster. Chosen by hand on some thirty sets of the KEEL collection; `experiments/estimators.py` shows what they reach."""

SCIKIT_LEARNS: dict[str, Any] = {
    "hidden_layer_sizes": (100,), "activation": "relu", "alpha": 1e-4, "learning_rate_init": 1e-3, "members": 1,
    "max_iter": 200, "n_iter_no_change": 10,
}  # fmt: skip
"""Its own defaults, where they are not the recipe's."""

Validation = Literal["folds", "own"] | float | None


@dataclass(frozen=True)
class Plan:
    """What is trained, and how."""

    hidden: tuple[int, ...]
    activation: Hidden
    members: int
    settings: Settings  # for `jnn.ensembles.fit`; L-BFGS takes what it has of them
    lbfgs: bool  # whether SciPy's L-BFGS is to train, on all examples at once
    tol: float  # in units of the loss that is minimized
    validation: Validation  # "folds": each member holds out its own; "own": given by the user; a fraction, or None
    recipe: bool  # whether by the recipe; else a rule should end training, and running out of epochs is worth a warning
    streams: bool  # whether the examples are a part of a stream: one epoch more


def make_plan(
    parameters: Mapping[str, Any], examples: int, own_validation: bool, streaming: bool = False, loss_unit: float = 1.0
) -> Plan:
    """Fill in what was left to "auto".

    With neither `max_iter` nor `early_stopping` given, solver "adam" follows the recipe: each member holds out another
    fold, Adam's learning rate falls along a cosine to its end, and each member keeps its best hypothesis. Otherwise one
    network is trained with scikit-learn's own defaults, and training ends as there: by `tol` and `n_iter_no_change`, on
    the training or the validation risk.

    Raises:
        ValueError: if parameters do not go together.
    """
    own_optimizer, solver = parameters["optimizer"] is not None, parameters["solver"]
    auto = {name for name, value in parameters.items() if isinstance(value, str) and value == AUTO}
    recipe = solver == "adam" and {"max_iter", "early_stopping"} <= auto and not (own_optimizer or streaming)
    lbfgs = solver == "lbfgs" and not own_optimizer
    # What is compiled for is decided by a size that data of nearly as many examples share, as they are to share it.
    size = rounded_up(examples, COARSE)
    defaults = {**RECIPE, "hidden_layer_sizes": HIDDEN_FOR_FEW if size <= FEW else HIDDEN} if recipe else SCIKIT_LEARNS
    given: dict[str, Any] = {**parameters, **{name: defaults.get(name) for name in auto}}
    if own_validation and lbfgs:
        raise ValueError("solver='lbfgs' does not validate: leave out X_val and y_val, or use 'adam' or 'sgd'")
    if lbfgs and given["early_stopping"] is True:
        warnings.warn("solver='lbfgs' takes all examples at once: early_stopping=True has no effect", stacklevel=5)
    if own_validation and given["early_stopping"] is False:
        raise ValueError(
            "X_val and y_val are for early stopping, and early_stopping=False was given; to validate without stopping, "
            "give early_stopping=True and n_iter_no_change=numpy.inf"
        )
    tol = 1e-4 if given["tol"] is None else float(given["tol"] * loss_unit)
    validation = "own" if own_validation else _held_out(given, examples, recipe, lbfgs or streaming)
    if recipe:
        settings = _recipe(given, examples, validation)
    else:
        settings = _as_in_scikit_learn(given, examples, validation, tol, streaming)
    hidden = np.atleast_1d(np.asarray(given["hidden_layer_sizes"]))
    if hidden.ndim != 1 or (hidden.size and hidden.dtype.kind not in "iu") or (hidden < 1).any():
        raise ValueError(f"expected hidden_layer_sizes of at least 1 neuron each, got {given['hidden_layer_sizes']!r}")
    return Plan(
        hidden=tuple(hidden.astype(int).tolist()),
        activation=given["activation"],
        members=given["members"],
        settings={
            **settings,
            "shuffle": bool(given["shuffle"]),
            "weight_decay": float(given["alpha"]),
            "progress": bool(given["verbose"]),
        },
        lbfgs=lbfgs,
        tol=tol,
        validation=validation,
        recipe=recipe,
        streams=streaming,
    )


def _held_out(given: Mapping[str, Any], examples: int, recipe: bool, never: bool) -> Validation:
    """By the recipe a fold of its own for each member, of fewer examples a fraction, of very few nothing."""
    if recipe and 1 < given["members"] <= examples // 2:
        return "folds"
    wanted = examples >= 20 if recipe else given["early_stopping"] is True and not never
    return given["validation_fraction"] if wanted else None


def _recipe(given: Mapping[str, Any], examples: int, validation: Validation) -> Settings:
    trained = examples - examples // given["members"] if validation == "folds" else examples
    if isinstance(validation, float):
        trained -= held_out_count(examples, validation)
    # The one whose last mini-batch is fuller, so that it seldom is a few examples with the weight of many.
    batch_size = int(given["batch_size"] or max(BATCH_SIZES, key=lambda b: ((trained - 1) % b + 1) / b))
    steps = -(-trained // batch_size)  # of the examples that there are: the rate is to reach its end
    epochs = int(np.clip(UPDATES // steps, *EPOCHS))
    rate = schedules.cosine(given["learning_rate_init"], float(steps * epochs), LAST_RATE)
    patience = given["n_iter_no_change"] or math.inf
    stops = validation is not None and patience != math.inf
    return {
        "optimizer": adam(rate, given["beta_1"], given["beta_2"], given["epsilon"]),
        "epochs": epochs,
        "batch_size": batch_size,
        "stopping": stopping.Patience(int(patience)) if stops else None,
    }


def _as_in_scikit_learn(
    given: Mapping[str, Any], examples: int, validation: Validation, tol: float, streaming: bool
) -> Settings:
    held_out = round(validation * examples) if isinstance(validation, float) else 0
    batch_size = min(int(given["batch_size"] or 200), examples)
    rule, patience = None, given["n_iter_no_change"]
    optimizer = given["optimizer"] or _solver(given, -(-(examples - held_out) // batch_size), batch_size, tol)
    whole = takes_curvature(optimizer)  # all examples a step, and ends of its own: steps that fail say nothing
    if not streaming and patience != math.inf and not (whole and validation is None):
        watched = "train" if validation is None else "validation"
        rule = stopping.Patience(int(patience) + 2 * _reductions(given), tol, watched)
    return {
        "optimizer": optimizer,
        "epochs": 1 if streaming else int(given["max_iter"]),
        "batch_size": None if whole else batch_size,
        "stopping": rule,
        "initializer": nguyen_widrow if whole else fan_in_normal,
    }


SMALLEST_RATE = 1e-6


def _reductions(given: Mapping[str, Any]) -> int:
    """How often the rate is divided by 5 before training may end."""
    adaptive = given["solver"] == "sgd" and given["learning_rate"] == "adaptive"
    return math.ceil(math.log(max(given["learning_rate_init"] / SMALLEST_RATE, 1), 5)) if adaptive else 0


def _solver(given: Mapping[str, Any], steps: int, batch_size: int, tol: float) -> Any:
    """The solver's update rule, without its alternatives' numbers."""
    rate = float(given["learning_rate_init"])
    if given["solver"] == "lm":
        return levenberg_marquardt()
    if given["solver"] == "adam":
        return adam(rate, given["beta_1"], given["beta_2"], given["epsilon"])
    momentum, nesterov = float(given["momentum"]), bool(given["nesterovs_momentum"])
    if given["learning_rate"] == "adaptive":
        numbers = {"learning_rate": rate, "momentum": momentum, "tol": tol, "steps": steps}
        return parametrized(adaptive_descent, **numbers, nesterov=nesterov)
    if given["learning_rate"] == "constant":
        return steepest_descent(rate, momentum, nesterov)
    decreasing = schedules.inverse_scaling(rate, float(given["power_t"]), steps, batch_size)
    return steepest_descent(decreasing, momentum, nesterov)


def adaptive_descent(
    learning_rate: Any, momentum: Any, tol: Any, steps: Any, nesterov: bool
) -> optax.GradientTransformationExtraArgs:
    """Steepest descent whose rate is divided by 5 after each two epochs in which the mean loss fell by less than tol.

    Source: scikit-learn, `learning_rate="adaptive"`.
    """
    inner: Optimizer = steepest_descent(learning_rate, momentum, nesterov)
    # It sees losses in units of tol, as its own tolerance must be known while tracing.
    plateau = optax.contrib.reduce_on_plateau(0.2, patience=2, rtol=0.0, atol=1.0, accumulation_size=steps)
    least = jnp.minimum(SMALLEST_RATE / learning_rate, 1.0)

    def init(params: Any) -> tuple[Any, Any]:
        return inner.init(params), plateau.init(jnp.zeros(()))

    def update(updates: Any, state: Any, params: Any = None, *, value: Any, **extra: Any) -> tuple[Any, Any]:
        inner_state, reduced = state
        made, inner_state = inner.update(updates, inner_state, params, **extra)
        scale = jnp.maximum(reduced.scale, least)
        _, reduced = plateau.update((), reduced, value=value / jnp.maximum(tol, 1e-20))
        return jax.tree.map(lambda step: scale.astype(step.dtype) * step, made), (inner_state, reduced)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]  (its own state)
