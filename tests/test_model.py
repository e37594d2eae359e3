"""What a model says, in NumPy: of any batch and kind of array, of members, through transforms and tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats

import jnn
from jnn import Model, likelihoods
from jnn.model import MismatchError, mixture_quantiles
from jnn.tables import Table
from jnn.transforms import Encode, Standardize, Whiten

from . import typechecker

RNG = np.random.default_rng(0)
LINEAR, GAUSSIAN = jnn.mlp([3, 2]), likelihoods.Gaussian(0.5)
W, B = RNG.normal(size=(4, 3, 2)), RNG.normal(size=(4, 2))
ONE = ({"W": jnp.asarray(W[0]), "b": jnp.asarray(B[0])},)
FOUR = ({"W": jnp.asarray(W), "b": jnp.asarray(B)},)
X = RNG.normal(size=(6, 3))
EACH = X @ W + B[:, None, :]  # (members, n, K)
SHARED = Standardize(np.array([1.0, 2, 3]), np.array([0.5, 2, 4]))
TARGETS = Standardize(np.array([10.0, -10]), np.array([3.0, 0.25]))


# --- rows, batches, kinds of arrays


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 128, 129, 1024, 1025, 4096, 4097, 16_384, 16_387])
def test_any_number_of_rows(n):
    """Whatever number a program is compiled for: no row is lost, or said of another."""
    x = np.random.default_rng(n).normal(size=(n, 3))
    model = Model(LINEAR, GAUSSIAN, ONE)
    np.testing.assert_allclose(model.mean(x), x @ W[0] + B[0], rtol=1e-12, atol=1e-13)
    four = Model(LINEAR, GAUSSIAN, FOUR).member_means(x)
    np.testing.assert_allclose(four, x @ W + B[:, None, :], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 1, 3), (0, 3), (2, 0, 3)])
def test_any_batch(shape):
    x = np.random.default_rng(1).normal(size=shape)
    one, four = Model(LINEAR, GAUSSIAN, ONE), Model(LINEAR, GAUSSIAN, FOUR)
    expected = np.stack([x @ w + b for w, b in zip(W, B, strict=True)])
    for given in (x, jnp.asarray(x)):
        for found, said in (
            (one.mean(given), expected[0]),
            (four.mean(given), expected.mean(axis=0)),
            (four.member_means(given), expected),
            (four.moments(given).variance, 0.25 + expected.var(axis=0)),
            (four.member_moments(given)[1], np.full_like(expected, 0.25)),
        ):
            assert found.shape == said.shape
            assert isinstance(found, jax.Array) == isinstance(given, jax.Array)
            np.testing.assert_allclose(found, said, rtol=1e-12, atol=1e-13)


def test_dtypes_are_those_of_the_inputs_and_integers_are_numbers():
    narrow = Model(LINEAR, GAUSSIAN, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), ONE))
    whole = np.arange(6).reshape(2, 3)
    for x, dtype in (
        (whole, np.float64),
        (whole > 2, np.float64),
        (whole.astype(np.float32), np.float32),
        (whole.astype(np.float64), np.float64),
        (jnp.asarray(whole), np.float32),
        (jnp.asarray(whole, jnp.float32), np.float32),
        (jnp.asarray(whole, jnp.float64), np.float64),
    ):
        found = narrow.mean(x)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, np.asarray(x, float) @ W[0] + B[0], rtol=1e-6, atol=1e-6)


def test_inside_of_programs_and_outside_again():
    """What it keeps at the first call is no part of the program in which that was; parameters may be traced in part."""
    model = Model(LINEAR, GAUSSIAN, ONE)
    expected = EACH[0]
    for found in (jax.jit(model.mean)(jnp.asarray(X)), model.mean(X), jax.jit(model.mean)(jnp.asarray(X))):
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def of_bias(b):
        return Model(LINEAR, GAUSSIAN, ({"W": ONE[0]["W"], "b": b},)).mean(jnp.asarray(X))

    np.testing.assert_allclose(jax.jit(of_bias)(jnp.asarray(B[0])), EACH[0], rtol=1e-12)


def test_members_along_several_axes_are_all_averaged():
    grid = jax.tree.map(lambda leaf: leaf.reshape(2, 2, *leaf.shape[1:]), FOUR)
    model = Model(LINEAR, GAUSSIAN, grid)
    assert model.members == (2, 2)
    np.testing.assert_allclose(model.mean(X), EACH.mean(axis=0), rtol=1e-12)
    own = Standardize(jnp.asarray(RNG.normal(size=(2, 2, 3))), jnp.ones((2, 2, 3)))
    turned = Whiten(np.zeros(3), np.linalg.qr(RNG.normal(size=(3, 3)))[0], np.ones(3))  # which all share
    z = X @ turned.axes - np.asarray(own.mean).reshape(4, 1, 3)
    found = Model(LINEAR, GAUSSIAN, grid, (turned, own)).mean(X)
    np.testing.assert_allclose(found, (z @ W + B[:, None, :]).mean(axis=0), rtol=1e-11)


# --- what likelihoods make of members


def test_moments_of_a_mixture_of_counts():
    rates = np.exp(EACH)
    mean, variance = Model(LINEAR, likelihoods.Poisson(), FOUR).moments(X)
    np.testing.assert_allclose(mean, rates.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(variance, rates.mean(axis=0) + rates.var(axis=0), rtol=1e-12)
    means, variances = Model(LINEAR, likelihoods.Poisson(), FOUR).member_moments(X)
    np.testing.assert_allclose(means, rates, rtol=1e-12)
    np.testing.assert_allclose(variances, rates, rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_logarithms_of_averaged_probabilities(scale):
    """ln 1/M Σ p_m, also where p rounds to 0 or 1: by SciPy's log-sum-exp of what each member says."""
    params = jax.tree.map(lambda leaf: scale * leaf, FOUR)
    found = Model(LINEAR, likelihoods.Categorical(), params).log_probabilities(X)
    each = scipy.special.log_softmax(scale * EACH, axis=2)
    # What rounds to 0 in SciPy has digits here.
    np.testing.assert_allclose(found, scipy.special.logsumexp(each, axis=0) - np.log(4), rtol=1e-11, atol=1e-15)


def test_probabilities_of_classes_that_all_members_agree_on_keep_their_digits():
    """ln p = −e⁻⁴⁰: of the mean of numbers that round to 1 nothing would be left."""
    params = ({"W": jnp.zeros((2, 3, 2)), "b": jnp.array([[40.0, 0], [41, 0]])},)
    found = Model(LINEAR, likelihoods.Categorical(), params).log_probabilities(X[:1])
    np.testing.assert_allclose(found[0, 0], -(np.exp(-40) + np.exp(-41)) / 2, rtol=1e-12)


# --- through transforms


def test_transforms_in_their_order_and_targets_undone():
    second = Standardize(np.array([0.1, 0.2, 0.3]), np.array([2.0, 2, 2]))
    model = Model(LINEAR, GAUSSIAN, FOUR, (SHARED, second), TARGETS)
    z = ((X - SHARED.mean) / SHARED.scale - second.mean) / 2
    each = z @ W + B[:, None, :]
    np.testing.assert_allclose(model.mean(X), each.mean(axis=0) * TARGETS.scale + TARGETS.mean, rtol=1e-11)
    np.testing.assert_allclose(model.member_means(X), each * TARGETS.scale + TARGETS.mean, rtol=1e-11)
    moments = model.moments(X)
    np.testing.assert_allclose(moments.mean, model.mean(X), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, (0.25 + each.var(axis=0)) * TARGETS.scale**2, rtol=1e-11)


@pytest.mark.parametrize("targets", ["none", "shared", "own"])
def test_transforms_of_each_member(targets):
    own = Standardize(jnp.asarray(RNG.normal(size=(4, 3))), jnp.asarray(RNG.uniform(0.5, 2, size=(4, 3))))
    mean, scale = RNG.normal(size=(4, 2)), RNG.uniform(0.5, 2, size=(4, 2))
    undone = {"none": None, "shared": TARGETS, "own": Standardize(jnp.asarray(mean), jnp.asarray(scale))}[targets]
    z = ((X - SHARED.mean) / SHARED.scale - np.asarray(own.mean)[:, None]) / np.asarray(own.scale)[:, None]
    said = z @ W + B[:, None, :]
    if targets == "shared":
        said = said * TARGETS.scale + TARGETS.mean
    if targets == "own":
        said = said * scale[:, None] + mean[:, None]
    model = Model(LINEAR, GAUSSIAN, FOUR, (SHARED, own), undone)
    np.testing.assert_allclose(model.mean(X), said.mean(axis=0), rtol=1e-11)
    assert model.inputs == 3
    with pytest.raises(ValueError, match="transforms that all members share"):
        model.member_means(X)
    if targets == "own":
        alone = Model(LINEAR, GAUSSIAN, FOUR, (), undone)
        np.testing.assert_allclose(alone.mean(X), (EACH * scale[:, None] + mean[:, None]).mean(axis=0), rtol=1e-11)


def test_tables_where_there_are_categories_and_matrices_where_there_are_none():
    pandas = pytest.importorskip("pandas", reason="needs pandas: pip install 'jnn[test]'")
    frame = pandas.DataFrame({"a": [1.0, 2, 3, 4, 5, 6], "city": ["x", "y"] * 3, "b": [0.5] * 6})
    table = Table.fit(frame)
    encode = Encode.fit(table.apply(frame), table.counts)
    model = Model(LINEAR, GAUSSIAN, ONE, (encode,), table=table)
    matrix = np.c_[frame["a"], [0.0, 1] * 3, frame["b"]]
    expected = matrix @ W[0] + B[0]
    for x in (frame, frame.to_numpy(), jnp.asarray(matrix)):
        np.testing.assert_allclose(model.mean(x), expected, rtol=1e-12)
    plain = pandas.DataFrame(X, columns=["a", "b", "c"])
    for x in (plain, X, jnp.asarray(X)):
        model = Model(LINEAR, GAUSSIAN, ONE, table=Table.fit(plain))
        np.testing.assert_allclose(model.mean(x), EACH[0], rtol=1e-12)
    np.testing.assert_allclose(Model(LINEAR, GAUSSIAN, ONE).mean(X), EACH[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("mean", "scale", "expected"),
    [
        ([8000.0, 0], [1.0, 1], np.float32),  # ε · 8000 = 0.00095
        ([0, -9000.0], [1.0, 1], np.float64),
        ([9000.0, 0], [2.0, 1], np.float32),
        ([90.0, 0], [0.01, 1], np.float64),
    ],
)
def test_inputs_are_float64_where_float32_would_lose_a_thousandth_of_a_deviation(mean, scale, expected):
    network = jnn.mlp([2, 1])
    params = network.init(jax.random.key(0))
    model = Model(network, GAUSSIAN, params, (Standardize(np.array(mean), np.array(scale)),))
    assert model.input_dtype == expected


# --- intervals


@pytest.mark.parametrize("members", [1, 2, 5])
def test_quantiles_of_mixtures_are_roots_of_their_distribution_functions(members):
    rng = np.random.default_rng(members)
    means, deviations = rng.normal(size=(members, 3, 2)), rng.uniform(0.2, 2, size=(members, 3, 2))
    found = mixture_quantiles(means, deviations, (0.025, 0.5, 0.9))
    for value, p in zip(found, (0.025, 0.5, 0.9), strict=True):
        assert value.shape == (3, 2)
        for i, k in np.ndindex(3, 2):
            own = means[:, i, k], deviations[:, i, k]
            root = scipy.optimize.brentq(
                lambda v, own=own, p=p: np.mean(scipy.stats.norm.cdf(v, *own)) - p, -20, 20, xtol=1e-14
            )
            assert value[i, k] == pytest.approx(root, abs=1e-12)


def test_intervals_are_in_the_targets_units_and_dtype():
    model = Model(LINEAR, GAUSSIAN, ONE, (), TARGETS)
    for x in (X, X.astype(np.float32)):
        low, high = model.interval(x)
        assert low.dtype == high.dtype == x.dtype
        half = 1.959963984540054 * 0.5 * TARGETS.scale  # 95 % by default
        np.testing.assert_allclose(high - low, np.broadcast_to(2 * half, low.shape), rtol=1e-5)
        np.testing.assert_allclose((low + high) / 2, EACH[0] * TARGETS.scale + TARGETS.mean, rtol=1e-5)
    for wrong in (0.0, 1.0, 1.5, -0.5):
        with pytest.raises(ValueError, match="expected coverage to be between 0 and 1"):
            model.interval(X, wrong)
    assert np.isfinite(model.interval(X, 1e-6)[0]).all()


# --- whether the parts fit


def test_parts_that_fit_pass_and_others_are_named():
    encoding = likelihoods.OneHot.fit(["a", "b"])
    table = Table(None, (None,) * 3)
    Model(LINEAR, GAUSSIAN, ONE).check()
    Model(LINEAR, GAUSSIAN, FOUR, (SHARED,), TARGETS, encoding, {"note": 1}, table).check()
    own = Standardize(np.zeros((4, 3)), np.ones((4, 3)))
    Model(LINEAR, GAUSSIAN, FOUR, (own,), Standardize(np.zeros((4, 2)), np.ones((4, 2)))).check()
    encode = Encode.fit(np.array([[0.0, 1], [1, 2], [0, 3]]), (2, 0))
    Model(jnn.mlp([2, 2]), GAUSSIAN, jnn.mlp([2, 2]).init(jax.random.key(0)), (encode,)).check()
    two, short = Standardize(np.zeros(2), np.ones(2)), Standardize(np.zeros((2, 3)), np.ones((2, 3)))
    for parts, message in (
        ({"transforms": (np.ones(3),)}, r"expected transforms\[0\] as Transform, got ndarray of dtype float64"),
        ({"transforms": ("scaled",)}, r"expected transforms\[0\] as Transform, got str$"),
        ({"transforms": [SHARED]}, "expected transforms as tuple, got list"),
        ({"encoding": "a"}, "expected encoding as"),
        ({"table": "a"}, "expected table as"),
        ({"target_transform": "a"}, "expected target_transform as"),
        ({"table": Table(None, (None,) * 2)}, "expected a table of 3 columns, got one of 2"),
        ({"transforms": (two,)}, "expected transforms to the network's 3 inputs, got 2 columns"),
        ({"transforms": (SHARED, two)}, r"transforms\[1\] does not fit 3 columns"),
        ({"transforms": (short,)}, r"expected transforms\[0\] of one network, or of the ensemble \(4,\)"),
        ({"target_transform": SHARED}, "target_transform does not fit 2 columns"),
        ({"likelihood": likelihoods.HeteroscedasticGaussian(), "target_transform": TARGETS}, "does not fit 1 columns"),
        ({"posterior": "sure"}, "expected posterior as Posterior, got str"),
    ):
        with typechecker.off(), pytest.raises(MismatchError, match=message):
            Model(**{"network": LINEAR, "likelihood": GAUSSIAN, "params": FOUR, **parts}).check()
