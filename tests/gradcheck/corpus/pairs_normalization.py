"""Pairs of normalization layers: each loses one of the terms that the statistics contribute."""

import jax.numpy as jnp
from jax import lax

from .case import Case, array, bf16, f32, jpair, normal, pair, vjp_fwd

FAMILY = "normalization"
EPS = 1e-5


def stats(x, axes):
    m = jnp.mean(x, axis=axes, keepdims=True)
    r = lax.rsqrt(jnp.mean((x - m) ** 2, axis=axes, keepdims=True) + EPS)
    return (x - m) * r, r


def layer_norm(x, gamma, beta):
    return stats(x, -1)[0] * gamma[None, :] + beta[None, :]


def layer_norm_rule(mean=True, product=True, gamma_first=True, swap=False, dtype=None, eps_backward=EPS):
    def pull(g, x, gamma, beta):
        m = jnp.mean(x, -1, keepdims=True)
        r = lax.rsqrt(jnp.mean((x - m) ** 2, -1, keepdims=True) + eps_backward)
        xhat = ((x - m) * r).astype(dtype or x.dtype).astype(x.dtype)
        d = g * gamma[None, :] if gamma_first else g
        dx = d
        if mean:
            dx = dx - jnp.mean(d, -1, keepdims=True)
        if product:
            dx = dx - xhat * jnp.mean(d * xhat, -1, keepdims=True)
        dx = dx * r if gamma_first else dx * r * gamma[None, :]
        leaves = jnp.sum(g * xhat, 0), jnp.sum(g, 0)
        return dx, *(leaves[::-1] if swap else leaves)

    return pull


def ln_args():
    return normal(201, 5, 8, scale=1.5) + 0.5, 1 + normal(202, 8, scale=0.4), normal(203, 8)


def small_rows():
    x = normal(204, 4, 8)
    return x * jnp.asarray([[1.0], [1e-3], [3.0], [1.0]], f32), 1 + normal(205, 8, scale=0.3), normal(206, 8)


def ln_pair(name, note, args=ln_args, **wrong):
    return pair(name, FAMILY, layer_norm, layer_norm_rule(), layer_norm_rule(**wrong), args, note)


def rms_norm(x, w):
    return x * lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + EPS) * (1 + w)[None, :]


def rms_rule(offset=1.0, product=True):
    def pull(g, x, w):
        r = lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + EPS)
        d = g * (offset + w)[None, :]
        dx = r * (d - product * x * r**2 * jnp.mean(d * x, -1, keepdims=True))
        return dx, jnp.sum(g * x * r, 0)

    return pull


def group_norm(x):
    return stats(x.reshape(x.shape[0], 2, -1), -1)[0].reshape(x.shape)


def group_rule(groups):
    def pull(g, x):
        xhat, r = stats(x.reshape(x.shape[0], 2, -1), -1)
        d, xhat = (v.reshape(x.shape[0], groups, -1) for v in (g, xhat))
        inner = d - jnp.mean(d, -1, keepdims=True) - xhat * jnp.mean(d * xhat, -1, keepdims=True)
        return ((inner.reshape(x.shape[0], 2, -1) * r).reshape(x.shape),)

    return pull


def batch_norm(x):
    return stats(x, 0)[0]


def batch_rule(training):
    def pull(g, x):
        xhat, r = stats(x, 0)
        terms = jnp.mean(g, 0, keepdims=True) + xhat * jnp.mean(g * xhat, 0, keepdims=True)
        return (r * (g - training * terms),)

    return pull


def weight_norm(v, s):
    return v * (s / jnp.sqrt(jnp.sum(v**2, 1)))[:, None]


def weight_norm_rule(project):
    def pull(g, v, s):
        n = jnp.sqrt(jnp.sum(v**2, 1, keepdims=True))
        u = v / n
        ds = jnp.sum(g * u, 1)
        return (g - project * u * ds[:, None]) * s[:, None] / n, ds

    return pull


def layer_norm_bf16(x, gamma):
    return (stats(x.astype(f32), -1)[0] * gamma.astype(f32)[None, :]).astype(bf16)


def layer_norm_bf16_rule(product):
    def pull(g, x, gamma):
        xhat, r = stats(x.astype(f32), -1)
        g = g.astype(f32)
        d = g * gamma.astype(f32)[None, :]
        dx = r * (d - jnp.mean(d, -1, keepdims=True) - product * xhat * jnp.mean(d * xhat, -1, keepdims=True))
        return dx.astype(bf16), jnp.sum(g * xhat, 0).astype(bf16)

    return pull


def rms_norm_residual(x, delta, w):
    """The fused kernel: the residual stream is updated and normalized in one pass."""
    h = x + delta
    return h, rms_norm(h, w)


def fused_rule(stream):
    def pull(g, x, delta, w):
        dh, dw = rms_rule()(g[1], x + delta, w)
        dh = dh + stream * g[0]
        return dh, dh, dw

    return pull


def standardize_push(mean):
    def push(p, t):
        xhat, r = stats(p[0], -1)
        d = t[0]
        return r * (d - mean * jnp.mean(d, -1, keepdims=True) - xhat * jnp.mean(d * xhat, -1, keepdims=True))

    return push


def unnormalized_forward(x, w):
    """fwd of a rule that forgets the offset 1 + w: the value changes when it is differentiated."""
    return x * lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + EPS) * w[None, :], (x, w)


def rms_args():
    return normal(207, 5, 8, scale=2.0), normal(208, 8, scale=0.3)


def rms_bwd(res, g):
    return rms_rule()(g, *res)


# fmt: off
CASES = [
    ln_pair("layer_norm_mean_term", "the term mean(g) dropped", mean=False),
    ln_pair("layer_norm_product_term", "the term x̂ mean(g x̂) dropped", product=False),
    ln_pair("layer_norm_gamma_after_means", "gamma applied after the two means; right when gamma is constant",
            gamma_first=False),
    ln_pair("layer_norm_swapped_leaves", "the gradients of gamma and beta swapped: same shape", swap=True),
    ln_pair("layer_norm_residual_bf16", "x̂ saved in bfloat16 while the layer is float32: relative error 4e-3",
            dtype=bf16),
    ln_pair("layer_norm_eps_missing", "eps only in the forward pass: wrong in rows of small variance only",
            args=small_rows, eps_backward=0.0),
    pair("rms_norm_product_term", FAMILY, rms_norm, rms_rule(), rms_rule(product=False), rms_args,
         "the scale treated as a constant"),
    pair("rms_norm_offset", FAMILY, rms_norm, rms_rule(), rms_rule(offset=0.0), rms_args,
         "the weight is 1 + w forward, w backward"),
    pair("group_norm_all_channels", FAMILY, group_norm, group_rule(2), group_rule(1), lambda: (normal(209, 4, 6),),
         "the means of the backward pass over all channels instead of the group"),
    pair("batch_norm_constant_statistics", FAMILY, batch_norm, batch_rule(1.0), batch_rule(0.0),
         lambda: (normal(210, 7, 3),), "the backward pass of evaluation mode"),
    pair("weight_norm_projection", FAMILY, weight_norm, weight_norm_rule(1.0), weight_norm_rule(0.0),
         lambda: (normal(211, 3, 5), array(0.5, 1.5, 2.0)), "the component along v not removed"),
    pair("layer_norm_bf16_product_term", FAMILY, layer_norm_bf16, layer_norm_bf16_rule(1.0), layer_norm_bf16_rule(0.0),
         lambda: (normal(212, 4, 16, dtype=bf16), (1 + normal(213, 16, scale=0.2)).astype(bf16)),
         "bfloat16: x̂ mean(g x̂) dropped", self_test=64.0),
    pair("fused_residual_stream", FAMILY, rms_norm_residual, fused_rule(1.0), fused_rule(0.0),
         lambda: (normal(214, 3, 6), normal(215, 3, 6), normal(216, 6, scale=0.3)),
         "two outputs: the cotangent of the residual stream forgotten"),
    jpair("standardize_push_mean", FAMILY, lambda x: stats(x, -1)[0], standardize_push(1.0), standardize_push(0.0),
          lambda: (normal(217, 3, 6),), "the mean of the tangent not removed"),
    Case("rms_norm_other_primal", FAMILY, vjp_fwd(rms_norm, lambda x, w: (rms_norm(x, w), (x, w)), rms_bwd), rms_args,
         vjp_fwd(rms_norm, unnormalized_forward, rms_bwd), "the rule's forward pass returns another value than the "
         "function does", how="primal", primal=rms_norm),
]
# fmt: on
