"""Right functions in mixed precision: layers as they are written for accelerators, by JAX's own autodiff."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from .case import bf16, f16, f32, hard, i32, integers, key, normal, uniform, vjp

FAMILY = "mixed precision"


def dense(x, w, b, dtype=bf16):
    return x.astype(dtype) @ w.astype(dtype) + b.astype(dtype)[None, :]


def network(x, params):
    for w, b in params[:-1]:
        x = jax.nn.gelu(dense(x, w, b))
    return dense(x, *params[-1]).astype(f32)


def convolution(x, w, b):
    y = lax.conv_general_dilated(x, w.astype(x.dtype), (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.nn.relu(y + b.astype(x.dtype)[None, None, None, :])


def standardized(x, axes):
    x32 = x.astype(f32)
    m = jnp.mean(x32, axes, keepdims=True)
    return (x32 - m) * lax.rsqrt(jnp.var(x32, axes, keepdims=True) + 1e-5)


def layer_norm(x, gamma, beta):
    return (standardized(x, -1) * gamma[None, :] + beta[None, :]).astype(x.dtype)


def layer_norm_coarse(x, gamma):
    """The statistics in the activations' own dtype."""
    m = jnp.mean(x, -1, keepdims=True)
    v = jnp.mean((x - m) ** 2, -1, keepdims=True)
    return (x - m) * lax.rsqrt(v + 1e-3) * gamma.astype(x.dtype)[None, :]


def rms_norm(x, w):
    x32 = x.astype(f32)
    return (x32 * lax.rsqrt(jnp.mean(x32**2, -1, keepdims=True) + 1e-6)).astype(x.dtype) * w.astype(x.dtype)[None, :]


def group_norm(x, w):
    return (standardized(x.reshape(x.shape[0], 2, -1), -1).reshape(x.shape) * w[None, :]).astype(x.dtype)


def batch_norm(x, w, b):
    return standardized(x, 0).astype(x.dtype) * w.astype(x.dtype)[None, :] + b.astype(x.dtype)[None, :]


def tied(table, ids):
    """The embedding that is also the last layer."""
    h = jnp.tanh(table[ids].astype(bf16))
    return jnp.einsum("td,vd->tv", h, table.astype(bf16), preferred_element_type=f32)


def attention(x, wq, wk, wv, b):
    q, k, v = (x @ w.astype(x.dtype) for w in (wq, wk, wv))
    s = jnp.einsum("td,sd->ts", q, k, preferred_element_type=f32) / 2 + b
    mask = jnp.tril(jnp.ones(s.shape, bool))
    return jax.nn.softmax(jnp.where(mask, s, -1e30), -1).astype(x.dtype) @ v


def cross_entropy(logits, labels):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits.astype(f32), -1), labels[:, None], -1))


def capped(h, w, labels):
    z = jnp.einsum("td,dv->tv", h, w.astype(h.dtype), preferred_element_type=f32)
    return cross_entropy(5 * jnp.tanh(z / 5), labels)


def block(x, w1, w2):
    """A float32 stream with a bfloat16 branch."""
    h = rms_norm(x.astype(bf16), jnp.ones(x.shape[1], f32))
    return x + (jax.nn.silu(h @ w1.astype(bf16)) @ w2.astype(bf16)).astype(f32)


def rotary(x):
    a, b = jnp.split(x.astype(f32), 2, -1)
    angle = jnp.arange(x.shape[0], dtype=i32).astype(f32)[:, None] * jnp.asarray([[1.0, 0.1]], f32)
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([a * c - b * s, a * s + b * c], -1).astype(x.dtype)


def recurrent(x, w, u):
    step = lambda h, v: (jnp.tanh(v @ w.astype(bf16) + h @ u.astype(bf16)), None)  # noqa: E731
    return lax.scan(step, jnp.zeros(u.shape[0], bf16), x.astype(bf16))[0]


def dropped(rng, x, w):
    keep = jax.random.bernoulli(rng, f32(0.8), x.shape)
    return jnp.where(keep, x / 0.8, 0).astype(bf16) @ w.astype(bf16)


def quantized(x, w):
    """Weights rounded to float8 on the way, activations in bfloat16."""
    return jnp.matmul(x, w.astype(jnp.float8_e4m3fn).astype(bf16), preferred_element_type=f32)


def pooled(x, w):
    """The mean of 512 rows in bfloat16, then a float32 layer."""
    return jnp.mean(x, 0).astype(f32) @ w


def everything(tree):
    h = tree["half"].astype(f32) * tree["single"]
    return {"bfloat": tree["brain"] * h.astype(bf16), "half": jnp.sum(h).astype(f16), "single": h**2}


def contrastive(a, b, temperature):
    u, v = (x.astype(f32) / jnp.linalg.norm(x.astype(f32), axis=-1, keepdims=True) for x in (a, b))
    z = u @ v.T * jnp.exp(temperature)
    return -jnp.mean(jnp.diag(jax.nn.log_softmax(z, -1)))


def low_loop(x):
    """A float16 recurrence of 40 steps, each of which rounds."""
    return lax.scan(lambda h, v: (0.9 * h + v * v, None), jnp.zeros_like(x[0]), x)[0]


def mixture(x, router, experts):
    p = jax.nn.softmax(x.astype(f32) @ router, -1).astype(x.dtype)
    return jnp.einsum("ne,ni,eio->no", p, x, experts.astype(x.dtype))


@jax.custom_vjp
def gathered(table, ids):
    return table.astype(bf16)[ids]


gathered.defvjp(
    lambda table, ids: (gathered(table, ids), (ids, table)),
    lambda saved, g: (jnp.zeros_like(saved[1]).at[saved[0]].add(g.astype(f32)), None),
)

wide_product = vjp(
    lambda a, b: jnp.matmul(a, b, preferred_element_type=f32).astype(a.dtype),
    lambda g, a, b: (
        jnp.matmul(g, b.T, preferred_element_type=f32).astype(a.dtype),
        jnp.matmul(a.T, g, preferred_element_type=f32).astype(b.dtype),
    ),
)


def mixed(name, fun, args, note, self_test=64.0, **more):
    return hard(name, fun, args, note, FAMILY, self_test=self_test, **more)


def layers():
    sizes = [(3, 5), (5, 4), (4, 2)]
    params = [(normal(1600 + i, *s), normal(1610 + i, s[1])) for i, s in enumerate(sizes)]
    return normal(1620, 4, 3), params


# fmt: off
CASES = [
    mixed("cast_to_bf16", lambda t: t.astype(bf16), lambda: (normal(1621, 64),), "nothing but a cast"),
    mixed("cast_to_f16_and_back", lambda t: (t.astype(f16) * 3).astype(f32), lambda: (normal(1622, 16),), "stairs",
          self_test=None),
    mixed("dense_bf16_layer", dense, lambda: (normal(1623, 5, 3), normal(1624, 3, 4), normal(1625, 4)),
          "float32 parameters cast on the way in", self_test=None),
    mixed("dense_f16_layer", partial(dense, dtype=f16), lambda: (normal(1626, 5, 3, dtype=f16), normal(1627, 3, 4),
          normal(1628, 4)), "float16"),
    mixed("network_bf16", network, layers, "three layers in bfloat16 with a float32 result", self_test=None),
    mixed("convolution_bf16", convolution,
          lambda: (normal(1629, 1, 4, 4, 2, dtype=bf16), normal(1630, 3, 3, 2, 3), normal(1631, 3)),
          "float32 kernel, stride 2"),
    mixed("layer_norm_bf16_layer", layer_norm, lambda: (normal(1632, 4, 8, dtype=bf16), 1 + normal(1633, 8, scale=0.1),
          normal(1634, 8)), "statistics in float32"),
    mixed("layer_norm_large_mean_bf16", layer_norm,
          lambda: ((normal(1635, 3, 8) + 20).astype(bf16), normal(1636, 8), normal(1637, 8)),
          "a mean of 20 in bfloat16, whose steps there are 1/8"),
    mixed("layer_norm_f16_statistics", layer_norm_coarse, lambda: (normal(1638, 3, 8, dtype=f16), normal(1639, 8)),
          "statistics in float16", self_test=256.0),
    mixed("rms_norm_bf16_layer", rms_norm, lambda: (normal(1640, 4, 6, dtype=bf16), 1 + normal(1641, 6, scale=0.1)),
          "cast before the weight"),
    mixed("group_norm_f16_layer", group_norm, lambda: (normal(1642, 3, 6, dtype=f16), normal(1643, 6)), "two groups"),
    mixed("batch_norm_bf16_layer", batch_norm, lambda: (normal(1644, 7, 3, dtype=bf16), normal(1645, 3),
          normal(1646, 3)), "training mode"),
    mixed("embedding_tied_bf16", tied, lambda: (normal(1647, 5, 4), integers(1648, 5, 6)),
          "one table read and multiplied", self_test=None),
    mixed("embedding_rule_bf16", gathered, lambda: (normal(1649, 5, 3), jnp.asarray([1, 1, 4, 1], i32)),
          "a right rule that adds in float32", self_test=None),
    mixed("attention_bf16_projections", attention,
          lambda: (normal(1650, 4, 5, dtype=bf16), *(normal(s, 5, 4) for s in (1651, 1652, 1653)), f32(0.1)),
          "float32 projections, causal; and a bias that softmax cannot see"),
    mixed("cross_entropy_bf16_logits", cross_entropy, lambda: (normal(1654, 6, 9, scale=4.0, dtype=bf16),
          integers(1655, 9, 6)), "bfloat16 logits"),
    mixed("cross_entropy_f16_capped", capped, lambda: (normal(1656, 4, 3, dtype=f16), normal(1657, 3, 7),
          integers(1658, 7, 4)), "a soft cap on the logits"),
    mixed("residual_block_bf16", block, lambda: (normal(1659, 3, 4), normal(1660, 4, 6), normal(1661, 6, 4)),
          "a float32 stream with a bfloat16 branch", self_test=None),
    mixed("rotary_bf16", rotary, lambda: (normal(1662, 5, 4, dtype=bf16),), "angles in float32"),
    mixed("recurrent_bf16", recurrent, lambda: (normal(1663, 12, 3), normal(1664, 3, 4), normal(1665, 4, 4, scale=0.4)),
          "12 steps that round", self_test=None),
    mixed("dropout_bf16", dropped, lambda: (key(8), normal(1666, 4, 5), normal(1667, 5, 3)), "a key, and a layer",
          self_test=None),
    mixed("weights_float8", quantized, lambda: (normal(1668, 4, 5, dtype=bf16), normal(1669, 5, 3)),
          "weights rounded to 3 bits: JAX's cast rounds the cotangent to 3 bits too", self_test=None),
    mixed("mean_of_rows_bf16", pooled, lambda: (normal(1670, 512, 3, dtype=bf16), normal(1671, 3, 2)),
          "gradients of 1/512"),
    mixed("tree_of_dtypes", everything, lambda: ({"half": normal(1672, 4, dtype=f16), "single": normal(1673, 4),
          "brain": normal(1674, 4, dtype=bf16)},), "three dtypes in, three out"),
    mixed("contrastive_bf16", contrastive, lambda: (normal(1675, 4, 3, dtype=bf16), normal(1676, 4, 3, dtype=bf16),
          f32(0.5)), "unit vectors and a temperature"),
    mixed("recurrence_f16", low_loop, lambda: (normal(1677, 40, dtype=f16),), "40 roundings in a row", self_test=512.0),
    mixed("mixture_bf16", mixture, lambda: (normal(1678, 4, 3, dtype=bf16), normal(1679, 3, 2), normal(1680, 2, 3, 2)),
          "weights of experts cast twice"),
    mixed("matmul_rule_bf16", wide_product, lambda: (normal(1681, 5, 4, dtype=bf16), normal(1682, 4, 3, dtype=bf16)),
          "a right rule that accumulates in float32"),
    mixed("small_gradients_f16", lambda x, w: jnp.sum(x.astype(f32) * w) * 1e-4, lambda: (normal(1683, 9, dtype=f16),
          normal(1684, 9)), "gradients among float16's subnormals", self_test=None),
    mixed("softmax_many_f16", lambda x: jax.nn.softmax(x, -1), lambda: (normal(1685, 1500, dtype=f16),),
          "1500 probabilities of 1e-3"),
    mixed("square_loss_bf16", lambda p, t: jnp.mean((p.astype(f32) - t) ** 2), lambda: (normal(1686, 6, 3, dtype=bf16),
          normal(1687, 6, 3)), "bfloat16 predictions, float32 targets"),
    mixed("weighted_sum_bf16", lambda x, w: jnp.sum(x * w.astype(bf16), 0, dtype=f32),
          lambda: (uniform(1688, 600, low=0.5, high=1.5, dtype=bf16), uniform(1689, 600)), "600 products"),
]
# fmt: on
