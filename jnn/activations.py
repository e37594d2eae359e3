"""Activation functions h, each beside its derivative h' written by hand.

A neuron fires `z = h(a)`; backpropagation multiplies by `h'(a)`. Each pair stands here as two plain functions. `h` is
made of `jnp` operations without custom differentiation rules, so that `jax.grad(h)` is an independent opinion on h';
h' can be differentiated again, so that Hessian-vector products through hand-written backpropagation are right.

Conventions, the same for every pair:

* The dtype of `a` is kept. Where rounding or overflow would hurt, float16 and bfloat16 are computed in float32 and
  rounded once.
* At ±inf, `h` and h' take their limits, and autodiff of `h` is finite; NaN gives NaN, also in a constant derivative.
* Where a function has a kink, h' takes the value that autodiff of `jax.nn`'s function of that name takes (relu'(0) = 0,
  leaky_relu'(0) = 1, hard_tanh'(±1) = 1, ...), and autodiff of `h` agrees. `step` has the derivative 0 everywhere.
* XLA on CPU reads a subnormal operand as zero, so that `1e-40 > 0` is False in float32. Where the sign decides (`step`,
  `relu`, `leaky_relu`, `relu6`), it is read from the bits instead, and subnormals count as what they are, compiled or
  not. Arithmetic cannot be saved this way: an `h` that has to compute may return 0 for a subnormal.

`gain` is the standard deviation of the initial weights times √fan_in. Rectifiers take √2 (He et al. 2015, who derive it
for relu and √(2/(1+α²)) for leaky_relu; the smooth ones and relu6 are treated as relu). Sigmoids that are the identity
near 0, and the identity, take 1 (LeCun et al. 1998), which puts `a` at the edge of the linear regime for standardized
inputs; other sigmoids take the gain that makes them the same neuron: `logistic(2a) = (1 + tanh(a))/2` makes it 2, and
`hard_sigmoid(3a) = (1 + hard_tanh(a))/2` makes it 3. (The inverse slope at 0, 4 for the logistic, would keep the
deltas' variance in the linear regime, but puts `a` far outside that regime.) `selu` takes 1 (Klambauer et al. 2017:
unit variance is then a fixed point). The output of `step` does not depend on its gain: 1.

References: LeCun, Bottou, Orr, Müller, "Efficient BackProp", 1998; He, Zhang, Ren, Sun, "Delving deep into rectifiers",
ICCV 2015; Klambauer, Unterthiner, Mayr, Hochreiter, "Self-normalizing neural networks", NeurIPS 2017.
"""

import difflib
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float

Elementwise = Callable[[Array], Array]


@dataclass(frozen=True)
class Activation:
    """An activation function `z = h(a)` with its derivative; hashable, and called like a function.

    Attributes:
        name: how it is called in `get` and in messages.
        h: elementwise, `(...) -> (...)`.
        derivative: h', elementwise, `(...) -> (...)`, from the same argument `a` (not from `z`).
        gain: the initial weights' standard deviation times √fan_in.
    """

    name: str
    h: Elementwise
    derivative: Elementwise
    gain: float = 1.0

    def __call__(self, a: ArrayLike) -> Float[Array, "..."]:
        """Return `h(a)`; Python numbers and integers are taken as floats.

        Raises:
            TypeError: `a` is complex.
        """
        dtype = jnp.result_type(a, 0.0)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"{self.name}: expected real pre-activations, got {dtype}; pass real and imaginary parts.")
        return self.h(jnp.asarray(a, dtype))

    @property
    def gradient_passes(self) -> bool:
        """Whether h' differs from 0 anywhere on a grid over ±1000; if not, no gradient reaches the layers before."""
        if ACTIVATIONS.get(self.name) is self:
            return self.derivative is not _zero  # known without compiling anything
        return _gradient_passes(self.derivative)


@functools.lru_cache(maxsize=256)
def _gradient_passes(derivative: Elementwise) -> bool:
    # float32: the grid means the same with and without x64. Evaluated at once even while a caller is being traced.
    magnitudes = np.geomspace(1e-3, 1e3, 121, dtype=np.float32)
    with jax.ensure_compile_time_eval():
        slopes = derivative(jnp.concatenate([-magnitudes, magnitudes, jnp.zeros(1, jnp.float32)]))
        return bool(jnp.any(slopes != 0))


# What the formulas below share.

# Beyond ±_FAR, exp(-|a|) is 0 in every dtype, times any power of `a` that occurs here.
_FAR = 1000.0


def _in_float32(f: Elementwise) -> Elementwise:
    """Compute `f` in float32 where the argument is narrower, and round the result once."""

    @functools.wraps(f)
    def widened(a: Float[Array, "..."]) -> Float[Array, "..."]:
        return f(a.astype(jnp.promote_types(a.dtype, jnp.float32))).astype(a.dtype)

    return widened


def _bits(a: Array) -> Array:
    return lax.bitcast_convert_type(a, jnp.dtype(f"int{8 * a.dtype.itemsize}"))


def _positive(a: Array) -> Array:
    """`a > 0`, subnormals included: the bits of a positive float, read as an integer, are positive."""
    return (_bits(a) > 0) & ~jnp.isnan(a)


def _negative(a: Array) -> Array:
    """`a < 0`, subnormals included, -0.0 not: its bits are the most negative integer."""
    bits = _bits(a)
    return (bits < 0) & (bits != jnp.iinfo(bits.dtype).min) & ~jnp.isnan(a)


def _choose(condition: Array, yes: ArrayLike, no: ArrayLike, a: Array) -> Array:
    """`yes` where the condition holds, `no` elsewhere, NaN where `a` is NaN, in the dtype of `a`."""
    return jnp.where(jnp.isnan(a), a, jnp.where(condition, jnp.asarray(yes, a.dtype), jnp.asarray(no, a.dtype)))


def _with_limits(f: Elementwise, a: Array, lower: ArrayLike, upper: ArrayLike, far: float = _FAR) -> Array:
    """`f(a)`, but `lower` for a < -far and `upper` for a > far, where f and its gradient would compute ∞·0."""
    outside = jnp.abs(a) > far
    near = f(jnp.where(outside, 0, a))
    return jnp.where(outside, jnp.where(a > 0, upper, lower).astype(a.dtype), near)


def _largest(a: Array) -> float:
    """The largest finite value of the dtype, for functions that only need care at ±inf."""
    return float(jnp.finfo(a.dtype).max)


def _exp_minus_abs(a: Array) -> Array:
    """exp(-|a|), which never overflows; unlike `jnp.abs`, `where` has the slope at 0 that the branch a >= 0 needs."""
    return jnp.exp(jnp.where(a >= 0, -a, a))


# The lecture's activations.


def _step(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = I{a > 0}."""
    return _choose(_positive(a), 1, 0, a)


def _zero(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = 0, also at the jump: no gradient passes a step."""
    return _choose(jnp.isinf(a), 0, 0, a)


@_in_float32
def _logistic(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = 1 / (1 + exp(-a)), and 0 where that would be subnormal."""
    lost, e = _exp_minus(a)
    return jnp.where(lost, 0, 1 / (1 + e))


@_in_float32
def _logistic_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = h(a) (1 - h(a)) ≤ 1/4, where 1 - h(a) = exp(-a) h(a) does not cancel."""
    lost, e = _exp_minus(a)
    h = 1 / (1 + e)
    # Around 0, 1 - h is as good, and keeps the bound to the last bit.
    return jnp.where(lost, 0, h) * jnp.where(a < 1, 1 - h, e * h)


def _exp_minus(a: Array) -> tuple[Array, Array]:
    """Where 1/exp(-a) would be subnormal, and exp(-a) elsewhere (there 1): so it does not overflow."""
    lost = a < math.log(jnp.finfo(a.dtype).tiny)
    return lost, jnp.exp(-jnp.where(lost, 0, a))


@_in_float32
def _tanh(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = tanh(a)."""
    return jnp.tanh(a)


@_in_float32
def _tanh_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = 1 - tanh²(a), to within one rounding of 1.

    Where tanh(a) rounds to ±1 this is 0. A form that is exact relative to the tail exists, but needs an exponential,
    while the compiler takes this `tanh` from the forward pass: a fifth of a small network's step.
    """
    z = jnp.tanh(a)
    return (1 - z) * (1 + z)


def _relu(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = max(0, a)."""
    return _choose(_positive(a), a, 0, a)


def _relu_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = I{a > 0}."""
    return _choose(_positive(a), 1, 0, a)


@_in_float32
def _softsign(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = a / (1 + |a|)."""
    return _with_limits(lambda a: a / (1 + jnp.abs(a)), a, -1, 1, far=_largest(a))


@_in_float32
def _softsign_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = 1 / (1 + |a|)², the reciprocal first: the square could overflow."""
    r = 1 / (1 + jnp.abs(a))
    return r * r


def _identity(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = a."""
    return a


def _one(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = 1."""
    return _choose(jnp.isinf(a), 1, 1, a)


# Piecewise linear relatives.


def _leaky_relu(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = a for a ≥ 0, a/100 for a < 0 (Maas, Hannun, Ng 2013)."""
    return jnp.where(_negative(a), 0.01 * a, a)


def _leaky_relu_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = 1 for a ≥ 0, 1/100 for a < 0."""
    return _choose(_negative(a), 0.01, 1, a)


def _relu6(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = min(max(0, a), 6)."""
    return jnp.where(a >= 6, 6, _relu(a)).astype(a.dtype)


def _relu6_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = I{0 < a < 6}."""
    return _choose(_positive(a) & (a < 6), 1, 0, a)


def _hard_tanh(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = min(max(-1, a), 1)."""
    return jnp.where(a > 1, 1, jnp.where(a < -1, -1, a)).astype(a.dtype)


def _hard_tanh_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = I{-1 ≤ a ≤ 1}."""
    return _choose(jnp.abs(a) <= 1, 1, 0, a)


@_in_float32
def _hard_sigmoid(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = min(max(0, (a + 3) / 6), 1)."""
    return jnp.where(a >= 3, 1, jnp.where(a <= -3, 0, (a + 3) / 6))


@_in_float32
def _hard_sigmoid_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = I{-3 < a < 3} / 6."""
    return _choose(jnp.abs(a) < 3, 1 / 6, 0, a)


@_in_float32
def _hard_silu(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = a · hard_sigmoid(a) (Howard et al. 2019)."""
    x = jnp.where(jnp.abs(a) < 3, a, 0)  # the branch not taken must not overflow, nor must its gradient
    return jnp.where(a >= 3, a, jnp.where(a <= -3, 0, jnp.where(jnp.isnan(a), a, x * (x + 3) / 6)))


@_in_float32
def _hard_silu_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = 0 for a ≤ -3, (2a + 3)/6 between, 1 for a ≥ 3."""
    return jnp.where(a >= 3, 1, jnp.where(a <= -3, 0, (2 * a + 3) / 6))


# Smooth relatives.


@_in_float32
def _elu(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = a for a > 0, exp(a) - 1 for a ≤ 0 (Clevert, Unterthiner, Hochreiter 2016; α = 1)."""
    return jnp.where(a > 0, a, jnp.expm1(jnp.where(a > 0, 0, a)))


@_in_float32
def _elu_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = 1 for a > 0, exp(a) for a ≤ 0."""
    return jnp.where(a > 0, 1, jnp.exp(jnp.where(a > 0, 0, a)))


_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_LAMBDA = 1.0507009873554804934193349852946


@_in_float32
def _selu(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = λ a for a > 0, λ α (exp(a) - 1) for a ≤ 0 (Klambauer et al. 2017)."""
    return _SELU_LAMBDA * jnp.where(a > 0, a, _SELU_ALPHA * jnp.expm1(jnp.where(a > 0, 0, a)))


@_in_float32
def _selu_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = λ for a > 0, λ α exp(a) for a ≤ 0."""
    return _SELU_LAMBDA * jnp.where(a > 0, 1, _SELU_ALPHA * jnp.exp(jnp.where(a > 0, 0, a)))


@_in_float32
def _softplus(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = ln(1 + exp(a)) = max(0, a) + ln(1 + exp(-|a|))."""
    return jnp.where(a >= 0, a, 0) + jnp.log1p(_exp_minus_abs(a))


def _log_sigmoid(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = ln logistic(a) = -softplus(-a)."""
    return -_softplus(-a)


def _log_sigmoid_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = logistic(-a)."""
    return _logistic(-a)


@_in_float32
def _silu(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = a · logistic(a)."""
    return _with_limits(lambda a: a * _logistic(a), a, 0, a)


@_in_float32
def _silu_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = s (1 + a (1 - s)), where s = logistic(a), and 1 - s = exp(-a) s does not cancel."""

    def derivative(a: Array) -> Array:
        lost, e = _exp_minus(a)
        s = 1 / (1 + e)
        return jnp.where(lost, 0, s * (1 + a * (e * s)))

    return _with_limits(derivative, a, 0, 1)


@_in_float32
def _mish(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = a · tanh(softplus(a)) (Misra 2020)."""
    return _with_limits(lambda a: a * jnp.tanh(_softplus(a)), a, 0, a)


@_in_float32
def _mish_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = t + a (1 - t²) logistic(a), where t = tanh(s), 1 - t² = 4 logistic'(2s), s = softplus(a)."""

    def derivative(a: Array) -> Array:
        s = _softplus(a)
        return jnp.tanh(s) + a * (4 * _logistic_derivative(2 * s)) * _logistic(a)

    return _with_limits(derivative, a, 0, 1)


def _gelu_argument(a: Array) -> Array:
    return math.sqrt(8 / math.pi) * (a + 0.044715 * a**3)


@_in_float32
def _gelu(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = a/2 · (1 + tanh u) = a · logistic(2u), where u = √(2/π) (a + 0.044715 a³) (Hendrycks, Gimpel 2016)."""
    return _with_limits(lambda a: a * _logistic(_gelu_argument(a)), a, 0, a)


@_in_float32
def _gelu_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = logistic(2u) + a · 2u' · logistic'(2u), where 2u' = √(8/π) (1 + 3 · 0.044715 a²)."""

    def derivative(a: Array) -> Array:
        slope = math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * a**2)
        return _logistic(_gelu_argument(a)) + a * slope * _logistic_derivative(_gelu_argument(a))

    return _with_limits(derivative, a, 0, 1)


def _normal_cdf(a: Array) -> Array:
    return 0.5 * lax.erfc(-a * math.sqrt(0.5))


@_in_float32
def _gelu_exact(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = a · Φ(a), with Φ the standard normal distribution function."""
    return _with_limits(lambda a: a * _normal_cdf(a), a, 0, a)


@_in_float32
def _gelu_exact_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = Φ(a) + a φ(a), with φ = Φ' the standard normal density."""
    return _with_limits(lambda a: _normal_cdf(a) + a * (jnp.exp(-0.5 * a**2) / math.sqrt(2 * math.pi)), a, 0, 1)


def _root(a: Array) -> Array:
    """√(a² + 4) without overflow: beyond 10⁹ it is |a| in every dtype."""
    big = jnp.abs(a) > 1e9
    return jnp.where(big, jnp.abs(a), jnp.sqrt(jnp.where(big, 0, a) ** 2 + 4))


@_in_float32
def _squareplus(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(a) = (a + √(a² + 4)) / 2; for a < 0 as 2 / (√(a² + 4) - a), which does not cancel (Barron 2021)."""

    def stable(a: Array) -> Array:
        larger = jnp.where(a >= 0, a, -a)
        larger += 0.5 * (_root(a) - larger)  # the mean of |a| and the root, whose sum could overflow
        return jnp.where(a >= 0, larger, 1 / larger)

    return _with_limits(stable, a, 0, a, far=_largest(a))


@_in_float32
def _squareplus_derivative(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """h'(a) = h(a) / √(a² + 4)."""
    return _with_limits(lambda a: _squareplus(a) / _root(a), a, 0, 1, far=_largest(a))


_HE = math.sqrt(2)

step = Activation("step", _step, _zero, gain=1.0)
logistic = Activation("logistic", _logistic, _logistic_derivative, gain=2.0)
tanh = Activation("tanh", _tanh, _tanh_derivative, gain=1.0)
relu = Activation("relu", _relu, _relu_derivative, gain=_HE)
softsign = Activation("softsign", _softsign, _softsign_derivative, gain=1.0)
identity = Activation("identity", _identity, _one, gain=1.0)
leaky_relu = Activation("leaky_relu", _leaky_relu, _leaky_relu_derivative, gain=math.sqrt(2 / (1 + 0.01**2)))
relu6 = Activation("relu6", _relu6, _relu6_derivative, gain=_HE)
hard_tanh = Activation("hard_tanh", _hard_tanh, _hard_tanh_derivative, gain=1.0)
hard_sigmoid = Activation("hard_sigmoid", _hard_sigmoid, _hard_sigmoid_derivative, gain=3.0)
hard_silu = Activation("hard_silu", _hard_silu, _hard_silu_derivative, gain=_HE)
elu = Activation("elu", _elu, _elu_derivative, gain=_HE)
celu = Activation("celu", _elu, _elu_derivative, gain=_HE)  # at α = 1, the default of both, celu is elu
selu = Activation("selu", _selu, _selu_derivative, gain=1.0)
softplus = Activation("softplus", _softplus, _logistic, gain=_HE)
log_sigmoid = Activation("log_sigmoid", _log_sigmoid, _log_sigmoid_derivative, gain=_HE)
silu = Activation("silu", _silu, _silu_derivative, gain=_HE)
mish = Activation("mish", _mish, _mish_derivative, gain=_HE)
gelu = Activation("gelu", _gelu, _gelu_derivative, gain=_HE)
gelu_exact = Activation("gelu_exact", _gelu_exact, _gelu_exact_derivative, gain=_HE)
squareplus = Activation("squareplus", _squareplus, _squareplus_derivative, gain=_HE)

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


def get(spec: str | Activation | tuple[Elementwise, Elementwise]) -> Activation:
    """Return the activation that a name, an `Activation` or a pair of functions (h, h') stands for.

    A pair gets the gain 1; write `Activation(name, h, derivative, gain)` for another.

    Args:
        spec: a name in `ACTIVATIONS` or `ALIASES`, an `Activation`, or (h, h'), both elementwise on arrays.

    Raises:
        ValueError: the name is unknown.
        TypeError: `spec` is something else.
    """
    if isinstance(spec, Activation):
        return spec
    if isinstance(spec, str):
        name = ALIASES.get(spec, spec)
        if name not in ACTIVATIONS:
            close = difflib.get_close_matches(spec, [*ACTIVATIONS, *ALIASES], n=3)
            hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
            known = ", ".join(sorted(ACTIVATIONS))
            raise ValueError(f"expected the name of an activation, got {spec!r}; {hint}The names are {known}.")
        return ACTIVATIONS[name]
    if isinstance(spec, tuple) and len(spec) == 2 and all(callable(f) for f in spec):
        h, derivative = spec
        return Activation(getattr(h, "__name__", "custom"), h, derivative)
    raise TypeError(
        f"expected an activation's name, an Activation or a pair of functions (h, h'), got {spec!r}; "
        "a function alone is not enough, because backpropagation needs its derivative."
    )
