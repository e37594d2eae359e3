"""Right functions that are hard for their structure: control flow, indices, trees, keys, masks, nested rules."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .case import KINK, array, bf16, f16, f32, hard, i32, integers, key, normal, uniform, vjp
from .pairs_attention import attention, causal, qkv, recurrence, rows_masked

FAMILY = "structure"
FLOW = "control flow"
TREES = "trees"
RULES = "nested rules"

square = vjp(lambda x: x * x, lambda g, x: (2 * g * x,))


@jax.custom_jvp
def sine(x):
    return jnp.sin(x)


sine.defjvp(lambda p, t: (sine(p[0]), jnp.cos(p[0]) * t[0]))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def power(x, n):
    return x**n


power.defvjp(lambda x, n: (x**n, x), lambda n, x, g: (g * n * x ** (n - 1),))


@jax.custom_gradient
def sigmoid_gradient(x):
    z = lax.logistic(x)
    return z, lambda g: (g * z * (1 - z),)


def rules_in_scan(x):
    return lax.scan(lambda h, v: (square(jnp.tanh(h + sine(v))), h), jnp.zeros_like(x[0]), x)[0]


def rules_in_cond(x, flag):
    return lax.cond(flag, lambda v: sine(v) * 2, lambda v: square(v), x)


def rules_in_switch(x, index):
    return lax.switch(index, [sine, square, lambda v: power(v, 3)], x)


def rules_everywhere(x):
    inner = jax.jit(jax.vmap(jax.checkpoint(lambda v: square(sine(v)))))
    return jnp.sum(inner(x)) + power(x, 3)


def rnn(w, x):
    return lax.scan(lambda h, v: (jnp.tanh(w @ h + v), None), jnp.zeros_like(x[0]), x)[0]


def filter_long(a, x):
    return lax.scan(lambda h, v: (a * h + (1 - a) * v, None), jnp.zeros_like(x[0]), x)[0]


def logistic_map(x):
    return lax.fori_loop(0, 15, lambda _, v: 3.9 * v * (1 - v), x)


def babylonian(x):
    """√x by a while loop: JAX can differentiate it in forward mode only."""

    def step(state):
        i, y = state
        return i + 1, 0.5 * (y + x / y)

    return lax.while_loop(lambda s: s[0] < 12, step, (i32(0), jnp.ones_like(x)))[1]


def repeat(x, n):
    return lax.fori_loop(0, n, lambda _, v: jnp.sin(v) + 0.5 * v, x)


def associative(x):
    return lax.associative_scan(lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), (0.5 + 0.4 * jnp.tanh(x), x))[1]


def empty_leaves(tree):
    return {"y": jnp.sin(tree["x"]), "none": None, "nothing": (), "empty": tree["empty"] * 2}


def normalize_constant_rows(x):
    m = jnp.mean(x, -1, keepdims=True)
    return (x - m) * lax.rsqrt(jnp.mean((x - m) ** 2, -1, keepdims=True) + 1e-5)


def safe_distance(x):
    """Pairwise distances with a double where on the diagonal."""
    d2 = jnp.sum((x[:, None, :] - x[None, :, :]) ** 2, -1)
    off = ~jnp.eye(x.shape[0], dtype=bool)
    return jnp.where(off, jnp.sqrt(jnp.where(off, d2, 1)), 0)


def masked_log(x, mask):
    return jnp.sum(jnp.where(mask, jnp.log(jnp.where(mask, x, 1)), 0))


def reparametrized(rng, mean, scale):
    return mean + scale * jax.random.normal(rng, mean.shape, f32).astype(mean.dtype)


def gumbel_softmax(rng, logits):
    return jax.nn.softmax((logits + jax.random.gumbel(rng, logits.shape, f32).astype(logits.dtype)) / 0.5)


def power_spectrum(x):
    return jnp.abs(jnp.fft.rfft(x)) ** 2


def low_pass(x):
    return jnp.fft.irfft(jnp.fft.rfft(x)[:3], n=x.shape[0])


def max_pool_2d(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID")


def conv_dilated(x, w):
    return lax.conv_general_dilated(x, w, (2,), ((2, 1),), rhs_dilation=(2,), dimension_numbers=("NWC", "WIO", "NWC"))


def conv_grouped(x, w):
    return lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=3)


def attention_low(q, k, v):
    return attention(q.astype(f32), k.astype(f32), v.astype(f32), causal(q.shape[0], k.shape[0])).astype(q.dtype)


def attention_all_low(q, k, v):
    s = q @ k.T / float(np.sqrt(q.shape[-1]))
    return jax.nn.softmax(jnp.where(causal(*s.shape), s, jnp.asarray(-1e4, s.dtype))) @ v


def low(dtype, t=9, d=16):
    return lambda: tuple(x.astype(dtype) for x in qkv(t, t, d, seed=700))


def detached_shift(x):
    """A shift that cancels: stop_gradient is legitimate."""
    m = lax.stop_gradient(jnp.max(x))
    return jnp.log(jnp.sum(jnp.exp(x - m))) + m


def out_of_bounds(x, i):
    return x.at[i].get(mode="fill", fill_value=0) + jnp.take(x, i, mode="clip")


def structured(name, fun, args, note, family=FAMILY, **more):
    return hard(name, fun, args, note, family, **more)


def x7(seed=701):
    return lambda: (normal(seed, 7),)


# fmt: off
CASES = [
    structured("sort", jnp.sort, x7(), "distinct elements"),
    structured("sort_ties", jnp.sort, lambda: (array(2.0, 1.0, 2.0, 1.0, 0.0),), "ties: a kink in each tied element",
               allowed=KINK, self_test=None),
    structured("top_k", lambda x: lax.top_k(x, 3)[0], x7(), "values only"),
    structured("top_k_with_indices", lambda x: lax.top_k(x, 3), x7(), "the second output is an integer"),
    structured("quantile", lambda x: jnp.quantile(x, f32(0.3)), x7(), "between two order statistics"),
    structured("cumulative_product_zero", jnp.cumprod, lambda: (array(1.5, 0.0, 2.0, -1.0),), "an exact zero"),
    structured("cumulative_max", lax.cummax, x7(), "cumulative maxima of distinct elements"),
    structured("cumulative_logsumexp", lax.cumlogsumexp, lambda: (normal(702, 7, scale=30.0),), "scales of 30"),
    structured("associative_scan", associative, x7(), "a linear recurrence in parallel"),
    structured("recurrence_scan", recurrence, lambda: (uniform(703, 9, 2, high=1.2), normal(704, 9, 2)),
               "a linear recurrence in sequence"),
    structured("gather_repeated", lambda x, i: x[i] ** 2, lambda: (normal(705, 5), integers(706, 5, 9)),
               "repeated and unused rows"),
    structured("gather_out_of_bounds", out_of_bounds, lambda: (normal(707, 4), jnp.asarray([0, 9, -1, 3], i32)),
               "indices out of bounds: filled and clipped"),
    structured("scatter_multiply", lambda x, u, i: x.at[i].multiply(u, unique_indices=True),
               lambda: (normal(708, 5), normal(709, 3), jnp.asarray([4, 0, 2], i32)), "unique indices"),
    structured("segment_max", lambda x, i: jax.ops.segment_max(x, i, num_segments=3),
               lambda: (normal(710, 6), jnp.asarray([0, 2, 1, 1, 0, 2], i32)), "maxima of segments"),
    structured("segment_sum_empty", lambda x, i: jnp.cos(jax.ops.segment_sum(x, i, num_segments=5)),
               lambda: (normal(711, 6), jnp.asarray([0, 3, 3, 1, 0, 3], i32)), "segments without members"),
    structured("power_spectrum", power_spectrum, lambda: (normal(712, 8),), "complex numbers inside, real outside"),
    structured("low_pass", low_pass, lambda: (normal(713, 9),), "an odd length"),
    structured("interp", lambda x, f: jnp.interp(x, jnp.arange(5, dtype=i32).astype(f32), f),
               lambda: (array(0.3, 2.7, 3.2, 7.0), normal(714, 5)), "outside the table the slope is 0"),
    structured("max_pool_2d", max_pool_2d, lambda: (normal(715, 4, 6),), "reduce_window"),
    structured("conv_dilated", conv_dilated, lambda: (normal(716, 2, 9, 2), normal(717, 3, 2, 3)),
               "stride 2, dilation 2, uneven padding"),
    structured("conv_grouped", conv_grouped, lambda: (normal(718, 1, 6, 3), normal(719, 4, 1, 6)),
               "depthwise with an even kernel"),
    structured("attention_odd", lambda q, k, v: attention(q, k, v), lambda: qkv(5, 11, 3, seed=720), "odd sizes"),
    structured("attention_empty_row", rows_masked, lambda: qkv(4, 4, 3, seed=723), "a row without keys, masked twice"),
    structured("attention_bf16", attention_low, low(bf16), "bfloat16 in and out, float32 inside", self_test=64.0),
    structured("attention_all_bf16", attention_all_low, low(bf16), "bfloat16 throughout", self_test=256.0),
    structured("attention_all_f16", attention_all_low, low(f16), "float16 throughout", self_test=256.0),
    structured("attention_large_logits", lambda q, k, v: attention(q, k, v), lambda: qkv(6, 6, 4, 726, scale=12.0),
               "one key takes all: nearly one-hot"),
    structured("layer_norm_constant_row", normalize_constant_rows,
               lambda: (normal(727, 3, 6) * jnp.asarray([[1.0], [0.0], [1.0]], f32) + 2,), "a row of variance 0"),
    structured("distances", safe_distance, lambda: (normal(728, 4, 2),), "the diagonal masked twice (diffrax #742)"),
    structured("masked_log", masked_log, lambda: (array(-1.0, 0.0, 2.0), jnp.asarray([False, False, True])),
               "a boolean argument; masked twice"),
    structured("detached_shift", detached_shift, lambda: (normal(729, 6, scale=20.0),), "stop_gradient that changes "
               "nothing; chex removes it and tests another function"),
    structured("roll_pad_flip", lambda x: jnp.pad(jnp.flip(jnp.roll(x, 2)), (1, 2), mode="edge"), x7(730), "moves"),
    structured("einsum_three", lambda a, b, c: jnp.einsum("ij,jk,ki->", a, b, c),
               lambda: (normal(731, 3, 4), normal(732, 4, 2), normal(733, 2, 3)), "a trace of three"),
    structured("million", lambda x: jnp.sum(jnp.tanh(x) ** 2), lambda: (normal(734, 1_000_000),), "1e6 elements"),
    structured("scan_long", filter_long, lambda: (array(0.99, 0.5), normal(735, 2000, 2)), "2000 steps", FLOW),
    structured("rnn", rnn, lambda: (normal(736, 4, 4, scale=0.5), normal(737, 100, 4)), "100 steps of tanh", FLOW),
    structured("logistic_map", logistic_map, lambda: (array(0.1234, 0.6),), "chaos: errors grow a thousandfold", FLOW,
               self_test=1e5),
    structured("while_forward", babylonian, lambda: (array(0.5, 2.0, 9.0),), "a while loop: no reverse mode", FLOW,
               how="jvp"),
    structured("fori_static", lambda x: repeat(x, 6), x7(738), "a loop with a static count", FLOW),
    structured("cond_flag", rules_in_cond, lambda: (normal(739, 4), jnp.asarray(True)), "rules in the branches", FLOW),
    structured("switch_index", rules_in_switch, lambda: (normal(740, 4), i32(2)), "an integer chooses the rule", FLOW),
    structured("tree_with_empty_leaves", empty_leaves,
               lambda: ({"x": normal(741, 3), "empty": jnp.zeros((0, 3), f32), "none": None, "nothing": ()},),
               "no elements, None, an empty tuple", TREES),
    structured("tree_of_everything", lambda t, n: {"a": t[0]["w"] * n, "b": [jnp.sum(t[1]), n + 1]},
               lambda: (({"w": normal(742, 2), "flag": jnp.asarray(True)}, array(1.0, 2.0)), i32(3)),
               "integers and booleans among the leaves and outputs", TREES),
    structured("scalar", lambda x: x * jnp.exp(-x), lambda: (f32(0.7),), "a scalar in and out", TREES),
    structured("numpy_argument", lambda x: jnp.sin(x) * 2, lambda: (np.asarray([0.3, 1.0], np.float32),),
               "a NumPy array", TREES),
    structured("key_reparametrized", reparametrized, lambda: (key(5), normal(743, 4), uniform(744, 4, low=0.1)),
               "a key argument: the draws must not change", TREES),
    structured("key_gumbel", gumbel_softmax, lambda: (key(6), normal(745, 5)), "draws inside the function", TREES),
    structured("key_closed_over", lambda x: x * jax.random.normal(key(7), x.shape, f32).astype(x.dtype), x7(746),
               "a constant key", TREES),
    structured("rules_in_scan", rules_in_scan, lambda: (normal(747, 5, 2),), "two right rules in a scan", RULES),
    structured("rules_everywhere", rules_everywhere, x7(748), "rules under jit, vmap and checkpoint", RULES),
    structured("rule_nondiff_argnums", lambda x: power(x, 4), x7(749), "a static argument of the rule", RULES),
    structured("rule_custom_gradient", sigmoid_gradient, x7(750), "jax.custom_gradient", RULES),
    structured("rule_under_map", lambda x: lax.map(square, x), x7(751), "lax.map", RULES),
    structured("library_rules", lambda x: jax.nn.silu(jax.nn.gelu(x)) + jax.nn.softplus(x) * jnp.sinc(x), x7(752),
               "JAX's own rules, nested", RULES),
]
# fmt: on
