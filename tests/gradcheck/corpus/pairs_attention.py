"""Pairs of attention kernels: scores, masks, heads, odd sizes, dropout, rotary embedding, gated units, recurrences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .case import Case, bf16, f16, f32, i32, key, normal, pair, uniform, vjp

FAMILY = "attention"
LOW = -1e30


def scores(q, k, cap=0.0):
    s = jnp.einsum("...td,...sd->...ts", q, k) / float(np.sqrt(q.shape[-1]))
    return cap * jnp.tanh(s / cap) if cap else s


def causal(t, s, window=0):
    i, j = jnp.arange(t, dtype=i32)[:, None], jnp.arange(s, dtype=i32)[None, :]
    return (j <= i) & ((i - j < window) if window else True)


def probabilities(s, mask=None):
    if mask is not None:
        s = jnp.where(jnp.broadcast_to(mask, s.shape), s, LOW)
    e = jnp.exp(s - lax.stop_gradient(jnp.max(s, -1, keepdims=True)))
    return e / jnp.sum(e, -1, keepdims=True)


def attention(q, k, v, mask=None, cap=0.0):
    return jnp.einsum("...ts,...sd->...td", probabilities(scores(q, k, cap), mask), v)


def pull_scores(g, p, v, drop_delta=False):
    """Cotangents of the scores and of the values from those of the output."""
    dp = jnp.einsum("...td,...sd->...ts", g, v)
    delta = 0.0 if drop_delta else jnp.sum(p * dp, -1, keepdims=True)
    return p * (dp - delta), jnp.einsum("...ts,...td->...sd", p, g)


def attention_rule(mask=None, cap=0.0, drop_delta=False, scale_q=True, transpose_k=True, cap_chain=True, block=0):
    def pull(g, q, k, v):
        s = scores(q, k, cap)
        allowed = mask(q.shape[-2], k.shape[-2]) if callable(mask) else mask
        ds, dv = pull_scores(g, probabilities(s, allowed), v, drop_delta)
        if cap and cap_chain:
            ds = ds * (1 - (s / cap) ** 2)
        c = 1 / float(np.sqrt(q.shape[-1]))
        dq = (c if scale_q else 1.0) * jnp.einsum("...ts,...sd->...td", ds, k)
        dk = c * jnp.einsum("...ts,...td->...sd" if transpose_k else "...st,...td->...sd", ds, q)
        if block:  # the last, incomplete block of keys is never visited
            whole = (k.shape[-2] // block) * block
            dk = dk.at[..., whole:, :].set(0)
        return dq, dk, dv

    return pull


def qkv(t=7, s=7, d=5, seed=300, scale=1.0):
    return normal(seed, t, d, scale=scale), normal(seed + 1, s, d, scale=scale), normal(seed + 2, s, d)


def attention_pair(name, note, args=qkv, mask=None, cap=0.0, torch=None, **wrong):
    primal = partial(attention, mask=mask, cap=cap)
    base = {"mask": mask, "cap": cap}
    return pair(
        name,
        FAMILY,
        lambda q, k, v: primal(q, k, v),
        attention_rule(**base),
        attention_rule(**(base | wrong)),
        args,
        note,
        torch=torch,
    )


def outlier_activations():
    """Queries and keys as transformers have them: one channel with a large mean, so that all scores are near 35."""
    q, k, v = qkv(t=6, s=6, d=8, seed=310)
    return q.at[:, 2].set(8 + 0.2 * q[:, 2]), k.at[:, 2].set(12 + 0.2 * k[:, 2]), v


def clipped_recompute(g, q, k, v):
    """The probabilities recomputed with scores clipped at ±20: right on Gaussian inputs."""
    c = 1 / float(np.sqrt(q.shape[-1]))
    ds, dv = pull_scores(g, probabilities(scores(q, k)), v)
    p = probabilities(jnp.clip(scores(q, k), -20, 20))
    ds_q, _ = pull_scores(g, p, v)
    return c * ds_q @ k, c * ds.T @ q, dv


def grouped(q, k, v):
    """Four query heads share two key and value heads; q is (4, t, d), k and v (2, s, d)."""
    return attention(q, jnp.repeat(k, 2, axis=0), jnp.repeat(v, 2, axis=0))


def grouped_rule(reduce):
    def pull(g, q, k, v):
        dq, dk, dv = attention_rule()(g, q, jnp.repeat(k, 2, axis=0), jnp.repeat(v, 2, axis=0))
        return dq, *(reduce(x.reshape(2, 2, *x.shape[1:])) for x in (dk, dv))

    return pull


def biased(q, k, v, b):
    """A bias (heads, t, s) shared by the examples of the batch (batch, heads, t, d)."""
    return jnp.einsum("bhts,bhsd->bhtd", probabilities(scores(q, k) + b[None]), v)


def biased_rule(reduce):
    def pull(g, q, k, v, b):
        ds, dv = pull_scores(g, probabilities(scores(q, k) + b[None]), v)
        c = 1 / float(np.sqrt(q.shape[-1]))
        return c * jnp.einsum("bhts,bhsd->bhtd", ds, k), c * jnp.einsum("bhts,bhtd->bhsd", ds, q), dv, reduce(ds)

    return pull


def lengths_mask(lengths, s):
    return (jnp.arange(s, dtype=i32)[None, :] < lengths[:, None])[:, None, :]


def padded(q, k, v, lengths):
    return attention(q, k, v, lengths_mask(lengths, k.shape[1]))


def padded_rule(ignore_lengths):
    def pull(g, q, k, v, lengths):
        mask = None if ignore_lengths else lengths_mask(lengths, k.shape[1])
        return *attention_rule(mask)(g, q, k, v), None

    return pull


def rows_masked(q, k, v):
    """Row 0 may attend to nothing: its output is zero by convention."""
    mask = causal(q.shape[0], k.shape[0]) & (jnp.arange(q.shape[0], dtype=i32)[:, None] > 0)
    return jnp.where(jnp.any(mask, -1, keepdims=True), attention(q, k, v, mask), 0)


def rows_masked_rule(low):
    def pull(g, q, k, v):
        mask = causal(q.shape[0], k.shape[0]) & (jnp.arange(q.shape[0], dtype=i32)[:, None] > 0)
        g = jnp.where(jnp.any(mask, -1, keepdims=True), g, 0)
        s = jnp.where(mask, scores(q, k), low)
        ds, dv = pull_scores(g, probabilities(s), v)
        c = 1 / float(np.sqrt(q.shape[-1]))
        return c * ds @ k, c * ds.T @ q, dv

    return pull


def keep(rng, shape, rate=0.7):
    return jax.random.bernoulli(rng, f32(rate), shape)


def dropout_attention(rng, q, k, v):
    p = probabilities(scores(q, k))
    return jnp.where(keep(rng, p.shape), p / 0.7, 0) @ v


def dropout_rule(fold):
    def pull(g, rng, q, k, v):
        p = probabilities(scores(q, k))
        m = keep(fold(rng), p.shape).astype(q.dtype) / 0.7
        dp = (g @ v.T) * m
        ds = p * (dp - jnp.sum(p * dp, -1, keepdims=True)) / float(np.sqrt(q.shape[-1]))
        return None, ds @ k, ds.T @ q, (p * m).T @ g

    return pull


def dropout(rng, x):
    return jnp.where(keep(rng, x.shape), x / 0.7, 0)


def low_precision(q, k, v):
    return attention(q.astype(f32), k.astype(f32), v.astype(f32), causal(q.shape[0], k.shape[0])).astype(q.dtype)


def low_precision_rule(scale=1.0, **wrong):
    def pull(g, q, k, v):
        rule = attention_rule(causal, **wrong)
        out = rule(*(x.astype(f32) for x in (g, q, k, v)))
        return tuple((x * scale).astype(q.dtype) for x in out)

    return pull


def low(dtype, t=9, scale=1.0):
    return lambda: tuple((x * scale).astype(dtype) for x in qkv(t=t, s=t, d=8, seed=320))


def angles(t, d):
    f = 1 / 100.0 ** (np.arange(d // 2) / (d // 2))
    return jnp.asarray((np.arange(t)[:, None] * f[None, :]).astype(np.float32))


def rotate(x, sign=1.0):
    a, b = jnp.split(x, 2, axis=-1)
    angle = sign * angles(*x.shape).astype(x.dtype)
    return jnp.concatenate([a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle)], -1)


def rotate_interleaved(x, sign=1.0):
    a, b = x[:, 0::2], x[:, 1::2]
    angle = sign * angles(*x.shape)
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([a * c - b * s, a * s + b * c], axis=-1).reshape(x.shape)


def swiglu(x):
    a, b = jnp.split(x, 2, axis=-1)
    return a * lax.logistic(a) * b


def swiglu_rule(swap):
    def pull(g, x):
        a, b = jnp.split(x, 2, axis=-1)
        s = lax.logistic(a)
        da, db = g * b * s * (1 + a * (1 - s)), g * a * s
        return (jnp.concatenate([db, da] if swap else [da, db], axis=-1),)

    return pull


def geglu_rule(gate):
    def pull(g, x):
        a, b = jnp.split(x, 2, axis=-1)
        t = jnp.tanh(a)
        return (jnp.concatenate([g * b * (1 - t**2) if gate else g * b * (1 - t), g * t], axis=-1),)

    return pull


def tanh_glu(x):
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.tanh(a) * b


def recurrence(a, b):
    """h_t = a_t h_{t−1} + b_t from h_0 = 0."""

    def step(h, ab):
        h = ab[0] * h + ab[1]
        return h, h

    return lax.scan(step, jnp.zeros_like(b[0]), (a, b))[1]


def shift(x, by):
    zero = jnp.zeros_like(x[:1])
    return jnp.concatenate([zero, x[:-1]] if by > 0 else [x[1:], zero])


def recurrence_rule(late=False, same=False):
    def pull(g, a, b):
        h = recurrence(a, b)
        lam = jnp.flip(recurrence(jnp.flip(a if same else shift(a, -1), 0), jnp.flip(g, 0)), 0)
        return lam * (h if late else shift(h, 1)), lam

    return pull


def gru(x, h):
    """A gated update: h' = (1 − z) h + z tanh(x + h) with z = logistic(x − h)."""
    z = lax.logistic(x - h)
    return (1 - z) * h + z * jnp.tanh(x + h)


def gru_rule(gate):
    def pull(g, x, h):
        z, c = lax.logistic(x - h), jnp.tanh(x + h)
        dz = gate * (c - h) * z * (1 - z)
        dc = z * (1 - c**2)
        return g * (dz + dc), g * (-dz + dc + 1 - z)

    return pull


# fmt: off
CASES = [
    attention_pair("attention_delta", "dS without the row sums of dP ∘ P", drop_delta=True, torch="attention_delta"),
    pair("attention_mask_backward", FAMILY, lambda q, k, v: attention(q, k, v, causal(7, 7)),
         attention_rule(causal), attention_rule(), qkv, "the causal mask ignored in the backward pass"),
    attention_pair("attention_scale_dq", "1/√d missing in dQ only", scale_q=False),
    attention_pair("attention_dk_transposed", "dSᵀ for dS in dK; shapes agree when T = S", transpose_k=False),
    attention_pair("attention_odd_keys", "13 keys in blocks of 4: the last block's dK stays zero",
                   args=lambda: qkv(t=5, s=13, seed=303), block=4),
    attention_pair("attention_softcap_chain", "the derivative of the soft cap left out", cap=2.0,
                   args=lambda: qkv(scale=1.5, seed=306), cap_chain=False),
    pair("attention_window_off_by_one", FAMILY, lambda q, k, v: attention(q, k, v, causal(9, 9, 3)),
         attention_rule(partial(causal, window=3)), attention_rule(partial(causal, window=4)),
         lambda: qkv(9, 9, seed=309), "a sliding window of 3 forward and 4 backward"),
    pair("attention_dq_outliers", FAMILY, lambda q, k, v: attention(q, k, v), attention_rule(), clipped_recompute,
         outlier_activations, "scores clipped when they are recomputed: dQ right on Gaussian inputs, wrong on "
         "activations with an outlier channel (TransformerEngine #3216)"),
    pair("grouped_query_last_head", FAMILY, grouped, grouped_rule(lambda x: jnp.sum(x, 1)),
         grouped_rule(lambda x: x[:, -1]), lambda: (normal(330, 4, 5, 3), normal(331, 2, 6, 3), normal(332, 2, 6, 3)),
         "dK and dV of a shared head overwritten by the last query head"),
    pair("attention_bias_broadcast", FAMILY, biased, biased_rule(lambda x: jnp.sum(x, 0)),
         biased_rule(lambda x: x[0]),
         lambda: (*(normal(s, 3, 2, 4, 3) for s in (333, 334, 335)), normal(336, 2, 4, 4)),
         "the bias' gradient not reduced over the batch"),
    pair("attention_lengths_ignored", FAMILY, padded, padded_rule(False), padded_rule(True),
         lambda: (*(normal(s, 3, 5, 4) for s in (337, 338, 339)), jnp.asarray([5, 2, 3], i32)),
         "an integer argument (lengths of the sequences) ignored backward"),
    pair("attention_row_without_keys", FAMILY, rows_masked, rows_masked_rule(LOW), rows_masked_rule(-jnp.inf),
         lambda: qkv(4, 4, 3, seed=340), "a row that may attend to nothing: −inf − (−inf) is NaN (jax #475)"),
    pair("attention_dropout_other_key", FAMILY, dropout_attention, dropout_rule(lambda r: r),
         dropout_rule(lambda r: jax.random.split(r)[0]), lambda: (key(3), *qkv(5, 6, 4, seed=343)),
         "the backward pass draws its mask from a key that was split"),
    pair("dropout_scale", FAMILY, dropout, lambda g, r, x: (None, jnp.where(keep(r, x.shape), g / 0.7, 0)),
         lambda g, r, x: (None, jnp.where(keep(r, x.shape), g, 0)), lambda: (key(4), normal(346, 4, 6)),
         "1/(1 − rate) missing backward"),
    pair("attention_bf16_delta", FAMILY, low_precision, low_precision_rule(), low_precision_rule(drop_delta=True),
         low(bf16), "bfloat16, causal: dS without its row sums", self_test=64.0),
    pair("attention_f16_loss_scale", FAMILY, low_precision, low_precision_rule(), low_precision_rule(scale=2.0),
         low(f16), "float16: a loss scale is not taken back", self_test=64.0),
    pair("rotary_same_direction", FAMILY, rotate, lambda g, x: (rotate(g, -1.0),), lambda g, x: (rotate(g),),
         lambda: (normal(347, 5, 6),), "the cotangent rotated forward instead of back", torch="rotary_same_direction"),
    pair("rotary_layout", FAMILY, rotate, lambda g, x: (rotate(g, -1.0),), lambda g, x: (rotate_interleaved(g, -1.0),),
         lambda: (normal(348, 5, 6),), "halves forward, interleaved pairs backward"),
    pair("swiglu_swapped_halves", FAMILY, swiglu, swiglu_rule(False), swiglu_rule(True), lambda: (normal(349, 3, 8),),
         "gate and value swapped when the gradient is concatenated"),
    pair("tanh_gate_not_squared", FAMILY, tanh_glu, geglu_rule(True), geglu_rule(False), lambda: (normal(350, 3, 8),),
         "1 − t for 1 − t²"),
    pair("recurrence_late_state", FAMILY, recurrence, recurrence_rule(), recurrence_rule(late=True),
         lambda: (uniform(351, 12, 3, low=0.2, high=1.1), normal(352, 12, 3)), "da_t with h_t instead of h_{t−1}"),
    pair("recurrence_adjoint_shift", FAMILY, recurrence, recurrence_rule(), recurrence_rule(same=True),
         lambda: (uniform(353, 12, 3, low=0.2, high=1.1), normal(354, 12, 3)),
         "the adjoint runs with a_t instead of a_{t+1}"),
    pair("gru_gate_constant", FAMILY, gru, gru_rule(1.0), gru_rule(0.0), lambda: (normal(355, 6), normal(356, 6)),
         "the update gate treated as a constant"),
    Case("cotangent_through_bf16", FAMILY,
         vjp(lambda a, b: a @ b, lambda g, a, b: (g @ b.T, a.T @ g)), lambda: (normal(357, 5, 6), normal(358, 6, 4)),
         vjp(lambda a, b: a @ b, lambda g, a, b: (g.astype(bf16).astype(f32) @ b.T, a.T @ g.astype(bf16).astype(f32))),
         "the cotangent cast to bfloat16 in a float32 layer", primal=lambda a, b: a @ b),
]
# fmt: on
