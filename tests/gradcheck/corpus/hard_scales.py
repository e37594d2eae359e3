"""Right functions that are hard for their numbers: scale, cancellation, saturation, oscillation, kinks."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special

from .case import KINK, array, bf16, f16, f32, hard, i32, jvp, normal, uniform, vjp

FAMILY = "scales"
KINKS = "kinks"
LOW = "low precision"
ZERO = "zero gradients"


@jax.custom_jvp
def log1pexp(x):
    """The example of JAX's own documentation: in float32, autodiff of the primal is NaN at 100, the rule is right."""
    return jnp.log1p(jnp.exp(x))


log1pexp.defjvp(lambda p, t: (log1pexp(p[0]), jax.lax.logistic(p[0]) * t[0]))


def softplus_where(x):
    return jnp.where(x > 20, x, jnp.log1p(jnp.exp(x)))


def wilkinson(x):
    out = jnp.ones_like(x)
    for k in range(1, 9):
        out = out * (x - k)
    return out


def chebyshev(x, degree=20):
    a, b = jnp.ones_like(x), x
    for _ in range(degree - 1):
        a, b = b, 2 * x * b - a
    return b


def welford_free_variance(x):
    return jnp.mean((x - jnp.mean(x)) ** 2)


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def mixed_scales(tree):
    return tree["tiny"] * tree["huge"], jnp.sum(tree["tiny"] ** 2) * 1e20, jnp.sqrt(tree["huge"])


def safe_norm(x):
    zero = jnp.sum(x**2) == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, jnp.sum(x**2))))


def staircase(x):
    return x.astype(bf16).astype(f32) * 3


def scaled(name, fun, args, note, family=FAMILY, **more):
    return hard(name, fun, args, note, family, **more)


def at(*values, dtype=f32):
    return lambda: (array(*values, dtype=dtype),)


# fmt: off
CASES = [
    scaled("sin_at_1e-20", jnp.sin, at(1e-20, -3e-20, 5e-18), "inputs of 1e-20: an absolute step of 1e-4 sees nothing"),
    scaled("square_at_1e18", jnp.square, at(1e18, -3e18), "x² = 1e37 in float32"),
    scaled("log1p_ten_scales", jnp.log1p, at(1e-20, 1e-10, 1e-3, 1.0, 1e6, 1e18), "1e-20 to 1e18 in one vector"),
    scaled("sqrt_ten_scales", jnp.sqrt, at(1e-20, 1e-10, 1e-3, 1.0, 1e6, 1e18), "slopes from 1e10 to 1e-9"),
    scaled("reciprocal_small", lambda x: 1 / x, at(1e-12, -1e-6, 1e-3), "slopes of 1e24"),
    scaled("tree_of_scales", mixed_scales,
           lambda: ({"tiny": array(1e-20, 2e-20), "huge": array(1e18, -0.0 + 2e18)},), "leaves of 1e-20 and 1e18"),
    scaled("energy_small_units", lambda x: 1.38e-23 * jnp.sum(x**2), lambda: (normal(601, 5, scale=1e3),),
           "an SI constant: gradients of 1e-20 (jax #39821)"),
    scaled("pressure_large_units", lambda x: jnp.sum(jnp.sin(x) * 1e15), lambda: (normal(602, 5),), "outputs of 1e15"),
    scaled("one_minus_cos", lambda x: (1 - jnp.cos(x)) / x**2, at(0.1, 0.3, 1.0), "cancellation: 5 digits lost",
           self_test=1e6),
    scaled("sqrt_difference", lambda x: jnp.sqrt(x + 1) - jnp.sqrt(x), at(10.0, 1e4, 1e5), "cancellation at 1e5"),
    scaled("log_one_plus_naive", lambda x: jnp.log(1 + x), at(1e-6, 1e-4, 0.1), "a staircase in float32"),
    scaled("variance_large_mean", welford_free_variance, lambda: (normal(603, 50) + 1e4,), "mean 1e4, deviation 1"),
    scaled("difference_of_squares", lambda a, b: a**2 - b**2, lambda: (array(1000.1, 3.0), array(1000.0, 3.001)),
           "cancellation in the value, none in the gradient"),
    scaled("wilkinson", wilkinson, at(1.5, 4.2, 7.9, 20.0), "roots 1 to 8: condition 1e3"),
    scaled("chebyshev", chebyshev, at(-0.99, 0.1, 0.7, 1.0), "degree 20: slope 400 at 1"),
    scaled("tanh_saturated", jnp.tanh, at(-30.0, -8.0, 0.0, 9.5, 200.0), "derivative zero in float32, 1e-26 in truth"),
    scaled("logistic_saturated", jax.nn.sigmoid, at(-80.0, -20.0, 0.0, 15.0, 80.0), "derivatives from 1e-35 to 1/4"),
    scaled("erfc_tail", special.erfc, at(-3.0, 0.0, 5.0, 8.5), "derivatives of 1e-32"),
    scaled("flat_bump", lambda x: jnp.exp(-1 / x**2), at(0.12, 0.3, 1.0, 5.0), "all derivatives vanish at 0"),
    scaled("cosh_80", jnp.cosh, at(-80.0, 1.0, 80.0), "values of 1e34"),
    scaled("gaussian_tail", lambda x: jnp.exp(-0.5 * x**2), at(-12.0, 0.0, 3.0, 12.0), "values of 1e-32"),
    scaled("sin_1e4_x", lambda x: jnp.sin(1e4 * x), lambda: (uniform(604, 6),),
           "oscillation: a step of 1e-4 is aliased", self_test=1e5),
    scaled("sin_at_1e5", jnp.sin, at(1e5, -54321.0, 2e4), "ulps of the input are 1e-2 radians"),
    scaled("sin_reciprocal", lambda x: jnp.sin(1 / x), at(0.01, 0.013, 0.5), "frequency 1e4 near 0.01"),
    scaled("logsumexp_1e4", special.logsumexp, at(1e4, 9999.0, -1e4, 1e4), "jax's own, with stop_gradient inside"),
    scaled("logsumexp_minus_inf", special.logsumexp, at(-np.inf, 1.0, 2.0, -np.inf), "masked logits of −inf"),
    scaled("log1pexp_rule", log1pexp, at(-80.0, 0.5, 50.0, 100.0),
           "the rule is right where autodiff of its primal is NaN in float32, but not in float64"),
    scaled("softplus_where_rule", vjp(softplus_where, lambda g, x: (g * jax.lax.logistic(x),)), at(-80.0, 0.5, 1000.0),
           "the rule is right where autodiff of its primal is NaN in every dtype: 0 · inf under where", self_test=None),
    scaled("softplus_library", jax.nn.softplus, at(-100.0, -1.0, 0.0, 30.0, 1e4), "logaddexp with its own rule"),
    scaled("softplus_zero", jax.nn.softplus, at(0.0, 0.5), "smooth, and its rule is right; autodiff of its primal, "
           "max(x, 0) + ln(1 + exp(−|x|)), is not at 0", KINKS, allowed=KINK, self_test=None),
    scaled("sinc_library", jnp.sinc, at(0.0, 0.5, 3.0, -7.0), "a removable singularity; JAX 0.12 keeps its derivative "
           "at integers by v − stop_gradient(v)"),
    scaled("log_softmax_1e4", jax.nn.log_softmax, at(1e4, -1e4, 0.0, 9990.0), "logits of 1e4"),
    scaled("xlogy_zero", special.xlogy, lambda: (array(0.0, 1.0, 2.0), array(0.5, 1e-10, 3.0)), "0 ln y"),
    scaled("lgamma_large", special.gammaln, at(0.01, 1.4616, 30.0, 1e5), "near the minimum and at 1e5"),
    scaled("log_ndtr_tail", special.log_ndtr, at(-20.0, -5.0, 0.0, 5.0), "a rule in jax.scipy.special"),
    scaled("erfinv_edge", special.erfinv, at(-0.9999, 0.0, 0.5, 0.999), "slopes of 1e3", self_test=2e3),
    scaled("arccos_edge", jnp.arccos, at(-0.9999, 0.0, 0.99999), "slopes of 2e2"),
    scaled("bessel_i0e", special.i0e, at(-5.0, 0.3, 100.0), "a rule by recurrence"),
    scaled("logit_edge", special.logit, at(1e-7, 0.5, 0.9999), "slopes of 1e7"),
    scaled("power_of_zero", lambda x: x**2 + x**3, at(0.0, -1.0, 2.0), "0² has derivative 0, not NaN (jax #17496)"),
    scaled("power_tiny_base", jnp.power, lambda: (array(1e-8, 0.5, 3.0), array(0.3, 2.5, -1.5)), "x^y with x = 1e-8"),
    scaled("rosenbrock_large", rosenbrock, at(30.0, -20.0, 11.0), "values of 1e8"),
    scaled("atan2_far", jnp.arctan2, lambda: (array(1e-10, 1e10, -3.0), array(1e10, 1e-10, -4.0)), "ratios of 1e20"),
    scaled("relu_zero", jax.nn.relu, at(-1.0, 0.0, 2.0), "exactly at the kink", KINKS, allowed=KINK,
           self_test=None),
    scaled("abs_zero", jnp.abs, at(-1.0, 0.0, 2.0), "exactly at the kink", KINKS, allowed=KINK,
           self_test=None),
    scaled("maximum_tie", jnp.maximum, lambda: (array(1.0, 2.0, 3.0), array(1.0, -2.0, 3.0)),
           "ties: jax takes one half each", KINKS, allowed=KINK, self_test=None),
    scaled("max_tie", jnp.max, at(1.0, 3.0, 3.0, 3.0), "three maxima: a third each", KINKS, allowed=KINK,
           self_test=None),
    scaled("clip_border", lambda x: jnp.clip(x, -1, 1), at(-1.0, 0.5, 1.0), "at the border of a clip", KINKS,
           allowed=KINK, self_test=None),
    scaled("safe_norm_zero", safe_norm, at(0.0, 0.0, 0.0), "‖x‖ at 0 with the subgradient 0", KINKS, allowed=KINK,
           self_test=None),
    scaled("leaky_relu_zero", lambda x: jax.nn.leaky_relu(x, 0.1), at(0.0, -2.0, 1.0), "slopes 0.1 and 1", KINKS,
           allowed=KINK, self_test=None),
    scaled("relu_near_zero", jax.nn.relu, at(1e-6, -1e-6, 1e-12, 3.0), "kinks within any step of differences (caffe "
           "#1334)", KINKS, allowed=KINK),
    scaled("abs_near_zero", jnp.abs, at(1e-12, -1e-7, 1.0), "kinks within any step", KINKS, allowed=KINK),
    scaled("hinge_at_margin", lambda x: jnp.sum(jnp.maximum(0, 1 - x)), at(1.0, 0.999999, 2.0), "at the margin",
           KINKS, allowed=KINK, self_test=None),
    scaled("abs_sine_crossings", lambda x: jnp.abs(jnp.sin(20 * x)), lambda: (uniform(605, 8),), "kinks every 0.16",
           KINKS, allowed=KINK),
    scaled("constant", lambda x: jnp.zeros_like(x) + 3, at(1.0, 2.0), "no gradient, rightly", ZERO),
    scaled("constant_scalar", lambda x: f32(2.5), at(1.0, 2.0), "the output does not depend on the input", ZERO),
    scaled("identically_zero", lambda x: x - x, at(1.0, -2.0), "two terms that cancel", ZERO),
    scaled("floor_between_integers", jnp.floor, at(0.5, -1.3, 7.7), "piecewise constant", ZERO),
    scaled("sign_and_round", lambda x: jnp.sign(x) + jnp.round(x), at(0.7, -1.2), "piecewise constant", ZERO),
    scaled("unused_argument", lambda x, y: jnp.sin(x), lambda: (normal(606, 3), normal(607, 3)),
           "an argument without influence", ZERO),
    scaled("stationary_point", lambda x: jnp.sum(x**4), at(0.0, 0.0, 0.0), "every derivative up to the third is 0",
           ZERO),
    scaled("tanh_f16", jnp.tanh, at(-5.0, -0.3, 0.0, 2.0, dtype=f16), "float16 (jax #39821)", LOW, self_test=16.0),
    scaled("softmax_f16", jax.nn.softmax, lambda: (normal(608, 4, 9, scale=3.0, dtype=f16),), "float16", LOW,
           self_test=16.0),
    scaled("square_f16_large", jnp.square, at(200.0, -150.0, 3e-4, dtype=f16), "x² = 4e4 near float16's largest", LOW,
           self_test=16.0),
    scaled("gelu_bf16", jax.nn.gelu, lambda: (normal(609, 16, scale=2.0, dtype=bf16),), "bfloat16", LOW,
           self_test=64.0),
    scaled("sum_bf16", jnp.sum, lambda: (normal(610, 1000, dtype=bf16),), "1000 terms in bfloat16", LOW,
           self_test=16.0),
    scaled("logsumexp_bf16", special.logsumexp, lambda: (normal(611, 40, scale=5.0, dtype=bf16),), "bfloat16", LOW,
           self_test=64.0),
    scaled("exp_bf16_chain", lambda x: jnp.exp(jnp.sin(x) * 3) * x, lambda: (normal(612, 12, dtype=bf16),),
           "a chain of roundings", LOW, self_test=256.0),
    scaled("cast_round_trip", staircase, lambda: (normal(613, 6),), "float32 → bfloat16 → float32: differences see "
           "stairs", LOW, self_test=None),
    scaled("mixed_dtypes", lambda a, b, c, n: (a * c.astype(f32), (b.astype(f32) * jnp.sum(a)).astype(f16), c * n),
           lambda: (normal(614, 3), normal(615, 3, dtype=f16), normal(616, 3, dtype=bf16), i32(2)),
           "float32, float16, bfloat16 and an integer in one call", LOW, self_test=64.0),
    scaled("entropy_of_certainty", lambda z: -jnp.sum(jax.nn.softmax(z) * jax.nn.log_softmax(z)), at(80.0, 0.0, -80.0),
           "what a probability lacks to 1 is lost in float64, too, and differences miss its part", ZERO),
    scaled("square_rule_right", vjp(jnp.square, lambda g, x: (2 * g * x,)), at(0.0, 1e-30, 1e15), "a right rule at 0 "
           "and over 45 orders of magnitude", primal=jnp.square),
    scaled("sinc_rule_right", jvp(jnp.sinc, lambda p, t: t[0] * jax.jvp(jnp.sinc, (p[0],), (jnp.ones_like(p[0]),))[1]),
           at(0.0, 0.5, 3.0), "a removable singularity at 0", primal=jnp.sinc),
]
# fmt: on
