"""Right functions of linear algebra, implicit differentiation, and differential equations."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .case import array, f32, hard, i32, normal, spd, uniform, vjp
from .pairs_contract import fixed_point, fixed_point_rule, ridge
from .pairs_structure import cholesky, eigenvalues, symmetric_part

FAMILY = "linalg"
IMPLICIT = "implicit"


def matrix_function(a):
    """exp(−A) of the symmetric part by its eigenvectors: independent of their signs."""
    w, v = jnp.linalg.eigh(symmetric_part(a))
    return (v * jnp.exp(-w)[None, :]) @ v.T


def gaussian_log_density(x, mean, cov):
    c = cholesky(cov)
    r = lax.linalg.triangular_solve(c, (x - mean)[:, None], left_side=True, lower=True)
    return -0.5 * jnp.sum(r**2) - jnp.sum(jnp.log(jnp.diag(c)))


def evidence(x, y, log_length):
    """The marginal likelihood of a Gaussian process."""
    d2 = (x[:, None] - x[None, :]) ** 2
    k = jnp.exp(-0.5 * d2 * jnp.exp(-2 * log_length)) + 0.1 * jnp.eye(x.shape[0], dtype=x.dtype)
    return gaussian_log_density(y, jnp.zeros_like(y), k)


def least_squares(a, b):
    q, r = jnp.linalg.qr(a)
    return lax.linalg.triangular_solve(r, (q.T @ b)[:, None], left_side=True)[:, 0]


def graded(n=5):
    """Condition number 1e4."""
    q = np.linalg.qr(np.random.default_rng(801).standard_normal((n, n)))[0]
    return jnp.asarray((q * np.logspace(0, -4, n)[None, :] @ q.T).astype(np.float32))


def gaps(*eigenvalues):
    """A symmetric matrix with these eigenvalues."""
    n = len(eigenvalues)
    q = np.linalg.qr(np.random.default_rng(802).standard_normal((n, n)))[0]
    return jnp.asarray(((q * np.asarray(eigenvalues)[None, :]) @ q.T).astype(np.float32))


def sinkhorn(cost):
    n, m = cost.shape
    k = jnp.exp(-cost / 0.5)
    u = jnp.full((n,), 1 / n, cost.dtype)

    def step(_, u):
        return (1 / n) / (k @ ((1 / m) / (k.T @ u)))

    u = lax.fori_loop(0, 30, step, u)
    v = (1 / m) / (k.T @ u)
    return jnp.sum(u[:, None] * k * v[None, :] * cost)


def kalman(q, r, y):
    def step(state, obs):
        m, p = state
        p = p + q
        gain = p / (p + r)
        m2 = m + gain * (obs - m)
        return (m2, (1 - gain) * p), -0.5 * (obs - m) ** 2 / (p + r) - 0.5 * jnp.log(p + r)

    return jnp.sum(lax.scan(step, (jnp.zeros_like(q), jnp.ones_like(q)), y)[1])


def pendulum(state):
    """60 steps of Runge-Kutta for a pendulum."""

    def field(s):
        return jnp.stack([s[1], -jnp.sin(s[0])])

    def step(_, s):
        h = 0.1
        a = field(s)
        b = field(s + 0.5 * h * a)
        c = field(s + 0.5 * h * b)
        d = field(s + h * c)
        return s + h / 6 * (a + 2 * b + 2 * c + d)

    return lax.fori_loop(0, 60, step, state)


def leapfrog(x):
    def step(_, s):
        q, p = s
        p = p - 0.05 * q**3
        q = q + 0.1 * p
        return q, p - 0.05 * q**3

    return lax.fori_loop(0, 40, step, (x, jnp.ones_like(x)))


def while_fixed_point(a):
    """x = ½ cos(a x) to convergence, by a while loop: reverse mode goes through the rule only."""

    def go(state):
        i, old, new = state
        return (i < 100) & jnp.any(jnp.abs(new - old) > 1e-7)

    def step(state):
        i, _, x = state
        return i + 1, x, 0.5 * jnp.cos(a * x)

    return lax.while_loop(go, step, (i32(0), jnp.zeros_like(a), jnp.full_like(a, 0.5)))[2]


def while_rule(g, a):
    x = while_fixed_point(a)
    s = -0.5 * jnp.sin(a * x)
    return (g * s * x / (1 - s * a),)


def halley(a):
    """y³ = a for one number, by a while loop that stops when it has converged."""

    def go(state):
        i, old, new = state
        return (i < 50) & (jnp.abs(new - old) > 1e-6 * jnp.abs(new))

    def step(state):
        i, _, y = state
        return i + 1, y, y * (y**3 + 2 * a) / (2 * y**3 + a)

    return lax.while_loop(go, step, (i32(0), jnp.zeros_like(a), jnp.ones_like(a)))[2]


def cube_root(a):
    """y³ = a by lax.custom_root."""

    def solve(f, y0):
        return lax.fori_loop(0, 30, lambda _, y: y - f(y) / (3 * y**2), y0)

    return lax.custom_root(lambda y: y**3 - a, jnp.ones_like(a), solve, lambda g, y: y / g(jnp.ones_like(y)))


def conjugate_gradients(a, b):
    m = symmetric_part(a)
    return jax.scipy.sparse.linalg.cg(lambda v: m @ v, b, tol=1e-7, maxiter=20)[0]


def square(seed, n=4):
    return lambda: (normal(seed, n, n) + 3 * jnp.eye(n, dtype=f32),)


def linear(name, fun, args, note, family=FAMILY, **more):
    return hard(name, fun, args, note, family, **{"self_test": 1e4, **more})


# fmt: off
CASES = [
    linear("cholesky", cholesky, lambda: (spd(803, 4),), "jax's own derivative"),
    linear("cholesky_graded", cholesky, lambda: (graded(4),), "condition number 1e4", self_test=1e6),
    linear("logdet", lambda a: jnp.linalg.slogdet(a)[1], square(804), "log |det|"),
    linear("slogdet_negative", lambda a: jnp.linalg.slogdet(a), lambda: (-square(805, 3)()[0],), "a negative "
           "determinant; the sign has derivative 0"),
    linear("det_singular", jnp.linalg.det, lambda: (jnp.asarray([[1, 2, 3], [2, 4, 6], [1, 0, 1]], f32),),
           "rank 2: the adjugate, without dividing by 0"),
    linear("inverse", jnp.linalg.inv, square(806), "A⁻¹"),
    linear("solve_ill_conditioned", jnp.linalg.solve, lambda: (graded(), normal(807, 5)), "condition number 1e4",
           self_test=1e6),
    linear("eigenvalues_gaps", eigenvalues, lambda: (gaps(1.0, 2.0, 4.0, 8.0),), "simple eigenvalues"),
    linear("eigenvalues_close", eigenvalues, lambda: (gaps(1.0, 1.01, 3.0),), "a gap of 1e-2", self_test=1e5),
    linear("eigh_function", matrix_function, lambda: (gaps(0.5, 1.0, 2.0),), "exp(−A) by eigenvectors"),
    linear("singular_values", lambda a: jnp.linalg.svd(a, compute_uv=False), lambda: (normal(808, 4, 3),), "distinct"),
    linear("nuclear_norm", lambda a: jnp.linalg.norm(a, "nuc"), lambda: (normal(809, 3, 4),), "sum of singular values"),
    linear("least_squares", least_squares, lambda: (normal(810, 6, 3), normal(811, 6)), "by QR"),
    linear("triangular_solve", lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True, lower=True),
           lambda: (square(812)()[0], normal(813, 4, 2)), "the upper triangle has derivative 0"),
    linear("expm", jax.scipy.linalg.expm, lambda: (normal(814, 3, 3, scale=0.5),), "scaling and squaring"),
    linear("matrix_power", lambda a: jnp.linalg.matrix_power(a, 5), lambda: (normal(815, 3, 3, scale=0.6),), "A⁵"),
    linear("gaussian_log_density", gaussian_log_density, lambda: (normal(816, 3), normal(817, 3), spd(818, 3)),
           "Cholesky, triangular solve, logarithms"),
    linear("evidence", evidence, lambda: (uniform(819, 8, high=3.0), normal(820, 8), f32(-0.3)),
           "a Gaussian process"),
    linear("ridge", ridge, lambda: (normal(821, 7, 3), normal(822, 7), f32(0.2)), "the penalty is a leaf too"),
    linear("sinkhorn", sinkhorn, lambda: (uniform(823, 4, 3),), "30 iterations unrolled", IMPLICIT),
    linear("kalman", kalman, lambda: (f32(0.1), f32(0.5), normal(824, 60)), "a filter in a scan", IMPLICIT),
    linear("pendulum", pendulum, lambda: (array(1.0, 0.2),), "Runge-Kutta", IMPLICIT),
    linear("leapfrog", leapfrog, lambda: (array(0.5, -1.0),), "a symplectic integrator", IMPLICIT),
    linear("fixed_point_unrolled", fixed_point, lambda: (normal(825, 3, 3, scale=0.4),), "60 iterations", IMPLICIT),
    linear("fixed_point_implicit", vjp(fixed_point, fixed_point_rule(60)), lambda: (normal(826, 3, 3, scale=0.4),),
           "a rule by the implicit function theorem", IMPLICIT, primal=fixed_point),
    linear("while_implicit", vjp(while_fixed_point, while_rule), lambda: (array(0.3, 1.0, 1.7),),
           "the primal is a while loop: no reverse mode without the rule", IMPLICIT, self_test=None),
    linear("while_vmapped", jax.vmap(vjp(halley, lambda g, a: (g / (3 * halley(a) ** 2),))),
           lambda: (array(0.5, 2.0, 9.0),), "under vmap the loop's predicate is a vector", IMPLICIT, self_test=None),
    linear("custom_root", cube_root, lambda: (array(0.5, 2.0, 9.0),), "lax.custom_root", IMPLICIT, self_test=None),
    linear("conjugate_gradients", conjugate_gradients, lambda: (spd(827, 4), normal(828, 4)),
           "custom_linear_solve inside", IMPLICIT, self_test=1e5),
]
# fmt: on
