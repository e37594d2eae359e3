"""∂δ/∂a against autodiff, the Fisher information against the expectation of δδᵀ, and its root."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import likelihoods as lk

from .likelihood_cases import CASES, Case

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@functools.cache
def products(likelihood: lk.Likelihood):
    """(∂δ/∂a) v, the same by autodiff of the error, Λ v and S."""

    @jax.jit
    def compute(a, y, v):
        error = jax.grad(lambda a: likelihood.nll(a, y).sum())
        by_autodiff = jax.jvp(error, (a,), (v,))[1]
        return (
            likelihood.hessian_product(a, y, v),
            by_autodiff,
            likelihood.fisher_product(a, v),
            likelihood.fisher_root(a),
        )

    return compute


@every_case
def test_what_becomes_of_delta_is_the_errors_second_derivative(case: Case):
    a, y = case.data(5)
    v = np.random.default_rng(1).normal(size=a.shape)
    found, expected, *_ = products(case.likelihood)(a, y, v)
    # A few dozen roundings, relative to the row: products of numbers of one size.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def outcomes(case: Case, a: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Targets and their probabilities, so many that the expectation of δδᵀ, at most quartic in y, is exact."""
    mean, k = np.asarray(case.likelihood.mean(jnp.asarray(a))), case.components
    if case.kind == "labels" or (case.kind == "one-hot" and not hasattr(case.likelihood, "error")):
        return [(p, np.asarray(j) if case.kind == "labels" else np.eye(k)[j]) for j, p in enumerate(mean)]
    if case.kind == "binary" and not hasattr(case.likelihood, "error"):
        each = [[(1 - p, 0.0), (p, 1.0)] for p in mean]
    elif case.kind == "count":
        counts = np.arange(120)
        log_factorial = np.cumsum(np.log(np.maximum(counts, 1)))
        # Poisson's components are independent: a grid would be long, so each component moves by itself below.
        each = [list(zip(np.exp(counts * np.log(m) - m - log_factorial), counts * 1.0, strict=True)) for m in mean]
    else:
        nodes, weights = np.polynomial.hermite_e.hermegauss(6)
        spread = np.sqrt(np.asarray(case.likelihood.variance(jnp.asarray(a))))
        each = [
            list(zip(weights / weights.sum(), m + s * nodes, strict=True)) for m, s in zip(mean, spread, strict=True)
        ]
    return [(float(np.prod([p for p, _ in ys])), np.array([y for _, y in ys])) for ys in itertools.product(*each)]


@every_case
def test_the_fisher_information_is_the_expectation_of_delta_squared(case: Case):
    a, _ = case.data(1, spread=0.7)
    if case.kind == "count":  # independent components: one at a time
        a = a[:, :1]
        case = next(c for c in CASES if c.name == case.name)
        case = type(case)(**{**vars(case), "components": 1})
    pairs = outcomes(case, a[0])
    y = np.stack([y for _, y in pairs])
    p = np.array([p for p, _ in pairs])
    rows = np.broadcast_to(a, (len(pairs), a.shape[1]))
    deltas = np.asarray(case.likelihood.delta(jnp.asarray(rows), jnp.asarray(y)))
    expected = np.einsum("n,ni,nj->ij", p, deltas, deltas)
    found = np.stack([np.asarray(case.likelihood.fisher_product(jnp.asarray(a[0]), e)) for e in jnp.eye(a.shape[1])])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@every_case
def test_the_root_of_the_fisher_information(case: Case):
    a, y = case.data(5)
    for v in np.eye(a.shape[1]):
        _, _, product, root = products(case.likelihood)(a, y, np.broadcast_to(v, a.shape))
        # (the square root of a small probability, squared again, and sums of them)
        np.testing.assert_allclose(jnp.einsum("nir,njr,j->ni", root, root, v), product, rtol=4e-16, atol=1e-15)


@every_case
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
def test_dtypes_shapes_and_saturated_outputs(case: Case, dtype):
    a, y = case.data(4)
    far = np.sign(a) * 80.0
    for values in (a, far):
        values = jnp.asarray(values, dtype)
        found = jax.eval_shape(case.likelihood.hessian_product, values, y, values)
        assert (found.shape, found.dtype) == (values.shape, dtype)
        product = case.likelihood.fisher_product(values, jnp.ones_like(values))
        root = case.likelihood.fisher_root(values)
        assert (product.dtype, root.dtype, root.shape[:2]) == (dtype, dtype, values.shape)
        assert bool(jnp.isfinite(product).all())
        assert bool(jnp.isfinite(root).all())


def test_the_hessian_of_learned_variances_is_indefinite_and_their_information_is_not():
    of = lk.HeteroscedasticGaussian()
    a, y = jnp.array([[0.3, 0.2]]), jnp.array([[1.5]])
    hessian = np.stack([of.hessian_product(a, y, e[None])[0] for e in jnp.eye(2)])
    r = 0.3 - 1.5
    assert np.linalg.det(hessian) == pytest.approx(-0.5 * r**2 * np.exp(-2 * 0.2), rel=1e-12)
    np.testing.assert_allclose(of.fisher_product(a, jnp.ones((1, 2))), [[np.exp(-0.2), 0.5]], rtol=1e-15)


def test_families_of_ones_own_that_lack_them_are_told():
    class Bare(lk.Gaussian):
        def variance(self, a):
            return super(lk.Canonical, self).variance(a)

    with pytest.raises(NotImplementedError, match="Bare does not define variance, which this needs"):
        Bare().fisher_product(jnp.zeros((1, 1)), jnp.zeros((1, 1)))

    class Squaring(lk.OutputMap):
        def __call__(self, a):
            return a * a

        def vjp(self, a, g):
            return 2 * a * g

    of = lk.GeneralRule(Squaring(), lk.Gaussian())
    with pytest.raises(NotImplementedError, match=r"second derivatives need Squaring\.jvp"):
        of.hessian_product(jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.zeros((1, 1)))
