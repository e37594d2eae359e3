"""Learning rules, as `(init, update)` pairs in optax's protocol.

    state = optimizer.init(params)
    updates, state = optimizer.update(gradients, state, params, value=error)
    params = optax.apply_updates(params, updates)

They run inside `optax.chain` and whatever else speaks the protocol, and `update` ignores the extra arguments it has no
use for; `value`, the error at `params`, is needed by iRprop+ alone.

* Weights are trees of real floating-point arrays. The state keeps its structure and dtypes from `init` on, whatever
  the gradients' dtype; it is float32 for float16 and bfloat16 weights, in which (1 - β2) and ε would be lost. Updates
  have the dtype of the gradients.
* Hyperparameters are numbers, or scalar arrays, also traced ones: `jax.vmap` over learning rates works. Values are
  checked where they are known, that is, unless they are traced.
* Equal hyperparameters give the *same object* (unless one of them is an array), so that a program compiled with the
  optimizer as a static argument is found again. Functions (schedules) are equal when they are the same function.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, PyTree

Number = int | float | np.number | np.ndarray | Array
Schedule = Callable[[Array], ArrayLike]
Variant = Literal["Rprop+", "Rprop-", "iRprop+", "iRprop-"]
Weights = PyTree[Any]

_F = TypeVar("_F", bound=Callable[..., optax.GradientTransformationExtraArgs])


class SteepestDescentState(NamedTuple):
    """How many updates were made, and the last one, Δw(t-1) (None without momentum)."""

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]  (hides tuple.count, as optax does)
    delta: Weights


class AdamState(NamedTuple):
    """How many updates were made, and the moments' running averages m and v."""

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]  (as above)
    m: Weights
    v: Weights


class RpropState(NamedTuple):
    """The step sizes Δ, the sign of the last gradient (0 where it is to be forgotten), the last error (for iRprop+)."""

    step: Weights
    sign: Weights
    error: Float[Array, ""] | None


def steepest_descent(learning_rate: Number | Schedule, momentum: Number = 0.0) -> optax.GradientTransformationExtraArgs:
    r"""Gradient descent with momentum.

    $$\Delta w(t) = -\eta_t \nabla E(w(t)) + \mu \Delta w(t-1), \qquad w(t+1) = w(t) + \Delta w(t)$$

    The momentum is on the step: when η changes, past gradients keep the rate of their time. `optax.sgd` and PyTorch put
    it on the gradient and multiply the whole trace by today's rate. The two are the same for a constant rate.

    Args:
        learning_rate: η ≥ 0, or a schedule, called with the number of updates made so far (0, 1, ...).
        momentum: μ ≥ 0.

    Raises:
        ValueError: a hyperparameter is outside its range.
        TypeError: a hyperparameter is not a real number; (`init`, `update`) leaves are not real floating-point arrays.

    Source: lecture, "Gradient descent".
    """
    _check("learning_rate", learning_rate, "a number ≥ 0 or a schedule", lambda x: x >= 0)
    _check("momentum", momentum, "a number ≥ 0", lambda x: x >= 0)
    return _steepest_descent(learning_rate, momentum)


def adam(
    learning_rate: Number | Schedule = 1e-3, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8
) -> optax.GradientTransformationExtraArgs:
    r"""Adam, from adaptive moments (Kingma, Ba, ICLR 2015).

    $$\Delta w = -\alpha \frac{\hat m}{\sqrt{\hat v} + \epsilon}, \quad
    \hat m = \frac{m}{1 - \beta_1^t}, \quad \hat v = \frac{v}{1 - \beta_2^t}, \quad
    m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2$$

    ε stands outside the root. Powers of β are taken in JAX's default float dtype, as optax does: without x64,
    1 - β2^t is right to 3·10⁻⁵ in the first steps.

    Args:
        learning_rate: α ≥ 0, or a schedule, called with the number of updates made so far, t - 1 = 0, 1, ...
        b1: β1 in [0, 1), first moment.
        b2: β2 in [0, 1), second raw moment.
        eps: ε > 0.

    Raises:
        ValueError: a hyperparameter is outside its range.
        TypeError: a hyperparameter is not a real number; (`init`, `update`) leaves are not real floating-point arrays.

    Source: lecture, Algorithm 1.
    """
    _check("learning_rate", learning_rate, "a number ≥ 0 or a schedule", lambda x: x >= 0)
    _check("b1", b1, "a number in [0, 1)", lambda x: 0 <= x < 1)
    _check("b2", b2, "a number in [0, 1)", lambda x: 0 <= x < 1)
    _check("eps", eps, "a number > 0", lambda x: x > 0)
    return _adam(learning_rate, b1, b2, eps)


def rprop(
    learning_rate: Number | Weights | Callable[[Weights], Weights] = 0.0125,
    variant: Variant = "iRprop+",
    eta_plus: Number = 1.2,
    eta_minus: Number = 0.5,
    min_step: Number = 0.0,
    max_step: Number = 50.0,
) -> optax.GradientTransformationExtraArgs:
    r"""Resilient backpropagation: a step size for each weight, adapted by the gradient's sign alone.

    Where the partial derivative g keeps its sign, Δ ← min(η⁺ Δ, Δ_max); where it changes, Δ ← max(η⁻ Δ, Δ_min). Then
    Δw = -sign(g) Δ, except where the sign changed:

    * "Rprop-": no exception.
    * "Rprop+": Δw(t) = -Δw(t-1), the step is taken back.
    * "iRprop+": the step is taken back if the error grew, E(t) > E(t-1); otherwise Δw = 0.
    * "iRprop-": Δw = 0.

    After an exception the next g counts as neither the same sign nor another. (Where g = 0 or no sign is remembered,
    Δ stays.) PyTorch's `Rprop` is iRprop-; so is `optax.rprop`, but for applying each update one step late (0.2.8).

    Signs of noisy gradients mean little: for full batches. Rprop+ and iRprop+ take their own last update back, so let
    nothing that changes updates follow them in a chain.

    Args:
        learning_rate: the initial steps Δ(0) > 0: a number, or a tree like the weights with leaves of their shapes (or
            numbers), or a function of the weights that returns either. Default: the mean of Proben1's, which are
            drawn from [0.005, 0.02] per weight.
        variant: one of "Rprop+", "Rprop-", "iRprop+", "iRprop-".
        eta_plus: η⁺ > 1.
        eta_minus: η⁻ in (0, 1).
        min_step: Δ_min ≥ 0. (optax: 1e-6, a floor for the precision of the result.)
        max_step: Δ_max ≥ Δ_min.

    Raises:
        ValueError: a hyperparameter is outside its range; (`init`) the initial steps do not fit the weights;
            (`update`) "iRprop+" got no `value`.
        TypeError: a hyperparameter is not a real number; (`init`, `update`) leaves are not real floating-point arrays.

    Source: Igel, Hüsken, "Empirical evaluation of the improved Rprop learning algorithms", Neurocomputing 50, 2003;
    Riedmiller, Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm", 1993.
    """
    if variant not in get_args(Variant):
        raise ValueError(f"rprop: expected variant to be one of {', '.join(get_args(Variant))}, got {variant!r}.")
    _check("eta_plus", eta_plus, "a number > 1", lambda x: x > 1)
    _check("eta_minus", eta_minus, "a number in (0, 1)", lambda x: 0 < x < 1)
    _check("min_step", min_step, "a number ≥ 0", lambda x: x >= 0)
    _check("max_step", max_step, "a number > 0", lambda x: x > 0)
    if _known(min_step) and _known(max_step) and float(min_step) > float(max_step):
        raise ValueError(f"expected min_step ≤ max_step, got {min_step} > {max_step}.")
    if not callable(learning_rate):
        for leaf in jax.tree.leaves(learning_rate):
            _check("learning_rate", leaf, "initial steps > 0", lambda x: x > 0, scalar=False)
    return _rprop(learning_rate, variant, eta_plus, eta_minus, min_step, max_step)


# The rules themselves. `_memoized` makes equal arguments give the same object.


def _memoized(build: _F) -> _F:
    # typed: 1, 1.0 and True are equal, but promote dtypes differently. Bounded, since functions may hold on to data.
    remembered = functools.lru_cache(maxsize=1024, typed=True)(build)

    @functools.wraps(build)
    def wrapper(*arguments):
        try:
            hash(arguments)
        except TypeError:  # an array or a tree: no two are known to be equal
            return build(*arguments)
        return remembered(*arguments)

    return cast(_F, wrapper)


@_memoized
def _steepest_descent(learning_rate: Number | Schedule, momentum: Number) -> optax.GradientTransformationExtraArgs:
    remembers = not (_known(momentum) and float(momentum) == 0)

    def init(params: Weights) -> SteepestDescentState:
        _check_floating(params, "weights")
        return SteepestDescentState(_zero_count(), _zeros(params) if remembers else None)

    def update(
        updates: Weights, state: SteepestDescentState, params: Weights = None, **extra: Any
    ) -> tuple[Weights, SteepestDescentState]:
        del params, extra
        _check_floating(updates, "gradients")
        eta = _at(learning_rate, state.count)
        if remembers:
            delta = jax.tree.map(lambda g, delta: -eta * _wide(g) + momentum * delta, updates, state.delta)
            new = _cast(delta, state.delta)
        else:
            delta, new = jax.tree.map(lambda g: -eta * _wide(g), updates), None
        return _cast(delta, updates), SteepestDescentState(_incremented(state.count), new)

    return _transformation(init, update)


@_memoized
def _adam(
    learning_rate: Number | Schedule, b1: Number, b2: Number, eps: Number
) -> optax.GradientTransformationExtraArgs:
    def init(params: Weights) -> AdamState:
        _check_floating(params, "weights")
        return AdamState(_zero_count(), _zeros(params), _zeros(params))

    def update(updates: Weights, state: AdamState, params: Weights = None, **extra: Any) -> tuple[Weights, AdamState]:
        del params, extra
        _check_floating(updates, "gradients")
        t = _incremented(state.count)
        alpha = _at(learning_rate, state.count)
        g = _cast(updates, state.m)
        m = jax.tree.map(lambda g, m: (1 - b1) * g + b1 * m, g, state.m)
        v = jax.tree.map(lambda g, v: (1 - b2) * g**2 + b2 * v, g, state.v)
        m_hat = jax.tree.map(lambda m: m / (1 - b1**t), m)
        v_hat = jax.tree.map(lambda v: v / (1 - b2**t), v)
        delta = jax.tree.map(lambda m_hat, v_hat: -alpha * (m_hat / (jnp.sqrt(v_hat) + eps)), m_hat, v_hat)
        return _cast(delta, updates), AdamState(t, _cast(m, state.m), _cast(v, state.v))

    return _transformation(init, update)


@_memoized
def _rprop(
    learning_rate: Number | Weights | Callable[[Weights], Weights],
    variant: Variant,
    eta_plus: Number,
    eta_minus: Number,
    min_step: Number,
    max_step: Number,
) -> optax.GradientTransformationExtraArgs:
    needs_error = variant == "iRprop+"

    def init(params: Weights) -> RpropState:
        _check_floating(params, "weights")
        error = jnp.asarray(jnp.inf, jnp.result_type(float)) if needs_error else None
        return RpropState(_initial_steps(learning_rate, params), _zeros(params), error)

    def adapt(agreement: Array, step: Array) -> Array:
        larger = jnp.minimum(step * eta_plus, max_step)
        smaller = jnp.maximum(step * eta_minus, min_step)
        return jnp.where(agreement > 0, larger, jnp.where(agreement < 0, smaller, step)).astype(step.dtype)

    def update(
        updates: Weights, state: RpropState, params: Weights = None, *, value: ArrayLike | None = None, **extra: Any
    ) -> tuple[Weights, RpropState]:
        del params, extra
        _check_floating(updates, "gradients")
        if needs_error and (value is None or jnp.ndim(value) != 0):
            got = "no value" if value is None else f"shape {jnp.shape(value)}"
            raise ValueError(
                "rprop(variant='iRprop+'): expected the error at the weights, a scalar, as value=, "
                f"got {got}; call update(gradients, state, params, value=error), or use variant='iRprop-'."
            )
        # Signs, not gradients: the product of two small gradients could underflow to 0.
        sign = jax.tree.map(lambda g, old: jnp.sign(g).astype(old.dtype), updates, state.sign)
        agreement = jax.tree.map(lambda sign, old: sign * old, sign, state.sign)
        step = jax.tree.map(adapt, agreement, state.step)
        if variant != "Rprop-":
            sign = jax.tree.map(lambda agreement, sign: jnp.where(agreement < 0, 0, sign), agreement, sign)
        delta = jax.tree.map(lambda sign, step: -sign * step, sign, step)
        error = jnp.asarray(value, state.error.dtype) if needs_error and state.error is not None else None
        if variant in ("Rprop+", "iRprop+"):
            # Where the sign changed, an ordinary step had come before: Δw(t-1) = -sign(g(t-1)) Δ(t-1).
            grew = True if error is None or state.error is None else error > state.error
            delta = jax.tree.map(
                lambda agreement, delta, old_sign, old_step: jnp.where(
                    (agreement < 0) & grew, old_sign * old_step, delta
                ),
                *(agreement, delta, state.sign, state.step),
            )
        return _cast(delta, updates), RpropState(step, sign, error)

    return _transformation(init, update)


def _initial_steps(given: Number | Weights | Callable[[Weights], Weights], params: Weights) -> Weights:
    """The initial step sizes as arrays of the weights' shapes, in the state's dtypes."""
    steps: Any = given(params) if callable(given) else given
    if jax.tree.structure(steps) == jax.tree.structure(0) and jnp.ndim(steps) == 0:
        steps = jax.tree.map(lambda _: steps, params)
    if jax.tree.structure(steps) != jax.tree.structure(params):
        raise ValueError(
            f"rprop: expected initial steps (learning_rate) as one number or as a tree like the weights, "
            f"{jax.tree.structure(params)}, got {jax.tree.structure(steps)}; rprop has no schedule: "
            "a function is called with the weights, once."
        )

    def of_shape(path: Any, step: ArrayLike, w: ArrayLike) -> Array:
        if jnp.shape(step) not in ((), jnp.shape(w)):
            name = jax.tree_util.keystr(path)
            raise ValueError(
                f"rprop: expected initial steps (learning_rate) of the weights' shape {jnp.shape(w)} "
                f"or one number at {name or 'the only leaf'}, got shape {jnp.shape(step)}."
            )
        _check("learning_rate", step, "initial steps > 0", lambda x: x > 0, scalar=False)
        return jnp.broadcast_to(jnp.asarray(step, _state_dtype(w)), jnp.shape(w))

    return jax.tree_util.tree_map_with_path(of_shape, steps, params)


# Dtypes, counts and checks.


def _transformation(init: Callable[..., Any], update: Callable[..., Any]) -> optax.GradientTransformationExtraArgs:
    update.elementwise = True  # type: ignore[attr-defined]  (see `is_elementwise`)
    # optax declares that an update takes any tree of arrays as its state; a rule takes none but its own.
    return optax.GradientTransformationExtraArgs(init, update)


def is_elementwise(optimizer: optax.GradientTransformation) -> bool:
    """Whether each weight's update depends on that weight's own gradients alone, as far as is known.

    True of this module's optimizers as they are; of none inside a chain, and of none of optax's.
    """
    return getattr(optimizer.update, "elementwise", False)


def _state_dtype(w: ArrayLike) -> Any:
    return jnp.promote_types(jnp.result_type(w), jnp.float32)


def _wide(g: ArrayLike) -> Array:
    return jnp.asarray(g, _state_dtype(g))


def _zeros(params: Weights) -> Weights:
    return jax.tree.map(lambda w: jnp.zeros(jnp.shape(w), _state_dtype(w)), params)


def _zero_count() -> Array:
    return jnp.zeros((), jnp.int32)


def _incremented(count: Array) -> Array:
    return cast(Array, optax.safe_increment(count))


def _cast(tree: Weights, like: Weights) -> Weights:
    return jax.tree.map(lambda x, y: jnp.asarray(x, jnp.result_type(y)), tree, like)


def _at(learning_rate: Number | Schedule, count: Array) -> Number:
    return cast(Number, learning_rate(count)) if callable(learning_rate) else learning_rate


def _check_floating(tree: Weights, what: str) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            name = jax.tree_util.keystr(path) or "the only leaf"
            raise TypeError(
                f"expected {what} of a real floating-point dtype, got {dtype} at {name}; convert it, "
                "or keep what is not trained out of the tree (optax.masked)."
            )


def _known(value: Any) -> bool:
    return not isinstance(value, jax.core.Tracer)


def _check(name: str, value: Any, expected: str, holds: Callable[[Any], Any], scalar: bool = True) -> None:
    """Check a hyperparameter; of a traced one only dtype and shape, and a schedule not at all."""
    if callable(value):
        return
    numeric = isinstance(value, int | float | np.generic | np.ndarray | Array)
    if not (numeric and any(jnp.issubdtype(jnp.result_type(value), kind) for kind in (jnp.floating, jnp.integer))):
        raise TypeError(f"expected {name} to be {expected}, got {value!r}.")
    if scalar and jnp.ndim(value) != 0:
        raise ValueError(
            f"expected {name} to be {expected}, got an array of shape {jnp.shape(value)}; use jax.vmap for several."
        )
    if _known(value):
        numbers = np.asarray(value, np.float64)
        if not (np.isfinite(numbers).all() and all(holds(x) for x in numbers.flat)):
            raise ValueError(f"expected {name} to be {expected}, got {value}.")
