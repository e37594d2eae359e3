"""Pairs whose primal is a solver: bisection and tables (staircases of rounding), while loops, truncated iterations, and
decompositions whose factors have no sign of their own. JAX's autodiff of such a primal is zero, missing, or another
gauge's; the self-test's oracle is a formula that needs no solver.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .case import Case, array, f32, i32, normal, pair, spd, uniform

STAIRS = "staircases"
LOOPS = "while loops"
IMPLICIT = "implicit"
GAUGE = "gauge"

UNDECIDED = frozenset({"pass", "inconclusive"})
CAUGHT = frozenset({"fail", "inconclusive"})


def solver(name, family, primal, formula, right, wrong, args, note, **more):
    """A pair of which `primal` is the solver, and `formula` what it computes, as a differentiable function."""
    case = pair(name, family, primal, right, wrong, args, note, **more)
    return Case(**{**case.__dict__, "primal": formula})


# Staircases: the solver ends on a grid of its own.


def bisect(f, low, high, n=28):
    """The root of an increasing f between low and high."""

    def step(_, ends):
        a, b = ends
        m = 0.5 * (a + b)
        below = f(m) < 0
        return jnp.where(below, m, a), jnp.where(below, b, m)

    a, b = lax.fori_loop(0, n, step, (low, high))
    return 0.5 * (a + b)


def cubic_root(y):
    return bisect(lambda m: m**3 + m - y, jnp.zeros_like(y), jnp.full_like(y, 4.0))


def cubic_formula(y):
    """Cardano's formula for x³ + x = y."""
    d = jnp.sqrt(y**2 / 4 + 1 / 27)
    return jnp.cbrt(y / 2 + d) - jnp.cbrt(d - y / 2)


def cubic_rule(factor):
    return lambda g, y: (factor * g / (3 * cubic_root(y) ** 2 + 1),)


def simplex(x):
    """The projection onto the simplex: max(x − τ, 0), τ by bisection."""
    excess = lambda t: 1 - jnp.sum(jnp.maximum(x - t, 0))  # noqa: E731
    tau = bisect(excess, jnp.max(x) - 1, jnp.max(x), 40)
    return jnp.maximum(x - tau, 0)


def simplex_formula(x):
    u = jnp.flip(jnp.sort(x))
    k = jnp.arange(1, x.shape[0] + 1, dtype=i32).astype(x.dtype)
    tau = (jnp.cumsum(u) - 1) / k
    return jnp.maximum(x - tau[jnp.sum(u > tau) - 1], 0)


def simplex_rule(on_support):
    def pull(g, x):
        s = (simplex(x) > 0).astype(x.dtype)
        mean = jnp.sum(g * s) / jnp.sum(s) if on_support else jnp.mean(g)
        return (s * (g - mean),)

    return pull


def golden(c):
    """argmin of e^x − c x by golden sections: x = ln c, to the root of the rounding."""
    phi = 0.618034

    def step(_, ends):
        a, b = ends
        m, n = b - phi * (b - a), a + phi * (b - a)
        left = jnp.exp(m) - c * m < jnp.exp(n) - c * n
        return jnp.where(left, a, m), jnp.where(left, n, b)

    a, b = lax.fori_loop(0, 16, step, (jnp.full_like(c, -1.0), jnp.full_like(c, 2.0)))
    return 0.5 * (a + b)


def kepler_bisected(m, e):
    """The eccentric anomaly: E − e sin E = M."""
    return bisect(lambda x: x - e * jnp.sin(x) - m, jnp.full_like(m, -4.0), jnp.full_like(m, 4.0), 30)


def kepler(m, e):
    """The same by Newton's method, which autodiff follows."""
    return lax.fori_loop(0, 30, lambda _, x: x - (x - e * jnp.sin(x) - m) / (1 - e * jnp.cos(x)), m)


def cut_short(y):
    """Four steps of Newton's method for x³ + x = y: three digits."""
    return lax.fori_loop(0, 4, lambda _, x: x - (x**3 + x - y) / (3 * x**2 + 1), jnp.cbrt(y))


def converged_rule(factor):
    """The implicit derivative at the root itself."""
    return lambda g, y: (factor * g / (3 * cubic_formula(y) ** 2 + 1),)


def cubic_residual(x, y):
    return x**3 + x - y


def kepler_rule(solve, by_e):
    def pull(g, m, e):
        x = solve(m, e)
        slope = 1 - e * jnp.cos(x)
        return g / slope, jnp.sum(g * by_e(x) / slope)

    return pull


TABLE = np.linspace(0, 1, 4097) ** 2


def lookup(u):
    """The inverse of x² by a table of 4096 intervals: a staircase of steps of 1/4096."""
    nodes = jnp.asarray(TABLE.astype(np.float32)).astype(u.dtype)
    return jnp.searchsorted(nodes, u).astype(u.dtype) / 4096


# While loops: no reverse mode.


def babylonian(x):
    def step(state):
        _, y = state
        return y, 0.5 * (y + x / y)

    moved = lambda s: jnp.any(jnp.abs(s[1] - s[0]) > 1e-6 * jnp.abs(s[1]))  # noqa: E731
    return lax.while_loop(moved, step, (jnp.zeros_like(x), x))[1]


def lambert(x):
    """w e^w = x by Halley's method."""

    def step(s):
        i, w = s
        e = jnp.exp(w)
        f = w * e - x
        return i + 1, w - f / (e * (w + 1) - (w + 2) * f / (2 * w + 2))

    return lax.while_loop(lambda s: s[0] < 12, step, (i32(0), jnp.log1p(x)))[1]


def lambert_formula(x):
    return lax.fori_loop(0, 30, lambda _, w: w - (w - x * jnp.exp(-w)) / (1 + w), jnp.log1p(x))


def agm(a, b):
    """The arithmetic-geometric mean, to which the period of a pendulum is inverse."""

    def step(s):
        a, b = s
        return 0.5 * (a + b), jnp.sqrt(a * b)

    return lax.while_loop(lambda s: jnp.any(jnp.abs(s[0] - s[1]) > 1e-6), step, (a, b))[0]


def agm_formula(a, b):
    return lax.fori_loop(0, 8, lambda _, s: (0.5 * (s[0] + s[1]), jnp.sqrt(s[0] * s[1])), (a, b))[0]


def agm_rule(second):
    """The derivatives by tangents through six steps; AGM is homogeneous, so that a ∂a + b ∂b = AGM."""

    def pull(g, a, b):
        _, da = jax.jvp(lambda a: agm_formula(a, b), (a,), (jnp.ones_like(a),))
        db = (agm(a, b) - second * a * da) / b
        return g * da, g * db

    return pull


def conjugate_gradient(a, b):
    """½(A + Aᵀ) x = b for a positive definite matrix."""
    a = 0.5 * (a + a.T)

    def step(s):
        x, r, p = s
        ap = a @ p
        rr = r @ r
        alpha = rr / (p @ ap)
        r2 = r - alpha * ap
        return x + alpha * p, r2, r2 + (r2 @ r2) / rr * p

    first = (jnp.zeros_like(b), b, b)
    return lax.while_loop(lambda s: s[1] @ s[1] > 1e-12 * (b @ b), step, first)[0]


def cg_formula(a, b):
    return jnp.linalg.solve(0.5 * (a + a.T), b)


def cg_rule(sign):
    def pull(g, a, b):
        x, u = conjugate_gradient(a, b), conjugate_gradient(a, g)
        da = sign * jnp.outer(u, x)
        return 0.5 * (da + da.T), u

    return pull


def euler_while(y0, rate):
    """y' = −rate y² until t = 1, in steps that shrink with y: forward mode only."""

    def step(s):
        t, y = s
        h = jnp.minimum(0.05, 1 - t)
        mid = y - 0.5 * h * rate * y**2
        return t + h, y - h * rate * mid**2

    return lax.while_loop(lambda s: s[0] < 1 - 1e-6, step, (jnp.zeros_like(y0), y0))[1]


def euler_loop(y0, rate):
    def step(_, y):
        mid = y - 0.025 * rate * y**2
        return y - 0.05 * rate * mid**2

    return lax.fori_loop(0, 20, step, y0)


def euler_rule(keep):
    def pull(g, y0, rate):
        _, back = jax.vjp(euler_loop, y0, rate)
        dy, dr = back(g)
        return dy, keep * dr

    return pull


def power_iteration(a):
    """The largest eigenvalue of a symmetric matrix, and nothing of its vector."""

    def step(s):
        v, old, _ = s
        w = a @ v
        w = w / jnp.sqrt(w @ w)
        return w, w @ a @ w, jnp.abs(w @ a @ w - old)

    v = jnp.ones(a.shape[0], a.dtype)
    one = jnp.ones((), a.dtype)
    return lax.while_loop(lambda s: s[2] > 1e-7, step, (v, 0 * one, one))[1]


def power_rule(normalized):
    def pull(g, a):
        def step(_, v):
            w = a @ v
            return w / jnp.sqrt(w @ w)

        v = lax.fori_loop(0, 80, step, jnp.ones(a.shape[0], a.dtype))
        return (g * jnp.outer(v, v) * (1.0 if normalized else float(a.shape[0])),)

    return pull


# Iterations that autodiff follows.


def descent(w, penalty):
    """argmin ½ |x − w|² + penalty Σ ln cosh x by 60 steps of gradient descent."""
    return lax.fori_loop(0, 60, lambda _, x: x - 0.5 * (x - w + penalty * jnp.tanh(x)), jnp.zeros_like(w))


def descent_rule(curvature):
    def pull(g, w, penalty):
        x = descent(w, penalty)
        u = g / (1 + curvature * penalty * (1 - jnp.tanh(x) ** 2))
        return u, -jnp.sum(u * jnp.tanh(x))

    return pull


def transport(cost):
    """Entropic optimal transport between uniform weights: the dual value after 40 rounds."""
    n = cost.shape[0]
    eps = 0.3

    def step(_, f):
        g = -eps * jax.nn.logsumexp((f[:, None] - cost) / eps, axis=0) - eps * float(np.log(n))
        return -eps * jax.nn.logsumexp((g[None, :] - cost) / eps, axis=1) - eps * float(np.log(n))

    f = lax.fori_loop(0, 40, step, jnp.zeros(n, cost.dtype))
    g = -eps * jax.nn.logsumexp((f[:, None] - cost) / eps, axis=0) - eps * float(np.log(n))
    return jnp.mean(f) + jnp.mean(g)


def transport_rule(transposed):
    """Its gradient is the plan, by Danskin's theorem."""

    def pull(g, cost):
        n = cost.shape[0]

        def step(_, uv):
            k = jnp.exp(-cost / 0.3)
            u = (1 / n) / (k @ uv[1])
            return u, (1 / n) / (k.T @ u)

        ones = jnp.ones(n, cost.dtype)
        u, v = lax.fori_loop(0, 60, step, (ones, ones))
        plan = u[:, None] * jnp.exp(-cost / 0.3) * v[None, :]
        return (g * (plan.T if transposed else plan),)

    return pull


def equilibrium(w, x):
    """z = tanh(w z + x), a deep equilibrium layer: 50 rounds."""
    return lax.fori_loop(0, 50, lambda _, z: jnp.tanh(w @ z + x), jnp.zeros_like(x))


def equilibrium_rule(transposed):
    def pull(g, w, x):
        z = equilibrium(w, x)
        d = 1 - z**2
        system = jnp.eye(x.shape[0], dtype=x.dtype) - (d[:, None] * w)
        u = d * jnp.linalg.solve(system.T if transposed else system, g)
        return jnp.outer(u, z), u

    return pull


# Decompositions.


def equilibrium_adjoint(turns):
    """The adjoint system by so many rounds of its own."""

    def pull(g, w, x):
        z = equilibrium(w, x)
        d = 1 - z**2
        u = lax.fori_loop(0, turns, lambda _, u: d * (w.T @ u) + d * g, d * g)
        return jnp.outer(u, z), u

    return pull


def vectors(a):
    return jnp.linalg.eigh(0.5 * (a + a.T))


def projector(a):
    """Onto the eigenvectors of the two smallest eigenvalues: no sign, no order."""
    v = vectors(a)[1][:, :2]
    return v @ v.T


def projector_rule(gaps):
    def pull(g, a):
        w, v = vectors(a)
        low, high = v[:, :2], v[:, 2:]
        inner = high.T @ (g + g.T) @ low / (w[None, :2] - w[2:, None] if gaps else 1.0)
        d = high @ inner @ low.T
        return (0.5 * (d + d.T),)

    return pull


def squared_vectors(a):
    return vectors(a)[1] ** 2


def squared_vectors_rule(order):
    def pull(g, a):
        w, v = vectors(a)
        n = w.shape[0]
        difference = w[None, :] - w[:, None] + jnp.eye(n, dtype=a.dtype)
        f = jnp.where(jnp.eye(n, dtype=bool), 0, 1 / difference)
        d = v @ ((f if order else f.T) * (v.T @ (2 * g * v))) @ v.T
        return (0.5 * (d + d.T),)

    return pull


def polar(a):
    """The orthogonal factor U Vᵀ, which the signs of the singular vectors leave alone."""
    u, _, vt = jnp.linalg.svd(a, full_matrices=False)
    return u @ vt


def polar_formula(a):
    """By Newton's iteration, which knows of no singular vectors."""
    return lax.fori_loop(0, 30, lambda _, x: 0.5 * (x + jnp.linalg.inv(x).T), a)


def polar_rule(denominator):
    def pull(g, a):
        u, s, vt = jnp.linalg.svd(a, full_matrices=False)
        h = u.T @ g @ vt.T
        return (u @ ((h - h.T) / denominator(s[:, None], s[None, :])) @ vt,)

    return pull


def signless_qr(a):
    return jnp.abs(jnp.linalg.qr(a)[1])


def signless_qr_formula(a):
    """Cholesky's factor of AᵀA."""
    return jnp.abs(jnp.linalg.cholesky(a.T @ a, symmetrize_input=False).T)


def signless_qr_rule(symmetrize):
    def pull(g, a):
        q, r = jnp.linalg.qr(a)
        dr = jnp.triu(g * jnp.sign(r))
        m = r @ dr.T
        lower = jnp.tril(m)
        m = lower + lower.T - jnp.diag(jnp.diag(m)) if symmetrize else 2 * lower
        return (jnp.linalg.solve(r, (q @ m).T).T,)

    return pull


def gapped(seed, *values):
    """A symmetric matrix with these eigenvalues."""
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values),) * 2))[0]
    return lambda: (jnp.asarray(((q * np.asarray(values)[None, :]) @ q.T).astype(np.float32)),)


def well_conditioned(seed, n=3):
    return lambda: (normal(seed, n, n, scale=0.5) + 1.5 * jnp.eye(n, dtype=f32),)


# fmt: off
CASES = [
    solver("bisection_scaled", STAIRS, cubic_root, cubic_formula, cubic_rule(1.0), cubic_rule(1.2),
           lambda: (array(0.7, 5.0),), "bisection to float32's tolerance: autodiff of the primal is 0, the rule is the "
           "implicit one, or 20% larger"),
    solver("bisection_dead", STAIRS, cubic_root, cubic_formula, cubic_rule(1.0), cubic_rule(0.0),
           lambda: (array(3.0, 9.0),), "a dead rule, which agrees with autodiff of the staircase"),
    solver("bisection_kepler_sine", STAIRS, kepler_bisected, kepler, kepler_rule(kepler_bisected, jnp.sin),
           kepler_rule(kepler_bisected, jnp.cos), lambda: (array(0.5, 2.0), f32(0.3)),
           "cos E for sin E in one of two leaves"),
    solver("bisection_simplex_mean", STAIRS, simplex, simplex_formula, simplex_rule(True), simplex_rule(False),
           lambda: (array(0.9, 0.3, -0.8, 0.55, 0.1),), "the mean of the cotangent over all elements for that over the "
           "support; autodiff sees the maximum and not τ"),
    solver("bisection_residual", STAIRS, cubic_root, cubic_formula, cubic_rule(1.0), cubic_rule(1.01),
           lambda: (array(1.5, 7.0),), "1% too large: with residual=, the implicit function theorem tells it",
           check_kwargs={"residual": cubic_residual}),
    solver("truncated_residual", IMPLICIT, cut_short, cubic_formula, converged_rule(1.0), converged_rule(1.01),
           lambda: (array(0.4, 2.5),), "a solver cut short, whose autodiff is not the derivative of the root",
           check_kwargs={"residual": cubic_residual}, self_test=3e3),
    solver("golden_section_inverse", STAIRS, golden, jnp.log, lambda g, c: (g / c,), lambda g, c: (g / c**2,),
           lambda: (array(1.5, 4.0),), "argmin by golden sections, known to 1e-3 only",
           allowed=UNDECIDED, caught=CAUGHT),
    solver("table_inverse_slope", STAIRS, lookup, jnp.sqrt, lambda g, u: (0.5 * g / jnp.sqrt(u),),
           lambda g, u: (g / jnp.sqrt(u),), lambda: (array(0.2, 0.6, 0.9),), "a table by searchsorted: twice its slope",
           allowed=UNDECIDED, caught=CAUGHT),
    solver("newton_while_start", LOOPS, babylonian, jnp.sqrt, lambda g, x: (0.5 * g / babylonian(x),),
           lambda g, x: (0.5 * g / x,), lambda: (array(0.5, 2.0, 9.0),), "a while loop to convergence: the slope at "
           "the first guess"),
    solver("lambert_chain", LOOPS, lambert, lambert_formula, lambda g, x: (g / (x + jnp.exp(lambert(x))),),
           lambda g, x: (g / jnp.exp(lambert(x)),), lambda: (array(0.3, 2.0, 10.0),), "1/eʷ for 1/(x + eʷ)"),
    solver("agm_homogeneity", LOOPS, agm, agm_formula, agm_rule(1.0), agm_rule(-1.0),
           lambda: (array(1.0, 2.0), array(0.5, 1.5)), "one of two leaves by homogeneity, with the wrong sign"),
    solver("conjugate_gradient_sign", LOOPS, conjugate_gradient, cg_formula, cg_rule(-1.0), cg_rule(1.0),
           lambda: (spd(1200, 3), normal(1201, 3)), "conjugate gradients in a while loop: the "
           "sign of dA", self_test=1e4),
    solver("step_control_rate", LOOPS, euler_while, euler_loop, euler_rule(1.0), euler_rule(0.9),
           lambda: (f32(1.2), f32(0.8)), "an ODE in a while loop: 10% of the parameter's gradient missing",
           self_test=1e3),
    solver("power_iteration_length", LOOPS, power_iteration, lambda a: jnp.max(jnp.linalg.eigvalsh(0.5 * (a + a.T))),
           power_rule(True), power_rule(False), gapped(1202, 0.5, 1.0, 4.0), "v vᵀ for a vector that was never "
           "normalized", self_test=1e5),
    pair("descent_curvature", IMPLICIT, descent, descent_rule(1.0), descent_rule(0.0),
         lambda: (normal(1203, 5), f32(0.8)), "the Hessian without the regularizer's part"),
    pair("transport_transposed", IMPLICIT, transport, transport_rule(False), transport_rule(True),
         lambda: (uniform(1204, 4, 4),), "the plan transposed: square costs hide it", self_test=2e3),
    pair("equilibrium_transposed", IMPLICIT, equilibrium, equilibrium_rule(True), equilibrium_rule(False),
         lambda: (normal(1205, 3, 3, scale=0.4), normal(1206, 3)), "(I − DW) for its transpose", self_test=1e4),
    pair("equilibrium_adjoint_cut_short", IMPLICIT, equilibrium, equilibrium_adjoint(60), equilibrium_adjoint(3),
         lambda: (normal(1212, 3, 3, scale=0.4), normal(1213, 3)), "three rounds for the adjoint system: the loop of "
         "the rule has not converged, that of the primal has", self_test=1e3),
    pair("kepler_unrolled_slope", IMPLICIT, kepler, kepler_rule(kepler, jnp.sin), kepler_rule(kepler, lambda x: x),
         lambda: (array(0.4, 1.2), f32(0.6)), "E for sin E: nearly right for small angles"),
    pair("projector_gaps", GAUGE, projector, projector_rule(True), projector_rule(False),
         gapped(1208, -1.0, 0.5, 2.0, 5.0), "the gaps between the eigenvalues left out", self_test=1e4),
    pair("squared_eigenvectors_order", GAUGE, squared_vectors, squared_vectors_rule(True), squared_vectors_rule(False),
         gapped(1209, -1.0, 0.5, 2.0), "the gaps with the wrong sign; the squares know no sign of the vectors",
         self_test=1e4),
    solver("polar_denominator", GAUGE, polar, polar_formula, polar_rule(lambda s, t: s + t),
           polar_rule(lambda s, t: 2 * s), well_conditioned(1210), "2 s_i for s_i + s_j", self_test=1e4),
    solver("signless_qr_lower", GAUGE, signless_qr, signless_qr_formula, signless_qr_rule(True),
           signless_qr_rule(False), lambda: (normal(1211, 4, 3),), "twice the lower triangle for the symmetric copy",
           self_test=1e4),
]
# fmt: on
