"""Matrix-free linear algebra with matfree: decompositions with adjoints of their own."""

# pyright: reportMissingImports=false

import jax.numpy as jnp
from matfree import decomp, funm

from .target import Target, at, normal, spd


def times(v, a):
    return 0.5 * (a + a.T) @ v


def general(v, a):
    return a @ v


def lanczos(a, v):
    found = decomp.tridiag_sym(3, materialize=True)(times, v, a)
    return found.Q_tall.T @ found.J_small @ found.Q_tall


def arnoldi(a, v):
    found = decomp.hessenberg(3, reortho="full")(general, v, a)
    return found.Q_tall.T @ found.J_small @ found.Q_tall


def bidiagonal(a, v):
    found = decomp.bidiag(2, materialize=True)(lambda v, a: a @ v, v, a)
    return jnp.abs(found.J_small)


def exponential(a, v):
    return funm.funm_lanczos_sym(funm.dense_funm_sym_eigh(jnp.exp), decomp.tridiag_sym(3, materialize=True))(
        times, v, a
    )


SYMMETRIC = at(definite=(spd(1, 4), normal(2, 4)))

TARGETS = [
    Target("matfree.decomp.tridiag_sym", lanczos, SYMMETRIC),
    Target("matfree.decomp.hessenberg", arnoldi, at(normal=(normal(3, 4, 4), normal(4, 4)))),
    Target("matfree.decomp.bidiag", bidiagonal, at(normal=(normal(5, 4, 3), normal(6, 3)))),
    Target("matfree.funm.funm_lanczos_sym", exponential, SYMMETRIC),
]
