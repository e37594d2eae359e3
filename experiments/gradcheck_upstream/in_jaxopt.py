"""Projections, proximal operators, losses and implicitly differentiated solvers of jaxopt."""

# pyright: reportMissingImports=false

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # jaxopt says at import that it is no longer maintained
    import jaxopt

import jax.numpy as jnp

from .target import Target, at, f32, normal, uniform, vector

P = jaxopt.projection
OUTSIDE = normal(1, 5, scale=2.0)

PROJECTIONS = {
    "simplex": (P.projection_simplex, at(normal=OUTSIDE, small=normal(2, 5, scale=0.1))),
    "l1_sphere": (P.projection_l1_sphere, at(normal=OUTSIDE)),
    "l1_ball": (P.projection_l1_ball, at(outside=OUTSIDE, inside=normal(3, 5, scale=0.05))),
    "l2_sphere": (P.projection_l2_sphere, at(normal=OUTSIDE)),
    "l2_ball": (P.projection_l2_ball, at(outside=OUTSIDE, inside=normal(4, 5, scale=0.1))),
    "linf_ball": (P.projection_linf_ball, at(outside=OUTSIDE)),
    "non_negative": (P.projection_non_negative, at(normal=OUTSIDE)),
    "hyperplane": (lambda x, a: P.projection_hyperplane(x, (a, 1.0)), at(normal=(OUTSIDE, normal(5, 5)))),
    "halfspace": (lambda x, a: P.projection_halfspace(x, (a, -1.0)), at(normal=(OUTSIDE, normal(6, 5)))),
    "box_section": (
        lambda x, w: P.projection_box_section(x, (-jnp.ones_like(x), jnp.ones_like(x), w, jnp.asarray(0.5, x.dtype))),
        at(normal=(OUTSIDE, uniform(7, 5, low=0.5, high=1.5))),
    ),
    "affine_set": (
        lambda x, a, b: P.projection_affine_set(x, (a, b)),
        at(normal=(OUTSIDE, normal(8, 2, 5), normal(9, 2))),
    ),
    "transport": (
        lambda x: P.projection_transport(x, (jnp.full(3, 1 / 3, x.dtype), jnp.full(3, 1 / 3, x.dtype))),
        at(normal=normal(10, 3, 3)),
    ),
    "birkhoff": (P.projection_birkhoff, at(normal=normal(11, 3, 3))),
}

PROXIMAL = {
    "lasso": (lambda x, w: jaxopt.prox.prox_lasso(x, w), at(normal=(OUTSIDE, f32(0.5)))),
    "elastic_net": (lambda x: jaxopt.prox.prox_elastic_net(x, (0.5, 0.3)), at(normal=OUTSIDE)),
    "group_lasso": (
        lambda x, w: jaxopt.prox.prox_group_lasso(x, w),
        at(outside=(OUTSIDE, f32(0.5)), inside=(normal(12, 4, scale=0.1), f32(1.0))),
    ),
    "ridge": (lambda x, w: jaxopt.prox.prox_ridge(x, w), at(normal=(OUTSIDE, f32(0.5)))),
}

LOSSES = {
    "binary_logistic_loss": (lambda z: jaxopt.loss.binary_logistic_loss(1, z), at(normal=f32(0.3), large=f32(-80.0))),
    "binary_sparsemax_loss": (
        lambda z: jaxopt.loss.binary_sparsemax_loss(1, z),
        at(inside=f32(0.3), outside=f32(-2.5)),
    ),
    "multiclass_logistic_loss": (
        lambda z: jaxopt.loss.multiclass_logistic_loss(jnp.int32(1), z),
        at(normal=normal(13, 4), large=normal(14, 4, scale=90.0)),
    ),
    "multiclass_sparsemax_loss": (
        lambda z: jaxopt.loss.multiclass_sparsemax_loss(jnp.int32(1), z),
        at(normal=normal(15, 4)),
    ),
    "huber_loss": (lambda z: jaxopt.loss.huber_loss(jnp.zeros_like(z), z), at(normal=normal(16, 4), edge=vector(1.0))),
}


def bowl(x, a, b):
    return jnp.sum(jnp.cosh(0.5 * x) + 0.5 * (a @ x - b) ** 2)


def residuals(x, a, b):
    return jnp.concatenate([a @ x - b + 0.1 * x**2, 0.5 * x])


def step(x, a, b):
    return b - 0.5 * jnp.tanh(a @ x)


def solver(name: str, make) -> Target:
    def run(a, b):
        return make().run(jnp.zeros_like(b), a, b).params

    return Target(f"jaxopt.{name}", run, at(normal=(normal(20, 3, 3, scale=0.6), normal(21, 3))))


def lasso(a, b, penalty):
    found = jaxopt.ProximalGradient(
        lambda x, d: 0.5 * jnp.sum((d[0] @ x - d[1]) ** 2), jaxopt.prox.prox_lasso, tol=1e-6, maxiter=500
    )
    return found.run(jnp.zeros(a.shape[1], a.dtype), penalty, (a, b)).params


def constrained(b):
    found = jaxopt.ProjectedGradient(
        lambda x, b: 0.5 * jnp.sum((x - b) ** 2 * vector(1.0, 2.0, 3.0).astype(b.dtype)),
        jaxopt.projection.projection_simplex,
        tol=1e-6,
        maxiter=500,
    )
    return found.run(jnp.full(3, 1 / 3, b.dtype), hyperparams_proj=1.0, b=b).params


def bisected(c):
    return jaxopt.Bisection(lambda x, c: x**3 + x - c, 0.0, 4.0, tol=1e-6, check_bracket=False).run(None, c).params


def quadratic_program(q, c):
    found = jaxopt.EqualityConstrainedQP(tol=1e-7)
    a = jnp.ones((1, c.shape[0]), c.dtype)
    return found.run(
        params_obj=(q @ q.T + jnp.eye(c.shape[0], dtype=c.dtype), c), params_eq=(a, jnp.ones(1, c.dtype))
    ).params.primal


TARGETS = [
    *(Target("jaxopt.projection.projection_" + name, fun, inputs) for name, (fun, inputs) in PROJECTIONS.items()),
    *(Target("jaxopt.prox.prox_" + name, fun, inputs) for name, (fun, inputs) in PROXIMAL.items()),
    *(Target("jaxopt.loss." + name, fun, inputs) for name, (fun, inputs) in LOSSES.items()),
    solver("GradientDescent", lambda: jaxopt.GradientDescent(bowl, tol=1e-6, maxiter=300)),
    solver("BFGS", lambda: jaxopt.BFGS(bowl, tol=1e-6)),
    solver("LBFGS", lambda: jaxopt.LBFGS(bowl, tol=1e-6)),
    solver("NonlinearCG", lambda: jaxopt.NonlinearCG(bowl, tol=1e-6)),
    solver("GaussNewton", lambda: jaxopt.GaussNewton(residuals, tol=1e-6)),
    solver("LevenbergMarquardt", lambda: jaxopt.LevenbergMarquardt(residuals, tol=1e-6)),
    solver("FixedPointIteration", lambda: jaxopt.FixedPointIteration(step, tol=1e-6)),
    solver("AndersonAcceleration", lambda: jaxopt.AndersonAcceleration(step, history_size=3, tol=1e-6)),
    solver("Broyden", lambda: jaxopt.Broyden(lambda x, a, b: x - step(x, a, b), tol=1e-6)),
    Target("jaxopt.ProximalGradient(lasso)", lasso, at(normal=(normal(22, 6, 3), normal(23, 6), f32(0.5)))),
    Target("jaxopt.ProjectedGradient(simplex)", constrained, at(normal=normal(24, 3))),
    Target("jaxopt.Bisection", bisected, at(middle=f32(2.0))),
    Target("jaxopt.EqualityConstrainedQP", quadratic_program, at(normal=(normal(25, 3, 3), normal(26, 3)))),
    Target("jaxopt.isotonic.isotonic_l2_pav", lambda x: jaxopt.isotonic.isotonic_l2_pav(x), at(normal=normal(27, 6))),
]
