"""Equation by equation in NumPy: the same numbers as JAX's compiled programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jnn.gradcheck.oracle import jaxprs, numerical
from jnn.gradcheck.oracle.numerical import Plan

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))
V, POSITIVE = RNG.normal(size=7), RNG.uniform(0.1, 0.9, size=(4, 3))
N = np.array([[3, -5, 7], [0, 2, -8]], np.int32)
IDS = np.array([2, 0, 2, 3], np.int32)
OUTSIDE = np.array([2, -1, 9, 0], np.int32)


def gathers(mode):
    return lambda x, i: x.at[i].get(mode=mode, fill_value=7.0)


def scatters(change, mode):
    return lambda x, i, u: getattr(x.at[i], change)(u, mode=mode)


def counted(x):
    return lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, s[1] * 1.1), (0, x))


def carried(x):
    return lax.scan(lambda c, u: ((jnp.sin(c[0]) + u, c[1] + 1), (c[0] * u, c[1])), (x[0], 0), x, reverse=True)


ELEMENTWISE = {
    "neg exp sin cos tan sinh cosh tanh asinh atan abs sign floor ceil square cbrt erf erfc expm1 logistic": X,
    "log log1p sqrt rsqrt asin acos atanh exp2 is_finite digamma lgamma erf_inv": POSITIVE,
    "acosh": POSITIVE + 1,
}
UNARY = {name: x for names, x in ELEMENTWISE.items() for name in names.split()}
CASES = {
    **{name: (getattr(lax, name), x) for name, x in UNARY.items()},
    "arithmetic": (lambda x, y: x + y * x - y / x, X, Y),
    "comparisons": (lambda x, y: (x < y, x <= y, x > y, x >= y, x == y, x != y, jnp.maximum(x, y), x % y), X, Y),
    "powers": (lambda x, y: (x**2, x**3, x**-1, x**5, jnp.abs(x) ** y, jnp.arctan2(x, y)), X, Y),
    "integers": (lambda n: (n // 3, n % 3, -n, n * n, n ^ 5, n & 3, n | 4, ~n, n << 2, n >> 1, lax.div(n, n + 9)), N),
    "logical shift": (lambda n: lax.shift_right_logical(n, jnp.full_like(n, 3)), N),
    "rounding": (lambda x: (jnp.round(x * 3), lax.round(x * 3, lax.RoundingMethod.AWAY_FROM_ZERO), jnp.trunc(x)), X),
    "select": (lambda x, y: (jnp.where(x > 0, x, y), lax.select_n(jnp.int32(1), x, y)), X, Y),
    "clamp": (lambda x: lax.clamp(-0.5, x, 0.5), X),
    "casts": (lambda x: (x.astype(jnp.float32), x.astype(jnp.int32), (x * 0).astype(bool), x.astype(complex)), X),
    "bits": (lambda x: lax.bitcast_convert_type(x, jnp.int64), X),
    "complex": (lambda x, y: (jnp.abs(x + 1j * y), jnp.exp(1j * x), (x + 1j * y) * (y - 1j * x), jnp.angle(x + 1j)),
        X, Y),
    "reshape with dimensions": (lambda x: lax.reshape(x, (3, 4), (1, 0)), X),
    "moves": (lambda x: (x.T, x[::-1], x[1:3, ::2], jnp.squeeze(x[:, :1], 1), jnp.roll(x, 1), jnp.flip(x)), X),
    "joins": (lambda x, y: (jnp.concatenate([x, y], 1), jnp.stack([x, y], 1), jnp.tile(x, (2, 3)), jnp.split(x, 2)),
        X, Y),
    "broadcasts": (lambda v: (v[:, None] + v[None, :], jnp.broadcast_to(v, (2, 7))), V),
    "pads": (lambda x: (lax.pad(x, 0.5, ((1, 2, 1), (0, 3, 2))), lax.pad(x, 0.5, ((-1, 2, 0), (1, -2, 0)))), X),
    "pads of pads": (lambda x: lax.pad(x, 0.5, ((-2, -1, 1), (0, -1, 2))), X),
    "iota": (lambda x: x * jnp.arange(3)[None] + lax.broadcasted_iota(x.dtype, (4, 3), 0), X),
    "sums": (lambda x: (x.sum(0), x.prod(1), x.max(), x.min(0), (x > 0).any(1), (x > 0).all(0)), X),
    "arguments": (lambda x: (jnp.argmax(x, 0), jnp.argmin(x, 1), jnp.argmax(x)), X),
    "cumulative": (lambda x: (jnp.cumsum(x, 0), jnp.cumprod(x, 1), lax.cummax(x, 0, reverse=True), lax.cummin(x),
                              lax.cumlogsumexp(x, 1)), X),
    "products": (lambda x, y: (x @ y.T, jnp.einsum("ij,ij->i", x, y), jnp.einsum("ij,kl->likj", x, y)), X, Y),
    "batched products": (lambda x, y: jnp.einsum("bij,bkj->bik", x.reshape(2, 2, 3), y.reshape(2, 2, 3)), X, Y),
    "dynamic slices": (lambda x, n: (lax.dynamic_slice(x, (n, n + 9), (2, 2)),
        lax.dynamic_update_slice(x, x[:2], (n, n - 2))),
                       X, np.int32(1)),
    **{f"gather {mode}": (gathers(mode), X, OUTSIDE) for mode in ("fill", "clip")},
    "gather of columns": (lambda x, i: (x[:, i % 3], x[i % 4, i % 3], jnp.take_along_axis(x, i[:, None] % 3, 1)),
        X, IDS),
    "gather of windows": (lambda x, i: jax.vmap(lambda k: lax.dynamic_slice(x, (k, k - 2), (2, 2)))(i), X, IDS),
    "gather in a batch": (lambda x, i: jax.vmap(lambda r, k: r[k % 3])(x, i), X, IDS),
    **{f"scatter {change} {mode}": (scatters(change, mode), X, OUTSIDE, Y)
       for change in ("add", "multiply", "min", "max") for mode in ("drop", "clip")},
    "scatter set": (lambda x, u: x.at[jnp.array([3, 1])].set(u[:2], unique_indices=True), X, Y),
    "scatter of windows": (lambda x, i: x.at[:, i % 3].add(1.5), X, IDS),
    "scatter in a batch": (lambda x, i: jax.vmap(lambda r, k: r.at[k % 3].add(2.0))(x, i), X, IDS),
    "sorts": (lambda x: (jnp.sort(x), jnp.argsort(x, 0), jnp.lexsort((x[:, 0], x[:, 1] > 0)), lax.top_k(x, 2)), X),
    "sort of ties": (lambda v: (jnp.argsort(jnp.round(v)), lax.top_k(jnp.round(v), 5)), V),
    "scan": (carried, V),
    "while": (counted, V),
    "cond": (lambda v: lax.cond(v[0] > 0, jnp.sin, jnp.cos, v), V),
    "switch out of range": (lambda v: lax.switch(7, [jnp.sin, jnp.cos], v), V),
    "jit inside": (lambda v: jax.jit(lambda u: (u, u * 2))(v)[1], V),
    "linear algebra": (lambda x: (jnp.linalg.cholesky(x.T @ x), jnp.linalg.solve(x.T @ x, x[0]), jnp.linalg.svd(x)[1]),
        X),
    "convolution": (lambda v: jnp.convolve(v, v), V),
    "random draws": (lambda v: v * jax.random.normal(jax.random.key(3), v.shape), V),
    "gradient": (jax.grad(lambda x: jnp.sum(jax.nn.softmax(jax.nn.gelu(x @ x.T)) ** 2)), X),
}  # fmt: skip


def both(fun, *args):
    jaxpr, _ = jaxprs.trace(lambda *a: jax.tree.leaves(fun(*a)), *args)
    return Plan(jaxpr)(*args), [np.asarray(v) for v in jax.jit(lambda *a: jax.tree.leaves(fun(*a)))(*args)]


@pytest.mark.parametrize("name", CASES)
def test_as_jax_has_it(name):
    fun, *args = CASES[name]
    for found, expected in zip(*both(fun, *args), strict=True):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        # Both round in float64: a few ulps of the operands, which may cancel.
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: d.dtype.name)
@pytest.mark.parametrize(
    "name", ["neg", "exp", "tanh", "logistic", "erf", "arithmetic", "sums", "products", "gather fill"]
)
def test_in_coarse_dtypes(name, dtype):
    fun, *args = CASES[name]
    args = [jnp.asarray(a, dtype) if np.asarray(a).dtype == np.float64 else a for a in args]
    for found, expected in zip(*both(fun, *args), strict=True):
        assert found.dtype == expected.dtype
        # One rounding more or less in the compiled program, of terms that may cancel.
        eps = float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=8 * eps, atol=8 * eps)


def test_sums_of_coarse_numbers_are_accumulated_in_float32():
    x = jnp.asarray(np.random.default_rng(1).uniform(0.5, 1.5, 4096), jnp.bfloat16)
    exact = np.asarray(x, np.float64).sum()
    for fun in (lambda x: lax.reduce_sum(x, (0,)), lambda x: x @ jnp.ones_like(x)):
        found = Plan(jaxprs.trace(lambda x, f=fun: [f(x)], x)[0])(x)[0]
        assert abs(float(found) / exact - 1) <= 2.0**-8  # one rounding to bfloat16


def test_what_no_output_needs_is_left_out():
    calls = []

    def seen(x):
        return jax.pure_callback(lambda v: calls.append(1) or v, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    def fun(x):
        seen(x)
        state, ys = lax.scan(lambda c, u: ((c[0] + u, c[1] + seen(u)), u), (x[0], x[0]), x)
        return state[0], ys

    jaxpr, _ = jaxprs.trace(lambda x: list(fun(x)), V)
    np.testing.assert_allclose(Plan(jaxpr)(V)[0], V[0] + V.sum(), rtol=1e-12)
    assert not calls


def test_a_loop_of_many_equations_is_compiled_and_no_clock_decides(monkeypatch):
    jaxpr, _ = jaxprs.trace(lambda x: jax.tree.leaves(carried(x)), V)
    plan = Plan(jaxpr)
    first = plan(V)
    compiled = []
    quick = numerical.quick
    monkeypatch.setattr(numerical, "quick", lambda fun: lambda *values: compiled.append(1) or quick(fun)(*values))
    for limit, expected in ((10**6, 0), (3, 1)):
        monkeypatch.setattr(numerical, "LONG", limit)
        compiled.clear()
        for a, b in zip(first, Plan(jaxpr)(V), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)
        assert len(compiled) == expected
    many, _ = jaxprs.trace(lambda x: jax.tree.leaves(counted(x)), V)
    monkeypatch.setattr(numerical, "LONG", 10)  # in the middle of the loop
    compiled.clear()
    np.testing.assert_allclose(Plan(many)(V)[1], V * 1.1**5, rtol=1e-13)
    assert len(compiled) == 1
    # A loop that runs again and again is compiled once it has evaluated as many equations altogether.
    monkeypatch.setattr(numerical, "LONG", 80)
    compiled.clear()
    again = Plan(jaxpr)
    for _ in range(4):
        again(V)
    assert 0 < len(compiled) < 4
