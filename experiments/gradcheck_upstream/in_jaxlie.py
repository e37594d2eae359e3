"""Lie groups with jaxlie."""

# pyright: reportMissingImports=false

import jax.numpy as jnp
import jaxlie

from .target import Target, at, f32, normal, vector

TANGENT = at(normal=normal(1, 3), small=normal(2, 3, scale=1e-4), zero=jnp.zeros(3, f32))
SIX = at(normal=normal(3, 6), small=normal(4, 6, scale=1e-4), zero=jnp.zeros(6, f32))

TARGETS = [
    Target("jaxlie.SO3.exp", lambda w: jaxlie.SO3.exp(w).as_matrix(), TANGENT),
    Target("jaxlie.SO3.log", lambda w: (jaxlie.SO3.exp(vector(0.2, 0.1, -0.3)) @ jaxlie.SO3.exp(w)).log(), TANGENT),
    Target("jaxlie.SE3.exp", lambda w: jaxlie.SE3.exp(w).as_matrix(), SIX),
    Target("jaxlie.SE3.log", lambda w: (jaxlie.SE3.exp(0.3 * jnp.ones(6, f32)) @ jaxlie.SE3.exp(w)).log(), SIX),
    Target("jaxlie.SO2.exp", lambda w: jaxlie.SO2.exp(w).as_matrix(), at(normal=normal(5, 1))),
    Target("jaxlie.SE2.log", lambda w: jaxlie.SE2.exp(w).log(), TANGENT),
    Target("jaxlie.SO3.apply", lambda w, v: jaxlie.SO3.exp(w) @ v, at(normal=(normal(6, 3), normal(7, 3)))),
]
