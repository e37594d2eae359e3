"""Right functions that are solvers, have a gauge, are zero by invariance, or sit on a joint kink."""

import jax
import jax.numpy as jnp
from jax import lax

from .case import KINK, array, bf16, f32, hard, i32, integers, jvp, normal, spd, uniform, vjp
from .pairs_kinks import group_norms, key_bias, margins, norm, scaled_direction, shifted_softmax, standardized
from .pairs_second import jvp_by_need, zero_tangent
from .pairs_solvers import agm, bisect, cubic_formula, cubic_root, euler_loop, gapped, vectors

STAIRS = "staircases"
LOOPS = "while loops"
GAUGE = "gauge"
INVARIANT = "zero by invariance"
KINKS = "joint kinks"
PERTURBED = "perturbed arguments"


def absolute_vectors(a):
    return jnp.abs(vectors(a)[1])


def signed_vectors(a):
    """Each eigenvector with its largest element positive."""
    v = vectors(a)[1]
    top = jnp.take_along_axis(v, jnp.argmax(jnp.abs(v), 0)[None, :], 0)
    return v * jnp.sign(top)


def low_rank(a):
    """The best approximation of rank 1."""
    u, s, vt = jnp.linalg.svd(a, full_matrices=False)
    return s[0] * u[:, 0][:, None] * vt[0][None, :]


def general_eigenvalues(a):
    """|λ| of a matrix that is not symmetric, by the sums that do not depend on their order."""
    w = jnp.linalg.eigvals(a)
    return jnp.sum(jnp.abs(w) ** 2), jnp.sum(jnp.real(w**3))


def subspace_angle(a, b):
    """The squared cosines between two planes, from QR: the factors' signs cancel."""
    q, r = jnp.linalg.qr(a)[0], jnp.linalg.qr(b)[0]
    return jnp.sum((q.T @ r) ** 2)


def whitened(x):
    """Principal components, squared so that they have no sign."""
    y = x - jnp.mean(x, 0, keepdims=True)
    v = jnp.linalg.eigh(y.T @ y)[1]
    return jnp.mean((y @ v) ** 4, 0)


def crossing(c):
    return bisect(lambda x: x - jnp.cos(c * x), jnp.zeros_like(c), jnp.full_like(c, 1.5), 30)


def crossing_formula(c):
    return lax.fori_loop(0, 30, lambda _, x: x - (x - jnp.cos(c * x)) / (1 + c * jnp.sin(c * x)), jnp.ones_like(c))


def crossing_rule(g, c):
    x = crossing(c)
    s = jnp.sin(c * x)
    return (-g * x * s / (1 + c * s),)


def quantile_by_bisection(x):
    """The p-quantile of a logistic mixture, right rule by the density."""
    return bisect(lambda q: jnp.mean(lax.logistic(4 * (q - x))) - 0.3, jnp.min(x) - 3, jnp.max(x) + 3, 40)


def quantile_rule(g, x):
    s = lax.logistic(4 * (quantile_by_bisection(x) - x))
    d = s * (1 - s)
    return (g * d / jnp.sum(d),)


def quantile_formula(x):
    """The same by Newton's method, on which autodiff works."""

    def step(_, q):
        s = lax.logistic(4 * (q - x))
        return q - (jnp.mean(s) - 0.3) / (4 * jnp.mean(s * (1 - s)))

    return lax.fori_loop(0, 40, step, jnp.mean(x) - 0.3)


def secant(y):
    """x eˣ = y by the secant method in a while loop, with a right custom_jvp."""

    def step(s):
        i, a, b = s
        fa, fb = a * jnp.exp(a) - y, b * jnp.exp(b) - y
        slope = jnp.where(fb == fa, 1, fb - fa)
        return i + 1, b, jnp.where(fb == fa, b, b - fb * (b - a) / slope)

    return lax.while_loop(lambda s: s[0] < 15, step, (i32(0), jnp.zeros_like(y), jnp.ones_like(y)))[2]


secant_rule = jvp(secant, lambda p, t: t[0] / ((1 + secant(p[0])) * jnp.exp(secant(p[0]))))


def secant_formula(y):
    return lax.fori_loop(0, 30, lambda _, w: w - (w - y * jnp.exp(-w)) / (1 + w), jnp.log1p(y))


@jax.custom_jvp
def series_rule(x):
    """eˣ by its series in a while loop, as long as the terms count."""

    def step(s):
        i, term, total = s
        term = term * x / i.astype(x.dtype)
        return i + 1, term, total + term

    one = jnp.ones_like(x)
    return lax.while_loop(lambda s: s[0] < 14, step, (i32(1), one, one))[2]


series_rule.defjvp(lambda p, t: (series_rule(p[0]), t[0] * series_rule(p[0])))


def blend(x, y, t):
    return x + (y - x) * lax.logistic(t)


def blend_push(p, t):
    (x, y, _), z = p, lax.logistic(p[2])
    dx, dy, ds = (zero_tangent(d, v) for d, v in zip(t, p, strict=True))
    return dx + (dy - dx) * z + (y - x) * z * (1 - z) * ds


def truncated(x):
    """Three steps of Newton's method, not converged, by autodiff: the function is what it is."""
    return lax.fori_loop(0, 3, lambda _, y: y - (y**3 - x) / (3 * y**2), jnp.ones_like(x))


def collatz(x):
    """A while loop whose number of steps depends on the value: smooth between its jumps."""
    return lax.while_loop(lambda y: jnp.max(y) > 1, lambda y: 0.5 * y, x)


def nested_loops(x):
    inner = lambda y: lax.fori_loop(0, 4, lambda _, z: jnp.sin(z) + 0.1 * y, y)  # noqa: E731
    return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, inner(s[1])), (i32(0), x))[1]


def ode_rule(g, y0, rate):
    return jax.vjp(euler_loop, y0, rate)[1](g)


def rotated_length(x, angle):
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.sqrt((c * x[0] - s * x[1]) ** 2 + (s * x[0] + c * x[1]) ** 2)


def shifted_loss(logits, labels, shift):
    z = logits + shift[:, None]
    rows = jnp.arange(labels.shape[0], dtype=i32)
    return jnp.mean(jax.nn.logsumexp(z, -1) - z[rows, labels])


def normalized_layer(x, w, b):
    y = x @ w + b[None, :]
    return (y - jnp.mean(y, 0, keepdims=True)) * lax.rsqrt(jnp.var(y, 0, keepdims=True) + 1e-6)


def total_probability(x):
    return jnp.sum(jax.nn.softmax(x))


def pythagoras(x):
    return jnp.cos(x) ** 2 + jnp.sin(x) ** 2


def orthogonal_change(a, b):
    """The determinant of a rotation built from a skew matrix by Cayley's formula: always 1."""
    s = a - a.T
    eye = jnp.eye(a.shape[0], dtype=a.dtype)
    return jnp.linalg.det(jnp.linalg.solve(eye + s, eye - s)) + b


def double_where_norm(x):
    zero = jnp.sum(x**2) == 0
    return jnp.where(zero, 0, norm(jnp.where(zero, 1, x)))


def three_way(x, y, z):
    return jnp.maximum(jnp.maximum(x, y), z)


def tied_sum(x):
    return jnp.sum(jnp.maximum(x[:, None], x[None, :]))


def median_even(x):
    s = jnp.sort(x)
    return 0.5 * (s[1] + s[2])


max_rule = vjp(
    jnp.max,
    lambda g, x: (g * jax.nn.one_hot(jnp.argmax(x), x.shape[0], dtype=x.dtype),),
)

norm_rule = vjp(norm, lambda g, x: (g * jnp.where(norm(x) == 0, 0, x / jnp.where(norm(x) == 0, 1, norm(x))),))


def solvers(name, fun, args, note, family, **more):
    return hard(name, fun, args, note, family, **more)


def at(*values):
    return lambda: (array(*values),)


# fmt: off
CASES = [
    solvers("eigenvectors_absolute", absolute_vectors, gapped(1800, -1.0, 0.3, 2.0, 3.5), "|V|: the float64 and the "
            "float32 decomposition differ by signs", GAUGE, self_test=1e4),
    solvers("eigenvectors_signed", signed_vectors, gapped(1801, -1.0, 0.5, 2.0), "signs by a convention", GAUGE,
            self_test=1e4),
    solvers("svd_rank_one", low_rank, lambda: (normal(1802, 3, 4),), "a product of singular vectors", GAUGE,
            self_test=1e4),
    solvers("eigenvalues_general", general_eigenvalues, lambda: (normal(1803, 3, 3),), "complex eigenvalues", GAUGE,
            self_test=1e5),
    solvers("planes_angle", subspace_angle, lambda: (normal(1804, 4, 2), normal(1805, 4, 2)), "QR's signs cancel",
            GAUGE, self_test=1e4),
    solvers("principal_components", whitened, lambda: (normal(1806, 8, 3) * array(1.0, 2.0, 4.0)[None, :],),
            "fourth moments along the components", GAUGE, self_test=1e5),
    solvers("bisection_cosine", vjp(crossing, crossing_rule), at(0.3, 1.0, 1.9), "x = cos c x by bisection, with its "
            "implicit rule", STAIRS, primal=crossing_formula),
    solvers("bisection_quantile", vjp(quantile_by_bisection, quantile_rule), lambda: (normal(1807, 6),),
            "a quantile by bisection", STAIRS, primal=quantile_formula, self_test=1e3),
    solvers("bisection_in_bf16", vjp(lambda y: cubic_root(y.astype(f32)).astype(bf16), lambda g, y: (
            (g.astype(f32) / (3 * cubic_root(y.astype(f32)) ** 2 + 1)).astype(bf16),)),
            lambda: (array(0.7, 5.0, dtype=bf16),), "a staircase of rounding in two dtypes", STAIRS,
            primal=cubic_formula, self_test=16.0),
    solvers("secant_push", secant_rule, at(0.5, 2.0), "a while loop with a right custom_jvp", LOOPS,
            primal=secant_formula, how="jvp"),
    solvers("agm_push", agm, lambda: (array(1.0, 2.0), array(0.5, 1.5)), "a while loop in forward mode", LOOPS,
            how="jvp", self_test=None),
    solvers("truncated_newton", truncated, at(0.5, 3.0, 8.0), "three steps, by autodiff: not converged, and right",
            LOOPS),
    solvers("halving_while", collatz, at(5.3, 2.2, 0.4), "as many steps as the value needs", LOOPS, how="jvp"),
    solvers("loops_in_loops", nested_loops, lambda: (normal(1808, 4),), "a static loop inside a while loop", LOOPS,
            how="jvp"),
    solvers("ode_rule", vjp(euler_loop, ode_rule), lambda: (f32(1.1), f32(0.9)), "20 steps of the midpoint rule", LOOPS,
            primal=euler_loop),
    solvers("while_second_order", series_rule, lambda: (uniform(1809, 3, low=-1.0, high=1.0),),
            "order 2, the primal a while loop", LOOPS, order=2, primal=jnp.exp),
    solvers("softmax_shift", shifted_softmax, lambda: (normal(1810, 6, 4), f32(0.3)), "a shift of all logits",
            INVARIANT),
    solvers("keys_bias", key_bias, lambda: (normal(1811, 4, 3), normal(1812, 5, 3), normal(1813, 3)),
            "a bias of the keys", INVARIANT),
    solvers("bias_into_norm", standardized, lambda: (normal(1814, 3, 5), normal(1815, 3)), "a bias before a norm",
            INVARIANT),
    solvers("scale_into_norm", scaled_direction, lambda: (normal(1816, 6), f32(2.3)), "a scale before a norm",
            INVARIANT),
    solvers("rotation_of_length", rotated_length, lambda: (normal(1817, 2), f32(0.8)), "a length does not turn",
            INVARIANT),
    solvers("loss_shift", shifted_loss, lambda: (normal(1818, 4, 5), integers(1819, 5, 4), normal(1820, 4)),
            "cross-entropy of shifted logits", INVARIANT),
    solvers("layer_into_batch_norm", normalized_layer, lambda: (normal(1821, 6, 3), normal(1822, 3, 2),
            normal(1823, 2)), "a bias before a batch norm", INVARIANT, self_test=1e4),
    solvers("total_probability", total_probability, lambda: (normal(1824, 6, scale=3.0),), "the sum of softmax",
            INVARIANT, self_test=None),
    solvers("pythagoras", pythagoras, at(0.3, 1.2, -40.0), "cos² + sin²", INVARIANT, self_test=None),
    solvers("cayley_determinant", orthogonal_change, lambda: (normal(1825, 3, 3), f32(0.5)), "the determinant of a "
            "rotation", INVARIANT, self_test=1e4),
    solvers("norm_at_zero", double_where_norm, at(0.0, 0.0, 0.0), "the subgradient 0", KINKS, allowed=KINK,
            self_test=None),
    solvers("norm_at_zero_rule", norm_rule, at(0.0, 0.0), "the same by a rule", KINKS, allowed=KINK, self_test=None),
    solvers("maximum_three_way", three_way, lambda: (f32(1.0), f32(1.0), f32(1.0)), "shares of 1/4, 1/4 and 1/2", KINKS,
            allowed=KINK, self_test=None),
    solvers("maximum_first_tie", max_rule, at(2.0, 2.0, 0.0), "a rule that gives all to the first of two ties", KINKS,
            allowed=KINK, self_test=None),
    solvers("range_ties_shared", margins, at(2.0, -1.0, 2.0, -1.0), "ties at both ends, shared by JAX", KINKS,
            allowed=KINK, self_test=None),
    solvers("pairs_of_maxima", tied_sum, at(1.0, 1.0, 0.0), "ties between pairs", KINKS, allowed=KINK, self_test=None),
    solvers("median_of_ties", median_even, at(1.0, 3.0, 3.0, 5.0), "an even number with a tie in the middle", KINKS,
            allowed=KINK, self_test=None),
    solvers("total_norm_of_groups", group_norms, lambda: (normal(1826, 3, 2),), "no kink at all: no row is zero",
            KINKS),
    solvers("perturbed_sum_of_three", jvp_by_need(blend, blend_push), lambda: (normal(1827, 4), normal(1828, 4),
            normal(1829, 4)), "symbolic_zeros, rightly", PERTURBED, primal=blend),
    solvers("log_determinant_spd", lambda a: jnp.linalg.slogdet(a)[1] - jnp.log(jnp.linalg.det(a)),
            lambda: (spd(1832, 3, 1.0),), "two ways to the same number", INVARIANT, self_test=None),
]
# fmt: on
