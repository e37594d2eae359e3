"""Roots, fixed points, minima and least squares of optimistix, as functions of the parameters of their problems."""

# pyright: reportMissingImports=false

import jax.numpy as jnp
import optimistix as optx

from .target import Target, at, f32, normal, vector

TIGHT = {"rtol": 1e-6, "atol": 1e-6}


def equation(y, args):
    """y + ½ tanh(A y) = b: its Jacobian is not symmetric."""
    a, b = args
    return y + 0.5 * jnp.tanh(a @ y) - b


def iteration(y, args):
    a, b = args
    return b - 0.5 * jnp.tanh(a @ y)


def bowl(y, args):
    a, b = args
    return jnp.sum(jnp.cosh(0.5 * y) + 0.5 * (a @ y - b) ** 2)


def residuals(y, args):
    a, b = args
    return jnp.concatenate([a @ y - b + 0.1 * y**2, 0.5 * y])


PROBLEM = at(normal=(normal(1, 3, 3, scale=0.6), normal(2, 3)))


def found(kind: str, solver, fun, method, **more) -> Target:
    def run(a, b):
        start = jnp.zeros_like(b)
        return method(fun, solver, start, (a, b), throw=False, max_steps=500, **more).value

    name = type(solver).__name__
    return Target(f"optimistix.{method.__name__}({name}{kind})", run, PROBLEM)


def bisected(c):
    solver = optx.Bisection(rtol=1e-6, atol=1e-6, expand_if_necessary=True)
    return optx.root_find(
        lambda y, c: y**3 + y - c,
        solver,
        f32(1.0).astype(c.dtype),
        c,
        options={"lower": jnp.zeros_like(c), "upper": jnp.full_like(c, 4.0)},
        throw=False,
    ).value


def golden(c):
    solver = optx.GoldenSearch(rtol=1e-4, atol=1e-4)
    return optx.minimise(
        lambda y, c: jnp.exp(y) - c * y,
        solver,
        jnp.zeros_like(c),
        c,
        options={"lower": jnp.full_like(c, -1.0), "upper": jnp.full_like(c, 3.0)},
        throw=False,
    ).value


UNROLLED = {"adjoint": optx.RecursiveCheckpointAdjoint()}

TARGETS = [
    found("", optx.Newton(**TIGHT), equation, optx.root_find),
    found("", optx.Chord(**TIGHT), equation, optx.root_find),
    found("", optx.LevenbergMarquardt(**TIGHT), equation, optx.root_find),
    found(", unrolled", optx.Newton(**TIGHT), equation, optx.root_find, **UNROLLED),
    found("", optx.FixedPointIteration(**TIGHT), iteration, optx.fixed_point),
    found("", optx.Newton(**TIGHT), iteration, optx.fixed_point),
    found("", optx.BFGS(**TIGHT), bowl, optx.minimise),
    found("", optx.LBFGS(**TIGHT), bowl, optx.minimise),
    found("", optx.NonlinearCG(**TIGHT), bowl, optx.minimise),
    found("", optx.GradientDescent(learning_rate=0.2, **TIGHT), bowl, optx.minimise),
    found("", optx.NelderMead(**TIGHT), bowl, optx.minimise),
    found("", optx.LevenbergMarquardt(**TIGHT), residuals, optx.least_squares),
    found("", optx.GaussNewton(**TIGHT), residuals, optx.least_squares),
    found("", optx.Dogleg(**TIGHT), residuals, optx.least_squares),
    found("", optx.BFGS(**TIGHT), residuals, optx.least_squares),
    Target("optimistix.root_find(Bisection)", bisected, at(middle=f32(2.0), high=f32(30.0))),
    Target("optimistix.minimise(GoldenSearch)", golden, at(middle=f32(2.0))),
    Target("optimistix.two_norm", optx.two_norm, at(normal=normal(3, 4), zero=jnp.zeros(3, f32))),
    Target("optimistix.rms_norm", optx.rms_norm, at(normal=normal(4, 4), zero=jnp.zeros(3, f32))),
    Target("optimistix.max_norm", optx.max_norm, at(normal=normal(5, 4), tie=vector(1.0, -1.0, 0.5))),
]
