"""Pairs at points where coordinates are kinks though directions are not: ties, norms at zero, kinks that cancel.

Each wrong value lies between the one-sided derivatives along every coordinate; along some direction it does not.
"""

import jax
import jax.numpy as jnp
from jax import lax

from .case import KINK, array, bf16, f32, normal, pair

FAMILY = "joint kinks"
INVARIANT = "zero by invariance"


def kink(name, primal, right, wrong, args, note, **more):
    return pair(name, FAMILY, primal, right, wrong, args, note, allowed=KINK, self_test=None, **more)


def ties(share):
    """The gradient of the maximum of a vector: every tied element gets `share(number of ties)` of it."""

    def pull(g, x):
        tied = (x == jnp.max(x)).astype(x.dtype)
        return (g * tied * share(jnp.sum(tied)),)

    return pull


def at(*values):
    return lambda: (array(*values),)


def rows_rule(share):
    """The same for each row."""

    def pull(g, x):
        tied = (x == jnp.max(x, 1, keepdims=True)).astype(x.dtype)
        return (g[:, None] * tied * share(jnp.sum(tied, 1, keepdims=True)),)

    return pull


def norm(x):
    return jnp.sqrt(jnp.sum(x**2))


def norm_rule(at_zero):
    def pull(g, x):
        n = norm(x)
        return (g * jnp.where(n == 0, at_zero, x / jnp.where(n == 0, 1, n)),)

    return pull


def group_norms(x):
    return jnp.sum(jnp.sqrt(jnp.sum(x**2, 1)))


def group_rule(at_zero):
    def pull(g, x):
        n = jnp.sqrt(jnp.sum(x**2, 1, keepdims=True))
        return (g * jnp.where(n == 0, at_zero, x / jnp.where(n == 0, 1, n)),)

    return pull


def total_variation(x):
    return jnp.sum(jnp.abs(jnp.diff(x)))


def variation_rule(flat):
    """The sign of each step; `flat(n)` are the two shares of a step of zero."""

    def pull(g, x):
        d = jnp.diff(x)
        left, right = flat
        back, ahead = jnp.where(d == 0, left, -jnp.sign(d)), jnp.where(d == 0, right, jnp.sign(d))
        zero = jnp.zeros((1,), x.dtype)
        return (g * (jnp.concatenate([back, zero]) + jnp.concatenate([zero, ahead])),)

    return pull


def spectral(a):
    """The largest singular value of a symmetric 2 by 2 matrix, by its formula."""
    m, d = 0.5 * (a[0, 0] + a[1, 1]), 0.5 * (a[0, 0] - a[1, 1])
    return m + jnp.sqrt(d**2 + a[0, 1] * a[1, 0])


def spectral_rule(weight):
    """At a multiple of the identity the subdifferential is {P ≥ 0, tr P = 1}."""
    return lambda g, a: (g * weight * jnp.eye(2, dtype=a.dtype),)


def margin(x, y):
    return jnp.maximum(0, 1 - jnp.sum(x * y))


def margin_rule(wx, wy):
    def pull(g, x, y):
        s = jnp.sum(x * y)
        slope = lambda w: jnp.where(s == 1, w, (s < 1).astype(x.dtype))  # noqa: E731
        return -g * slope(wx) * y, -g * slope(wy) * x

    return pull


def rectified_pair(x):
    """relu(x) − relu(−x) = x: two kinks that cancel."""
    return jnp.maximum(x, 0) - jnp.maximum(-x, 0)


def softshrink_pair(x):
    """Soft thresholding and what it takes away: the two sum to x."""
    s = jnp.sign(x) * jnp.maximum(jnp.abs(x) - 1, 0)
    return s + jnp.clip(x, -1, 1)


def shrink_rule(at_edge):
    def pull(g, x):
        inside = (jnp.abs(x) < 1).astype(x.dtype)
        outside = (jnp.abs(x) > 1).astype(x.dtype)
        return (g * jnp.where(jnp.abs(x) == 1, at_edge, inside + outside),)

    return pull


def running_maximum(x):
    return lax.cummax(x)[-1]


def clipped_both(x, low, high):
    """clip(x, low, high), where x lies at both ends at once."""
    return jnp.minimum(jnp.maximum(x, low), high)


def clipped_rule(wx, wl, wh):
    return lambda g, x, low, high: (g * wx, g * wl, g * wh)


def margins(x):
    """max over pairs of x_i − x_j, the range."""
    return jnp.max(x) - jnp.min(x)


def range_rule(share):
    def pull(g, x):
        top, bottom = (x == jnp.max(x)).astype(x.dtype), (x == jnp.min(x)).astype(x.dtype)
        return (g * (top * share(jnp.sum(top)) - bottom * share(jnp.sum(bottom))),)

    return pull


def one(n):
    return jnp.ones_like(n)


def part(n):
    return 1 / n


# Gradients that are zero by invariance.


def shifted_softmax(x, b):
    return jax.nn.softmax(x + b, -1)


def shifted_rule(delta):
    def pull(g, x, b):
        p = jax.nn.softmax(x + b, -1)
        dx = p * (g - delta * jnp.sum(p * g, -1, keepdims=True))
        return p * (g - jnp.sum(p * g, -1, keepdims=True)), jnp.sum(dx)

    return pull


def key_bias(q, k, b):
    """softmax(q (k + b)ᵀ): a bias of the keys shifts each row by a constant."""
    return jax.nn.softmax(q @ (k + b[None, :]).T, -1)


def key_bias_rule(delta):
    def pull(g, q, k, b):
        p = key_bias(q, k, b)
        ds = p * (g - jnp.sum(p * g, -1, keepdims=True))
        rough = p * (g - delta * jnp.sum(p * g, -1, keepdims=True))
        return ds @ (k + b[None, :]), ds.T @ q, jnp.sum(rough.T @ q, 0)

    return pull


def standardized(x, b):
    y = x + b[:, None]
    m = jnp.mean(y, 1, keepdims=True)
    return (y - m) / jnp.sqrt(jnp.mean((y - m) ** 2, 1, keepdims=True))


def standardized_rule(mean):
    def pull(g, x, b):
        y = standardized(x, b)
        r = 1 / jnp.sqrt(jnp.mean((x - jnp.mean(x, 1, keepdims=True)) ** 2, 1, keepdims=True))
        full = r * (g - jnp.mean(g, 1, keepdims=True) - y * jnp.mean(g * y, 1, keepdims=True))
        rough = r * (g - mean * jnp.mean(g, 1, keepdims=True) - y * jnp.mean(g * y, 1, keepdims=True))
        return full, jnp.sum(rough, 1)

    return pull


def scaled_direction(x, s):
    """The direction of s x, which does not depend on s."""
    y = s * x
    return y / jnp.sqrt(jnp.sum(y**2))


def scaled_direction_rule(project):
    def pull(g, x, s):
        u = scaled_direction(x, s)
        n = jnp.sqrt(jnp.sum(x**2))
        d = (g - u * jnp.sum(u * g)) / n
        return d, jnp.sum((g - project * u * jnp.sum(u * g)) / (n * s) * x)

    return pull


def low_shift(x, b):
    return shifted_softmax(x.astype(f32), b).astype(bf16)


def low_shift_rule(delta):
    def pull(g, x, b):
        dx, db = shifted_rule(delta)(g.astype(f32), x.astype(f32), b)
        return dx.astype(bf16), db

    return pull


def conserved(x, steps):
    """Σ x after steps of transport around a ring: conserved, so that its gradient by the rate is zero."""
    flux = lambda y: steps * y**2  # noqa: E731
    return jnp.sum(lax.fori_loop(0, 4, lambda _, y: y - flux(y) + jnp.roll(flux(y), 1), x))


def conserved_rule(both):
    def pull(g, x, steps):
        def run(x, steps):
            flux = lambda y: steps * y**2  # noqa: E731
            one = lambda _, y: y - flux(y) + both * jnp.roll(flux(y), 1)  # noqa: E731
            return jnp.sum(lax.fori_loop(0, 4, one, x))

        return g * jnp.ones_like(x), g * jax.grad(run, 1)(x, steps)

    return pull


def larger_smoothly(x, y):
    """log(eˣ + eʸ), whose pieces have kinks that cancel where x = y."""
    return jnp.maximum(x, y) + jnp.log1p(jnp.exp(-jnp.abs(x - y)))


def larger_smoothly_rule(at_tie):
    def pull(g, x, y):
        p = jnp.where(x == y, at_tie, jax.nn.sigmoid(x - y))
        return g * p, g * (1 - p)

    return pull


# fmt: off
CASES = [
    kink("maximum_ties_whole", jnp.max, ties(part), ties(one), at(1.0, 3.0, 3.0, 0.5),
         "two tied maxima each get the whole gradient: twice too much along the diagonal"),
    kink("maximum_three_ties", jnp.max, ties(part), ties(lambda n: 0.5 * one(n)), at(2.0, 2.0, -1.0, 2.0),
         "a half each for three ties: the sum is 3/2"),
    kink("maximum_ties_short", jnp.max, ties(part), ties(lambda n: 0.25 * one(n)), at(4.0, 4.0),
         "a quarter each for two ties: half is lost"),
    kink("row_maxima_ties", lambda x: jnp.max(x, 1), rows_rule(part), rows_rule(one),
         lambda: (jnp.asarray([[1.0, 1.0, 0.0], [0.2, 0.7, 0.1]], f32),), "ties in one of two rows"),
    kink("norm_zero_outside_ball", norm, norm_rule(0.0), norm_rule(0.9), at(0.0, 0.0, 0.0),
         "a subgradient of length 1.56 of the norm at 0, each element within [−1, 1]"),
    kink("group_norm_zero", group_norms, group_rule(0.0), group_rule(1.0),
         lambda: (jnp.asarray([[1.0, -2.0], [0.0, 0.0], [0.5, 0.5]], f32),), "the same in one group of three"),
    kink("total_variation_flat", total_variation, variation_rule((0.0, 0.0)), variation_rule((0.5, 0.5)),
         at(0.0, 1.0, 1.0, 3.0), "a flat step pushes both of its ends the same way: a shift of all changes nothing"),
    kink("spectral_norm_identity", spectral, spectral_rule(0.5), spectral_rule(1.0),
         lambda: (1.5 * jnp.eye(2, dtype=f32),), "a double eigenvalue: the trace of the subgradient must be 1"),
    kink("margin_two_leaves", margin, margin_rule(0.5, 0.5), margin_rule(1.0, 0.0),
         lambda: (array(1.0, 0.5), array(0.5, 1.0)), "at the margin, the hinge is on in one leaf and off in the other"),
    pair("rectified_difference", FAMILY, rectified_pair, lambda g, x: (g,),
         lambda g, x: (g * (x != 0).astype(x.dtype),), at(0.0, -1.0, 2.0), "relu(x) − relu(−x) at 0: zero, as autodiff "
         "has it, though the function is x", allowed=KINK, self_test=None),
    pair("shrunk_and_rest", FAMILY, softshrink_pair, shrink_rule(1.0), shrink_rule(0.0), at(1.0, -1.0, 0.3, 2.0),
         "a threshold and what it removes: both off at the edge", allowed=KINK, self_test=None),
    kink("running_maximum_ties", running_maximum, ties(part), ties(one), at(3.0, 1.0, 3.0),
         "cumulative maximum: both ties"),
    kink("clip_at_both_ends", clipped_both, clipped_rule(0.0, 0.0, 1.0), clipped_rule(0.0, 0.0, 0.0),
         lambda: (f32(1.0), f32(1.0), f32(1.0)), "three equal arguments: alone, each may "
         "have no share; together they must have one"),
    kink("range_ties", margins, range_rule(part), range_rule(one), at(2.0, -1.0, 2.0, -1.0),
         "two tied maxima and two tied minima"),
    pair("logaddexp_tie_away_from_zero", FAMILY, lambda x: larger_smoothly(x - 1.5, 0.0),
         lambda g, x: (larger_smoothly_rule(0.5)(g, x - 1.5, 0.0)[0],),
         lambda g, x: (larger_smoothly_rule(0.0)(g, x - 1.5, 0.0)[0],), at(1.5, 0.7), "0 where two terms are equal, "
         "though not of equal numbers: autodiff of the pieces is no judge there, and an ulp makes another branch",
         self_test=None),
    pair("logaddexp_tie_of_leaves", FAMILY, lambda x, s: larger_smoothly(2 * jnp.log(x), 2 * jnp.log(s)),
         lambda g, x, s: tuple(2 * v / a for v, a in zip(larger_smoothly_rule(0.5)(g, 2 * jnp.log(x), 2 * jnp.log(s)),
                                                         (x, s), strict=True)),
         lambda g, x, s: tuple(2 * v / a for v, a in zip(larger_smoothly_rule(1.0)(g, 2 * jnp.log(x), 2 * jnp.log(s)),
                                                         (x, s), strict=True)),
         lambda: (array(1.3, 0.7), array(1.3, 0.4)), "all of it to one of two equal terms, where the function is "
         "smooth", self_test=None),
    pair("softmax_shift_dropped", INVARIANT, shifted_softmax, shifted_rule(1.0), shifted_rule(0.0),
         lambda: (normal(1300, 6, 4), f32(0.3)), "a shift that softmax cannot see: its gradient is 0, and not Σ p g"),
    pair("key_bias_dropped", INVARIANT, key_bias, key_bias_rule(1.0), key_bias_rule(0.0),
         lambda: (normal(1301, 4, 3), normal(1302, 5, 3), normal(1303, 3)), "a bias of the keys: zero by invariance"),
    pair("bias_before_norm", INVARIANT, standardized, standardized_rule(1.0), standardized_rule(0.0),
         lambda: (normal(1304, 3, 5), normal(1305, 3)), "a bias before a norm: zero, since the mean is subtracted"),
    pair("scale_before_norm", INVARIANT, scaled_direction, scaled_direction_rule(1.0), scaled_direction_rule(0.0),
         lambda: (normal(1306, 6), f32(1.7)), "a scale before a norm: zero, since the length is divided out"),
    pair("softmax_shift_bf16", INVARIANT, low_shift, low_shift_rule(1.0), low_shift_rule(0.0),
         lambda: (normal(1307, 5, 4, dtype=bf16), f32(-0.2)), "the same in bfloat16, with a float32 shift",
         self_test=64.0),
    pair("conserved_sum", INVARIANT, conserved, conserved_rule(1.0), conserved_rule(0.0),
         lambda: (normal(1308, 6), f32(0.1)), "transport conserves the sum: what leaves a cell must enter the next"),
]
# fmt: on
