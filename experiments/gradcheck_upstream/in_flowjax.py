"""Bijections of flowjax."""

# pyright: reportMissingImports=false

import equinox as eqx
import jax
import jax.numpy as jnp
from flowjax import bijections as bj

from .target import Target, at, f32, normal

KEY = jax.random.key(0, impl="threefry2x32")


def bijection(name: str, made, x, **more) -> Target:
    """The image and the log-determinant as functions of the parameters and the argument."""
    arrays, static = eqx.partition(made, eqx.is_inexact_array)

    def fun(arrays, x):
        return eqx.combine(arrays, static).transform_and_log_det(x)

    return Target(
        "flowjax.bijections." + name,
        fun,
        at(normal=(arrays, x)) | {k: (lambda v=v: (arrays, v)) for k, v in more.items()},
    )


TARGETS = [
    bijection("RationalQuadraticSpline", bj.RationalQuadraticSpline(knots=4, interval=2), f32(0.3), outside=f32(2.5)),
    bijection("LeakyTanh", bj.LeakyTanh(2.0), f32(0.3), outside=f32(3.0)),
    bijection(
        "TriangularAffine", bj.TriangularAffine(normal(1, 3), jnp.tril(normal(2, 3, 3)) + 2 * jnp.eye(3)), normal(3, 3)
    ),
    bijection("Planar", bj.Planar(KEY, dim=3), normal(4, 3)),
    bijection("SoftPlus", bj.SoftPlus(), f32(0.3), far=f32(-40.0)),
    bijection("Power", bj.Power(f32(1.7)), f32(0.8)),
    bijection("DiscreteCosine", bj.DiscreteCosine((4,)), normal(5, 4)),
    bijection("Householder", bj.Householder(normal(6, 3)), normal(7, 3)),
]
