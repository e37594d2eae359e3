"""Interpolation with interpax."""

# pyright: reportMissingImports=false

import interpax
import jax.numpy as jnp

from .target import Target, at, normal, vector

NODES = jnp.linspace(0.0, 1.0, 6)
POINTS = at(inside=(vector(0.13, 0.71), normal(1, 6)), node=(vector(0.2, 0.6), normal(2, 6)))
METHODS = ("linear", "cubic", "cubic2", "cardinal", "catmull-rom", "monotonic", "monotonic-0", "akima")


def interpolated(method: str):
    return lambda x, f: interpax.interp1d(x, NODES.astype(x.dtype), f, method=method)


def surface(x, y, f):
    nodes = jnp.linspace(0.0, 1.0, 4).astype(x.dtype)
    return interpax.interp2d(x, y, nodes, nodes, f, method="cubic")


TARGETS = [
    *(Target(f"interpax.interp1d({method})", interpolated(method), POINTS) for method in METHODS),
    Target("interpax.interp2d(cubic)", surface, at(inside=(vector(0.3), vector(0.8), normal(3, 4, 4)))),
    Target("interpax.fft_interp1d", lambda f: interpax.fft_interp1d(f, 7), at(normal=normal(4, 5))),
    Target(
        "interpax.CubicSpline",
        lambda x, f: interpax.CubicSpline(NODES.astype(x.dtype), f)(x),
        at(inside=(vector(0.13, 0.71), normal(5, 6))),
    ),
    Target(
        "interpax.PchipInterpolator",
        lambda x, f: interpax.PchipInterpolator(NODES.astype(x.dtype), f)(x),
        at(inside=(vector(0.13, 0.71), normal(6, 6))),
    ),
]
