"""The float64 oracle: the same function in float64, on the branch that was taken, with the configuration left alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jnn.gradcheck import check
from jnn.gradcheck.oracle import float64, jaxprs
from jnn.gradcheck.oracle.float64 import Knobs
from jnn.gradcheck.oracle.rewrite import without_rules

NO_KNOBS = Knobs(np.float64(0), np.int32(0))
f32, bf16 = jnp.float32, jnp.bfloat16


def wide(fun, *args, own=False, knobs=NO_KNOBS):
    """`fun` at `args` in float64."""
    jaxpr, _ = jaxprs.trace(lambda *a: jax.tree.leaves(fun(*a)), *args)
    run = float64.Oracle(without_rules(jaxpr)[0], own=own)
    with jax.enable_x64(True):
        return jax.jit(lambda lo, hi: run(lo, hi, knobs))(list(args), float64.highs(args))


X = jnp.asarray(np.array([0.3, -1.2, 2.5, 0.7]), f32)
M = jnp.asarray(np.array([[2.0, 0.5], [0.5, 1.0]]), f32)
IDS = np.array([1, 0, 1, 2])

# (function of a float32 array, the same in float64 NumPy or JAX)
SAME = {
    "casts": (lambda x: (x.astype(bf16) * bf16(2)).astype(f32) + x.astype(jnp.float16), lambda x: 3 * x),
    "dot": (lambda x: jnp.dot(x.astype(bf16), x.astype(bf16), preferred_element_type=f32), lambda x: x @ x),
    "precision": (lambda x: jnp.dot(x, x, precision=lax.DotAlgorithmPreset.F32_F32_F32), lambda x: x @ x),
    "reduce_precision": (lambda x: lax.reduce_precision(x, 8, 7), lambda x: x),
    "sort": (lambda x: jnp.sort(x * f32(0.1)), lambda x: np.sort(x * np.float64(f32(0.1)))),
    "sort descending": (lambda x: jnp.sort(x, descending=True), lambda x: np.sort(x)[::-1]),
    "top_k": (lambda x: lax.top_k(x * x, 2)[0], lambda x: np.sort(x * x)[::-1][:2]),
    "scatter": (lambda x: jnp.zeros(3, x.dtype).at[IDS].add(x * x), lambda x: np.bincount(IDS, x * x)),
    "scatter mul": (lambda x: jnp.ones(3, x.dtype).at[IDS].mul(x), lambda x: np.array([x[1], x[0] * x[2], x[3]])),
    "segment max": (lambda x: jax.ops.segment_max(x, IDS, 3), lambda x: np.array([x[1], x[2], x[3]])),
    "reduce": (lambda x: lax.reduce(x, np.float32(1), lambda a, b: a * b, (0,)), np.prod),
    "cumsum": (lambda x: jnp.cumsum(x), np.cumsum),
    "scan": (lambda x: lax.scan(lambda c, u: (c * u, c), x[0], x)[1], lambda x: np.cumprod([x[0], *x[:-1]])),
    "while": (lambda x: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] ** 2), (0, x))[1], lambda x: x**8),
    "cond": (lambda x: lax.cond(x[0] > 0, lambda v: v * f32(0.1), jnp.sin, x), lambda x: x * np.float64(f32(0.1))),
    "fft": (lambda x: jnp.abs(jnp.fft.fft(x)), lambda x: np.abs(np.fft.fft(x))),
    "conv": (lambda x: jnp.convolve(x, x), lambda x: np.convolve(x, x)),
    "where": (lambda x: jnp.where(x > 0, jnp.sqrt(jnp.abs(x)), 0), lambda x: np.where(x > 0, np.sqrt(np.abs(x)), 0)),
    "pool": (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (2,), "VALID"), lambda x: np.array([x[0], x[2]])),
    "gather": (lambda x: x[IDS] * x, lambda x: x[IDS] * x),
    "erfinv": (lambda x: jax.scipy.special.erf(x), lambda x: np.asarray(jax.scipy.special.erf(jnp.asarray(x)))),
    "argmax": (lambda x: x[jnp.argmax(x)] * x, lambda x: x.max() * x),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("own", [False, True])
def test_as_in_float64(name, own):
    fun, exact = SAME[name]
    (value,) = wide(fun, X, own=own)
    assert value.dtype == jnp.float64
    # Both are float64 evaluations in different orders: a few ulps.
    np.testing.assert_allclose(value, exact(np.asarray(X, np.float64)), rtol=1e-13, atol=1e-15)


def test_linear_algebra():
    (value,) = wide(lambda m: jnp.linalg.cholesky(m), M)
    np.testing.assert_allclose(value, np.linalg.cholesky(np.asarray(M, np.float64)), rtol=1e-13)
    (value,) = wide(lambda m: jnp.linalg.eigh(m)[0], M)
    np.testing.assert_allclose(value, np.linalg.eigvalsh(np.asarray(M, np.float64)), rtol=1e-13)
    (value,) = wide(lambda m: jnp.linalg.solve(m, jnp.ones(2, m.dtype)), M)
    np.testing.assert_allclose(value, np.linalg.solve(np.asarray(M, np.float64), np.ones(2)), rtol=1e-13)


def test_random_draws_and_constants_are_the_same_to_the_last_bit():
    table = jnp.asarray(np.random.default_rng(0).normal(size=4), f32)

    def fun(x, key):
        return x * jax.random.normal(key, (4,), f32), x + jax.random.uniform(key, (4,), f32), x * table * f32(0.1)

    key = jax.random.key(7)
    found = wide(fun, X, key)
    x = np.asarray(X, np.float64)
    draws = [np.asarray(d, np.float64) for d in (jax.random.normal(key, (4,), f32), jax.random.uniform(key, (4,), f32))]
    np.testing.assert_array_equal(found[0], x * draws[0])
    np.testing.assert_array_equal(found[1], x + draws[1])
    np.testing.assert_array_equal(found[2], x * np.asarray(table, np.float64) * np.float64(f32(0.1)))


def test_decisions_are_the_function_s_own():
    # 1 + 1e-9 is 1 in float32 and not in float64; 10 · 0.7 is 7 in float32 and below it in float64.
    one = jnp.ones(1, f32)
    fun = lambda x: jnp.where(x + f32(1e-9) == x, 2 * x, -x)  # noqa: E731
    assert float(wide(fun, one)[0][0]) == 2.0
    assert float(wide(fun, one, own=True)[0][0]) == -1.0
    assert float(wide(lambda x: jnp.floor(x * f32(0.7)) + x, jnp.asarray([10.0], f32))[0][0]) == 17.0


def test_derivatives_pass_through():
    jaxpr, _ = jaxprs.trace(lambda x: [jnp.sort((x.astype(bf16) ** 2).astype(f32))], X)
    run = float64.Oracle(jaxpr)
    with jax.enable_x64(True):
        g = jax.grad(lambda h: jnp.sum(run([X], [h], NO_KNOBS)[0] * jnp.arange(4.0)))(float64.highs([X])[0])
    x = np.asarray(X, np.float64)
    np.testing.assert_allclose(g, 2 * x * np.argsort(np.argsort(np.asarray(X) ** 2)), rtol=1e-13)


def test_literals_vary_only_where_they_are_inexact():
    knobs = Knobs(np.float64(1), np.int32(0))
    exact, varied = (wide(f, X, knobs=knobs)[0] for f in (lambda x: 1.5 * x, lambda x: 0.3 * x))
    np.testing.assert_array_equal(exact, 1.5 * np.asarray(X, np.float64))
    change = np.abs(np.asarray(varied) / (np.float64(f32(0.3)) * np.asarray(X, np.float64)) - 1)
    assert np.all((change > 0) & (change <= 2.0**-24))


def test_while_loops_run_beyond_their_end():
    def fun(x):
        return lax.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, c[1] / 2), (0, x))[1]

    (value,) = wide(fun, X, knobs=Knobs(np.float64(0), np.int32(3)))
    np.testing.assert_array_equal(value, np.asarray(X, np.float64) / 2**8)


def test_loops_inside_a_loop_do_not_multiply_what_is_run_beyond_the_end():
    def nested(x):
        def turn(c):
            inner = lax.while_loop(lambda d: d[0] < 2, lambda d: (d[0] + 1, d[1] / 2), (0, c[1]))
            return c[0] + 1, inner[1]

        return lax.while_loop(lambda c: c[0] < 5, turn, (0, x))[1]

    for extra, halvings in ((3, 2 * (5 + 3)), (-3, (2 + 3) * 5)):
        (value,) = wide(nested, X, knobs=Knobs(np.float64(0), np.int32(extra)))
        np.testing.assert_array_equal(value, np.asarray(X, np.float64) / 2**halvings)


def test_what_cannot_be_widened_is_named():
    def fun(x):
        return jax.pure_callback(lambda v: np.sin(v), jax.ShapeDtypeStruct((4,), f32), x) * x

    jaxpr, _ = jaxprs.trace(lambda x: [fun(x)], X)
    run = float64.Oracle(jaxpr)
    with jax.enable_x64(True):
        (value,) = run([X], float64.highs([X]), NO_KNOBS)
    np.testing.assert_array_equal(value, np.asarray(np.sin(X), np.float64) * np.asarray(X, np.float64))
    assert len(run.opaque) == 1
    assert "pure_callback" in run.opaque[0]


@pytest.mark.parametrize("setting", [False, True])
def test_configuration_is_left_as_it_was(setting):
    @jax.custom_vjp
    def broken(x):
        return x

    def backward(_, g):
        raise RuntimeError("a fault of the user's")

    broken.defvjp(lambda x: (x, x), backward)
    with jax.enable_x64(setting):
        before = jax.config.jax_enable_x64
        assert check(jnp.tanh, X[:2], power=False).verdict == "pass"
        assert jax.config.jax_enable_x64 == before
        assert check(broken, X[:2], power=False).verdict == "fail"
        assert jax.config.jax_enable_x64 == before
        assert jnp.ones(1).dtype == (jnp.float64 if setting else jnp.float32)
