"""Linear solves of lineax: each solver as a function of the matrix and the right-hand side."""

# pyright: reportMissingImports=false

import jax.numpy as jnp
import lineax as lx

from .target import Target, at, normal, spd, uniform, vector

DEFINITE = (lx.positive_semidefinite_tag, lx.symmetric_tag)


def solved(name: str, solver, inputs: dict, tags=()) -> Target:
    def fun(a, b):
        return lx.linear_solve(lx.MatrixLinearOperator(a, tags), b, solver, throw=False).value

    return Target(f"lineax.linear_solve({name})", fun, inputs)


def symmetrized(name: str, solver) -> Target:
    """A definite matrix, of which only the symmetric part counts."""

    def fun(a, b):
        operator = lx.MatrixLinearOperator(0.5 * (a + a.T), DEFINITE)
        return lx.linear_solve(operator, b, solver, throw=False).value

    return Target(f"lineax.linear_solve({name})", fun, at(definite=(spd(1, 4), normal(2, 4))))


def of_operator(name: str, make, inputs: dict, solver=None) -> Target:
    def fun(*args):
        *parts, b = args
        return lx.linear_solve(make(*parts), b, solver or lx.AutoLinearSolver(well_posed=True)).value

    return Target(f"lineax.{name}", fun, inputs)


SQUARE = at(dominant=(normal(3, 3, 3) + 2 * jnp.eye(3), normal(4, 3)), normal=(normal(5, 3, 3), normal(6, 3)))
TALL = at(tall=(normal(7, 5, 3), normal(8, 5)))
WIDE = at(wide=(normal(9, 3, 5), normal(10, 3)))

BREAKDOWN = (normal(13, 3, 3) + 3 * jnp.eye(3), normal(14, 3))

TARGETS = [
    solved("LU", lx.LU(), SQUARE),
    solved("QR", lx.QR(), {**SQUARE, **TALL, **WIDE}),
    solved("SVD", lx.SVD(), {**SQUARE, **TALL, **WIDE}),
    solved("AutoLinearSolver", lx.AutoLinearSolver(well_posed=None), {**SQUARE, **TALL}),
    solved("GMRES", lx.GMRES(1e-6, 1e-6), at(dominant=(normal(11, 3, 3) + 3 * jnp.eye(3), normal(12, 3)))),
    solved("BiCGStab", lx.BiCGStab(1e-6, 1e-6), at(dominant=BREAKDOWN)),
    solved("Normal(CG)", lx.Normal(lx.CG(1e-6, 1e-6)), {**TALL}),
    solved("Normal(Cholesky)", lx.Normal(lx.Cholesky()), {**TALL, **WIDE}),
    solved("LSMR", lx.LSMR(1e-6, 1e-6), {**TALL}),
    symmetrized("CG", lx.CG(1e-6, 1e-6)),
    symmetrized("Cholesky", lx.Cholesky()),
    of_operator(
        "DiagonalLinearOperator",
        lx.DiagonalLinearOperator,
        at(positive=(uniform(15, 4, low=0.5, high=2.0), normal(16, 4))),
    ),
    of_operator(
        "TridiagonalLinearOperator",
        lambda d, u: lx.TridiagonalLinearOperator(d, u, 0.5 * u),
        at(dominant=(2 + uniform(17, 4), normal(18, 3, scale=0.5), normal(19, 4))),
    ),
    of_operator(
        "MatrixLinearOperator(lower triangular)",
        lambda a: lx.MatrixLinearOperator(jnp.tril(a), lx.lower_triangular_tag),
        at(dominant=(normal(20, 3, 3) + 2 * jnp.eye(3), normal(21, 3))),
    ),
    of_operator(
        "JacobianLinearOperator",
        lambda x: lx.JacobianLinearOperator(lambda y, _: jnp.sinh(y) + 0.3 * jnp.roll(y, 1), x),
        at(normal=(normal(22, 3), normal(23, 3))),
        lx.LU(),
    ),
    Target(
        "lineax.linear_solve(singular, SVD)",
        lambda b: (
            lx.linear_solve(
                lx.MatrixLinearOperator(jnp.outer(b[:2], vector(1.0, 2.0).astype(b.dtype))), b[:2], lx.SVD()
            ).value
        ),
        at(rank_one=vector(0.7, -1.2)),
    ),
]
