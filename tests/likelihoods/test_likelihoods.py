"""Every likelihood against SciPy's densities, autodiff, and itself vmapped; what all of them must be able to do."""

import dataclasses
import doctest
import importlib
import math
import pickle
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from jnn import likelihoods as lk

from .likelihood_cases import CASES, Case, compiled

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def relative_error(value, reference):
    """Return the largest error relative to the largest number of each row."""
    value, reference = np.asarray(value, float), np.asarray(reference, float)
    scale = np.abs(reference).max(-1, keepdims=True) if reference.ndim else np.abs(reference)
    return np.max(np.abs(value - reference) / scale)


# What each one is


def test_every_exported_likelihood_is_in_the_table():
    exported = {value for value in vars(lk).values() if isinstance(value, type)}
    concrete = {c for c in exported if issubclass(c, lk.Likelihood) and not getattr(c, "__abstractmethods__", None)}
    # GeneralRule has a file of its own; here it is seen through SquaredError.
    assert {type(case.likelihood) for case in CASES} == concrete - {lk.GeneralRule}


@every_case
def test_static_arguments_hashable_equal_by_value_and_frozen(case: Case):
    again = pickle.loads(pickle.dumps(case.likelihood))
    assert again is not case.likelihood
    assert again == case.likelihood
    assert hash(again) == hash(case.likelihood)
    assert sum(other.likelihood == case.likelihood for other in CASES) == (2 if "," in case.name else 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        case.likelihood.s = 2.0


def test_equality_by_value():
    assert lk.Gaussian(2) == lk.Gaussian(2.0) == lk.Gaussian(np.float32(2)) == lk.Gaussian(jnp.asarray(2.0))
    assert hash(lk.Gaussian(2)) == hash(lk.Gaussian(jnp.asarray(2.0)))
    assert lk.Gaussian(2) != lk.Gaussian(1)
    assert lk.Bernoulli() != lk.Poisson()
    assert lk.SquaredError("softmax") == lk.SquaredError(lk.Softmax(), 1.0) != lk.SquaredError("logistic")
    assert hash(lk.SquaredError("tanh", 2)) == hash(lk.SquaredError("tanh", 2.0))


def test_jit_with_a_static_likelihood_traces_once_per_value():
    traces = []

    def error(likelihood, a, y):
        traces.append(likelihood)
        return likelihood.nll(a, y).sum()

    jitted = jax.jit(error, static_argnums=0)
    a, y = jnp.ones((2, 3)), jnp.zeros((2, 3))
    for likelihood in (lk.Gaussian(2.0), lk.Gaussian(2.0), lk.SquaredError("tanh"), lk.SquaredError("tanh")):
        jitted(likelihood, a, y)
    assert traces == [lk.Gaussian(2.0), lk.SquaredError("tanh")]


@every_case
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.float16, jnp.bfloat16])
def test_results_have_the_dtype_of_a(case: Case, dtype, key):
    a, y = case.data(2)
    a = jnp.asarray(a, dtype)
    of = case.likelihood
    nll = jax.eval_shape(of.nll, a, y)
    complete = jax.eval_shape(lambda a, y: of.nll(a, y, complete=True), a, y)
    assert (nll.shape, nll.dtype, complete.shape, complete.dtype) == ((2,), dtype, (2,), dtype)
    for result in (jax.eval_shape(of.delta, a, y), jax.eval_shape(jax.grad(lambda a: of.nll(a, y).sum()), a)):
        assert (result.shape, result.dtype) == (a.shape, dtype)
    for moment in (of.mean, of.variance):
        assert (moment(a).shape, moment(a).dtype) == ((2, case.components), dtype)
    sample = of.sample(key, a)
    assert sample.shape == ((2,) if case.name.startswith("Categorical") else (2, case.components))
    assert sample.dtype == dtype or jnp.issubdtype(sample.dtype, jnp.integer)


@every_case
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)], ids=str)
def test_leading_dimensions_as_if_one_by_one(case: Case, shape):
    a, y = case.data(*shape)
    functions = (*compiled(case.likelihood), mean := jax.jit(case.likelihood.mean))
    for f in functions:
        arguments = (a,) if f is mean else (a, y)
        result = f(*arguments)
        assert result.shape[: len(shape)] == shape
        assert result.ndim - len(shape) == (0 if f in functions[:2] else 1)
        for n in np.ndindex(shape):
            one = f(*(v[n] for v in arguments))
            # 20 ulp of a row: the compiler contracts, and sums rows of different layouts in different orders
            np.testing.assert_allclose(result[n], one, rtol=5e-15, atol=5e-15 * np.abs(one).max())


@every_case
def test_vmapped_and_compiled(case: Case):
    a, y = map(jnp.asarray, case.data(4))
    of = case.likelihood
    vmapped = jax.jit(jax.vmap(lambda a, y: (of.nll(a, y), of.nll(a, y, complete=True), of.delta(a, y))))(a, y)
    plain = (of.nll(a, y), of.nll(a, y, complete=True), of.delta(a, y))
    for result, expected in zip(vmapped, plain, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-14, atol=1e-15)  # the compiler contracts and reorders


@every_case
def test_integer_and_boolean_targets_count_as_numbers(case: Case):
    a, y = case.data(6)
    if case.kind == "real":
        y = np.round(y)
    expected = case.likelihood.nll(jnp.asarray(a), y)
    for dtype in (np.int32, np.int8, np.uint8) + ((bool,) if case.kind in ("binary", "one-hot") else ()):
        if dtype is np.uint8 and case.kind == "real":
            continue
        np.testing.assert_array_equal(case.likelihood.nll(jnp.asarray(a), y.astype(dtype)), expected)


@every_case
def test_numbers_of_outputs(case: Case):
    of = case.likelihood
    assert of.target_components(of.pre_activations(4)) == 4
    linear = of.linear_outputs(case.outputs)
    expected = {"Gaussian": [True] * 3, "HeteroscedasticGaussian": [True, True, False, False]}
    assert linear == tuple(expected.get(type(of).__name__, [False] * case.outputs))


def test_linear_outputs_through_an_output_map():
    assert lk.SquaredError("identity").linear_outputs(2) == (True, True)
    assert lk.SquaredError("tanh").linear_outputs(2) == (False, False)
    assert lk.GeneralRule("identity", lk.HeteroscedasticGaussian()).linear_outputs(2) == (True, False)


# The density


@every_case
def test_complete_density_against_scipy(case: Case):
    a, y = case.data(30)
    complete = compiled(case.likelihood)[1](a, y)
    # 1e-12 relative or absolute: SciPy's own mass functions take logarithms of rounded probabilities
    np.testing.assert_allclose(complete, -case.logpdf(a, y), rtol=1e-12, atol=1e-12)


@every_case
def test_dropped_terms_do_not_depend_on_a(case: Case):
    a, y = case.data(30)
    b, _ = case.data(30, seed=1)
    nll, complete, _ = compiled(case.likelihood)
    dropped = [complete(v, y) - nll(v, y) for v in (a, b)]
    np.testing.assert_allclose(*dropped, rtol=1e-12, atol=1e-12)
    oracle = [case.nll_oracle(u, v, True)[0] - case.nll_oracle(u, v, False)[0] for u, v in zip(a, y, strict=True)]
    np.testing.assert_allclose(dropped[0], oracle, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("s", [1.0, 0.3, 7.0])
def test_sum_of_squares_and_maximum_likelihood(s):
    """The slide's relation: E = s² (NLL − N K ln(s√2π)), with E the sum-of-squares error."""
    n, k = 20, 3
    rng = np.random.default_rng(0)
    a, y = rng.normal(size=(2, n, k))
    sum_of_squares = 0.5 * sum(np.dot(row, row) for row in a - y)
    nll = lk.Gaussian(s).nll(jnp.asarray(a), y, complete=True).sum()
    np.testing.assert_allclose(s**2 * (nll - n * k * math.log(s * math.sqrt(2 * math.pi))), sum_of_squares, rtol=1e-13)
    np.testing.assert_allclose(lk.Gaussian().nll(jnp.asarray(a), y).sum(), sum_of_squares, rtol=1e-14)


def test_cross_entropies_of_the_slides():
    """The textbook cross-entropies of probabilities, at moderate pre-activations where they are accurate."""
    rng = np.random.default_rng(0)
    a, labels = rng.normal(size=(9, 4)), rng.integers(4, size=9)
    f = np.exp(a) / np.exp(a).sum(1, keepdims=True)
    one_hot = np.eye(4)[labels]
    categorical = lk.Categorical().nll(jnp.asarray(a), labels)
    np.testing.assert_allclose(categorical, -(one_hot * np.log(f)).sum(1), rtol=1e-14)
    f = 1 / (1 + np.exp(-a))
    binary = -(one_hot * np.log(f) + (1 - one_hot) * np.log(1 - f)).sum(1)
    np.testing.assert_allclose(lk.Bernoulli().nll(jnp.asarray(a), one_hot), binary, rtol=1e-14)


def test_soft_targets_are_averages_of_hard_ones():
    a = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)))
    share = np.random.default_rng(1).dirichlet(np.ones(4), size=5)
    hard = np.stack([lk.Categorical().nll(a, np.full(5, label)) for label in range(4)], axis=1)
    np.testing.assert_allclose(lk.Categorical().nll(a, share), (share * hard).sum(1), rtol=1e-14)
    zero, one = (lk.Bernoulli().nll(a[:, :1], np.full((5, 1), label)) for label in (0, 1))
    expected = (1 - share[:, 0]) * zero + share[:, 0] * one
    np.testing.assert_allclose(lk.Bernoulli().nll(a[:, :1], share[:, :1]), expected, rtol=1e-14)


def test_masses_sum_to_one():
    a = jnp.asarray([0.3, -2.0, 1.0])
    categorical = [lk.Categorical().nll(a, np.int32(k), complete=True) for k in range(3)]
    bernoulli = [lk.Bernoulli().nll(a, np.array(y), complete=True) for y in np.ndindex(2, 2, 2)]
    poisson = [lk.Poisson().nll(a[:1], np.array([k]), complete=True) for k in range(40)]
    for nlls in (categorical, bernoulli, poisson):
        np.testing.assert_allclose(np.exp(-np.array(nlls)).sum(), 1, rtol=1e-14)


@every_case
def test_mean_in_closed_form(case: Case):
    a, _ = case.data(20, spread=4.0)
    np.testing.assert_allclose(case.likelihood.mean(jnp.asarray(a)), case.mean(a), rtol=2e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_probabilities_have_all_their_digits_at_both_ends(dtype):
    """Against float64's logarithms of what is left when p rounds to 1: ln(1 − q) for q known exactly."""
    a = np.array([[0.3], [-2.0], [30.0], [-80.0]], dtype)
    wide = a.astype(np.float64)
    expected = -np.log1p(np.exp(np.concatenate([wide, -wide], axis=1)))
    got = lk.Bernoulli().log_probabilities(jnp.asarray(a))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(dtype).eps)
    # Of two classes soft-max is the logistic of the difference.
    pairs = jnp.asarray(np.concatenate([0 * a, a], axis=1))
    np.testing.assert_allclose(lk.Categorical().log_probabilities(pairs), expected, rtol=4 * np.finfo(dtype).eps)
    three = jnp.asarray([[1.0, -2.0, 0.5], [0.0, 1000.0, 0.0]], dtype)
    np.testing.assert_allclose(
        lk.Categorical().log_probabilities(three), log_softmax(np.asarray(three, float), axis=1),
        rtol=8 * np.finfo(dtype).eps,
    )  # fmt: skip
    several = lk.Bernoulli().log_probabilities(three)
    np.testing.assert_allclose(np.exp(several[:, 3:]), lk.Bernoulli().mean(three), rtol=1e-6)
    rule = lk.GeneralRule("softmax", lk.Gaussian())
    np.testing.assert_allclose(np.exp(rule.log_probabilities(three)), rule.mean(three), rtol=1e-6)


def test_decisions():
    a = jnp.asarray([[0.1, -2.0, 3.0], [0.5, 0.5, 0.0], [0.0, -1.0, -0.5]])
    assert lk.Categorical().decide(a).tolist() == [2, 0, 0]
    assert lk.Bernoulli().decide(a).tolist() == (lk.Bernoulli().mean(a) > 0.5).tolist()
    assert lk.Bernoulli().decide(a)[2, 0] == False  # noqa: E712  (z = ½ exactly is not more probable than not)


# The derivatives


@every_case
def test_delta_is_the_gradient_by_autodiff(case: Case):
    a, y = case.data(30)
    delta = compiled(case.likelihood)[2](a, y)
    gradient = jax.jit(jax.grad(lambda a, y: case.likelihood.nll(a, y, complete=True).sum()))(a, y)
    assert relative_error(delta, gradient) < 2e-14  # relative to the largest of an example's deltas; 90 ulp


@every_case
def test_delta_by_differences_of_scipy_densities(case: Case):
    a, y = case.data(30)
    h = 1e-5  # truncation h² f'''/6 and rounding ε f/h are both near 1e-10
    steps = h * np.eye(case.outputs)[:, None, :]
    differences = ((case.logpdf(a - steps, y) - case.logpdf(a + steps, y)) / (2 * h)).T
    np.testing.assert_allclose(compiled(case.likelihood)[2](a, y), differences, rtol=3e-8, atol=3e-9)


@every_case
def test_derivatives_of_delta(case: Case):
    """Hessian from δ (symmetric, as the oracle's differences say) equals that from the error, also at a = 0."""
    a, y = case.data(4)
    a[0] = 0  # where kinks and ties would be
    a[1] = a[1, :1]

    @jax.jit
    @jax.vmap
    def hessians(a, y):
        return jax.jacfwd(case.likelihood.delta)(a, y), jax.hessian(case.likelihood.nll)(a, y)

    by_delta, by_nll = map(np.asarray, hessians(a, y))
    np.testing.assert_allclose(by_delta, by_nll, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(by_delta, by_delta.transpose(0, 2, 1), rtol=1e-12, atol=1e-13)
    h = 1e-6
    for n, i in np.ndindex(by_delta.shape[:2]):
        step = h * np.eye(case.outputs)[i]
        (ahead, scale), (behind, _) = case.delta_oracle(a[n] + step, y[n]), case.delta_oracle(a[n] - step, y[n])
        # truncation h² f'''/6, rounding of the oracle's result to a double over 2h
        np.testing.assert_allclose(by_delta[n, i], (ahead - behind) / (2 * h), rtol=1e-7, atol=1e-8 * (1 + scale.max()))


canonical = pytest.mark.parametrize(
    "case", [c for c in CASES if isinstance(c.likelihood, lk.Canonical)], ids=lambda case: case.name
)


@canonical
def test_one_equation_for_all_canonical_families(case: Case):
    """−ln p = (A(a) − a·t)/φ − ln h, δ = (A' − t)/φ, E[t] = A', var t = φ A'': A says everything."""
    of = case.likelihood

    @jax.jit
    def pairs(a, y):
        t, phi = of.statistic(a, y), of.dispersion
        hessian = jax.vmap(jax.hessian(of.log_normalizer))(a)
        return {
            "nll": (of.nll(a, y, True), (of.log_normalizer(a) - (a * t).sum(-1)) / phi - of.log_base_measure(t)),
            "delta": (of.delta(a, y), (of.mean(a) - t) / phi),
            "cross term": (of.cross_term(a, t), lk.Canonical.cross_term(of, a, t)),
            "residual": (of.residual(a, t), lk.Canonical.residual(of, a, t)),
            "mean": (of.mean(a), jax.grad(lambda a: of.log_normalizer(a).sum())(a)),
            "variance": (of.variance(a), phi * jnp.diagonal(hessian, axis1=1, axis2=2)),
        }

    for name, (value, expected) in pairs(*case.data(10)).items():
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13, err_msg=name)


# s as an argument


def test_gradient_and_vmap_over_s():
    a, y = jnp.asarray([0.5, -1.0]), jnp.asarray([0.0, 2.0])
    scales = jnp.asarray([0.5, 1.0, 3.0])
    nll = jax.vmap(lambda s: lk.Gaussian(s).nll(a, y, complete=True))(scales)
    np.testing.assert_allclose(nll, [lk.Gaussian(float(s)).nll(a, y, complete=True) for s in scales], rtol=1e-15)
    gradient = jax.vmap(jax.grad(lambda s: lk.Gaussian(s).nll(a, y, complete=True)))(scales)
    np.testing.assert_allclose(gradient, 2 / scales - ((a - y) ** 2).sum() / scales**3, rtol=1e-14)
    delta = jax.vmap(lambda s: lk.Gaussian(s).delta(a.astype(jnp.float32), y))(scales)
    assert delta.dtype == jnp.float32


@pytest.mark.parametrize("s", [0, -1.0, math.inf, math.nan, True])
def test_wrong_s(s):
    with pytest.raises((ValueError, TypeError), match="expected s to be a positive finite standard deviation"):
        lk.Gaussian(s)
    with pytest.raises((ValueError, TypeError), match="expected s to be a positive finite"):
        lk.SquaredError("tanh", s)


@pytest.mark.parametrize("s", [1e-18, 1e18, 0.9e-18, 1.1e18])
def test_s_whose_square_is_no_number_in_float32_is_refused(s):
    assert lk.Gaussian(1.1e-18).s == 1.1e-18
    assert lk.Gaussian(0.9e18).s == 0.9e18
    with pytest.raises(ValueError, match="within 1e"):
        lk.Gaussian(s)


def test_vector_s():
    with pytest.raises(ValueError, match=r"expected a scalar s, got shape \(2,\); use one s for all outputs"):
        lk.Gaussian(jnp.ones(2))


# Samples


@every_case
def test_samples(case: Case, key):
    """Moments of 20,000 samples, and of δ at them: E[δ] = 0 only if sampler and density agree.

    All bounds are five standard errors (6e-7 a comparison), estimated from the samples.
    """
    n = 20_000
    a = jnp.asarray(case.data(1)[0][0])
    tiled = jnp.tile(a, (n, 1))
    y = case.likelihood.sample(key, tiled)
    assert case.likelihood.check_targets(y, case.outputs).shape == y.shape
    rows = jax.nn.one_hot(y, case.components) if y.ndim == 1 else y.astype(float)

    def check(samples, expected):
        error = np.abs(samples.mean(0) - expected)
        assert np.all(error <= 5 * samples.std(0) / math.sqrt(n) + 1e-12)
        assert np.all(samples.std(0) > 0)

    mean = np.asarray(case.likelihood.mean(a))
    check(np.asarray(rows), mean)
    check(np.square(np.asarray(rows) - mean), np.asarray(case.likelihood.variance(a)))
    check(np.asarray(case.likelihood.delta(tiled, y)), 0)


@every_case
def test_samples_depend_on_the_key_and_only_on_it(case: Case, key):
    a = jnp.zeros((50, case.outputs))
    same, again, other = (case.likelihood.sample(k, a) for k in (key, key, jax.random.fold_in(key, 1)))
    assert jnp.array_equal(same, again)
    assert not jnp.array_equal(same, other)


def test_rare_events_in_half_precision(key):
    """P(y = 1) = σ(−8) = 3.4e-4: 33.5 ± 5.8 of 100,000. Uniform bfloat16 numbers, 1/256 apart, would make it 390."""
    ones = lk.Bernoulli().sample(key, jnp.full(100_000, -8.0, jnp.bfloat16)).sum()
    assert 5 <= ones <= 62


# Errors of shape, and what is missing


def test_shapes_must_match_exactly():
    a = jnp.zeros((5, 1))
    with pytest.raises(ValueError, match=r"expected targets of shape \(5, 1\) for pre-activations of .*, got \(5,\)"):
        lk.Gaussian().nll(a, jnp.zeros(5))
    with pytest.raises(ValueError, match=r"expected targets of shape \(5, 1\) .* got \(1, 1\); reshape"):
        lk.Bernoulli().delta(a, jnp.zeros((1, 1)))
    with pytest.raises(
        ValueError, match=r"integer labels of shape \(5,\) or one-hot rows of shape \(5, 3\), got \(5, 1"
    ):
        lk.Categorical().nll(jnp.zeros((5, 3)), jnp.zeros((5, 1), int))
    with pytest.raises(TypeError, match=r"expected integer labels of shape \(5,\), got dtype float64; use y.astype"):
        lk.Categorical().nll(jnp.zeros((5, 3)), jnp.zeros(5))
    with pytest.raises(ValueError, match="even number of pre-activations"):
        lk.HeteroscedasticGaussian().mean(jnp.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"expected targets of shape \(5, 2\)"):
        lk.HeteroscedasticGaussian().nll(jnp.zeros((5, 4)), jnp.zeros((5, 4)))


def test_what_a_subclass_leaves_out():
    class Bare(lk.Likelihood):
        def nll(self, a, y, complete=False):
            return a.sum(-1)

        def delta(self, a, y):
            return jnp.ones_like(a)

        def mean(self, a):
            return a

    with pytest.raises(NotImplementedError, match="Bare does not define sample"):
        Bare().sample(jax.random.key(0), jnp.zeros(2))
    with pytest.raises(NotImplementedError, match="Bare does not define variance"):
        Bare().variance(jnp.zeros(2))
    with pytest.raises(TypeError, match="abstract"):
        lk.Likelihood()


def test_examples_in_docstrings():
    attempted = 0
    for module in pkgutil.iter_modules(lk.__path__, "jnn.likelihoods."):
        result = doctest.testmod(importlib.import_module(module.name))
        assert result.failed == 0
        attempted += result.attempted
    assert attempted >= 10
