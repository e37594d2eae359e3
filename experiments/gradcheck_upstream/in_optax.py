"""Losses, projections and perturbations of optax, called as their documentation does."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from .target import Target, at, bf16, f32, integers, normal, uniform, vector

KEY = jax.random.key(0, impl="threefry2x32")


def log_partition(scores: Any) -> Any:
    return jax.nn.logsumexp(scores)


def sine(x: Any) -> Any:
    return jnp.sin(x)


def rows(seed: int, n: int = 3, k: int = 4) -> tuple:
    return normal(seed, n, k), jax.nn.softmax(normal(seed + 1, n, k))


def pair(seed: int, n: int = 5) -> dict:
    a, b = normal(seed, n), normal(seed + 1, n)
    return at(float32=(a, b), bfloat16=(a.astype(bf16), b.astype(bf16)))


def labelled(seed: int) -> dict:
    x, i = normal(seed, 3, 4), integers(seed + 1, 4, 3)
    return at(float32=(x, i), bfloat16=(x.astype(bf16), i), large=(50 * x, i))


LOSSES = {
    "squared_error": (optax.losses.squared_error, pair(1)),
    "log_cosh": (optax.losses.log_cosh, pair(2) | at(large=(vector(300.0, -1e4), vector(0.0, 1.0)))),
    "huber_loss": (optax.losses.huber_loss, pair(3) | at(edge=(vector(1.0, -1.0), vector(0.0, 0.0)))),
    "hinge_loss": (lambda p: optax.losses.hinge_loss(p, vector(1.0, -1.0, 1.0)), at(inside=vector(0.3, -0.2, 2.0))),
    "cosine_distance": (
        lambda a, b: optax.losses.cosine_distance(a, b, epsilon=1e-6),
        at(normal=(normal(4, 3, 4), normal(5, 3, 4)), zero=(jnp.zeros((1, 3), f32), normal(6, 1, 3))),
    ),
    "sigmoid_binary_cross_entropy": (
        optax.losses.sigmoid_binary_cross_entropy,
        at(normal=(normal(7, 5), uniform(8, 5)), large=(normal(9, 5, scale=90.0), uniform(10, 5))),
    ),
    "softmax_cross_entropy": (
        optax.losses.softmax_cross_entropy,
        at(normal=rows(11), large=(90 * rows(12)[0], rows(12)[1]), bfloat16=tuple(v.astype(bf16) for v in rows(11))),
    ),
    "safe_softmax_cross_entropy": (
        optax.losses.safe_softmax_cross_entropy,
        at(normal=rows(13), zero=(vector(1.0, -2.0, 0.5)[None], vector(0.0, 1.0, 0.0)[None])),
    ),
    "softmax_cross_entropy_with_integer_labels": (
        optax.losses.softmax_cross_entropy_with_integer_labels,
        labelled(14),
    ),
    "multiclass_hinge_loss": (lambda x, i: optax.losses.multiclass_hinge_loss(x[0], i[0]), labelled(15)),
    "multiclass_perceptron_loss": (lambda x, i: optax.losses.multiclass_perceptron_loss(x[0], i[0]), labelled(16)),
    "multiclass_sparsemax_loss": (
        lambda x, i: optax.losses.multiclass_sparsemax_loss(x, i),
        at(float32=(normal(17, 1, 4), integers(18, 4, 1))),
    ),
    "poly_loss_cross_entropy": (optax.losses.poly_loss_cross_entropy, at(normal=rows(19))),
    "kl_divergence": (
        lambda a, b: optax.losses.kl_divergence(jax.nn.log_softmax(a), b),
        at(normal=rows(20), zero=(normal(21, 1, 3), vector(0.0, 0.4, 0.6)[None])),
    ),
    "kl_divergence_with_log_targets": (
        lambda a, b: optax.losses.kl_divergence_with_log_targets(jax.nn.log_softmax(a), jax.nn.log_softmax(b)),
        at(normal=rows(22)),
    ),
    "convex_kl_divergence": (
        lambda a, b: optax.losses.convex_kl_divergence(jax.nn.log_softmax(a), b),
        at(normal=rows(23)),
    ),
    "sigmoid_focal_loss": (
        optax.losses.sigmoid_focal_loss,
        at(soft=(normal(24, 5), uniform(25, 5, low=0.1, high=0.9)), hard=(normal(26, 3), vector(0.0, 1.0, 1.0))),
    ),
    "ctc_loss": (
        lambda x, i: optax.losses.ctc_loss(x, jnp.zeros((1, 4), f32), i, jnp.zeros((1, 2), f32)),
        at(normal=(normal(27, 1, 4, 3), jnp.asarray([[1, 2]], jnp.int32))),
    ),
    "ranking_softmax_loss": (optax.losses.ranking_softmax_loss, at(normal=(normal(28, 2, 4), uniform(29, 2, 4)))),
    "triplet_margin_loss": (
        lambda a, p, n: optax.losses.triplet_margin_loss(a, p, n),
        at(normal=(normal(30, 2, 3), normal(31, 2, 3), normal(32, 2, 3))),
    ),
    "ntxent": (
        lambda x: optax.losses.ntxent(x, jnp.asarray([0, 0, 1, 1], jnp.int32)),
        at(normal=normal(33, 4, 3)),
    ),
    "make_fenchel_young_loss": (
        lambda x: optax.losses.make_fenchel_young_loss(log_partition)(x, jax.nn.softmax(normal(34, 4)).astype(x.dtype)),
        at(normal=normal(35, 4)),
    ),
}

PROJECTIONS = {
    "projection_simplex": (
        optax.projections.projection_simplex,
        at(normal=normal(40, 5), small=normal(41, 5, scale=0.1)),
    ),
    "projection_l1_sphere": (optax.projections.projection_l1_sphere, at(normal=normal(42, 5))),
    "projection_l1_ball": (
        optax.projections.projection_l1_ball,
        at(outside=2 * normal(43, 5), inside=normal(44, 5, scale=0.05)),
    ),
    "projection_l2_sphere": (optax.projections.projection_l2_sphere, at(normal=normal(45, 5))),
    "projection_l2_ball": (
        optax.projections.projection_l2_ball,
        at(outside=2 * normal(46, 5), inside=normal(47, 5, scale=0.1)),
    ),
    "projection_linf_ball": (optax.projections.projection_linf_ball, at(normal=2 * normal(48, 5))),
    "projection_box": (lambda x: optax.projections.projection_box(x, -0.5, 0.7), at(normal=normal(49, 5))),
    "projection_halfspace": (
        lambda x, a: optax.projections.projection_halfspace(x, a, 0.1),
        at(outside=(vector(1.0, 2.0), vector(0.5, 1.0)), inside=(vector(-1.0, -2.0), vector(0.5, 1.0))),
    ),
    "projection_hyperplane": (
        lambda x, a: optax.projections.projection_hyperplane(x, a, 0.1),
        at(normal=(normal(50, 4), normal(51, 4))),
    ),
}

TARGETS = [
    *(Target("optax.losses." + name, fun, inputs) for name, (fun, inputs) in LOSSES.items()),
    *(Target("optax.projections." + name, fun, inputs) for name, (fun, inputs) in PROJECTIONS.items()),
    Target(
        "optax.perturbations.make_perturbed_fun",
        lambda x: optax.perturbations.make_perturbed_fun(sine, num_samples=20, sigma=0.1)(KEY, x),
        at(normal=normal(60, 3)),
    ),
    Target("optax.safe_norm", lambda x: optax.safe_norm(x, 1e-3), at(normal=normal(61, 4), zero=jnp.zeros(3, f32))),
    Target(
        "optax.safe_root_mean_squares",
        lambda x: optax.safe_root_mean_squares(x, 1e-3),
        at(normal=normal(62, 4), zero=jnp.zeros(3, f32)),
    ),
    Target(
        "optax.global_norm",
        optax.global_norm,
        at(tree={"a": normal(63, 3), "b": normal(64, 2, 2)}),
    ),
    Target(
        "optax.tree.norm(clip_by_global_norm)",
        lambda g: optax.clip_by_global_norm(0.5).update(g, optax.EmptyState())[0],
        at(outside=normal(65, 4), inside=normal(66, 4, scale=0.05)),
    ),
]
