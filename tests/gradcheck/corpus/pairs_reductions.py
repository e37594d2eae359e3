"""Pairs of reductions: softmax and its losses, broadcasts, sums, products, cumulative and segment sums."""

import jax
import jax.numpy as jnp

from .case import Case, array, bf16, f32, i32, integers, jpair, normal, pair, uniform, vjp

FAMILY = "reductions"
LOSSES = "losses"


def softmax(x):
    e = jnp.exp(x - jnp.max(x, axis=-1, keepdims=True))
    return e / jnp.sum(e, axis=-1, keepdims=True)


def softmax_right(g, x):
    z = softmax(x)
    return (z * (g - jnp.sum(g * z, axis=-1, keepdims=True)),)


def softmax_dropped(g, x):
    return (softmax(x) * g,)


def softmax_wrong_axis(g, x):
    z = softmax(x)
    return (z * (g - jnp.sum(g * z, axis=0, keepdims=True)),)


def softmax_bf16(x):
    return softmax(x.astype(f32)).astype(bf16)


def softmax_bf16_right(g, x):
    return (softmax_right(g.astype(f32), x.astype(f32))[0].astype(bf16),)


def softmax_bf16_mean(g, x):
    z, g = softmax(x.astype(f32)), g.astype(f32)
    return ((z * (g - jnp.mean(g, axis=-1, keepdims=True))).astype(bf16),)


def softmax_push(p, t):
    z = softmax(p[0])
    return z * (t[0] - jnp.sum(t[0] * z, axis=-1, keepdims=True))


def log_softmax(x):
    shifted = x - jnp.max(x, axis=-1, keepdims=True)
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True))


def log_softmax_right(g, x):
    return (g - softmax(x) * jnp.sum(g, axis=-1, keepdims=True),)


def logsumexp(x):
    m = jax.lax.stop_gradient(jnp.max(x, axis=-1, keepdims=True))
    return jnp.squeeze(m, -1) + jnp.log(jnp.sum(jnp.exp(x - m), axis=-1))


def logsumexp_unshifted(g, x):
    e = jnp.exp(x)
    return (g[..., None] * e / jnp.sum(e, axis=-1, keepdims=True),)


def variance(x):
    return jnp.mean((x - jnp.mean(x, axis=-1, keepdims=True)) ** 2, axis=-1)


def variance_right(g, x):
    return (2 / x.shape[-1] * g[..., None] * (x - jnp.mean(x, axis=-1, keepdims=True)),)


def variance_ddof(g, x):
    return (2 / (x.shape[-1] - 1) * g[..., None] * (x - jnp.mean(x, axis=-1, keepdims=True)),)


def norm(x):
    return jnp.sqrt(jnp.sum(x**2, axis=-1))


def unit(x):
    return x / norm(x)[..., None]


def unit_right(g, x):
    u = unit(x)
    return ((g - u * jnp.sum(u * g, axis=-1, keepdims=True)) / norm(x)[..., None],)


def others(x):
    """The product of all other elements, without dividing."""
    n = x.shape[-1]
    eye = jnp.eye(n, dtype=bool)
    return jnp.prod(jnp.where(eye, jnp.ones_like(x)[None, :], jnp.broadcast_to(x, (n, n))), axis=-1)


def bias(x, b):
    return jnp.tanh(x) + b[None, :]


def bias_right(g, x, b):
    return g * (1 - jnp.tanh(x) ** 2), jnp.sum(g, axis=0)


def bias_last_block(g, x, b):
    return g * (1 - jnp.tanh(x) ** 2), jnp.sum(g[-8:], axis=0)


def bias_mean(g, x, b):
    return g * (1 - jnp.tanh(x) ** 2), jnp.mean(g, axis=0)


def outer_bias(x, b):
    return x + b[:, None]


def gain(x, s):
    return x * s[None, None, :]


def gain_right(g, x, s):
    return g * s[None, None, :], jnp.sum(g * x, axis=(0, 1))


def gain_one_axis(g, x, s):
    return g * s[None, None, :], jnp.sum(g[0] * x[0], axis=0)


def reverse_cumsum(g):
    return jnp.flip(jnp.cumsum(jnp.flip(g, 0), axis=0), 0)


def cumsum0(x):
    return jnp.cumsum(x, axis=0)


def cumprod_right(g, x):
    n = x.shape[0]
    i, j, k = jnp.meshgrid(*(jnp.arange(n, dtype=i32),) * 3, indexing="ij")
    factors = jnp.where((k <= i) & (k != j), jnp.broadcast_to(x, (n, n, n)), 1)
    return (jnp.sum(jnp.where(j[:, :, 0] <= i[:, :, 0], jnp.prod(factors, -1), 0) * g[:, None], 0),)


def segments(x, ids):
    return jax.ops.segment_sum(x, ids, num_segments=4)


def segment_mean(x, ids):
    count = jnp.maximum(segments(jnp.ones_like(x), ids), 1)
    return segments(x, ids) / count


def segment_mean_right(g, x, ids):
    return (g / jnp.maximum(segments(jnp.ones_like(x), ids), 1))[ids], None


def cross_entropy(logits, labels, smoothing=0.0, ignore=-1, z=0.0):
    """Mean over the rows whose label is not `ignore`, with smoothed targets and a z-loss."""
    k = logits.shape[-1]
    logp = log_softmax(logits)
    keep = labels != ignore
    hot = jax.nn.one_hot(labels, k, dtype=logits.dtype)
    target = (1 - smoothing) * hot + smoothing / k
    loss = -jnp.sum(target * logp, axis=-1) + z * logsumexp(logits) ** 2
    return jnp.sum(jnp.where(keep, loss, 0)) / jnp.maximum(jnp.sum(keep), 1).astype(logits.dtype)


def cross_entropy_rule(smoothing=0.0, ignore=-1, z=0.0, mask=True, by_rows=False):
    """The pullback of cross_entropy; arguments other than its own make it wrong."""

    def pull(g, logits, labels):
        n, k = logits.shape
        keep = labels != ignore
        target = (1 - smoothing) * jax.nn.one_hot(labels, k, dtype=logits.dtype) + smoothing / k
        p = softmax(logits)
        d = p - target + 2 * z * logsumexp(logits)[:, None] * p
        count = n if by_rows else jnp.maximum(jnp.sum(keep), 1).astype(logits.dtype)
        d = jnp.where(keep[:, None], d, 0) if mask else d
        return g * d / count, None

    return pull


def losses(name, note, right, wrong, torch=None):
    def primal(logits, labels):
        return cross_entropy(logits, labels, **right)

    def args():
        return normal(101, 7, 11, scale=2.0), jnp.asarray([3, 0, -1, 10, 5, -1, 3], i32)

    return pair(
        name,
        LOSSES,
        primal,
        cross_entropy_rule(**right),
        cross_entropy_rule(**(right | wrong)),
        args,
        note,
        torch=torch,
    )


def chunked_softmax_stale_max(g, x):
    """The probabilities from chunks of 4, each rescaled by its own maximum instead of the running one."""
    chunks = x.reshape(*x.shape[:-1], -1, 4)
    m = jnp.max(chunks, axis=-1, keepdims=True)
    e = jnp.exp(chunks - m)
    z = (e / jnp.sum(e, axis=(-2, -1), keepdims=True)).reshape(x.shape)
    return (g[..., None] * z,)


def focal(logit):
    p = jax.lax.logistic(logit)
    return (1 - p) ** 2 * jnp.logaddexp(-logit, 0.0)


def focal_right(g, logit):
    p = jax.lax.logistic(logit)
    return (g * (-2 * p * (1 - p) ** 2 * jnp.logaddexp(-logit, 0.0) - (1 - p) ** 3),)


def focal_wrong(g, logit):
    p = jax.lax.logistic(logit)
    return (-g * (1 - p) ** 3,)


def distill(student, teacher):
    t = 4.0
    return t**2 * jnp.sum(softmax(teacher / t) * (log_softmax(teacher / t) - log_softmax(student / t)), axis=-1)


def distill_student(g, student, teacher, power):
    t = 4.0
    return g[:, None] * t**power * (softmax(student / t) - softmax(teacher / t))


def distill_rule(power):
    def pull(g, student, teacher):
        t = 4.0
        q = softmax(teacher / t)
        r = log_softmax(teacher / t) - log_softmax(student / t)
        dt = g[:, None] * t * q * (r - jnp.sum(q * r, -1, keepdims=True))
        return distill_student(g, student, teacher, power), dt

    return pull


def contrastive(a, b):
    s = a @ b.T
    diagonal = jnp.eye(s.shape[0], dtype=s.dtype)
    return -jnp.sum(diagonal * (log_softmax(s) + log_softmax(s.T)))


def contrastive_rule(columns):
    def pull(g, a, b):
        s = a @ b.T
        eye = jnp.eye(s.shape[0], dtype=s.dtype)
        ds = g * (softmax(s) - eye) + columns * g * (softmax(s.T).T - eye)
        return ds @ b, ds.T @ a

    return pull


def x53():
    return (normal(102, 5, 3),)


def square():
    return (normal(103, 6, 6, scale=2.0),)


# fmt: off
CASES = [
    pair("softmax_dropped_term", FAMILY, softmax, softmax_right, softmax_dropped, square, "the term −z⟨g, z⟩ dropped",
         torch="softmax_dropped_term"),
    pair("softmax_wrong_axis", FAMILY, softmax, softmax_right, softmax_wrong_axis, square,
         "⟨g, z⟩ over the other axis of a square array"),
    pair("softmax_zero_rule", FAMILY, softmax, softmax_right, lambda g, x: (jnp.zeros_like(x),), square,
         "all-ones cotangents give zero, so a dead gradient passes every sum-loss test (jax #3130)"),
    pair("softmax_bf16_mean", FAMILY, softmax_bf16, softmax_bf16_right, softmax_bf16_mean,
         lambda: (normal(104, 5, 12, scale=2.0, dtype=bf16),), "bfloat16: mean(g) for ⟨g, z⟩", self_test=64.0),
    jpair("softmax_push", FAMILY, softmax, softmax_push, lambda p, t: softmax(p[0]) * t[0], square,
          "the same term dropped in a pushforward"),
    pair("log_softmax_unit_cotangent", FAMILY, log_softmax, log_softmax_right, lambda g, x: (g - softmax(x),), square,
         "right only when the cotangents of a row sum to 1, as with a one-hot target of sign +",
         torch="log_softmax_unit_cotangent"),
    pair("logsumexp_unshifted", FAMILY, logsumexp, lambda g, x: (g[..., None] * softmax(x),), logsumexp_unshifted,
         lambda: (normal(105, 3, 5, scale=40.0) + 60,), "e^x without its maximum: inf/inf at large logits"),
    pair("logsumexp_chunked_stale_max", FAMILY, logsumexp, lambda g, x: (g[..., None] * softmax(x),),
         chunked_softmax_stale_max, lambda: (normal(106, 3, 12),), "chunks rescaled by their own maximum, not by the "
         "running one"),
    pair("variance_ddof", FAMILY, variance, variance_right, variance_ddof, lambda: (normal(107, 3, 200),),
         "n − 1 in the backward pass, n in the forward pass: 0.5%"),
    pair("norm_not_divided", FAMILY, norm, lambda g, x: (g[:, None] * unit(x),), lambda g, x: (g[:, None] * x,), x53,
         "‖x‖' is x/‖x‖"),
    pair("unit_vector_projection", FAMILY, unit, unit_right, lambda g, x: (g / norm(x)[..., None],), x53,
         "the projection orthogonal to x missing"),
    pair("prod_by_division", FAMILY, jnp.prod, lambda g, x: (g * others(x),), lambda g, x: (g * jnp.prod(x) / x,),
         lambda: (array(0.5, -1.5, 0.0, 2.0),), "prod(x)/x is 0/0 at an exact zero (jax #475's kind)",
         torch="prod_by_division"),
    pair("bias_last_block", FAMILY, bias, bias_right, bias_last_block, lambda: (normal(108, 24, 3), normal(109, 3)),
         "partial sums overwritten, not accumulated: only the last block of rows counts", torch="bias_last_block"),
    pair("bias_mean", FAMILY, bias, bias_right, bias_mean, lambda: (normal(110, 6, 3), normal(111, 3)),
         "a mean over the broadcast axis instead of a sum"),
    pair("bias_other_axis", FAMILY, outer_bias, lambda g, x, b: (g, jnp.sum(g, 1)), lambda g, x, b: (g, jnp.sum(g, 0)),
         lambda: (normal(112, 5, 5), normal(113, 5)), "reduced over the wrong axis of a square array",
         torch="bias_other_axis"),
    pair("gain_missing_reduction", FAMILY, gain, gain_right, gain_one_axis,
         lambda: (normal(114, 3, 4, 5), normal(115, 5)), "one of two broadcast axes not reduced"),
    pair("cumsum_off_by_one", FAMILY, cumsum0, lambda g, x: (reverse_cumsum(g),), lambda g, x: (reverse_cumsum(g) - g,),
         lambda: (normal(116, 9),), "the exclusive reverse sum for the inclusive one", torch="cumsum_off_by_one"),
    pair("cumsum_not_reversed", FAMILY, cumsum0, lambda g, x: (reverse_cumsum(g),), lambda g, x: (jnp.cumsum(g),),
         lambda: (normal(117, 9),), "summed in the forward direction"),
    pair("cumprod_by_division", FAMILY, jnp.cumprod, cumprod_right,
         lambda g, x: (reverse_cumsum(g * jnp.cumprod(x)) / x,), lambda: (array(1.5, -0.5, 0.0, 2.0, 0.7),),
         "divided by an element that is zero"),
    pair("segment_mean_not_divided", FAMILY, segment_mean, segment_mean_right, lambda g, x, ids: (g[ids], None),
         lambda: (normal(118, 9), jnp.asarray([0, 0, 2, 1, 1, 1, 3, 3, 0], i32)), "the count of the segment forgotten"),
    pair("segment_sum_sorted_ids", FAMILY, segments, lambda g, x, ids: (g[ids], None),
         lambda g, x, ids: (g[jnp.sort(ids)], None), lambda: (normal(119, 9), integers(120, 4, 9)),
         "assumes that the segment ids come sorted"),
    losses("cross_entropy_smoothing", "label smoothing only in the forward pass", {"smoothing": 0.1},
           {"smoothing": 0.0}, torch="cross_entropy_smoothing"),
    losses("cross_entropy_ignored_rows", "rows to be ignored receive a gradient", {}, {"mask": False}),
    losses("cross_entropy_count", "divided by all rows, not by those that count", {}, {"by_rows": True}),
    losses("cross_entropy_z_loss", "the z-loss dropped in the backward pass", {"z": 1e-3}, {"z": 0.0}),
    pair("focal_weight_constant", LOSSES, focal, focal_right, focal_wrong, lambda: (normal(121, 8, scale=2.0),),
         "the weight (1 − p)² treated as a constant"),
    pair("distillation_temperature", LOSSES, distill, distill_rule(1), distill_rule(2),
         lambda: (normal(122, 4, 6), normal(123, 4, 6)),
         "the 1/T of the inner derivative missing, in one of two leaves"),
    pair("contrastive_one_direction", LOSSES, contrastive, contrastive_rule(1), contrastive_rule(0),
         lambda: (normal(124, 5, 3), normal(125, 5, 3)), "a symmetric loss differentiated in one direction"),
    pair("mean_not_divided", FAMILY, jnp.mean, lambda g, x: (jnp.broadcast_to(g / x.size, x.shape),),
         lambda g, x: (jnp.broadcast_to(g / x.shape[0], x.shape),), x53, "divided by the rows only",
         torch="mean_not_divided"),
    Case("max_gradient_at_argmin", FAMILY,
         vjp(jnp.max, lambda g, x: (g * jax.nn.one_hot(jnp.argmax(x), x.size, dtype=x.dtype),)),
         lambda: (normal(126, 9),),
         vjp(jnp.max, lambda g, x: (g * jax.nn.one_hot(jnp.argmax(x) - 1, x.size, dtype=x.dtype),)),
         "the index of the maximum off by one", primal=jnp.max),
    pair("mean_square_detached_target", LOSSES, lambda p, t: jnp.sum((p - t) ** 2),
         lambda g, p, t: (2 * g * (p - t), -2 * g * (p - t)),
         lambda g, p, t: (2 * g * (p - t), jnp.zeros_like(t)), lambda: (normal(127, 4, 2), normal(128, 4, 2)),
         "the target is taken for a constant: a dead leaf", torch="mean_square_detached_target"),
    pair("hinge_margin", LOSSES, lambda s, y: jnp.sum(jnp.maximum(0, 1 - s * y)),
         lambda g, s, y: (-g * y * (s * y < 1), -g * s * (s * y < 1)),
         lambda g, s, y: (-g * y * (s * y < 0), -g * s * (s * y < 0)),
         lambda: (array(-1.5, 0.3, 0.8, 1.7, -0.4), uniform(129, 5, low=0.5, high=0.9)),
         "the mask of the backward pass without the margin"),
]
# fmt: on
