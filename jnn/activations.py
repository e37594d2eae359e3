"""Activation functions h, each beside its derivatives h' and h'' written by hand.

`h` is made of `jnp` operations without custom differentiation rules, so that `jax.grad(h)` is an independent opinion
on h', and `jax.grad` of h' one on h''. Conventions, the same for every function:

* The dtype of `a` is kept. Where rounding or overflow would hurt, float16 and bfloat16 are computed in float32 and
  rounded once.
* At ±inf, `h`, h' and h'' take their limits, and autodiff of `h` is finite; NaN gives NaN, also in a constant
  derivative.
* Where a function has a kink, h' takes the value that autodiff of `jax.nn`'s function of that name takes (relu'(0) = 0,
  leaky_relu'(0) = 1, hard_tanh'(±1) = 1, ...), and autodiff of `h` agrees. `step` has the derivative 0 everywhere.
  Where h' jumps, h'' is that of the side whose h' was taken (relu''(0) = 0, elu''(0) = 1); where h'' alone does, that
  of the right (softsign''(0) = -2).
* XLA on CPU compares subnormals as if they were zero. `step`, `relu`, `leaky_relu` and `relu6` read the sign from the
  bits instead. An `h` that has to compute may return 0 for a subnormal.

`gain` is the standard deviation of the initial weights times √fan_in. Rectifiers take √2 (He et al. 2015, who derive it
for relu and √(2/(1+α²)) for leaky_relu; the smooth ones and relu6 are treated as relu). Sigmoids that are the identity
near 0, and the identity, take 1 (LeCun et al. 1998); other sigmoids the gain that makes them the same neuron: 2 as
`logistic(2a) = (1 + tanh(a))/2`, 3 as `hard_sigmoid(3a) = (1 + hard_tanh(a))/2`. `selu` takes 1 (Klambauer et al. 2017:
unit variance is then a fixed point). The output of `step` does not depend on its gain.

References: LeCun, Bottou, Orr, Müller, "Efficient BackProp", 1998; He, Zhang, Ren, Sun, "Delving deep into rectifiers",
ICCV 2015; Klambauer, Unterthiner, Mayr, Hochreiter, "Self-normalizing neural networks", NeurIPS 2017.
"""

import difflib
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float

from jnn.checks import floats

Elementwise = Callable[[Array], Array]


@dataclass(frozen=True)
class Activation:
    """An activation function `z = h(a)` with its derivative; hashable, and called like a function.

    Attributes:
        name: how it is called in `get` and in messages.
        h: elementwise, `(...) -> (...)`.
        derivative: h', elementwise, `(...) -> (...)`, from the same argument `a` (not from `z`).
        gain: the initial weights' standard deviation times √fan_in.
        second: h'', elementwise, from `a` too; None if nobody has written it.
    """

    name: str
    h: Elementwise = field(repr=False)
    derivative: Elementwise = field(repr=False)
    gain: float = 1.0
    second: Elementwise | None = field(default=None, repr=False)

    def __call__(self, a: ArrayLike) -> Float[Array, "..."]:
        """Return `h(a)`; Python numbers and integers are taken as floats, and complex ones are a TypeError."""
        a = jnp.asarray(a, float) if isinstance(a, (int, float)) else floats(a, f"{self.name}'s pre-activations")
        return self.h(a)

    def second_derivative(self, a: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return h''(a); ValueError for an activation without it."""
        if self.second is None:
            raise ValueError(
                f"second derivatives need h'' of the activation {self.name}: give it as (h, h', h''), or as "
                "Activation(name, h, h', second=h'')"
            )
        return self.second(a)

    @functools.cached_property
    def gradient_passes(self) -> bool:
        """Whether h' differs from 0 anywhere on a grid over ±1000; if not, no gradient reaches the layers before."""
        if ACTIVATIONS.get(self.name) is self:
            return self is not step  # known without compiling anything
        # float32: the grid means the same with and without x64. Evaluated at once even while a caller is being traced.
        magnitudes = np.geomspace(1e-3, 1e3, 121, dtype=np.float32)
        with jax.ensure_compile_time_eval():
            slopes = self.derivative(jnp.concatenate([-magnitudes, magnitudes, np.zeros(1, np.float32)]))
            return bool(jnp.any(slopes != 0))

    def __reduce__(self) -> Any:
        if ACTIVATIONS.get(self.name) is self:
            return get, (self.name,)
        return Activation, (self.name, self.h, self.derivative, self.gain, self.second)


# What surrounds the equations: precision, NaN, limits, signs.


def _in_float32(f: Elementwise) -> Elementwise:
    """Compute `f` in float32 where the argument is narrower, and round the result once."""
    return lambda a: f(a.astype(np.promote_types(a.dtype, np.float32))).astype(a.dtype)


def _keeps_nan(f: Elementwise) -> Elementwise:
    """For an `f` made of conditions, which NaN does not meet, and of constants, which have no dtype."""
    return lambda a: jnp.where(jnp.isnan(a), a, f(a).astype(a.dtype))


def _within(far: float, f: Elementwise, lower: float, upper: float | None) -> Elementwise:
    """`f` for |a| < far; beyond, where it and its gradient may compute ∞·0, these limits (None: `a` itself)."""

    def limited(a: Array) -> Array:
        outside = jnp.abs(a) >= far
        limits = jnp.where(a > 0, a if upper is None else upper, lower).astype(a.dtype)
        return jnp.where(outside, limits, f(jnp.where(outside, 0, a)))

    return limited


def _positive(a: Array) -> Array:
    """a > 0, subnormals included: the bits of a positive float, read as an integer, are positive."""
    return lax.bitcast_convert_type(a, jnp.dtype(f"int{8 * a.dtype.itemsize}")) > 0


_HE = math.sqrt(2)


def _by_cases(
    name: str, h: Elementwise, derivative: Elementwise, second: Elementwise = jnp.zeros_like, gain: float = _HE
) -> Activation:
    return Activation(name, _keeps_nan(h), _keeps_nan(derivative), gain, _keeps_nan(second))


def _smooth(name: str, h: Elementwise, derivative: Elementwise, second: Elementwise, gain: float = _HE) -> Activation:
    return Activation(name, _in_float32(h), _in_float32(derivative), gain, _in_float32(second))


def _rectifier(
    name: str, h: Elementwise, derivative: Elementwise, second: Elementwise, far: float = 1000.0
) -> Activation:
    """From 0 to `a`, h' from 0 to 1. Beyond 1000, exp(-|a|) is 0 in every dtype, times any power of `a` used here."""
    return _smooth(name, _within(far, h, 0, None), _within(far, derivative, 0, 1), _within(far, second, 0, 0))


# The lecture's activations. Where an equation is its code, it stands in the table; else in a function before it.


def _exp_minus(a: Array) -> tuple[Array, Array]:
    """Where 1/exp(-a) would be subnormal, and exp(-a) elsewhere (there 1): so it does not overflow."""
    lost = a < math.log(jnp.finfo(a.dtype).tiny)
    return lost, jnp.exp(-jnp.where(lost, 0, a))


def _logistic(a: Array) -> Array:
    """h(a) = 1 / (1 + exp(-a)), and 0 where that would be subnormal."""
    lost, e = _exp_minus(a)
    return jnp.where(lost, 0, 1 / (1 + e))


def _logistic_derivative(a: Array) -> Array:
    """h'(a) = h(a) (1 - h(a)) ≤ 1/4, where 1 - h(a) = exp(-a) h(a) does not cancel."""
    lost, e = _exp_minus(a)
    h = 1 / (1 + e)
    # Around 0, 1 - h is as good, and keeps the bound to the last bit.
    return jnp.where(lost, 0, h) * jnp.where(a < 1, 1 - h, e * h)


def _tanh_derivative(a: Array) -> Array:
    """h'(a) = 1 - tanh²(a), to within one rounding of 1.

    Where tanh(a) rounds to ±1 this is 0. A form that is exact relative to the tail exists, but needs an exponential,
    while the compiler takes this `tanh` from the forward pass: a fifth of a small network's step.
    """
    z = jnp.tanh(a)
    return (1 - z) * (1 + z)


def _softsign_derivative(a: Array) -> Array:
    """h'(a) = 1 / (1 + |a|)², the reciprocal first: the square could overflow."""
    r = 1 / (1 + jnp.abs(a))
    return r * r


def _logistic_second(a: Array) -> Array:
    """h''(a) = h'(a) (1 - 2h(a)), where 1 - 2h(a) = -tanh(a/2) does not cancel."""
    return -_logistic_derivative(a) * jnp.tanh(a / 2)


def _tanh_second(a: Array) -> Array:
    """h''(a) = -2 h(a) h'(a)."""
    return -2 * jnp.tanh(a) * _tanh_derivative(a)


def _softsign_second(a: Array) -> Array:
    """h''(a) = -2 sign(a) / (1 + |a|)³; at its jump, 0, from the right."""
    r = 1 / (1 + jnp.abs(a))
    return jnp.where(a >= 0, -2, 2) * (r * r * r)


step = _by_cases("step", _positive, jnp.zeros_like, gain=1.0)  # no gradient passes it, not even at the jump
logistic = _smooth("logistic", _logistic, _logistic_derivative, _logistic_second, gain=2.0)
tanh = _smooth("tanh", jnp.tanh, _tanh_derivative, _tanh_second, gain=1.0)
relu = _by_cases("relu", lambda a: jnp.where(_positive(a), a, 0), _positive)
softsign = _smooth(
    "softsign",
    _within(math.inf, lambda a: a / (1 + jnp.abs(a)), -1, 1),
    _softsign_derivative,
    _softsign_second,
    gain=1.0,
)
identity = Activation("identity", lambda a: a, _keeps_nan(jnp.ones_like), 1.0, _keeps_nan(jnp.zeros_like))


# Piecewise linear relatives: leaky_relu of Maas, Hannun, Ng 2013; hard_silu = a · hard_sigmoid(a) of Howard et al. 2019

leaky_relu = _by_cases(
    "leaky_relu",
    lambda a: jnp.where(_positive(-a), 0.01 * a, a),
    lambda a: jnp.where(_positive(-a), 0.01, 1),
    gain=math.sqrt(2 / (1 + 0.01**2)),
)
relu6 = _by_cases(
    "relu6", lambda a: jnp.where(a >= 6, 6, jnp.where(_positive(a), a, 0)), lambda a: _positive(a) & (a < 6)
)
hard_tanh = _by_cases(
    "hard_tanh",
    lambda a: jnp.where(a > 1, 1, jnp.where(a < -1, -1, a)),
    lambda a: jnp.abs(a) <= 1,
    gain=1.0,
)
hard_sigmoid = _smooth(
    "hard_sigmoid",
    _within(3, lambda a: (a + 3) / 6, 0, 1),
    _keeps_nan(lambda a: jnp.where(jnp.abs(a) < 3, 1 / 6, 0)),
    _keeps_nan(jnp.zeros_like),
    gain=3.0,
)
hard_silu = _rectifier(
    "hard_silu",
    lambda a: a * (a + 3) / 6,
    lambda a: (2 * a + 3) / 6,
    _keeps_nan(lambda a: jnp.full_like(a, 1 / 3)),
    far=3,
)


# Smooth relatives.


def _exponential(name: str, scale: float, alpha: float, gain: float) -> Activation:
    """h(a) = λ a for a > 0, λ α (exp(a) - 1) for a ≤ 0; h'(a) = λ for a > 0, λ α exp(a) for a ≤ 0, as h''(a) is."""

    def h(a: Array) -> Array:
        return scale * jnp.where(a > 0, a, alpha * jnp.expm1(jnp.where(a > 0, 0, a)))

    def derivative(a: Array) -> Array:
        return scale * jnp.where(a > 0, 1, alpha * jnp.exp(jnp.where(a > 0, 0, a)))

    def second(a: Array) -> Array:
        return jnp.where(a > 0, 0, scale * alpha * jnp.exp(jnp.where(a > 0, 0, a)))

    return _smooth(name, h, derivative, second, gain)


def _softplus(a: Array) -> Array:
    """h(a) = ln(1 + exp(a)) = max(0, a) + ln(1 + exp(-|a|)); `abs` would have the wrong slope at 0."""
    return jnp.where(a >= 0, a, 0) + jnp.log1p(jnp.exp(jnp.where(a >= 0, -a, a)))


def _silu_derivative(a: Array) -> Array:
    """h'(a) = s (1 + a (1 - s)), where s = logistic(a), and 1 - s = exp(-a) s does not cancel."""
    lost, e = _exp_minus(a)
    s = 1 / (1 + e)
    return jnp.where(lost, 0, s * (1 + a * (e * s)))


def _silu_second(a: Array) -> Array:
    """h''(a) = 2 s' + a s'' = s' (2 - a tanh(a/2)), where s = logistic(a)."""
    return _logistic_derivative(a) * (2 - a * jnp.tanh(a / 2))


def _mish_derivative(a: Array) -> Array:
    """h'(a) = t + a (1 - t²) logistic(a), where t = tanh(s), 1 - t² = 4 logistic'(2s), s = softplus(a)."""
    s = _softplus(a)
    return jnp.tanh(s) + a * (4 * _logistic_derivative(2 * s)) * _logistic(a)


def _mish_second(a: Array) -> Array:
    """h''(a) = u (2 + a (1 - σ - 2tσ)), where t = tanh(softplus(a)), u = t' = (1 - t²) σ, and σ = logistic(a)."""
    s = _softplus(a)
    u = 4 * _logistic_derivative(2 * s) * _logistic(a)
    return u * (2 + a * (_logistic(-a) - 2 * jnp.tanh(s) * _logistic(a)))


def _gelu_argument(a: Array) -> Array:
    """2u in tanh's approximation, a/2 · (1 + tanh u) = a · logistic(2u), u = √(2/π) (a + 0.044715 a³)."""
    return math.sqrt(8 / math.pi) * (a + 0.044715 * a**3)


def _gelu_derivative(a: Array) -> Array:
    """h'(a) = logistic(2u) + a · 2u' · logistic'(2u), where 2u' = √(8/π) (1 + 3 · 0.044715 a²)."""
    slope = math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * a**2)
    return _logistic(_gelu_argument(a)) + a * slope * _logistic_derivative(_gelu_argument(a))


def _gelu_second(a: Array) -> Array:
    """h''(a) = logistic'(q) (2q' + a (q'' - q'² tanh(q/2))), where q = 2u and q'' = √(8/π) · 6 · 0.044715 a."""
    slope = math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * a**2)
    bend = math.sqrt(8 / math.pi) * 6 * 0.044715 * a
    q = _gelu_argument(a)
    return _logistic_derivative(q) * (2 * slope + a * (bend - slope**2 * jnp.tanh(q / 2)))


def _normal_cdf(a: Array) -> Array:
    return 0.5 * lax.erfc(-a * math.sqrt(0.5))


def _gelu_exact_derivative(a: Array) -> Array:
    """h'(a) = Φ(a) + a φ(a), with φ = Φ' the standard normal density."""
    return _normal_cdf(a) + a * (jnp.exp(-0.5 * a**2) / math.sqrt(2 * math.pi))


def _gelu_exact_second(a: Array) -> Array:
    """h''(a) = (2 - a²) φ(a)."""
    return (2 - a**2) * (jnp.exp(-0.5 * a**2) / math.sqrt(2 * math.pi))


def _root(a: Array) -> Array:
    """√(a² + 4) without overflow: beyond 10⁹ it is |a| in every dtype."""
    big = jnp.abs(a) > 1e9
    return jnp.where(big, jnp.abs(a), jnp.sqrt(jnp.where(big, 0, a) ** 2 + 4))


def _squareplus(a: Array) -> Array:
    """h(a) = (a + √(a² + 4)) / 2; for a < 0 as 2 / (√(a² + 4) - a), which does not cancel (Barron 2021)."""
    larger = jnp.where(a >= 0, a, -a)
    larger += 0.5 * (_root(a) - larger)  # the mean of |a| and the root, whose sum could overflow
    return jnp.where(a >= 0, larger, 1 / larger)


elu = _exponential("elu", 1.0, 1.0, gain=_HE)  # Clevert, Unterthiner, Hochreiter 2016
celu = _exponential("celu", 1.0, 1.0, gain=_HE)  # at α = 1, the default of both, celu is elu
selu = _exponential("selu", 1.0507009873554804934193349852946, 1.6732632423543772848170429916717, gain=1.0)
softplus = _smooth("softplus", _softplus, _logistic, _logistic_derivative)
log_sigmoid = _smooth(  # ln logistic(a)
    "log_sigmoid", lambda a: -_softplus(-a), lambda a: _logistic(-a), lambda a: -_logistic_derivative(-a)
)
silu = _rectifier("silu", lambda a: a * _logistic(a), _silu_derivative, _silu_second)
mish = _rectifier("mish", lambda a: a * jnp.tanh(_softplus(a)), _mish_derivative, _mish_second)  # Misra 2020
gelu = _rectifier(  # Hendrycks, Gimpel 2016
    "gelu", lambda a: a * _logistic(_gelu_argument(a)), _gelu_derivative, _gelu_second
)
gelu_exact = _rectifier("gelu_exact", lambda a: a * _normal_cdf(a), _gelu_exact_derivative, _gelu_exact_second)
squareplus = _rectifier(
    "squareplus", _squareplus, lambda a: _squareplus(a) / _root(a), lambda a: 2 * (1 / _root(a)) ** 3, far=math.inf
)

ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {value.name: value for value in tuple(globals().values()) if isinstance(value, Activation)}
)
"""Every activation of this module, by name."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "linear": "identity",
        "sigmoid": "logistic",
        "soft_sign": "softsign",
        "elliot": "softsign",
        "swish": "silu",
        "hard_swish": "hard_silu",
    }
)
"""Other libraries' names that `get` understands too."""


def get(spec: str | Activation | tuple[Elementwise, ...]) -> Activation:
    """Return the activation that a name, an `Activation` or functions (h, h') or (h, h', h'') stand for.

    Functions, elementwise on arrays, get the gain 1; write `Activation(name, h, derivative, gain)` for another. Without
    h'' there are gradients, but no second derivatives.
    A name that is in neither `ACTIVATIONS` nor `ALIASES` is a ValueError, anything else a TypeError.
    """
    match spec:
        case Activation():
            return spec
        case str():
            if (found := ACTIVATIONS.get(ALIASES.get(spec, spec))) is not None:
                return found
            close = difflib.get_close_matches(spec, [*ACTIVATIONS, *ALIASES], n=3)
            hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
            known = ", ".join(sorted(ACTIVATIONS))
            raise ValueError(f"expected the name of an activation, got {spec!r}; {hint}The names are {known}.")
        case (h, derivative, *second) if len(second) < 2 and all(map(callable, spec)):
            return Activation(getattr(h, "__name__", "custom"), h, derivative, 1.0, *second)
    raise TypeError(
        f"expected an activation's name, an Activation or a pair of functions (h, h'), got {spec!r}; "
        "a function alone is not enough, because backpropagation needs its derivative."
    )
