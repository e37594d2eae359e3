"""Pairs of elementwise functions: signs, factors, residuals, saturation, one element among a million."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf

from .case import Case, array, bf16, f32, i32, jpair, normal, pair, uniform, vjp

FAMILY = "elementwise"
SQRT2, SQRT_2_PI = float(np.sqrt(2)), float(np.sqrt(2 / np.pi))


def logistic(x):
    return jax.lax.logistic(x)


def gelu_tanh(x):
    return 0.5 * x * (1 + jnp.tanh(SQRT_2_PI * (x + 0.044715 * x**3)))


def gelu_tanh_slope(x):
    t = jnp.tanh(SQRT_2_PI * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * SQRT_2_PI * (1 + 3 * 0.044715 * x**2)


def gelu_erf_slope(x):
    return 0.5 * (1 + erf(x / SQRT2)) + x * jnp.exp(-0.5 * x**2) * (SQRT_2_PI / 2)


def silu(x):
    return x * logistic(x)


def silu_slope(x):
    s = logistic(x)
    return s + x * s * (1 - s)


def softplus(x):
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def softplus_overflow(g, x):
    return (g * jnp.exp(x) / (1 + jnp.exp(x)),)


def mish_right(g, x):
    t, s = jnp.tanh(softplus(x)), logistic(x)
    return (g * (t + x * (1 - t**2) * s),)


def mish_wrong(g, x):
    t = jnp.tanh(softplus(x))
    return (g * (t + x * (1 - t**2)),)


def power(x, n):
    return x**n


def huber(x):
    small = jnp.abs(x) <= 0.5
    return jnp.where(small, 0.5 * x**2, 0.5 * (jnp.abs(x) - 0.25))


def huber_right(g, x):
    return (g * jnp.clip(x, -0.5, 0.5),)


def huber_wrong(g, x):
    return (g * jnp.where(jnp.abs(x) <= 0.5, x, jnp.sign(x)),)


def relu6(x):
    return jnp.minimum(jnp.maximum(x, 0), 6)


def atan2_right(g, y, x):
    r = x**2 + y**2
    return g * x / r, -g * y / r


def atan2_wrong(g, y, x):
    r = x**2 + y**2
    return -g * y / r, g * x / r


def softcap(x):
    return 30 * jnp.tanh(x / 30)


def one_sign_in_a_million(g, x):
    slope = 1 - jnp.tanh(x) ** 2
    return (g * slope.at[777_777].multiply(-1),)


def tail_not_written(g, x):
    full = (x.shape[0] // 1024) * 1024
    return (jnp.where(jnp.arange(x.shape[0], dtype=i32) < full, g * jnp.cos(x), 0),)


def logaddexp(a, b):
    return jnp.maximum(a, b) + jnp.log1p(jnp.exp(-jnp.abs(a - b)))


def logaddexp_right(p, t):
    w = logistic(p[0] - p[1])
    return w * t[0] + (1 - w) * t[1]


def logaddexp_wrong(p, t):
    w = logistic(p[0] - p[1])
    return (1 - w) * t[0] + w * t[1]


def defjvps_none(x, y):
    return x * jnp.exp(y)


def _only_x():
    rule = jax.custom_jvp(defjvps_none)
    rule.defjvps(lambda t, out, x, y: t * jnp.exp(y), None)
    return rule


def _both():
    rule = jax.custom_jvp(defjvps_none)
    rule.defjvps(lambda t, out, x, y: t * jnp.exp(y), lambda t, out, x, y: t * out)
    return rule


def x4():
    return (normal(1, 17, scale=2.0),)


# fmt: off
CASES = [
    pair("cos_sign", FAMILY, jnp.cos, lambda g, x: (-g * jnp.sin(x),), lambda g, x: (g * jnp.sin(x),), x4,
         "the minus of cos' forgotten", torch="cos_sign"),
    pair("gelu_forward_tanh_backward_erf", FAMILY, gelu_tanh, lambda g, x: (g * gelu_tanh_slope(x),),
         lambda g, x: (g * gelu_erf_slope(x),), x4, "tanh approximation forward, the exact derivative backward: "
         "at most 1e-3 apart", torch="gelu_forward_tanh_backward_erf"),
    pair("silu_factor_1e-3", FAMILY, silu, lambda g, x: (g * silu_slope(x),),
         lambda g, x: (g * silu_slope(x) * 1.001,), x4, "a wrong constant: factor 1 + 1e-3 in float32",
         torch="silu_factor_1e-3"),
    pair("silu_shortcut_at_large_x", FAMILY, silu, lambda g, x: (g * silu_slope(x),),
         lambda g, x: (g * jnp.where(jnp.abs(x) > 5, (x > 0).astype(x.dtype), silu_slope(x)),),
         lambda: (array(-7.0, -5.5, -2.0, -0.3, 0.4, 1.0, 5.2, 6.5),), "an asymptote used where it is 1% off: wrong "
         "at large |x| only"),
    pair("softplus_exp_overflow", FAMILY, softplus, lambda g, x: (g * logistic(x),), softplus_overflow,
         lambda: (array(-90.0, -3.0, 0.5, 3.0, 100.0),), "e^x/(1+e^x) overflows to NaN (jax #475)"),
    pair("exp_clipped", FAMILY, jnp.exp, lambda g, x: (g * jnp.exp(x),),
         lambda g, x: (g * jnp.exp(jnp.minimum(x, 5)),), lambda: (array(-2.0, 0.5, 3.0, 4.9, 7.0),),
         "the guard against overflow is stricter in the backward pass", torch="exp_clipped"),
    Case("tanh_stale_residual", FAMILY, vjp(jnp.tanh, lambda g, z: (g * (1 - z**2),), lambda x: (jnp.tanh(x),)), x4,
         vjp(jnp.tanh, lambda g, z: (g * (1 - z**2),), lambda x: (x,)), "the input was saved where the rule wants the "
         "output", primal=jnp.tanh, torch="tanh_stale_residual"),
    pair("leaky_relu_slope", FAMILY, lambda x: jnp.where(x > 0, x, 0.1 * x),
         lambda g, x: (g * jnp.where(x > 0, 1.0, 0.1).astype(x.dtype),),
         lambda g, x: (g * jnp.where(x > 0, 1.0, 0.01).astype(x.dtype),), x4, "another slope in the backward pass"),
    pair("power_integer_argument", FAMILY, power, lambda g, x, n: (g * n * x ** (n - 1), None),
         lambda g, x, n: (g * n * x**n, None), lambda: (uniform(2, 9, low=0.4, high=1.6), i32(3)),
         "the exponent not lowered; the other argument is an integer"),
    pair("sqrt_slope", FAMILY, jnp.sqrt, lambda g, x: (0.5 * g / jnp.sqrt(x),), lambda g, x: (0.5 * g * jnp.sqrt(x),),
         lambda: (uniform(3, 9, low=0.3, high=4.0),), "multiplied where one divides; equal at x = 1"),
    pair("relu6_upper_side", FAMILY, relu6, lambda g, x: (g * ((x > 0) & (x < 6)),), lambda g, x: (g * (x > 0),),
         lambda: (array(-3.0, -0.1, 0.2, 2.5, 5.9, 6.1, 9.0),), "the mask of the upper side forgotten"),
    pair("softcap_chain", FAMILY, softcap, lambda g, x: (g * (1 - jnp.tanh(x / 30) ** 2),),
         lambda g, x: (g * (1 - jnp.tanh(x / 30) ** 2) / 30,), lambda: (normal(4, 9, scale=30.0),),
         "30 tanh(x/30): the inner derivative applied, the outer factor not"),
    pair("huber_delta", FAMILY, huber, huber_right, huber_wrong, x4, "the threshold missing outside it",
         torch="huber_delta"),
    pair("mish_inner", FAMILY, lambda x: x * jnp.tanh(softplus(x)), mish_right, mish_wrong, x4,
         "the derivative of the inner softplus dropped"),
    pair("erf_constant", FAMILY, erf, lambda g, x: (g * 2 / float(np.sqrt(np.pi)) * jnp.exp(-(x**2)),),
         lambda g, x: (g / float(np.sqrt(np.pi)) * jnp.exp(-(x**2)),), x4, "a factor of two", torch="erf_constant"),
    pair("atan2_swapped", FAMILY, jnp.arctan2, atan2_right, atan2_wrong, lambda: (normal(5, 9), normal(6, 9)),
         "the two cotangents swapped: same shapes", torch="atan2_swapped"),
    pair("one_sign_in_a_million", FAMILY, jnp.tanh, lambda g, x: (g * (1 - jnp.tanh(x) ** 2),), one_sign_in_a_million,
         lambda: (normal(7, 1_000_000),), "one flipped sign among 1e6 elements (silent in every other tool)"),
    pair("tail_of_blocks_not_written", FAMILY, jnp.sin, lambda g, x: (g * jnp.cos(x),), tail_not_written,
         lambda: (normal(8, 10_243),), "the last, incomplete block of 1024 elements stays zero"),
    pair("cotangent_of_first_element", FAMILY, jnp.sin, lambda g, x: (g * jnp.cos(x),),
         lambda g, x: (g[:1] * jnp.cos(x),), x4, "right for constant cotangents only "
         "(IncompressibleNavierStokes.jl #186)", torch="cotangent_of_first_element"),
    pair("cotangent_ignored", FAMILY, jnp.sin, lambda g, x: (g * jnp.cos(x),),
         lambda g, x: (jnp.cos(x),), x4, "the derivative of the sum, whatever the cotangent is "
         "(IncompressibleNavierStokes.jl #186)"),
    jpair("logaddexp_weights", FAMILY, logaddexp, logaddexp_right, logaddexp_wrong,
          lambda: (normal(9, 7, scale=2.0), normal(10, 7, scale=2.0)), "the weights of the two tangents swapped"),
    Case("defjvps_none", FAMILY, _both(), lambda: (normal(11, 6), normal(12, 6)), _only_x(),
         "defjvps(rule, None): None means that the derivative is zero, not that JAX finds it", how="jvp",
         primal=defjvps_none),
    jpair("product_rule", FAMILY, lambda x, y: x * y, lambda p, t: t[0] * p[1] + p[0] * t[1], lambda p, t: t[0] * p[1],
          lambda: (normal(13, 6), normal(14, 6)), "the second term of the product rule dropped"),
    jpair("reciprocal_sign", FAMILY, lambda x: 1 / x, lambda p, t: -t[0] / p[0] ** 2, lambda p, t: t[0] / p[0] ** 2,
          lambda: (uniform(15, 6, low=0.5, high=2.0),), "a sign in a pushforward"),
    pair("silu_bf16_factor", FAMILY, silu, lambda g, x: (g * silu_slope(x.astype(f32)).astype(bf16),),
         lambda g, x: (g * logistic(x.astype(f32)).astype(bf16),), lambda: (normal(16, 24, scale=2.0, dtype=bf16),),
         "bfloat16: the term x s(1−s) dropped"),
]
# fmt: on
