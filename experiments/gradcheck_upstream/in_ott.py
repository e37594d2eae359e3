"""Optimal transport with ott-jax."""

# pyright: reportMissingImports=false

import jax.numpy as jnp
from ott.geometry import costs, geometry, pointcloud
from ott.math import matrix_square_root, utils
from ott.problems.linear import linear_problem
from ott.solvers.linear import sinkhorn
from ott.tools import sinkhorn_divergence, soft_sort

from .target import Target, at, f32, normal, spd, uniform, vector

CLOUDS = at(normal=(normal(1, 4, 2), normal(2, 5, 2) + 0.5))
TABLE = at(uniform=uniform(3, 4, 5))


def solved(geom):
    problem = linear_problem.LinearProblem(geom)
    return sinkhorn.Sinkhorn(threshold=1e-6, max_iterations=1000)(problem)


def entropic(x, y):
    return solved(pointcloud.PointCloud(x, y, epsilon=0.5)).reg_ot_cost


def of_cost(c):
    return solved(geometry.Geometry(c, epsilon=0.3)).reg_ot_cost


def plan(c):
    return solved(geometry.Geometry(c, epsilon=0.3)).matrix


def primal_cost(c):
    return solved(geometry.Geometry(c, epsilon=0.3)).primal_cost


def divergence(x, y):
    return sinkhorn_divergence.sinkdiv(x, y, epsilon=0.5)[0]


X = normal(4, 6)

MATH = {
    "norm": (lambda x: utils.norm(x), at(normal=X, zero=jnp.zeros(3, f32))),
    "norm(rows)": (lambda x: utils.norm(x, axis=1), at(normal=normal(5, 3, 2), one_zero=normal(5, 3, 2).at[1].set(0))),
    "logsumexp": (
        lambda x, b: utils.logsumexp(x, b=b),
        at(normal=(X, uniform(6, 6)), infinite=(vector(-jnp.inf, 1.0, 2.0), vector(1.0, 1.0, 1.0))),
    ),
    "softmin": (
        lambda x, g: utils.softmin(x, g),
        at(normal=(X, f32(0.7)), infinite=(vector(jnp.inf, 1.0, 2.0), f32(0.5))),
    ),
    "lambertw": (utils.lambertw, at(middle=vector(0.5, 2.0, 10.0), small=vector(-0.3, 1e-4))),
    "safe_log": (utils.safe_log, at(positive=vector(0.5, 2.0), zero=vector(0.0, 1.0))),
    "gen_kl": (utils.gen_kl, at(positive=(uniform(7, 4, low=0.1), uniform(8, 4, low=0.1)))),
    "gen_js": (utils.gen_js, at(positive=(uniform(7, 4, low=0.1), uniform(8, 4, low=0.1)))),
}


def square_root(index):
    def fun(a):
        return matrix_square_root.sqrtm(0.5 * (a + a.T), threshold=1e-6, min_iterations=10, max_iterations=50)[index]

    return fun


SORTING = {
    "sort": (lambda x: soft_sort.sort(x, epsilon=0.05), at(normal=X)),
    "ranks": (lambda x: soft_sort.ranks(x, epsilon=0.05), at(normal=X)),
    "quantile": (lambda x: soft_sort.quantile(x, q=0.5, epsilon=0.05), at(normal=X)),
    "topk_mask": (lambda x: soft_sort.topk_mask(x, k=2, epsilon=0.05), at(normal=X)),
}

COSTS = {
    "SqEuclidean": costs.SqEuclidean(),
    "Euclidean": costs.Euclidean(),
    "PNormP": costs.PNormP(1.5),
    "EuclideanP": costs.EuclideanP(1.5),
    "Cosine": costs.Cosine(),
    "Arccos": costs.Arccos(1),
}


def barycenter(c):
    """The Bures distance of two Gaussians, through a matrix square root."""
    bures = costs.Bures(dimension=2)
    a = c[:4].reshape(2, 2)
    b = c[4:].reshape(2, 2)
    eye = jnp.eye(2, dtype=c.dtype)
    zero = jnp.zeros(2, c.dtype)
    pack = lambda m: jnp.concatenate([zero, (m @ m.T + eye).ravel()])  # noqa: E731
    return bures(pack(a), pack(b))


TARGETS = [
    Target("ott.solvers.linear.sinkhorn(clouds)", entropic, CLOUDS),
    Target("ott.solvers.linear.sinkhorn(cost)", of_cost, TABLE),
    Target("ott.solvers.linear.sinkhorn(plan)", plan, TABLE),
    Target("ott.solvers.linear.sinkhorn(primal cost)", primal_cost, TABLE),
    Target("ott.tools.sinkhorn_divergence", divergence, CLOUDS),
    Target("ott.math.matrix_square_root.sqrtm", square_root(0), at(definite=spd(9, 3))),
    Target("ott.math.matrix_square_root.sqrtm(inverse)", square_root(1), at(definite=spd(10, 3))),
    Target("ott.geometry.costs.Bures", barycenter, at(normal=normal(11, 8))),
    *(Target("ott.math.utils." + name, fun, inputs) for name, (fun, inputs) in MATH.items()),
    *(Target("ott.tools.soft_sort." + name, fun, inputs) for name, (fun, inputs) in SORTING.items()),
    *(
        Target(
            "ott.geometry.costs." + name,
            lambda x, y, c=cost: c(x, y),
            at(normal=(normal(12, 3), normal(13, 3)), equal=(vector(1.0, 2.0), vector(1.0, 2.0))),
        )
        for name, cost in COSTS.items()
    ),
]
