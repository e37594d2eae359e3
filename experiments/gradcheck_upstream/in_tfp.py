"""Special functions and solvers of TensorFlow Probability on JAX: nearly all have a gradient of their own."""

# pyright: reportMissingImports=false

import jax
import jax.numpy as jnp
from tensorflow_probability.substrates.jax import math as tfm

from .target import Target, at, normal, spd, uniform, vector

P, Q, U = uniform(1, 4, low=0.5, high=3.0), uniform(2, 4, low=0.5, high=3.0), uniform(3, 4, low=0.1, high=0.9)
LARGE = (vector(2.5, 10.0), vector(60.0, 90.0))


def lu(a):
    packed, _, permutation = jax.lax.linalg.lu(a)
    return packed, permutation


FUNCTIONS = {
    "bessel_ive": (tfm.bessel_ive, at(middle=(P, Q), large=LARGE)),
    "bessel_kve": (
        tfm.bessel_kve,
        at(middle=(P, Q), large=LARGE, integer_order=(vector(0.0, 1.0, 2.0), vector(0.5, 1.0, 3.0))),
    ),
    "log_bessel_ive": (tfm.log_bessel_ive, at(middle=(P, Q), large=LARGE)),
    "log_bessel_kve": (tfm.log_bessel_kve, at(middle=(P, Q), large=LARGE)),
    "bessel_iv_ratio": (tfm.bessel_iv_ratio, at(middle=(P + 0.5, Q), large=LARGE)),
    "betainc": (tfm.betainc, at(middle=(P, Q, U), edge=(vector(0.3, 30.0), vector(20.0, 0.5), vector(0.01, 0.97)))),
    "betaincinv": (tfm.betaincinv, at(middle=(P, Q, U))),
    "igammainv": (tfm.igammainv, at(middle=(P, U))),
    "igammacinv": (tfm.igammacinv, at(middle=(P, U))),
    "erfcinv": (tfm.erfcinv, at(middle=vector(0.1, 0.7, 1.5), tail=vector(1e-10, 1.99))),
    "erfcx": (tfm.erfcx, at(middle=vector(-1.0, 0.3, 2.0), large=vector(50.0, 1e4))),
    "logerfc": (tfm.logerfc, at(middle=vector(-1.0, 0.3, 2.0), large=vector(12.0, 30.0))),
    "logerfcx": (tfm.logerfcx, at(middle=vector(-1.0, 0.3, 2.0), large=vector(50.0, 1e4), negative=vector(-8.0))),
    "dawsn": (tfm.dawsn, at(middle=vector(-1.0, 0.3, 2.0), zero=vector(0.0), large=vector(50.0, 1e4))),
    "owens_t": (tfm.owens_t, at(middle=(normal(4, 4), normal(5, 4)), small=(vector(1e-3, 0.0), vector(0.5, 2.0)))),
    "atan_difference": (tfm.atan_difference, at(middle=(normal(6, 4), normal(7, 4)))),
    "lambertw": (tfm.lambertw, at(middle=vector(0.3, 2.0, 30.0), negative=vector(-0.2, -0.35), zero=vector(0.0))),
    "lbeta": (tfm.lbeta, at(middle=(P, Q), large=(vector(1e4, 0.5), vector(2e4, 1e5)))),
    "log_gamma_correction": (tfm.log_gamma_correction, at(large=vector(8.0, 30.0, 1e4))),
    "log_gamma_difference": (
        tfm.log_gamma_difference,
        at(middle=(P, Q + 8), large=(vector(0.5, 3.0), vector(1e4, 1e6))),
    ),
    "log1mexp": (tfm.log1mexp, at(middle=vector(0.3, 2.0), small=vector(1e-6, 1e-3), large=vector(40.0))),
    "log_add_exp": (
        tfm.log_add_exp,
        at(normal=(normal(8, 4), normal(9, 4)), equal=(vector(1.0, 90.0), vector(1.0, 90.0))),
    ),
    "log_sub_exp": (
        tfm.log_sub_exp,
        at(apart=(vector(1.0, 3.0), vector(0.5, -2.0)), near=(vector(1.0), vector(0.9999))),
    ),
    "log_cosh": (tfm.log_cosh, at(normal=normal(10, 4), zero=vector(0.0), large=vector(90.0, -1e4))),
    "log1psquare": (tfm.log1psquare, at(normal=normal(11, 4), large=vector(1e10, -1e20))),
    "log_cumsum_exp": (tfm.log_cumsum_exp, at(normal=normal(12, 5), large=normal(13, 5, scale=60.0))),
    "softplus_inverse": (tfm.softplus_inverse, at(middle=vector(0.1, 2.0, 30.0), small=vector(1e-8))),
    "sqrt1pm1": (tfm.sqrt1pm1, at(middle=vector(-0.5, 0.3, 5.0), small=vector(1e-10, -1e-6))),
    "smootherstep": (tfm.smootherstep, at(inside=vector(0.1, 0.7), outside=vector(-1.0, 2.0))),
    "soft_threshold": (lambda x: tfm.soft_threshold(x, 0.5), at(normal=normal(14, 5))),
    "round_exponential_bump_function": (
        tfm.round_exponential_bump_function,
        at(inside=vector(-0.7, 0.2), edge=vector(0.99, 1.0), outside=vector(2.0)),
    ),
    "clip_by_value_preserve_gradient": (
        lambda x: tfm.clip_by_value_preserve_gradient(x, -1.0, 1.0),
        at(inside=vector(-0.7, 0.2)),
    ),
    "reduce_logmeanexp": (tfm.reduce_logmeanexp, at(normal=normal(15, 5))),
    "reduce_weighted_logsumexp": (tfm.reduce_weighted_logsumexp, at(normal=(normal(16, 4), normal(17, 4)))),
    "reduce_kahan_sum": (lambda x: tfm.reduce_kahan_sum(x).total, at(normal=normal(18, 6))),
    "interp_regular_1d_grid": (
        lambda x, y: tfm.interp_regular_1d_grid(x, jnp.zeros((), x.dtype), jnp.ones((), x.dtype), y),
        at(inside=(vector(0.13, 0.71), normal(19, 5)), outside=(vector(-0.5, 1.5), normal(19, 5))),
    ),
    "soft_sorting_matrix": (lambda x: tfm.soft_sorting_matrix(x, 0.5), at(normal=normal(20, 4))),
    "hpsd_logdet": (lambda a: tfm.hpsd_logdet(0.5 * (a + a.T)), at(definite=spd(21, 3))),
    "hpsd_solve": (lambda a, b: tfm.hpsd_solve(0.5 * (a + a.T), b), at(definite=(spd(22, 3), normal(23, 3, 2)))),
    "hpsd_quadratic_form_solve": (
        lambda a, b: tfm.hpsd_quadratic_form_solve(0.5 * (a + a.T), b),
        at(definite=(spd(24, 3), normal(25, 3, 2))),
    ),
    "hpsd_quadratic_form_solvevec": (
        lambda a, b: tfm.hpsd_quadratic_form_solvevec(0.5 * (a + a.T), b),
        at(definite=(spd(26, 3), normal(27, 3))),
    ),
    "cholesky_update": (
        lambda a, x: tfm.cholesky_update(jnp.linalg.cholesky(0.5 * (a + a.T)), x),
        at(definite=(spd(28, 3), normal(29, 3))),
    ),
    "fill_triangular": (tfm.fill_triangular, at(normal=normal(30, 6))),
    "gram_schmidt": (tfm.gram_schmidt, at(normal=normal(31, 4, 2))),
    "lu_solve": (
        lambda a, b: tfm.lu_solve(*lu(a), b),
        at(dominant=(normal(32, 3, 3) + 3 * jnp.eye(3), normal(33, 3, 1))),
    ),
    "trapz": (tfm.trapz, at(normal=normal(34, 5))),
    "hypergeometric.hyp2f1_small_argument": (
        tfm.hypergeometric.hyp2f1_small_argument,
        at(middle=(P, Q, P + Q, 0.5 * U)),
    ),
}


TARGETS = [Target("tfp.math." + name, fun, inputs) for name, (fun, inputs) in FUNCTIONS.items()]
