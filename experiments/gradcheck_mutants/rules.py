"""Right rules to be mutated: a function, its backward pass `backward(saved, g)`, and its arguments.

The backward passes are plain: what they call is in `jax.numpy` or here, so that a mutation of one expression is a
mistake that someone could have made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

SETTINGS = ("float32", "bfloat16 mixed", "float64")

Saved = tuple[jax.Array, ...]
Gradients = tuple[jax.Array | None, ...]


def wide(x: jax.Array) -> jax.Array:
    """x in the dtype of the arithmetic: float32 for bfloat16."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def narrow(x: jax.Array, like: jax.Array) -> jax.Array:
    """x in the dtype of `like`."""
    return x.astype(like.dtype)


def total(x: jax.Array, axis: int) -> jax.Array:
    """The sum over one axis."""
    return jnp.sum(x, axis)


def coarse(dtype: Any) -> Any:
    """The dtype in which a careless kernel accumulates: float32 for float64, otherwise bfloat16."""
    return jnp.float32 if dtype == jnp.float64 else jnp.bfloat16


def coarse_total(x: jax.Array, axis: int) -> jax.Array:
    """The sum over one axis, its running value kept in a coarse dtype."""
    rows = jnp.moveaxis(x, axis, 0).astype(coarse(x.dtype))
    return lax.fori_loop(0, rows.shape[0], lambda i, s: s + rows[i], jnp.zeros_like(rows[0])).astype(x.dtype)


def careful_total(x: jax.Array, axis: int) -> jax.Array:
    """The sum over one axis of terms in that coarse dtype, accumulated in a finer one."""
    return jnp.sum(x.astype(coarse(x.dtype)).astype(x.dtype), axis)


def coarsely(x: jax.Array) -> jax.Array:
    """x rounded to a coarse dtype on its way."""
    return lax.reduce_precision(x, 8, 23 if x.dtype == jnp.float64 else 7)


def sigmoid(x: jax.Array) -> jax.Array:
    """1 / (1 + e⁻ˣ)."""
    return lax.logistic(x)


def softmax_of(x: jax.Array) -> jax.Array:
    """The softmax of the last axis."""
    return jax.nn.softmax(x, axis=-1)


def dense(x, w, b):
    return narrow(jnp.tanh(wide(x) @ w + b[None, :]), x)


def dense_backward(saved, g):
    x, w, b = saved
    v = wide(x)
    z = jnp.tanh(v @ w + b[None, :])
    d = wide(g) * (1 - z**2)
    return narrow(d @ w.T, x), v.T @ d, total(d, 0)


def rms_norm(x, w):
    v = wide(x)
    return narrow(v * lax.rsqrt(jnp.mean(v**2, axis=-1, keepdims=True) + 1e-5) * w[None, :], x)


def rms_norm_backward(saved, g):
    x, w = saved
    v, g = wide(x), wide(g)
    r = lax.rsqrt(jnp.mean(v**2, axis=-1, keepdims=True) + 1e-5)
    d = g * w[None, :]
    dx = r * (d - v * r**2 * jnp.mean(d * v, axis=-1, keepdims=True))
    return narrow(dx, x), total(g * v * r, 0)


def layer_norm(x, gamma, beta):
    v = wide(x)
    m = jnp.mean(v, axis=-1, keepdims=True)
    r = lax.rsqrt(jnp.mean((v - m) ** 2, axis=-1, keepdims=True) + 1e-5)
    return narrow((v - m) * r * gamma[None, :] + beta[None, :], x)


def layer_norm_backward(saved, g):
    x, gamma, _ = saved
    v, g = wide(x), wide(g)
    m = jnp.mean(v, axis=-1, keepdims=True)
    r = lax.rsqrt(jnp.mean((v - m) ** 2, axis=-1, keepdims=True) + 1e-5)
    n = (v - m) * r
    d = g * gamma[None, :]
    dx = r * (d - jnp.mean(d, axis=-1, keepdims=True) - n * jnp.mean(d * n, axis=-1, keepdims=True))
    return narrow(dx, x), total(g * n, 0), total(g, 0)


def softmax(x):
    return narrow(softmax_of(wide(x)), x)


def softmax_backward(saved, g):
    (x,) = saved
    p, g = softmax_of(wide(x)), wide(g)
    return (narrow(p * (g - jnp.sum(p * g, axis=-1, keepdims=True)), x),)


def cross_entropy(x, w, labels):
    z = wide(x) @ w
    return jnp.mean(jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, labels[:, None], 1)[:, 0])


def cross_entropy_backward(saved, g):
    x, w, labels = saved
    v = wide(x)
    p = softmax_of(v @ w)
    d = g * (p - jax.nn.one_hot(labels, p.shape[1], dtype=p.dtype)) / p.shape[0]
    return narrow(d @ w.T, x), v.T @ d, None


def attention(q, k, v):
    p = softmax_of(wide(q) @ wide(k).T / 2.0)
    return narrow(p @ wide(v), q)


def attention_backward(saved, g):
    q, k, v = saved
    a, b, g = wide(q), wide(k), wide(g)
    p = softmax_of(a @ b.T / 2.0)
    dp = g @ wide(v).T
    ds = p * (dp - jnp.sum(p * dp, axis=-1, keepdims=True)) / 2.0
    return narrow(ds @ b, q), narrow(ds.T @ a, k), narrow(p.T @ g, v)


def swiglu(x, w, u):
    a = wide(x) @ w
    return narrow(a * sigmoid(a) * (wide(x) @ u), x)


def swiglu_backward(saved, g):
    x, w, u = saved
    v, g = wide(x), wide(g)
    a, b = v @ w, v @ u
    s = sigmoid(a)
    da = g * b * (s + a * s * (1 - s))
    db = g * a * s
    return narrow(da @ w.T + db @ u.T, x), v.T @ da, v.T @ db


def convolution(x, w):
    v = jnp.pad(wide(x), ((1, 1), (0, 0)))
    n = x.shape[0]
    return narrow(v[:n] @ w[0] + v[1 : n + 1] @ w[1] + v[2 : n + 2] @ w[2], x)


def convolution_backward(saved, g):
    x, w = saved
    n = x.shape[0]
    v, d = jnp.pad(wide(x), ((1, 1), (0, 0))), jnp.pad(wide(g), ((1, 1), (0, 0)))
    g = wide(g)
    dx = d[2 : n + 2] @ w[0].T + d[1 : n + 1] @ w[1].T + d[:n] @ w[2].T
    dw = jnp.stack([v[:n].T @ g, v[1 : n + 1].T @ g, v[2 : n + 2].T @ g])
    return narrow(dx, x), dw


def embedding(table, scale, ids):
    return (table[ids] * scale[None, :]).astype(jnp.bfloat16 if table.dtype == jnp.bfloat16 else table.dtype)


def embedding_backward(saved, g):
    table, scale, ids = saved
    g = wide(g)
    dt = jnp.zeros_like(wide(table)).at[ids].add(g * scale[None, :])
    return narrow(dt, table), narrow(total(g * wide(table)[ids], 0), scale), None


def gelu(x, c):
    v = wide(x)
    return narrow(0.5 * v * (1 + jnp.tanh(c * (v + 0.044715 * v**3))), x)


def gelu_backward(saved, g):
    x, c = saved
    v, g = wide(x), wide(g)
    u = v + 0.044715 * v**3
    t = jnp.tanh(c * u)
    slope = 0.5 * (1 + t) + 0.5 * v * (1 - t**2) * c * (1 + 0.134145 * v**2)
    return narrow(g * slope, x), jnp.sum(g * 0.5 * v * (1 - t**2) * u)


def directions(x, s):
    v = wide(x)
    return narrow(s * v * lax.rsqrt(jnp.sum(v**2, axis=-1, keepdims=True)), x)


def directions_backward(saved, g):
    x, s = saved
    v, g = wide(x), wide(g)
    r = lax.rsqrt(jnp.sum(v**2, axis=-1, keepdims=True))
    u = v * r
    return narrow(s * r * (g - u * jnp.sum(u * g, axis=-1, keepdims=True)), x), jnp.sum(g * u)


def recurrence(a, b):
    step = lambda h, ab: ((y := ab[0] * h + ab[1]), y)  # noqa: E731
    return narrow(lax.scan(step, jnp.zeros_like(wide(b)[0]), (wide(a), wide(b)))[1], b)


def recurrence_backward(saved, g):
    a, b = saved
    h = recurrence(wide(a), wide(b))
    zero = jnp.zeros_like(h[:1])
    later = jnp.concatenate([wide(a)[1:], zero])
    lam = jnp.flip(recurrence(jnp.flip(later, axis=0), jnp.flip(wide(g), axis=0)), axis=0)
    return narrow(lam * jnp.concatenate([zero, h[:-1]]), a), narrow(lam, b)


def rotary(x, f):
    v = wide(x)
    a, b = v[:, :2], v[:, 2:]
    t = jnp.arange(x.shape[0], dtype=jnp.int32).astype(v.dtype)[:, None] * f[None, :]
    return narrow(jnp.concatenate([a * jnp.cos(t) - b * jnp.sin(t), a * jnp.sin(t) + b * jnp.cos(t)], axis=1), x)


def rotary_backward(saved, g):
    x, f = saved
    v, g = wide(x), wide(g)
    a, b, p, q = v[:, :2], v[:, 2:], g[:, :2], g[:, 2:]
    n = jnp.arange(x.shape[0], dtype=jnp.int32).astype(v.dtype)[:, None]
    c, s = jnp.cos(n * f[None, :]), jnp.sin(n * f[None, :])
    dx = jnp.concatenate([p * c + q * s, q * c - p * s], axis=1)
    df = total(n * (q * (a * c - b * s) - p * (a * s + b * c)), 0)
    return narrow(dx, x), df


def batch_norm(x, gamma):
    v = wide(x)
    m = jnp.mean(v, axis=0, keepdims=True)
    r = lax.rsqrt(jnp.mean((v - m) ** 2, axis=0, keepdims=True) + 1e-5)
    return narrow((v - m) * r * gamma[None, :], x)


def batch_norm_backward(saved, g):
    x, gamma = saved
    v, g = wide(x), wide(g)
    m = jnp.mean(v, axis=0, keepdims=True)
    r = lax.rsqrt(jnp.mean((v - m) ** 2, axis=0, keepdims=True) + 1e-5)
    n = (v - m) * r
    dx = gamma[None, :] * r * (g - jnp.mean(g, axis=0, keepdims=True) - n * jnp.mean(g * n, axis=0, keepdims=True))
    return narrow(dx, x), total(g * n, 0)


def z_loss(x, c):
    return c * jnp.sum(jax.nn.logsumexp(wide(x), axis=-1) ** 2)


def z_loss_backward(saved, g):
    x, c = saved
    z = jax.nn.logsumexp(wide(x), axis=-1, keepdims=True)
    return narrow(2 * g * c * z * softmax_of(wide(x)), x), g * jnp.sum(z**2)


def gain(x, s, b):
    """Long sums: 512 rows."""
    return narrow(wide(x) * s[None, :] + b[None, :], x)


def gain_backward(saved, g):
    x, s, _ = saved
    v, g = wide(x), wide(g)
    return narrow(g * s[None, :], x), total(g * v, 0), total(g, 0)


def gated(x, h):
    a, b = wide(x), wide(h)
    z = sigmoid(a - b)
    return narrow((1 - z) * b + z * jnp.tanh(a + b), x)


def gated_backward(saved, g):
    x, h = saved
    a, b, g = wide(x), wide(h), wide(g)
    z, c = sigmoid(a - b), jnp.tanh(a + b)
    dz = (c - b) * z * (1 - z)
    dc = z * (1 - c**2)
    return narrow(g * (dz + dc), x), narrow(g * (dc - dz + 1 - z), h)


def bilinear(x, a, y):
    return narrow(total((wide(x) @ a) * wide(y), 1), x)


def bilinear_backward(saved, g):
    x, a, y = saved
    u, v, g = wide(x), wide(y), wide(g)[:, None]
    return narrow(g * (v @ a.T), x), (g * u).T @ v, narrow(g * (u @ a), y)


def stencil(x, k):
    v = wide(x)
    return narrow(k * (v[2:] - 2.0 * v[1:-1] + v[:-2]), x)


def stencil_backward(saved, g):
    x, k = saved
    v, g = wide(x), wide(g)
    d = jnp.pad(g, (2, 2))
    n = v.shape[0]
    dx = k * (d[:n] - 2.0 * d[1 : n + 1] + d[2 : n + 2])
    return narrow(dx, x), jnp.sum(g * (v[2:] - 2.0 * v[1:-1] + v[:-2]))


def capped(x, cap):
    return narrow(cap * jnp.tanh(wide(x) / cap), x)


def capped_backward(saved, g):
    x, cap = saved
    v, g = wide(x) / cap, wide(g)
    t = jnp.tanh(v)
    return narrow(g * (1 - t**2), x), jnp.sum(g * (t - v * (1 - t**2)))


def divergence(p, q):
    """Σ p (log p − log q) of two rows of logits."""
    a, b = jax.nn.log_softmax(wide(p), axis=-1), jax.nn.log_softmax(wide(q), axis=-1)
    return jnp.sum(jnp.exp(a) * (a - b))


def divergence_backward(saved, g):
    p, q = saved
    a, b = jax.nn.log_softmax(wide(p), axis=-1), jax.nn.log_softmax(wide(q), axis=-1)
    e = jnp.exp(a)
    kl = jnp.sum(e * (a - b), axis=-1, keepdims=True)
    return narrow(g * e * (a - b - kl), p), narrow(g * (jnp.exp(b) - e), q)


@dataclass(frozen=True)
class Rule:
    """One right rule. `shapes` and `kinds` describe its arguments: an activation "a", a parameter "p" (near 1 where it
    is "1"), labels "i" below the number that follows.
    """

    primal: Callable[..., Any]
    backward: Callable[..., Any]
    kinds: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def name(self) -> str:
        """The primal's name."""
        return self.primal.__name__

    def arguments(self, setting: str) -> tuple[jax.Array, ...]:
        """The arguments in one of `SETTINGS`, the same numbers whatever JAX is configured to."""
        activation, parameter = {
            "float32": (jnp.float32, jnp.float32),
            "bfloat16 mixed": (jnp.bfloat16, jnp.float32),
            "float64": (jnp.float64, jnp.float64),
        }[setting]
        made = []
        for place, (kind, shape) in enumerate(zip(self.kinds, self.shapes, strict=True)):
            rng = np.random.default_rng([sum(map(ord, self.name)), place])
            if kind.startswith("i"):
                made.append(jnp.asarray(rng.integers(0, int(kind[1:]), shape), jnp.int32))
                continue
            values = rng.standard_normal(shape)
            values = 1 + 0.2 * values if kind == "1" else values
            # All settings see numbers that bfloat16 holds.
            exact = jnp.asarray(values, jnp.float32).astype(jnp.bfloat16)
            made.append(exact.astype(activation if kind == "a" else parameter))
        return tuple(made)


def ruled(primal: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """`primal` with this backward pass; what is saved are the arguments."""
    rule = jax.custom_vjp(primal)
    rule.defvjp(lambda *args: (primal(*args), args), backward)
    return rule


RULES: tuple[Rule, ...] = (
    Rule(dense, dense_backward, ("a", "p", "p"), ((5, 4), (4, 4), (4,))),
    Rule(rms_norm, rms_norm_backward, ("a", "1"), ((4, 6), (6,))),
    Rule(layer_norm, layer_norm_backward, ("a", "1", "p"), ((5, 5), (5,), (5,))),
    Rule(softmax, softmax_backward, ("a",), ((4, 5),)),
    Rule(cross_entropy, cross_entropy_backward, ("a", "p", "i5"), ((4, 3), (3, 5), (4,))),
    Rule(attention, attention_backward, ("a", "a", "a"), ((4, 4), (4, 4), (4, 4))),
    Rule(swiglu, swiglu_backward, ("a", "p", "p"), ((4, 3), (3, 5), (3, 5))),
    Rule(convolution, convolution_backward, ("a", "p"), ((6, 3), (3, 3, 3))),
    Rule(embedding, embedding_backward, ("a", "a", "i5"), ((5, 3), (3,), (7,))),
    Rule(gelu, gelu_backward, ("a", "1"), ((9,), ())),
    Rule(directions, directions_backward, ("a", "1"), ((4, 5), ())),
    Rule(recurrence, recurrence_backward, ("a", "a"), ((6, 2), (6, 2))),
    Rule(rotary, rotary_backward, ("a", "p"), ((5, 4), (2,))),
    Rule(batch_norm, batch_norm_backward, ("a", "1"), ((6, 4), (4,))),
    Rule(z_loss, z_loss_backward, ("a", "1"), ((3, 5), ())),
    Rule(gain, gain_backward, ("a", "1", "p"), ((512, 2), (2,), (2,))),
    Rule(gated, gated_backward, ("a", "a"), ((7,), (7,))),
    Rule(bilinear, bilinear_backward, ("a", "p", "a"), ((4, 3), (3, 3), (4, 3))),
    Rule(stencil, stencil_backward, ("a", "1"), ((9,), ())),
    Rule(capped, capped_backward, ("a", "1"), ((8,), ())),
    Rule(divergence, divergence_backward, ("a", "a"), ((3, 4), (3, 4))),
)
