"""Likelihoods where textbook formulas overflow or cancel, against equations in long decimal arithmetic.

Errors are measured in ulps of the scale that the oracle names: of the result itself where no term can cancel (so for
cross-entropies, however small), else of the largest terms. Numbers below the smallest normal one may be flushed to 0.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import likelihoods as lk

from .likelihood_cases import CASES, Case, compiled

EXTREMES = (0.0, 1.0, -1.0, 30.0, -30.0, 700.0, -700.0, 1e4, -1e4)

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
in_both_precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def extreme_data(case: Case, dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return every pair of extremes for the first two pre-activations, half of real targets at them."""
    pairs = list(itertools.product(EXTREMES, repeat=min(2, case.outputs)))
    a = np.array([[*pair, *EXTREMES[2:]] for pair in pairs])[:, : case.outputs]
    y = case.targets(np.random.default_rng(0), (len(a),))
    if case.kind == "real":
        y[::2] = a[::2, : case.components]  # a perfect fit: y = μ
    return a.astype(dtype), y.astype(dtype) if np.issubdtype(y.dtype, np.floating) else y


def check(value, exact, scale, dtype, ulps, case):
    """Assert that value is exact to within ulps of scale; inf exactly where the exact result overflows; never NaN."""
    info = np.finfo(dtype)
    value = np.asarray(value, np.float64)
    assert not np.isnan(value).any()
    overflow = np.abs(exact) > info.max
    near = np.abs(scale) > info.max / 16  # the last binades: a term may overflow where the sum does not
    np.testing.assert_array_equal(value[overflow], np.copysign(np.inf, exact)[overflow])
    assert np.isfinite(value[~near]).all()
    inside = ~overflow & ~near
    bound = ulps * info.eps * np.broadcast_to(scale, exact.shape) + 8 * info.tiny
    worst = np.max(np.abs(value[inside] - exact[inside]) / bound[inside])
    assert worst <= 1, f"{case.name}: {worst * ulps:.1f} ulp"


def check_all(case: Case, a, y, dtype, ulps, digits):
    rows = list(zip(a, y, strict=True))
    with np.errstate(over="ignore"):
        nll, complete, delta = (f(a, y) for f in compiled(case.likelihood))
        for value, with_constants in ((nll, False), (complete, True)):
            assert value.dtype == dtype
            exact, scale = np.array([case.nll_oracle(u, v, with_constants, digits) for u, v in rows]).T
            check(value, exact, scale, dtype, ulps, case)
        exact, scale = map(np.array, zip(*(case.delta_oracle(u, v, digits) for u, v in rows), strict=True))
        check(delta, exact, scale, dtype, ulps, case)


@every_case
@in_both_precisions
def test_extreme_pre_activations(case: Case, dtype):
    a, y = extreme_data(case, dtype)
    check_all(case, a, y, dtype, ulps=16, digits=400)


@every_case
@in_both_precisions
@pytest.mark.parametrize("spread", [1.0, 8.0])
def test_random_pre_activations(case: Case, dtype, spread):
    a, y = case.data(30, spread=spread)
    a, y = a.astype(dtype), y.astype(dtype) if np.issubdtype(y.dtype, np.floating) else y
    # A difference of pre-activations is rounded before exp takes it: |a| eps / 2 at worst, and then a few operations.
    check_all(case, a, y, dtype, ulps=16 + 2 * np.abs(a).max(), digits=60)


@in_both_precisions
@pytest.mark.parametrize("a", [20.0, 40.0, 80.0])
def test_nothing_cancels_when_the_network_is_right(dtype, a):
    """The textbook z − y and A − a·t are 0 here; the true values are near e^-a, which float32 can hold."""
    tiny = np.exp(-np.float64(a))
    binary, label = np.full(1, a, dtype), np.array([a, 0.0], dtype)
    assert 1 - jax.nn.sigmoid(dtype(40)) == 0
    for nll, delta in (
        (lk.Bernoulli().nll(jnp.asarray(binary), np.ones(1)), lk.Bernoulli().delta(jnp.asarray(binary), np.ones(1))),
        (
            lk.Bernoulli().nll(jnp.asarray(-binary), np.zeros(1)),
            -lk.Bernoulli().delta(jnp.asarray(-binary), np.zeros(1)),
        ),
        (
            lk.Categorical().nll(jnp.asarray(label), np.int32(0)),
            lk.Categorical().delta(jnp.asarray(label), np.int32(0)),
        ),
    ):
        np.testing.assert_allclose(nll, np.log1p(tiny), rtol=8 * np.finfo(dtype).eps)
        np.testing.assert_allclose(delta[0], -tiny / (1 + tiny), rtol=8 * np.finfo(dtype).eps)


@every_case
def test_delta_in_float32_is_no_worse_than_autodiff(case: Case):
    a, y = case.data(500, spread=8.0)
    a, y = a.astype(np.float32), y.astype(np.float32) if np.issubdtype(y.dtype, np.floating) else y
    double = np.asarray(compiled(case.likelihood)[2](a.astype(np.float64), y))
    delta = compiled(case.likelihood)[2](a, y)
    gradient = jax.jit(jax.grad(lambda a: case.likelihood.nll(a, y).sum()))(jnp.asarray(a))
    error, autodiff = (np.abs(np.asarray(v, np.float64) - double) for v in (delta, gradient))
    rounding = np.finfo(np.float32).eps * np.abs(double)
    assert np.sum(error) <= np.sum(autodiff + 2 * rounding)
    assert np.max(error) <= np.max(autodiff + 2 * rounding)


@every_case
@in_both_precisions
def test_gradients_by_autodiff_are_not_nan(case: Case, dtype):
    """For users who differentiate the error, or δ once more; where the error is finite."""
    a, y = extreme_data(case, dtype)
    a = jnp.asarray(a)

    @jax.jit
    def derivatives(a):
        gradient = jax.grad(lambda a: case.likelihood.nll(a, y).sum())(a)
        return gradient, jax.jvp(lambda a: case.likelihood.delta(a, y), (a,), (jnp.ones_like(a),))[1]

    gradient, tangent = map(np.asarray, derivatives(a))
    nll, _, delta = (f(a, y) for f in compiled(case.likelihood))
    finite = np.isfinite(delta).all(-1) & np.isfinite(nll)
    assert not np.isnan(gradient[finite]).any()
    moderate = np.abs(a).max(-1) < 40
    assert np.isfinite(tangent[moderate]).all()
    assert finite.sum() > len(a) / 4
    assert moderate.any()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@every_case
def test_half_precision(case: Case, dtype):
    a, y = case.data(50)
    a = jnp.asarray(a, dtype)
    y = np.asarray(jnp.asarray(y, dtype).astype(float)) if case.kind == "real" else y
    for function in compiled(case.likelihood):
        value = np.asarray(function(a, y), np.float64)
        double = np.asarray(function(a.astype(jnp.float64), y))
        # sums of a handful of numbers, each of a few roundings
        np.testing.assert_allclose(value, double, atol=16 * float(jnp.finfo(dtype).eps) * np.abs(double).max(), rtol=0)


def test_log_variance_at_the_ends():
    """0·∞ is where NaN would come from: a perfect fit with a vanishing variance."""
    of = lk.HeteroscedasticGaussian()
    for dtype in (jnp.float16, jnp.float32, jnp.float64):
        perfect = jnp.asarray([2.0, -1e4], dtype)
        assert of.nll(perfect, np.array([2.0])) == -5000
        assert of.delta(perfect, np.array([2.0])).tolist() == [0, 0.5]
        assert jax.grad(of.nll)(perfect, np.array([2.0])).tolist() == [0, 0.5]
        assert of.nll(perfect, np.array([1.0])) == jnp.inf
        assert of.delta(perfect, np.array([1.0])).tolist() == [jnp.inf, -jnp.inf]
        wide = jnp.asarray([2.0, 1e4], dtype)
        assert of.nll(wide, np.array([1.0])) == 5000
        assert of.delta(wide, np.array([1.0])).tolist() == [0, 0.5]


def test_small_residual_with_a_smaller_variance():
    """(y − μ)² e^{−ρ} = 1e-400 e^{900} = 7e-10: both factors leave the range, the product does not."""
    with np.errstate(all="raise"):
        u2 = np.exp(np.float64(900 - 400 * np.log(10)))
    delta = lk.HeteroscedasticGaussian().delta(jnp.asarray([1e-200, -900.0]), np.array([0.0]))
    np.testing.assert_allclose(delta[1], 0.5 * (1 - u2), rtol=1e-14)
    np.testing.assert_allclose(delta[0], u2 * 1e200, rtol=1e-12)
