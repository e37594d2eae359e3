"""Functions of which no check can say whether the derivative is right: it must say so, and why.

`note` is what the report must say of it, in a word that it contains.
"""

from collections.abc import Callable
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .case import Case, array, normal, vjp
from .pairs_solvers import cubic_formula

FAMILY = "undecidable"
INCONCLUSIVE = frozenset({"inconclusive"})
NOT_PASSED = frozenset({"fail", "inconclusive"})

_noise = np.random.default_rng(0)
_calls = count()


def by_host(fun: Callable, x: jax.Array) -> jax.Array:
    """`fun(x)` on the host, at each call anew."""
    out = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(lambda v: np.asarray(fun(np.asarray(v)), out.dtype), out, x, vmap_method="sequential")


def noisy(x):
    """sin x with noise that no key controls."""
    return jnp.sin(x) + by_host(lambda v: 1e-2 * _noise.standard_normal(np.shape(v)), lax.stop_gradient(x))


def drifting(x):
    """x² plus a hundredth of the number of calls so far: a hidden state."""
    return x**2 + by_host(lambda v: np.full(np.shape(v), 0.01 * next(_calls)), lax.stop_gradient(x))


def sampled(x):
    """A Monte Carlo estimate whose samples differ from call to call, with the rule of the expectation."""
    return by_host(lambda v: np.mean((v + _noise.standard_normal((64, *np.shape(v)))) ** 2, 0), x)


def two_steps(y):
    """Two steps of Newton's method for x³ + x = y, far from the root."""
    return lax.fori_loop(0, 2, lambda _, x: x - (x**3 + x - y) / (3 * x**2 + 1), y)


# fmt: off
CASES = [
    Case("noise_without_key", FAMILY, noisy, lambda: (normal(1900, 4),), None, "random", allowed=INCONCLUSIVE,
         self_test=None),
    Case("hidden_counter", FAMILY, drifting, lambda: (array(0.5, -1.0),), None, "state", allowed=INCONCLUSIVE,
         self_test=None),
    Case("samples_without_key", FAMILY, vjp(sampled, lambda g, x: (2 * g * x,)), lambda: (array(0.5, 2.0),), None,
         "random", allowed=INCONCLUSIVE, self_test=None),
    # The rule is that of the root, and the function is not the root: a fault or not, the reason must be given.
    Case("truncated_solver_without_residual", FAMILY,
         vjp(two_steps, lambda g, y: (g / (3 * cubic_formula(y) ** 2 + 1),)), lambda: (array(3.0, 6.0),), None,
         "converged", allowed=NOT_PASSED, self_test=None),
]
# fmt: on
