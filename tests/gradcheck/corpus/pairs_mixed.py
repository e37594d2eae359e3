"""Pairs in mixed precision: activations in bfloat16 or float16, parameters in float32, each rule done in float32.

The plain formula, without a cast, is the oracle of the self-test. Wrong are a term, an axis, a factor of a few per cent
(the activations' dtype hides less), or the dtype in which a float32 leaf is accumulated.
"""

import jax
import jax.numpy as jnp
from jax import lax

from .case import array, bf16, f16, f32, i32, integers, normal, pair, uniform

FAMILY = "mixed precision"
ACCUMULATION = "accumulation"
EPS = 1e-5


def up(*values):
    """The values in float32, in which the rules are worked out."""
    return tuple(v.astype(f32) for v in values)


def mixed(name, formula, compute, right, wrong, args, note, family=FAMILY, **more):
    """A pair of which `compute` is the primal in mixed precision and `formula` the same without casts."""
    more.setdefault("self_test", 16.0)
    case = pair(name, family, compute, right, wrong, args, note, **more)
    return type(case)(**{**case.__dict__, "primal": formula})


def summed_low(x, dtype):
    """Σ_i x_i over the first axis, the running sum kept in `dtype`."""
    return lax.fori_loop(0, x.shape[0], lambda i, s: s + x[i].astype(dtype), jnp.zeros(x.shape[1:], dtype)).astype(f32)


# Dense layers.


def dense(x, w, b):
    return x @ w + b[None, :]


def dense_low(x, w, b):
    y = jnp.matmul(x, w.astype(x.dtype), preferred_element_type=f32)
    return (y + b[None, :]).astype(x.dtype)


def dense_rule(bias=lambda g: jnp.sum(g, 0), weight=lambda x, g: x.T @ g, back=lambda g, w: g @ w.T):
    def pull(g, x, w, b):
        g32, x32 = up(g, x)
        w32 = w.astype(x.dtype).astype(f32)
        return back(g32, w32).astype(x.dtype), weight(x32, g32), bias(g32)

    return pull


def dense_args(dtype, n=6, i=4, o=4, seed=1000):
    return lambda: (normal(seed, n, i, dtype=dtype), normal(seed + 1, i, o), normal(seed + 2, o))


def swiglu(x, wg, wu, wd):
    a = x @ wg
    return (a * lax.logistic(a) * (x @ wu)) @ wd


def swiglu_low(x, wg, wu, wd):
    a, u = (jnp.matmul(x, w.astype(x.dtype), preferred_element_type=f32) for w in (wg, wu))
    h = (a * lax.logistic(a) * u).astype(x.dtype)
    return jnp.matmul(h, wd.astype(x.dtype), preferred_element_type=f32).astype(x.dtype)


def swiglu_rule(inner):
    def pull(g, x, wg, wu, wd):
        g32, x32 = up(g, x)
        wg, wu, wd = up(*(w.astype(x.dtype) for w in (wg, wu, wd)))
        a, u = x32 @ wg, x32 @ wu
        s = lax.logistic(a)
        dh = g32 @ wd.T
        da, du = dh * u * s * (1 + inner * a * (1 - s)), dh * a * s
        return (da @ wg.T + du @ wu.T).astype(x.dtype), x32.T @ da, x32.T @ du, (a * s * u).T @ g32

    return pull


def lora(x, w, a, b):
    return x @ w + 2.0 * (x @ a) @ b


def lora_low(x, w, a, b):
    inner = jnp.matmul(x, a.astype(x.dtype), preferred_element_type=f32)
    return (jnp.matmul(x, w, preferred_element_type=f32) + 2.0 * inner @ b).astype(x.dtype)


def lora_rule(scale):
    def pull(g, x, w, a, b):
        g32, x32, w32 = up(g, x, w)
        a32 = a.astype(x.dtype).astype(f32)
        dx = g32 @ w32.T + 2.0 * g32 @ b.T @ a32.T
        return dx.astype(x.dtype), (x32.T @ g32).astype(w.dtype), scale * x32.T @ (g32 @ b.T), 2.0 * (x32 @ a32).T @ g32

    return pull


def dequantized(x, codes, scale):
    """x @ (codes · scale), the weights stored as integers with a float32 scale for each column."""
    return x @ (codes.astype(scale.dtype) * scale[None, :])


def dequantized_low(x, codes, scale):
    return (jnp.matmul(x, codes.astype(x.dtype), preferred_element_type=f32) * scale[None, :]).astype(x.dtype)


def dequantized_rule(axis):
    def pull(g, x, codes, scale):
        g32, x32 = up(g, x)
        y = x32 @ codes.astype(f32)
        ds = jnp.sum(g32 * y, axis=axis)
        return ((g32 * scale[None, :]) @ codes.astype(f32).T).astype(x.dtype), None, ds

    return pull


def routed(x, router, experts):
    """Every expert, weighted by the softmax of its score; `experts` is (e, i, o)."""
    p = jax.nn.softmax(x @ router, -1)
    return jnp.einsum("ne,ni,eio->no", p, x, experts)


def routed_low(x, router, experts):
    p = jax.nn.softmax(x.astype(f32) @ router, -1)
    y = jnp.einsum("ni,eio->neo", x, experts, preferred_element_type=f32)
    return jnp.einsum("ne,neo->no", p, y).astype(x.dtype)


def routed_rule(delta):
    def pull(g, x, router, experts):
        g32, x32, w = up(g, x, experts)
        p = jax.nn.softmax(x32 @ router, -1)
        dp = jnp.einsum("no,ni,eio->ne", g32, x32, w)
        ds = p * (dp - delta * jnp.sum(p * dp, -1, keepdims=True))
        dx = jnp.einsum("ne,no,eio->ni", p, g32, w) + ds @ router.T
        return dx.astype(x.dtype), x32.T @ ds, jnp.einsum("ne,ni,no->eio", p, x32, g32).astype(experts.dtype)

    return pull


# Convolutions.


def conv1d(x, w):
    """x (n, c), w (3, c, o): correlation with zero padding, and nothing after the last row."""
    padded = jnp.pad(x, ((2, 0), (0, 0)))
    return sum(padded[j : j + x.shape[0]] @ w[j] for j in range(3))


def conv1d_low(x, w):
    return conv1d(x.astype(f32), w.astype(x.dtype).astype(f32)).astype(x.dtype)


def conv1d_rule(offset):
    def pull(g, x, w):
        g32, x32 = up(g, x)
        w32 = w.astype(x.dtype).astype(f32)
        n = x.shape[0]
        after = jnp.pad(g32, ((0, 2), (0, 0)))
        dx = sum(after[2 - j : 2 - j + n] @ w32[j].T for j in range(3))
        before = jnp.pad(x32, ((2 - offset, offset), (0, 0)))
        return dx.astype(x.dtype), jnp.stack([before[j : j + n].T @ g32 for j in range(3)])

    return pull


def depthwise(x, w, b):
    """x (h, w, c) with a 2 by 2 kernel for each channel."""
    h, k = x.shape[0] - 1, x.shape[1] - 1
    return sum(x[i : i + h, j : j + k] * w[i, j][None, None] for i in range(2) for j in range(2)) + b[None, None]


def depthwise_low(x, w, b):
    return depthwise(x.astype(f32), w, b).astype(x.dtype)


def depthwise_rule(turn):
    def pull(g, x, w, b):
        g32, x32 = up(g, x)
        h, k = g.shape[:2]
        dx = sum(
            jnp.pad(g32 * (w[1 - i, 1 - j] if turn else w[i, j])[None, None], ((i, 1 - i), (j, 1 - j), (0, 0)))
            for i in range(2)
            for j in range(2)
        )
        dw = jnp.stack(
            [jnp.stack([jnp.sum(x32[i : i + h, j : j + k] * g32, (0, 1)) for j in range(2)]) for i in (0, 1)]
        )
        return dx.astype(x.dtype), dw, jnp.sum(g32, (0, 1))

    return pull


# Norms.


def stats(x, axes=-1):
    m = jnp.mean(x, axis=axes, keepdims=True)
    r = lax.rsqrt(jnp.mean((x - m) ** 2, axis=axes, keepdims=True) + EPS)
    return (x - m) * r, r


def layer_norm(x, gamma, beta):
    return stats(x)[0] * gamma[None, :] + beta[None, :]


def low(formula):
    """The formula in float32, its result in the dtype of the first argument."""

    def compute(x, *rest):
        return formula(x.astype(f32), *rest).astype(x.dtype)

    return compute


def layer_norm_rule(mean=1.0, centred=True):
    def pull(g, x, gamma, beta):
        g32, x32 = up(g, x)
        xhat, r = stats(x32)
        d = g32 * gamma[None, :]
        dx = r * (d - mean * jnp.mean(d, -1, keepdims=True) - xhat * jnp.mean(d * xhat, -1, keepdims=True))
        return dx.astype(x.dtype), jnp.sum(g32 * (xhat if centred else x32), 0), jnp.sum(g32, 0)

    return pull


def norm_args(dtype, seed, n=4, d=8):
    return lambda: (
        (normal(seed, n, d, scale=1.5) + 1).astype(dtype),
        1 + normal(seed + 1, d, scale=0.3),
        normal(seed + 2, d),
    )


def rms_norm(x, w):
    return x * lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + EPS) * w[None, :]


def rms_rule(total=lambda v: jnp.sum(v, 0), twice=1.0):
    def pull(g, x, w):
        g32, x32 = up(g, x)
        r = lax.rsqrt(jnp.mean(x32**2, -1, keepdims=True) + EPS)
        d = g32 * w[None, :]
        dx = r * (d - twice * x32 * r**2 * jnp.mean(d * x32, -1, keepdims=True))
        return dx.astype(x.dtype), total(g32 * x32 * r)

    return pull


def group_norm(x, gamma):
    """x (n, c) with two groups of channels, gamma by channel."""
    return stats(x.reshape(x.shape[0], 2, -1))[0].reshape(x.shape) * gamma[None, :]


def group_rule(by_group):
    def pull(g, x, gamma):
        g32, x32 = up(g, x)
        n, c = x.shape
        xhat, r = stats(x32.reshape(n, 2, -1))
        d = (g32 * gamma[None, :]).reshape(n, 2, -1)
        dx = r * (d - jnp.mean(d, -1, keepdims=True) - xhat * jnp.mean(d * xhat, -1, keepdims=True))
        dgamma = jnp.sum(g32 * xhat.reshape(n, c), 0)
        if by_group:  # the channels' sums averaged over their group
            dgamma = jnp.repeat(jnp.mean(dgamma.reshape(2, -1), 1), c // 2)
        return dx.reshape(n, c).astype(x.dtype), dgamma

    return pull


def batch_norm(x, gamma, beta):
    return stats(x, 0)[0] * gamma[None, :] + beta[None, :]


def batch_rule(variance):
    def pull(g, x, gamma, beta):
        g32, x32 = up(g, x)
        xhat, r = stats(x32, 0)
        dgamma, dbeta = jnp.sum(g32 * xhat, 0), jnp.sum(g32, 0)
        n = x.shape[0]
        dx = gamma[None, :] * r * (g32 - dbeta[None, :] / n - variance * xhat * dgamma[None, :] / n)
        return dx.astype(x.dtype), dgamma, dbeta

    return pull


# Embeddings.


def embed(table, ids):
    return 4.0 * table[ids]


def embed_low(table, ids):
    return (4.0 * table[ids]).astype(bf16)


def embed_rule(scale):
    return lambda g, table, ids: (jnp.zeros_like(table).at[ids].add(scale * g.astype(f32)), None)


def embed_loop(dtype):
    """The rows' cotangents added one after the other, in `dtype`."""

    def pull(g, table, ids):
        step = lambda i, d: d.at[ids[i]].add((4.0 * g[i].astype(f32)).astype(dtype))  # noqa: E731
        return lax.fori_loop(0, ids.shape[0], step, jnp.zeros(table.shape, dtype)).astype(f32), None

    return pull


def positions(x, table):
    """Learned positions added to (batch, t, d)."""
    return x + table[None]


def positions_rule(reduce):
    return lambda g, x, table: (g, reduce(g.astype(f32)))


# Attention.


def attend(q, k, v, bias):
    """Heads (h, t, d) with a bias by head and distance, (h, 2t − 1)."""
    return probabilities(q, k, bias) @ v


def distances(t):
    i = jnp.arange(t, dtype=i32)
    return i[:, None] - i[None, :] + t - 1


def probabilities(q, k, bias):
    s = jnp.einsum("htd,hsd->hts", q, k) * 0.5 + bias[:, distances(q.shape[1])]
    return jax.nn.softmax(s, -1)


def attend_low(q, k, v, bias):
    return attend(*up(q, k, v), bias).astype(q.dtype)


def attend_rule(add=True):
    def pull(g, q, k, v, bias):
        dtype = q.dtype
        g, q, k, v = up(g, q, k, v)
        p = probabilities(q, k, bias)
        dp = jnp.einsum("htd,hsd->hts", g, v)
        ds = p * (dp - jnp.sum(p * dp, -1, keepdims=True))
        at = jnp.zeros_like(bias).at[:, distances(q.shape[1])]
        out = 0.5 * jnp.einsum("hts,hsd->htd", ds, k), 0.5 * jnp.einsum("hts,htd->hsd", ds, q)
        dv = jnp.einsum("hts,htd->hsd", p, g)
        return *(x.astype(dtype) for x in (*out, dv)), at.add(ds) if add else at.set(ds)

    return pull


def sink_attention(q, k, v, sink):
    """One more key, which has a score of its own and no value."""
    s = jnp.concatenate([q @ k.T, jnp.broadcast_to(sink, (q.shape[0], 1))], -1)
    return jax.nn.softmax(s, -1)[:, :-1] @ v


def sink_low(q, k, v, sink):
    return sink_attention(*up(q, k, v), sink).astype(q.dtype)


def sink_rule(through):
    def pull(g, q, k, v, sink):
        dtype = q.dtype
        g, q, k, v = up(g, q, k, v)
        s = jnp.concatenate([q @ k.T, jnp.broadcast_to(sink, (q.shape[0], 1))], -1)
        p = jax.nn.softmax(s, -1)
        dp = g @ v.T
        delta = jnp.sum(p[:, :-1] * dp, -1, keepdims=True)
        ds = p[:, :-1] * (dp - delta)
        out = ds @ k, ds.T @ q, p[:, :-1].T @ g
        return *(x.astype(dtype) for x in out), -through * jnp.sum(p[:, -1:] * delta)

    return pull


def scaled_scores(q, k, tau):
    """Softmax of τ q̂ k̂ᵀ with rows of unit length, τ learned in float32."""
    u, w = (x / jnp.sqrt(jnp.sum(x**2, -1, keepdims=True)) for x in (q, k))
    return jax.nn.softmax(tau * u @ w.T, -1)


def scaled_scores_rule(project):
    def pull(g, q, k, tau):
        dtype = q.dtype
        g, q, k = up(g, q, k)
        nq, nk = (jnp.sqrt(jnp.sum(x**2, -1, keepdims=True)) for x in (q, k))
        u, w = q / nq, k / nk
        p = jax.nn.softmax(tau * u @ w.T, -1)
        ds = p * (g - jnp.sum(p * g, -1, keepdims=True))
        du, dw = tau * ds @ w, tau * ds.T @ u
        dq = (du - u * jnp.sum(u * du, -1, keepdims=True)) / nq
        dk = (dw - project * w * jnp.sum(w * dw, -1, keepdims=True)) / nk
        return dq.astype(dtype), dk.astype(dtype), jnp.sum(ds * (u @ w.T))

    return pull


# Losses.


def cross_entropy(logits, labels):
    """The mean over the tokens whose label is not 0 (padding)."""
    rows = jnp.arange(labels.shape[0], dtype=i32)
    nll = jax.nn.logsumexp(logits, -1) - logits[rows, labels]
    keep = labels != 0
    return jnp.sum(jnp.where(keep, nll, 0)) / jnp.sum(keep).astype(logits.dtype)


def cross_entropy_low(logits, labels):
    return cross_entropy(logits.astype(f32), labels)


def cross_entropy_rule(mask):
    def pull(g, logits, labels):
        keep = (labels != 0)[:, None].astype(f32)
        d = jax.nn.softmax(logits.astype(f32), -1) - jax.nn.one_hot(labels, logits.shape[1], dtype=f32)
        return (g * (keep if mask else 1.0) * d / jnp.sum(keep)).astype(logits.dtype), None

    return pull


def z_loss(logits):
    return jnp.sum(jax.nn.logsumexp(logits, -1) ** 2)


def z_loss_rule(power):
    def pull(g, logits):
        z = jax.nn.logsumexp(logits.astype(f32), -1, keepdims=True)
        return ((2 * g * z**power * jax.nn.softmax(logits.astype(f32), -1)).astype(logits.dtype),)

    return pull


def linear_loss(h, w, labels):
    """Cross-entropy of h @ w, as a kernel does it that never keeps the logits."""
    rows = jnp.arange(labels.shape[0], dtype=i32)
    z = h @ w
    return jnp.mean(jax.nn.logsumexp(z, -1) - z[rows, labels])


def linear_loss_low(h, w, labels):
    return linear_loss(h.astype(f32), w.astype(h.dtype).astype(f32), labels)


def linear_loss_rule(first):
    def pull(g, h, w, labels):
        h32, w32 = h.astype(f32), w.astype(h.dtype).astype(f32)
        d = g * (jax.nn.softmax(h32 @ w32, -1) - jax.nn.one_hot(labels, w.shape[1], dtype=f32)) / h.shape[0]
        return (d @ w32.T).astype(h.dtype), h32[first:].T @ d[first:], None

    return pull


def scaled_square(p, target):
    return jnp.mean((p - target) ** 2)


def square_low(p, target):
    return jnp.mean((p.astype(f32) - target) ** 2)


def square_rule(unscale):
    """The cotangent is multiplied by 64 before it is stored in float16, and divided again."""

    def pull(g, p, target):
        d = ((64.0 * g * 2 / p.size) * (p.astype(f32) - target)).astype(f16)
        d32 = d.astype(f32) / 64.0
        return (d32 if unscale else d.astype(f32)).astype(f16), -d32

    return pull


def distill(student, teacher):
    """KL(teacher ‖ student) of logits, the teacher in float32."""
    t = jax.nn.log_softmax(teacher, -1)
    return jnp.sum(jnp.exp(t) * (t - jax.nn.log_softmax(student, -1)))


def distill_low(student, teacher):
    return distill(student.astype(f32), teacher)


def distill_rule(entropy):
    def pull(g, student, teacher):
        s, t = jax.nn.log_softmax(student.astype(f32), -1), jax.nn.log_softmax(teacher, -1)
        p = jnp.exp(t)
        kl = jnp.sum(p * (t - s), -1, keepdims=True)
        return (g * (jnp.exp(s) - p)).astype(student.dtype), g * p * (t - s - entropy * kl)

    return pull


# Elementwise, with a float32 parameter.


def prelu(x, slope):
    return jnp.where(x > 0, x, slope * x)


def prelu_rule(side):
    def pull(g, x, slope):
        g32, x32 = up(g, x)
        return jnp.where(x32 > 0, g32, slope * g32).astype(x.dtype), jnp.sum(g32 * side(x32))

    return pull


def swish(x, beta):
    return x * lax.logistic(beta * x)


def swish_rule(chain):
    def pull(g, x, beta):
        g32, x32 = up(g, x)
        s = lax.logistic(beta * x32)
        return (g32 * (s + beta * x32 * s * (1 - s))).astype(x.dtype), jnp.sum(g32 * x32**chain * s * (1 - s))

    return pull


def gate(x, y, t):
    """A residual branch with a learned gate."""
    return x + jnp.tanh(t) * y


def gate_rule(total):
    def pull(g, x, y, t):
        g32, y32 = up(g, y)
        return g, (jnp.tanh(t) * g32).astype(y.dtype), (1 - jnp.tanh(t) ** 2) * total(g32 * y32)

    return pull


def stretched(x, log_wavelength):
    """Rotation of pairs (a, b) by t exp(−λ), λ learned in float32."""
    a, b = x[:, 0], x[:, 1]
    angle = jnp.arange(x.shape[0], dtype=i32).astype(log_wavelength.dtype) * jnp.exp(-log_wavelength)
    return jnp.stack([a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle)], -1)


def stretched_rule(sign):
    def pull(g, x, lam):
        (g1, g2), (a, b) = g.astype(f32).T, x.astype(f32).T
        angle = jnp.arange(x.shape[0], dtype=i32).astype(f32) * jnp.exp(-lam)
        c, s = jnp.cos(angle), jnp.sin(angle)
        turned = g1 * (-a * s - b * c) + g2 * (a * c - b * s)
        return jnp.stack([g1 * c + g2 * s, -g1 * s + g2 * c], -1).astype(x.dtype), sign * jnp.sum(turned * angle)

    return pull


def low_total(v):
    """Σ v, one element after the other, in bfloat16."""
    return summed_low(v.reshape(-1), bf16)


# fmt: off
CASES = [
    mixed("dense_bf16_weight_transposed", dense, dense_low, dense_rule(), dense_rule(weight=lambda x, g: g.T @ x),
          dense_args(bf16, n=4), "bfloat16: gᵀx for xᵀg, which has the same shape"),
    mixed("dense_f16_back_not_transposed", dense, dense_low, dense_rule(), dense_rule(back=lambda g, w: g @ w),
          dense_args(f16, seed=1003), "float16: g w for g wᵀ"),
    mixed("dense_bf16_bias_mean", dense, dense_low, dense_rule(), dense_rule(bias=lambda g: jnp.mean(g, 0)),
          dense_args(bf16, seed=1006), "the float32 bias gets the mean over the batch"),
    mixed("dense_bf16_factor", dense, dense_low, dense_rule(), dense_rule(weight=lambda x, g: 1.04 * x.T @ g),
          dense_args(bf16, n=8, seed=1009), "4% too large in one leaf: ten roundings of the activations"),
    mixed("dense_bf16_last_row", dense, dense_low, dense_rule(), dense_rule(weight=lambda x, g: x[:-1].T @ g[:-1]),
          dense_args(bf16, n=9, seed=1012), "the last row of the batch outside of the grid"),
    mixed("dense_bf16_accumulated", dense, dense_low, dense_rule(),
          dense_rule(bias=lambda g: summed_low(g, bf16)), dense_args(bf16, n=2048, i=2, o=2, seed=1015),
          "a float32 bias summed over 2048 rows in bfloat16: several per cent", ACCUMULATION),
    mixed("swiglu_bf16_chain", swiglu, swiglu_low, swiglu_rule(1.0), swiglu_rule(0.0),
          lambda: (normal(1018, 5, 4, dtype=bf16), normal(1019, 4, 6), normal(1020, 4, 6), normal(1021, 6, 3)),
          "the gate's own derivative forgotten in a gated unit with three float32 weights", self_test=64.0),
    mixed("lora_bf16_scale", lora, lora_low, lora_rule(2.0), lora_rule(1.0),
          lambda: (normal(1022, 5, 4, dtype=bf16), normal(1023, 4, 4, dtype=bf16), normal(1024, 4, 2),
                   normal(1025, 2, 4)), "α/r forgotten for one of the two float32 factors beside a bfloat16 weight"),
    mixed("dequantized_scale_axis", dequantized, dequantized_low, dequantized_rule(0), dequantized_rule(1),
          lambda: (normal(1026, 4, 5, dtype=bf16), integers(1027, 15, 5, 4) - 7, uniform(1028, 4, low=0.05, high=0.2)),
          "integer weights: the gradient of their float32 scales summed over the wrong axis"),
    mixed("routed_bf16_delta", routed, routed_low, routed_rule(1.0), routed_rule(0.0),
          lambda: (normal(1029, 4, 3, dtype=bf16), normal(1030, 3, 2), normal(1031, 2, 3, 3, dtype=bf16)),
          "a mixture of bfloat16 experts: the router's softmax loses its row sums", self_test=64.0),
    mixed("conv1d_bf16_offset", conv1d, conv1d_low, conv1d_rule(0), conv1d_rule(1),
          lambda: (normal(1032, 7, 2, dtype=bf16), normal(1033, 3, 2, 3)),
          "a causal convolution: the kernel's gradient one step late"),
    mixed("depthwise_f16_not_turned", depthwise, depthwise_low, depthwise_rule(False), depthwise_rule(True),
          lambda: (normal(1034, 4, 4, 2, dtype=f16), normal(1035, 2, 2, 2), normal(1036, 2)),
          "the kernel turned where it must not be"),
    mixed("layer_norm_mixed_mean_term", layer_norm, low(layer_norm), layer_norm_rule(), layer_norm_rule(mean=0.0),
          norm_args(bf16, 1037), "bfloat16 activations, float32 gamma and beta: mean(g) dropped", self_test=64.0),
    mixed("layer_norm_f16_gamma", layer_norm, low(layer_norm), layer_norm_rule(), layer_norm_rule(centred=False),
          norm_args(f16, 1040), "Σ g x for Σ g x̂", self_test=64.0),
    mixed("rms_norm_mixed_twice", rms_norm, low(rms_norm), rms_rule(), rms_rule(twice=2.0),
          lambda: norm_args(bf16, 1043)()[:2], "the second term doubled", self_test=64.0),
    mixed("rms_norm_f16_accumulated", rms_norm, low(rms_norm), rms_rule(), rms_rule(lambda v: summed_low(v, bf16)),
          lambda: norm_args(f16, 1046, n=1024, d=4)()[:2],
          "the float32 weight's gradient summed over 1024 rows in bfloat16", ACCUMULATION, self_test=64.0),
    mixed("group_norm_mixed_gamma", group_norm, low(group_norm), group_rule(False), group_rule(True),
          lambda: norm_args(bf16, 1049, d=6)()[:2], "gamma by channel treated as if by group", self_test=64.0),
    mixed("batch_norm_mixed_variance", batch_norm, low(batch_norm), batch_rule(1.0), batch_rule(0.0),
          norm_args(bf16, 1052, n=7, d=3), "bfloat16: the variance held constant, the mean not", self_test=64.0),
    mixed("embed_mixed_scale", embed, embed_low, embed_rule(4.0), embed_rule(1.0),
          lambda: (normal(1055, 5, 3), jnp.asarray([4, 0, 0, 2], i32)), "float32 table, bfloat16 rows: √d forgotten"),
    mixed("embed_mixed_accumulated", embed, embed_low, embed_rule(4.0), embed_loop(bf16),
          lambda: (normal(1056, 3, 2), jnp.zeros((600,), i32).at[::7].set(2)),
          "a row that is looked up 500 times, accumulated in bfloat16", ACCUMULATION),
    mixed("positions_mixed_first_example", positions, low(positions), positions_rule(lambda g: jnp.sum(g, 0)),
          positions_rule(lambda g: g[0]), lambda: (normal(1057, 3, 4, 2, dtype=bf16), normal(1058, 4, 2)),
          "the float32 positions get the first example's cotangent only"),
    mixed("attention_mixed_bias_set", attend, attend_low, attend_rule(), attend_rule(add=False),
          lambda: (*(normal(s, 2, 4, 4, dtype=bf16) for s in (1059, 1060, 1061)), normal(1062, 2, 7)),
          "a float32 bias by distance: one pair of positions overwrites the other", self_test=64.0),
    mixed("attention_mixed_sink", sink_attention, sink_low, sink_rule(1.0), sink_rule(-1.0),
          lambda: (normal(1063, 5, 4, dtype=f16), normal(1064, 6, 4, dtype=f16), normal(1065, 6, 3, dtype=f16),
                   f32(0.3)), "the sign of a learned attention sink", self_test=64.0),
    mixed("attention_mixed_unit_keys", scaled_scores, low(scaled_scores), scaled_scores_rule(1.0),
          scaled_scores_rule(0.0), lambda: (normal(1066, 4, 4, dtype=bf16), normal(1067, 5, 4, dtype=bf16), f32(3.0)),
          "keys of unit length: their projection left out", self_test=64.0),
    mixed("cross_entropy_mixed_padding", cross_entropy, cross_entropy_low, cross_entropy_rule(True),
          cross_entropy_rule(False), lambda: (normal(1068, 5, 6, dtype=bf16), jnp.asarray([2, 0, 5, 0, 1], i32)),
          "bfloat16 logits, float32 loss: padding tokens pull on the logits"),
    mixed("z_loss_mixed_power", z_loss, lambda x: z_loss(x.astype(f32)), z_loss_rule(1.0), z_loss_rule(0.0),
          lambda: (normal(1069, 4, 6, dtype=bf16),), "2 p for 2 p logsumexp"),
    mixed("linear_loss_mixed_block", linear_loss, linear_loss_low, linear_loss_rule(0), linear_loss_rule(4),
          lambda: (normal(1070, 7, 3, dtype=bf16), normal(1071, 3, 5), integers(1072, 5, 7)),
          "logits by blocks of rows: the weight's gradient of the last block only"),
    mixed("square_f16_unscaled", scaled_square, square_low, square_rule(True), square_rule(False),
          lambda: (normal(1073, 6, dtype=f16), normal(1074, 6)), "a loss scale of 64 is not taken back in one leaf"),
    mixed("distill_mixed_teacher", distill, distill_low, distill_rule(1.0), distill_rule(0.0),
          lambda: (normal(1075, 3, 5, dtype=bf16), normal(1076, 3, 5)), "the teacher's normalization held constant"),
    mixed("prelu_mixed_side", prelu, low(prelu), prelu_rule(lambda x: jnp.where(x > 0, 0, x)),
          prelu_rule(lambda x: jnp.where(x > 0, x, 0)), lambda: (normal(1077, 24, dtype=bf16), f32(0.2)),
          "the slope's gradient from the positive side"),
    mixed("swish_mixed_power", swish, low(swish), swish_rule(2), swish_rule(1),
          lambda: (normal(1078, 24, dtype=f16), f32(1.5)), "x for x² in the gradient of a float32 parameter"),
    mixed("gate_mixed_accumulated", gate, lambda x, y, t: (x.astype(f32) + jnp.tanh(t) * y.astype(f32)).astype(bf16),
          gate_rule(jnp.sum), gate_rule(low_total),
          lambda: (normal(1079, 1500, dtype=bf16), normal(1080, 1500, dtype=bf16), f32(0.4)),
          "a scalar gate: 1500 products summed in bfloat16", ACCUMULATION),
    mixed("rotation_mixed_wavelength", stretched, low(stretched), stretched_rule(-1.0), stretched_rule(1.0),
          lambda: (normal(1081, 6, 2, dtype=bf16), f32(0.7)), "the sign of a learned wavelength", self_test=64.0),
    mixed("cast_mixed_factor", lambda x: x, lambda x: x.astype(bf16), lambda g, x: (g.astype(f32),),
          lambda g, x: (1.02 * g.astype(f32),), lambda: (normal(1082, 64),), "a cast whose cotangent grows by 2%",
          ACCUMULATION),
    mixed("sum_mixed_offset", lambda x, c: jnp.sum(x * c, 0), lambda x, c: jnp.sum(x.astype(f32) * c, 0),
          lambda g, x, c: (jnp.full_like(x, g * c), jnp.sum(g * x.astype(f32))),
          lambda g, x, c: (jnp.full_like(x, g * c), low_total(g * x.astype(f32))),
          lambda: (uniform(1083, 4096, low=0.5, high=1.5, dtype=bf16), f32(0.9)),
          "4096 positive terms of a float32 leaf summed in bfloat16: the sum stops growing", ACCUMULATION),
    mixed("ema_mixed_decay", lambda x, a: jnp.cumsum(x * a), lambda x, a: jnp.cumsum(x.astype(f32) * a),
          lambda g, x, a: ((jnp.flip(jnp.cumsum(jnp.flip(g))) * a).astype(f16),
                           jnp.sum(jnp.flip(jnp.cumsum(jnp.flip(g))) * x.astype(f32))),
          lambda g, x, a: ((jnp.flip(jnp.cumsum(jnp.flip(g))) * a).astype(f16), jnp.sum(jnp.cumsum(g) * x.astype(f32))),
          lambda: (normal(1084, 12, dtype=f16), f32(0.8)), "the suffix sum used for one leaf, the prefix sum for the "
          "other"),
    mixed("residual_norms_mixed", lambda x, a: x + a * jnp.sin(x), low(lambda x, a: x + a * jnp.sin(x)),
          lambda g, x, a: ((g.astype(f32) * (1 + a * jnp.cos(x.astype(f32)))).astype(bf16),
                           jnp.sum(g.astype(f32) * jnp.sin(x.astype(f32)), 0)),
          lambda g, x, a: ((g.astype(f32) * (a * jnp.cos(x.astype(f32)))).astype(bf16),
                           jnp.sum(g.astype(f32) * jnp.sin(x.astype(f32)), 0)),
          lambda: (normal(1085, 20, dtype=bf16), array(0.5)[0]), "the skip connection's share forgotten"),
]
# fmt: on
