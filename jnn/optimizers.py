"""Learning rules, as `(init, update)` pairs in optax's protocol.

    state = optimizer.init(params)
    updates, state = optimizer.update(gradients, state, params, value=error)
    params = optax.apply_updates(params, updates)

They run inside `optax.chain` and whatever else speaks the protocol, and `update` ignores the extra arguments it has no
use for. `value`, the error at `params`, is needed by iRprop+; and `levenberg_marquardt` needs more, which `jnn.fit`
gives it.

* Weights are trees of real floating-point arrays; leaves of other dtypes are a TypeError of `init` and `update`. The
  state keeps its structure and dtypes from `init` on, whatever the gradients' dtype; it is float32 for float16 and
  bfloat16 weights, in which (1 - β2) and ε would be lost. Updates have the dtype of the gradients.
* An optimizer is a pytree: its numbers are leaves, and everything else (which rule, which variant, whether there is a
  momentum, a plain function as a schedule) is structure. So a learning rate may be a number, an array, a traced value,
  or in `jnn.ensembles.fit` an array with one entry for each member, and no program is compiled anew for another one.
* Optimizers are equal if rule and numbers are; they pickle, and print as they were written.
* A hyperparameter that is no real number is a TypeError, one outside its range a ValueError (unless it is traced).
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Float, Int, PyTree

from jnn.checks import check_floating, number

Number = int | float | np.number | np.ndarray | Array
Schedule = Callable[[Array], ArrayLike]
Solver = Literal["cholesky", "cg"]
Variant = Literal["Rprop+", "Rprop-", "iRprop+", "iRprop-"]
Weights = PyTree[Any]


@jax.tree_util.register_pytree_node_class
class Optimizer(optax.GradientTransformationExtraArgs):
    """A learning rule and its numbers: `init` and `update` of optax's protocol, and a pytree of the numbers.

    Made by `adam`, `steepest_descent`, `rprop`, and by `parametrized` from any function that makes an optimizer.
    """

    make: Callable[..., optax.GradientTransformation]  # makes the rule, (init, update), from its arguments
    numbers: Mapping[str, Any]  # the arguments that are numbers, arrays, or pytrees of them; the leaves
    structure: Mapping[str, Any]  # the other arguments

    def __new__(cls, make: Any, numbers: Mapping[str, Any], structure: Mapping[str, Any]) -> "Optimizer":
        """Put together as given: values are checked by the functions that users call."""
        self = tuple.__new__(cls, (None, None))
        self.make = make
        self.numbers, self.structure = MappingProxyType(dict(numbers)), MappingProxyType(dict(structure))
        return self

    def replace(self, **numbers: Any) -> "Optimizer":
        """The same rule with other numbers; raises TypeError for one that the rule does not have."""
        if unknown := ", ".join(sorted(set(numbers) - set(self.numbers))):
            raise TypeError(f"expected numbers of {self}, which are {', '.join(self.numbers)}; got {unknown}")
        public = _PUBLIC.get(self.make, functools.partial(parametrized, self.make))
        return public(**{**self._arguments, **numbers})

    def init(self, params: Weights) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The rule's state before the first update."""
        return self._made.init(params)

    def update(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, updates: Weights, state: Any, params: Weights = None, **extra: Any
    ) -> tuple[Weights, Any]:
        """Δw and the state after it, from the gradients."""
        return self._made.update(updates, state, params, **extra)

    @property
    def _arguments(self) -> dict[str, Any]:
        return {**self.numbers, **self.structure}

    @property
    def _made(self) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(self.make(**self._arguments))

    def __iter__(self) -> Iterator[Any]:
        """The pair (init, update), as optax's own are."""
        return iter((self.init, self.update))

    def __repr__(self) -> str:
        name = getattr(_PUBLIC.get(self.make, self.make), "__name__", repr(self.make))
        return f"{name}({', '.join(f'{name}={value!r}' for name, value in self._arguments.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Optimizer) and self._by_value() == other._by_value()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._by_value())

    def _by_value(self) -> tuple[Any, ...]:
        leaves, treedef = jax.tree.flatten(self)
        return treedef, tuple(_value(leaf) for leaf in leaves)

    def __reduce__(self) -> Any:
        return type(self), (self.make, dict(self.numbers), dict(self.structure))

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        """The numbers; and the structure, which compares by value."""
        return tuple(self.numbers.values()), (self.make, tuple(self.numbers), tuple(self.structure.items()))

    @classmethod
    def tree_unflatten(cls, structure: Any, numbers: tuple[Any, ...]) -> "Optimizer":
        """From the numbers."""
        make, names, others = structure
        return cls(make, dict(zip(names, numbers, strict=True)), dict(others))


def parametrized(make: Callable[..., optax.GradientTransformation], /, **arguments: Any) -> Optimizer:
    """Any optimizer as a pytree of its numbers: `parametrized(optax.adamw, learning_rate=1e-3, weight_decay=1e-4)`.

    `make(**arguments)` is called inside the compiled program, so that other numbers need no other program, and members
    of an ensemble can have their own. (For `make`s that decide by the value of a number, as some of optax's do, write a
    function that fixes that number.)

    Numbers, arrays and pytrees of them become leaves; strings, booleans, None and plain functions are structure. To be
    pickled, `make` must stand at a module's top level.

    >>> import optax
    >>> from jnn.optimizers import parametrized
    >>> parametrized(optax.adamw, learning_rate=0.1) == parametrized(optax.adamw, learning_rate=0.1)
    True
    """
    if not callable(make):
        raise TypeError(f"expected a function that makes an optimizer, as optax.adamw, got {make!r}")
    structure = {name: value for name, value in arguments.items() if _is_structure(value)}
    numbers = {name: value for name, value in arguments.items() if name not in structure}
    return Optimizer(make, numbers, structure)


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


class LevenbergMarquardtState(NamedTuple):
    """The damping λ, the factor ν by which it will grow, and what was seen in the last attempt."""

    damping: Float[Array, ""]  # 0 before the first attempt
    growth: Float[Array, ""]
    moved: Any  # whether the weights changed since G was computed
    matrix: Float[Array, "P P"] | None  # G at the weights before the last attempt; None if only products are taken
    relative_damping: Float[Array, ""]  # λ / max diag G
    step: Float[Array, ""]  # ‖d‖ / ‖w‖, accepted or not
    gradient: Float[Array, ""]  # max |∂J/∂w|


def steepest_descent(
    learning_rate: Number | Schedule, momentum: Number | None = None, nesterov: bool = False
) -> Optimizer:
    r"""Gradient descent with momentum.

    $$\Delta w(t) = -\eta_t \nabla E(w(t)) + \mu \Delta w(t-1), \qquad w(t+1) = w(t) + \Delta w(t)$$

    The momentum is on the step: when η changes, past gradients keep the rate of their time. `optax.sgd` and PyTorch put
    it on the gradient and multiply the whole trace by today's rate. The two are the same for a constant rate.

    Args:
        learning_rate: η ≥ 0, or a schedule, called with the number of updates made so far (0, 1, ...).
        momentum: μ ≥ 0; None, or a plain 0, keeps no Δw(t-1).
        nesterov: Nesterov's momentum, w(t+1) = w(t) - η ∇E(w(t)) + μ Δw(t), with Δw as above.

    Source: lecture, "Gradient descent".
    """
    eta = _rate(learning_rate)
    mu = None if momentum is None else number("momentum", momentum, "a number ≥ 0", lambda x: x >= 0)
    mu = None if isinstance(mu, float) and mu == 0 else mu
    return parametrized(_steepest_descent, learning_rate=eta, momentum=mu, nesterov=bool(nesterov))


def adam(
    learning_rate: Number | Schedule = 1e-3, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8
) -> Optimizer:
    r"""Adam, from adaptive moments (Kingma, Ba, ICLR 2015).

    $$\Delta w = -\alpha \frac{\hat m}{\sqrt{\hat v} + \epsilon}, \quad
    \hat m = \frac{m}{1 - \beta_1^t}, \quad \hat v = \frac{v}{1 - \beta_2^t}, \quad
    m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2$$

    ε stands outside the root. Powers of β are taken in JAX's default float dtype, as optax does: without x64,
    1 - β2^t is right to 3·10⁻⁵ in the first steps.

    Args:
        learning_rate: α ≥ 0, or a schedule, called with the number of updates made so far, t - 1 = 0, 1, ...
        b1: β1 in [0, 1).
        b2: β2 in [0, 1).
        eps: ε > 0.

    Source: lecture, Algorithm 1.
    """
    return parametrized(
        _adam,
        learning_rate=_rate(learning_rate),
        b1=number("b1", b1, "a number in [0, 1)", lambda x: 0 <= x < 1),
        b2=number("b2", b2, "a number in [0, 1)", lambda x: 0 <= x < 1),
        eps=number("eps", eps, "a number > 0", lambda x: x > 0),
    )


def rprop(
    learning_rate: Number | Weights | Callable[[Weights], Weights] = 0.0125,
    variant: Variant = "iRprop+",
    eta_plus: Number = 1.2,
    eta_minus: Number = 0.5,
    min_step: Number = 0.0,
    max_step: Number = 50.0,
) -> Optimizer:
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
        variant: as above.
        eta_plus: η⁺ > 1.
        eta_minus: η⁻ in (0, 1).
        min_step: Δ_min ≥ 0. (optax: 1e-6, a floor for the precision of the result.)
        max_step: Δ_max ≥ Δ_min.

    `init` raises ValueError if the initial steps do not fit the weights, `update` if "iRprop+" got no `value`.

    Source: Igel, Hüsken, "Empirical evaluation of the improved Rprop learning algorithms", Neurocomputing 50, 2003;
    Riedmiller, Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm", 1993.
    """
    if variant not in get_args(Variant):
        raise ValueError(f"rprop: expected variant to be one of {', '.join(get_args(Variant))}, got {variant!r}.")
    made = parametrized(
        _rprop,
        learning_rate=learning_rate if callable(learning_rate) else jax.tree.map(_positive_steps, learning_rate),
        eta_plus=number("eta_plus", eta_plus, "a number > 1", lambda x: x > 1),
        eta_minus=number("eta_minus", eta_minus, "a number in (0, 1)", lambda x: 0 < x < 1),
        min_step=number("min_step", min_step, "a number ≥ 0", lambda x: x >= 0),
        max_step=number("max_step", max_step, "a number > 0", lambda x: x > 0),
        variant=variant,
    )
    traced = isinstance(min_step, jax.core.Tracer) or isinstance(max_step, jax.core.Tracer)
    if not traced and np.any(np.asarray(min_step) > np.asarray(max_step)):
        raise ValueError(f"expected min_step ≤ max_step, got {min_step} > {max_step}.")
    return made


def levenberg_marquardt(
    damping: Number = 1e-2,
    solver: Solver | None = None,
    gradient_tolerance: Number = 1e-7,
    step_tolerance: Number = 1e-7,
    most_damping: Number = 1e10,
) -> Optimizer:
    r"""Levenberg-Marquardt: Gauss-Newton steps, damped by how well the last one was predicted.

    $$(G + \lambda I)\, d = -g, \qquad
    \rho = \frac{J(w) - J(w + d)}{-g^\top d - \frac12 d^\top G d}, \qquad
    \lambda \leftarrow \begin{cases}
        \lambda \max\left(\tfrac13, 1 - (2\rho - 1)^3\right), \nu \leftarrow 2 & \text{if } J(w + d) < J(w) \\
        \lambda \nu, \; \nu \leftarrow 2 \nu, \; d \leftarrow 0 & \text{otherwise}\end{cases}$$

    with G the Gauss-Newton matrix of the likelihood's Fisher information (`jnn.curvature`), weight decay included: for
    every likelihood, not for sums of squares alone. λ starts at `damping` · max diag G. One update, one epoch of `fit`,
    is one attempt; G is kept when it fails. The objective never rises. (MATLAB's `trainlm` multiplies and divides λ by
    10; Marquardt's scaling by diag G is not used: both ended far worse on networks.)

    For smooth regression to small errors, with up to some thousand weights; for classes, and for errors that need not
    be small, first-order methods are as fast. It learns in batches, so that `fit` takes all examples in every step, and
    all weights must decay if any do, those of linear outputs and biases as well: where they are spared, J has no
    minimum (the weights before fall to 0 and those after grow for ever).

    Args:
        damping: λ(0) / max diag G > 0.
        solver: "cholesky" of G, or "cg", conjugate gradients, which take products with G alone; None chooses by the
            number of weights, the first up to 3,000.
        gradient_tolerance: `fit` stops when no element of the gradient exceeds it.
        step_tolerance: `fit` stops when a step is smaller, relative to the weights.
        most_damping: `fit` stops when λ > most_damping · max diag G.

    `update` needs, beside `value`, `value_fn(params)`, and as `gauss_newton_fn` an object that has `matrix(params)`, in
    the order of `jax.flatten_util.ravel_pytree`, and `product(params, v)`; ValueError without.

    Source: Hagan, Menhaj, "Training feedforward networks with the Marquardt algorithm", IEEE Trans. Neural Networks 5,
    1994; Nielsen, "Damping parameter in Marquardt's method", IMM-REP-1999-05.
    """
    if solver not in (*get_args(Solver), None):
        raise ValueError(f'levenberg_marquardt: expected solver as "cholesky", "cg" or None, got {solver!r}.')
    return parametrized(
        _levenberg_marquardt,
        damping=number("damping", damping, "a number > 0", lambda x: x > 0),
        gradient_tolerance=number("gradient_tolerance", gradient_tolerance, "a number ≥ 0", lambda x: x >= 0),
        step_tolerance=number("step_tolerance", step_tolerance, "a number ≥ 0", lambda x: x >= 0),
        most_damping=number("most_damping", most_damping, "a number > 0", lambda x: x > 0),
        solver=solver,
    )


# --- the rules themselves


def _steepest_descent(learning_rate: Any, momentum: Any, nesterov: bool) -> optax.GradientTransformationExtraArgs:
    def init(params: Weights) -> SteepestDescentState:
        zeros = _zeros(params)
        return SteepestDescentState(jnp.zeros((), jnp.int32), None if momentum is None else zeros)

    def update(
        updates: Weights, state: SteepestDescentState, params: Weights = None, **_: Any
    ) -> tuple[Weights, SteepestDescentState]:
        _check_gradients(updates, updates if momentum is None else state.delta)
        eta, count = _rate_and_next_count(learning_rate, state.count)
        descent = jax.tree.map(lambda g: -eta * jnp.asarray(g, _state_dtype(g)), updates)
        if momentum is None:
            return _cast(descent, updates), SteepestDescentState(count, None)
        delta = jax.tree.map(lambda step, old: step + momentum * old, descent, state.delta)
        made = jax.tree.map(lambda step, new: step + momentum * new, descent, delta) if nesterov else delta
        return _cast(made, updates), SteepestDescentState(count, _cast(delta, state.delta))

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]  (its own state)


def _adam(learning_rate: Any, b1: Number, b2: Number, eps: Number) -> optax.GradientTransformationExtraArgs:
    def init(params: Weights) -> AdamState:
        return AdamState(jnp.zeros((), jnp.int32), _zeros(params), _zeros(params))

    def update(updates: Weights, state: AdamState, params: Weights = None, **_: Any) -> tuple[Weights, AdamState]:
        _check_gradients(updates, state.m)
        alpha, t = _rate_and_next_count(learning_rate, state.count)
        g = _cast(updates, state.m)
        m = jax.tree.map(lambda g, m: (1 - b1) * g + b1 * m, g, state.m)
        v = jax.tree.map(lambda g, v: (1 - b2) * g**2 + b2 * v, g, state.v)
        m_hat = jax.tree.map(lambda m: m / (1 - b1**t), m)
        v_hat = jax.tree.map(lambda v: v / (1 - b2**t), v)
        delta = jax.tree.map(lambda m_hat, v_hat: -alpha * (m_hat / (jnp.sqrt(v_hat) + eps)), m_hat, v_hat)
        return _cast(delta, updates), AdamState(t, _cast(m, state.m), _cast(v, state.v))

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]  (its own state)


def _rprop(
    learning_rate: Any, variant: Variant, eta_plus: Any, eta_minus: Any, min_step: Any, max_step: Any
) -> optax.GradientTransformationExtraArgs:
    needs_error = variant == "iRprop+"

    def init(params: Weights) -> RpropState:
        check_floating(params, "weights")
        # The first update has no sign to compare with, and so no use for the error before it.
        error = jnp.zeros((), jnp.result_type(float)) if needs_error else None
        return RpropState(_initial_steps(learning_rate, params), _zeros(params), error)

    def adapt(agreement: Array, step: Array) -> Array:
        larger = jnp.minimum(step * eta_plus, max_step)
        smaller = jnp.maximum(step * eta_minus, min_step)
        return jnp.where(agreement > 0, larger, jnp.where(agreement < 0, smaller, step)).astype(step.dtype)

    def update(
        updates: Weights, state: RpropState, params: Weights = None, *, value: ArrayLike | None = None, **_: Any
    ) -> tuple[Weights, RpropState]:
        _check_gradients(updates, state.sign)
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
        error, grew = None, True
        if state.error is not None:
            error = jnp.asarray(value, state.error.dtype)
            grew = error > state.error
        if variant in ("Rprop+", "iRprop+"):
            # Where the sign changed, an ordinary step had come before: Δw(t-1) = -sign(g(t-1)) Δ(t-1).

            def back(agreement: Array, delta: Array, old_sign: Array, old_step: Array) -> Array:
                return jnp.where((agreement < 0) & grew, old_sign * old_step, delta)

            delta = jax.tree.map(back, agreement, delta, state.sign, state.step)
        return _cast(delta, updates), RpropState(step, sign, error)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]  (its own state)


MOST_FOR_CHOLESKY = 3000
"""More weights than this, and conjugate gradients take less time than a Cholesky decomposition of G."""


def _levenberg_marquardt(
    damping: Any, gradient_tolerance: Any, step_tolerance: Any, most_damping: Any, solver: Solver | None
) -> optax.GradientTransformationExtraArgs:
    del gradient_tolerance, step_tolerance, most_damping  # for whoever loops (`jnn.training.settings`)

    def takes_products(params: Weights) -> bool:
        count = sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))
        return solver == "cg" or (solver is None and count > MOST_FOR_CHOLESKY)

    def init(params: Weights) -> LevenbergMarquardtState:
        check_floating(params, "weights")
        flat, _ = ravel_pytree(params)
        zero = jnp.zeros((), _state_dtype(flat))
        matrix = None if takes_products(params) else jnp.zeros((len(flat), len(flat)), zero.dtype)
        return LevenbergMarquardtState(zero, zero + 2, jnp.asarray(True), matrix, zero, zero, zero)

    def update(
        updates: Weights,
        state: LevenbergMarquardtState,
        params: Weights = None,
        *,
        value: Any = None,
        value_fn: Any = None,
        gauss_newton_fn: Any = None,
        **_: Any,
    ) -> tuple[Weights, LevenbergMarquardtState]:
        if params is None or value is None or value_fn is None or gauss_newton_fn is None:
            raise ValueError(
                "levenberg_marquardt: expected params, value, value_fn and gauss_newton_fn, as jnn.fit and "
                "jnn.ensembles.fit pass them (see its docstring)"
            )
        check_floating(updates, "gradients")
        wide = state.damping.dtype
        g, (w, unravel) = ravel_pytree(updates)[0].astype(wide), ravel_pytree(params)
        eps = jnp.finfo(wide).eps

        def product(v: Array) -> Array:
            moved = gauss_newton_fn.product(params, unravel(v.astype(w.dtype)))
            return ravel_pytree(moved)[0].astype(wide)

        if state.matrix is None:
            matrix = None
            scale = jnp.vdot(g, product(g)) / jnp.maximum(jnp.vdot(g, g), jnp.finfo(wide).tiny)
        else:
            now = functools.partial(gauss_newton_fn.matrix, params)
            matrix = jax.lax.cond(state.moved, lambda: now().astype(wide), lambda: state.matrix)
            scale = jnp.max(jnp.diagonal(matrix))
        # Below this, a rounded G may have no Cholesky decomposition.
        least = 4 * eps * scale
        lam = jnp.maximum(jnp.where(state.damping == 0, damping * scale, state.damping), least)
        if matrix is None:
            d = jax.scipy.sparse.linalg.cg(lambda v: product(v) + lam * v, -g, tol=1e-3, maxiter=200)[0]
            curved = jnp.vdot(d, product(d))
        else:
            factor = jax.scipy.linalg.cho_factor(matrix + lam * jnp.eye(len(g), dtype=wide))
            d = -jax.scipy.linalg.cho_solve(factor, g)
            curved = jnp.vdot(d, matrix @ d)
        step = unravel(d.astype(w.dtype))
        gained = (value - value_fn(optax.apply_updates(params, step))).astype(wide)
        ratio = gained / (-jnp.vdot(g, d) - 0.5 * curved)
        accepted = (gained > 0) & jnp.all(jnp.isfinite(d))  # NaN, of a failed decomposition too, is not greater
        shrunk = lam * jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3)
        grown = lam * state.growth
        new = jnp.where(accepted, shrunk, jnp.where(jnp.isfinite(grown), grown, jnp.finfo(wide).max))
        after = LevenbergMarquardtState(
            damping=new,
            growth=jnp.where(accepted, 2.0, jnp.minimum(2 * state.growth, 2.0**60)).astype(wide),
            moved=accepted,
            matrix=matrix,
            relative_damping=jnp.where(scale > 0, new / scale, jnp.finfo(wide).max),
            step=jnp.linalg.norm(d) / jnp.maximum(jnp.linalg.norm(w).astype(wide), jnp.finfo(wide).tiny),
            gradient=jnp.max(jnp.abs(g)),
        )
        step = jax.tree.map(lambda s: jnp.where(accepted, s, jnp.zeros_like(s)), step)
        return _cast(step, updates), after

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]  (its own state)


def _initial_steps(given: Number | Weights | Callable[[Weights], Weights], params: Weights) -> Weights:
    """The initial step sizes as arrays of the weights' shapes, in the state's dtypes."""
    steps: Any = given(params) if callable(given) else given
    got, wanted = jax.tree.structure(steps), jax.tree.structure(params)
    if got == jax.tree.structure(0) and jnp.ndim(steps) == 0:
        steps = jax.tree.map(lambda _: steps, params)
    elif got != wanted:
        raise ValueError(
            f"rprop: expected initial steps (learning_rate) as one number or as a tree like the weights, {wanted}, "
            f"got {got}; rprop has no schedule: a function is called with the weights, once."
        )

    def of_shape(path: Any, step: ArrayLike, w: ArrayLike) -> Array:
        if jnp.shape(step) not in ((), jnp.shape(w)):
            name = jax.tree_util.keystr(path) or "the only leaf"
            raise ValueError(
                f"rprop: expected initial steps (learning_rate) of the weights' shape {jnp.shape(w)} "
                f"or one number at {name}, got shape {jnp.shape(step)}."
            )
        _positive_steps(step)
        return jnp.broadcast_to(jnp.asarray(step, _state_dtype(w)), jnp.shape(w))

    return jax.tree.map_with_path(of_shape, steps, params)


def _check_gradients(updates: Weights, like: Weights) -> None:
    """Those of the weights that `like`, a part of the state, was made for."""
    check_floating(updates, "gradients")
    if (got := jax.tree.structure(updates)) != (wanted := jax.tree.structure(like)):
        raise ValueError(f"expected gradients of the weights' structure, {wanted}, as init was given; got {got}")
    shapes, own = ([jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (updates, like))
    if shapes != own:
        raise ValueError(f"expected gradients of the weights' shapes, {own}, as init was given; got {shapes}")


def _rate(value: Any) -> Any:
    if callable(value):
        return value
    return number("learning_rate", value, "a number ≥ 0 or a schedule", lambda x: x >= 0)


def _positive_steps(steps: Any) -> Any:
    return number("learning_rate", steps, "initial steps > 0", lambda x: x > 0)


# --- dtypes, counts and checks


_PUBLIC: dict[Any, Callable[..., Optimizer]] = {
    _steepest_descent: steepest_descent,
    _adam: adam,
    _rprop: rprop,
    _levenberg_marquardt: levenberg_marquardt,
}
"""The function of users' for each rule of this module."""


def takes_curvature(optimizer: optax.GradientTransformation) -> bool:
    """Whether the rule needs the Gauss-Newton matrix of all examples, as `levenberg_marquardt` does."""
    return isinstance(optimizer, Optimizer) and optimizer.make is _levenberg_marquardt


def is_elementwise(optimizer: optax.GradientTransformation) -> bool:
    """Whether each weight's update depends on that weight's own gradients alone, as far as is known.

    True of this module's rules as they are; of none inside a chain, and of none of optax's.
    """
    return isinstance(optimizer, Optimizer) and optimizer.make in _PUBLIC and not takes_curvature(optimizer)


def _is_structure(value: Any) -> bool:
    """Whether an argument decides what is computed: no number, and no pytree of numbers."""
    return isinstance(value, (str, bool)) or value is None or (callable(value) and jax.tree_util.all_leaves([value]))


def _value(leaf: Any) -> Any:
    """Something that is equal and hashes equally for equal numbers; a traced value is equal to itself only."""
    if isinstance(leaf, jax.core.Tracer):
        return id(leaf)
    array = np.asarray(leaf)
    return array.shape, tuple(array.ravel().tolist())


def _state_dtype(w: ArrayLike) -> Any:
    return np.promote_types(jnp.result_type(w), np.float32)


def _zeros(params: Weights) -> Weights:
    check_floating(params, "weights")
    return jax.tree.map(lambda w: jnp.zeros(jnp.shape(w), _state_dtype(w)), params)


def _rate_and_next_count(learning_rate: Any, count: Array) -> tuple[Any, Any]:
    rate = learning_rate(count) if callable(learning_rate) else learning_rate
    return rate, optax.safe_increment(count)


def _cast(tree: Weights, like: Weights) -> Weights:
    return jax.tree.map(lambda x, y: jnp.asarray(x, jnp.result_type(y)), tree, like)
