"""Standardization and whitening against scikit-learn and NumPy; folding against the unfolded network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import dag, mlp
from jnn.networks import as_dag
from jnn.transforms import (
    FREE,
    GAIN,
    MOST_PIECES,
    Clip,
    Encode,
    Pieces,
    Squash,
    Standardize,
    Whiten,
    fold,
    fold_outputs,
)

RNG = np.random.default_rng(8)
# Correlated columns with means and scales of their own.
X = RNG.normal(size=(30, 4)) @ RNG.normal(size=(4, 4)) * [1.0, 10, 0.1, 3] + [5.0, -100, 0, 2]
PROBE = RNG.normal(size=(5, 4)) * 3
EPS = np.finfo(float).eps


def relative(got, expected):
    return np.max(np.abs(np.asarray(got) - expected)) / np.max(np.abs(expected))


# --- Squash


def test_squash_is_its_formula_and_what_it_leaves_alone_stays():
    z = np.array([[0.1, 5.0, -2.0], [-6.0, 3.9, 2.0], [3.0, -1.0, 0.0]])
    t = Squash.fit(z)
    assert t.bound.tolist() == [3, 3, FREE]
    expected = z / np.sqrt(1 + (z / [3, 3, np.inf]) ** 2)
    np.testing.assert_allclose(t.apply(z), expected, rtol=4 * EPS)
    np.testing.assert_array_equal(t.apply(z)[:, 2], z[:, 2])
    np.testing.assert_allclose(t.undo(t.apply(z)), z, rtol=100 * EPS)  # near the bound undoing loses digits
    assert "Squash" in repr(t)
    assert Squash.fit(z, beyond=10).bound.tolist() == [FREE] * 3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_squashed_values_stay_within_the_bound_however_large(dtype):
    largest = np.finfo(dtype).max
    x = np.array([[largest], [-largest], [1e3], [np.sqrt(largest) * dtype(2)]], dtype)
    z = np.asarray(Squash(np.array([3.0], dtype)).apply(x))
    assert z.dtype == dtype
    np.testing.assert_allclose(z[:, 0], [3, -3, 3, 3], rtol=1e-3)
    assert (np.abs(z) <= 3).all()


def test_squash_in_batches_and_for_an_ensemble():
    z = 5 * RNG.normal(size=(3, 20, 2))
    t = jax.vmap(Squash.fit)(z)
    assert t.shape == (3, 2)
    for own, one in zip(z, jax.vmap(lambda t, z: t.apply(z))(t, z), strict=True):
        np.testing.assert_allclose(one, Squash.fit(own).apply(own), rtol=4 * EPS)
    np.testing.assert_allclose(Squash(np.array([3.0, 3.0])).apply(z)[1, 2], Squash(np.array([3.0, 3.0])).apply(z[1, 2]))
    with pytest.raises(ValueError, match="2 columns"):
        Squash(np.array([3.0, 3.0])).apply(np.ones((4, 3)))
    with pytest.raises(ValueError, match="NaN"):
        Squash.fit(np.array([[np.nan]]))


def test_no_weights_can_take_up_a_squash():
    network = mlp([2, 3, 1])
    # Under the tests jaxtyping raises before `fold` itself does.
    with pytest.raises(TypeError, match=r"Affine|expected an affine transform, .*; got Squash"):
        fold(Squash(np.array([3.0, 3.0])), network, network.init(jax.random.key(0)))


def test_a_tail_is_heavy_beyond_four_and_undone_squashes_end_at_the_bound():
    t = Squash.fit(np.array([[4.0, -4.0, 4.001, -4.001], [0, 0, 0, 0]]))
    assert t.bound.tolist() == [FREE, FREE, 3, 3]
    np.testing.assert_array_equal(t.undo(np.array([4.0, -5.0, 3.0, 3.1])), [4, -5, np.inf, np.nan])


# --- Encode


def test_gaps_and_categories_by_hand():
    # 0: the lower median of an even number, two gaps; 1 and 2: three gaps, in the same rows; 3: nothing but gaps;
    # 4: two categories; 5: two and three gaps; 6: three and one gap; 7: no category seen
    _ = np.nan
    x = np.array([
        [9, 1, _, _, 0, _, 0, _],
        [_, _, 5, _, 1, 0, _, _],
        [_, _, 7, _, 1, 1, 2, _],
        [1, _, 6, _, 0, 1, 2, _],
        [4, 3, _, _, 0, _, 0, _],
        [2, 2, _, _, 1, _, 1, _],
    ])  # fmt: skip
    t = Encode.fit(x, categories=(0, 0, 0, 0, 2, 2, 3, 2))
    assert t.shape == (8,)
    assert t.source == (0, 1, 1, 2, 2, 3, 4, 5, 5, 5, 6, 6, 6, 7)
    z = t.apply(x)
    expected = [  # 0 | 1, its gaps | 2, its gaps | 3 | 4 | 5, its gaps | 6 | 7
        [9, 1, 0, 6, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0],
        [2, 2, 1, 5, 0, 0, 1, 1, 0, 0, 0.4, 0.2, 0.4, 0],
        [2, 2, 1, 7, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0],
        [1, 2, 1, 6, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0],
        [4, 3, 0, 6, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0],
        [2, 2, 0, 6, 1, 0, 1, 0, 0, 1, 0, 1, 0, 0],
    ]
    np.testing.assert_array_equal(z, expected)
    np.testing.assert_array_equal(jax.jit(t.apply)(jnp.asarray(x, jnp.float32)), np.float32(expected))
    with pytest.raises(NotImplementedError, match="do not come back"):
        t.undo(z)
    # Gaps that are always together need one column that tells of them; a category's own column is the category's.
    together = np.array([[_, _, _]] * 3 + [[1, 2, 0]])
    assert Encode.fit(together).source == (0, 0, 1, 2)
    assert Encode.fit(together, categories=(0, 0, 2)).source == (0, 0, 1, 2, 2, 2)
    assert Encode.fit(together[1:]).source == (0, 1, 2)  # two gaps are too few to learn from


# --- Pieces


def test_pieces_are_ramps_between_quantiles_of_zero_mean():
    x = np.stack([RNG.exponential(size=200), RNG.integers(0, 4, size=200), np.arange(200) % 2], axis=1)
    t = Pieces.fit(x)
    z = t.apply(x)
    np.testing.assert_array_equal(z[:, :3], x)
    # Eight for the first; three, and five without a slope, for the second; none for one that has two values only.
    assert t.source == (0,) * 8 + (1,) * 8
    octiles = np.percentile(x[:, 0], np.linspace(0, 100, 9))
    new = np.linspace(-1, 8, 50)
    for k, (low, high) in enumerate(zip([*octiles[:-1], 0, 1, 2], [*octiles[1:], 1, 2, 3], strict=True)):
        own, column = (0, 3 + k) if k < 8 else (1, 3 + k)
        ramp = np.interp(new, [low, high], [0, GAIN]) - np.interp(x[:, own], [low, high], [0, GAIN]).mean()
        np.testing.assert_allclose(t.apply(np.stack([new] * 3, axis=1))[:, column], ramp, atol=1e-14)
    assert (z[:, 14:] == 0).all()
    assert np.abs(z[:, 3:].mean(axis=0)).max() < 1e-15
    np.testing.assert_array_equal(t.undo(z), x)
    np.testing.assert_array_equal(jax.jit(lambda t, x: t.apply(x))(t, x[0]), z[0])
    with pytest.raises(ValueError, match="3 columns"):
        t.apply(np.ones((4, 2)))


def test_there_are_as_many_pieces_as_examples_and_columns_allow():
    x = RNG.normal(size=(1000, 40))
    assert Pieces.fit(x[:40, :1]).apply(x[:2, :1]).shape == (2, 3)  # 16 examples a piece
    assert Pieces.fit(x[:20, :1]).apply(x[:2, :1]).shape == (2, 1)
    assert len(Pieces.fit(x, np.arange(40) < 5).source) == 5 * 8
    wide = Pieces.fit(x[:, :30])
    assert set(wide.source) == set(range(30))
    assert len(wide.source) <= MOST_PIECES
    assert Pieces.fit(x).source == ()  # a piece for each would say what the column says
    spare = Pieces.fit(x[:, :2], multiple_of=8)
    assert spare.apply(x[:3, :2]).shape == (3, 24)
    assert (spare.apply(x[:3, :2])[:, 18:] == 0).all()


def test_pieces_begin_where_examples_allow_two():
    def pieces(n: int, columns: int = 1) -> list[int]:
        return np.bincount(Pieces.fit(RNG.normal(size=(n, columns))).source, minlength=columns).tolist()

    assert [pieces(n) for n in (31, 32, 47, 48, 127, 128, 1000)] == [[0], [2], [2], [3], [7], [8], [8]]
    assert pieces(1000, 8) == [8] * 8
    assert pieces(1000, 9) == [7] * 9
    assert pieces(200, 32) == [2] * 32
    assert pieces(200, 33) == [0] * 33
    # Few values are the edges themselves, however unequally often they come; as many as edges are still few.
    for count in (3, 9):
        x = np.append(np.full(150, 0.0), np.arange(count))[:, None]
        t = Pieces.fit(x)
        assert t.low.tolist() == [*range(count - 1)] + [count - 1] * (9 - count)
        assert t.high.tolist() == [*range(1, count)] + [count - 1] * (9 - count)
        np.testing.assert_array_equal(t.gain, 0.5 * (np.arange(8) < count - 1))
    assert Pieces.fit(np.arange(200.0)[:, None] % 2).source == ()


# --- Clip


def test_clip_bounds_are_half_a_range_outside_and_a_constant_column_is_one_point():
    x = np.array([[0.0, 5.0, -1.0], [2.0, 5.0, 1.0], [1.0, 5.0, 0.5]])
    t = Clip.fit(x)
    assert t.low.tolist() == [-1, 5, -2]
    assert t.high.tolist() == [3, 5, 2]
    np.testing.assert_array_equal(t.apply(x), x)
    np.testing.assert_array_equal(
        t.apply(np.array([[-1e300, 6, 1.5], [2.5, -np.inf, np.inf]])), [[-1, 5, 1.5], [2.5, 5, 2]]
    )
    np.testing.assert_array_equal(t.undo(x), x)
    assert Clip.fit(x, margin=0).low.tolist() == [0, 5, -1]
    same = jax.jit(lambda x: Clip.fit(x).apply(2 * x))(jnp.asarray(x))
    np.testing.assert_array_equal(same, t.apply(2 * x))


# --- Standardize


def test_standardize_is_scikit_learns_scaler():
    from sklearn.preprocessing import StandardScaler

    oracle = StandardScaler().fit(X)
    t = Standardize.fit(X)
    # Sums of 30 numbers, added in another order: some ulps of the largest.
    np.testing.assert_allclose(t.mean, oracle.mean_, rtol=1e-13)
    np.testing.assert_allclose(t.scale, oracle.scale_, rtol=1e-13)
    np.testing.assert_allclose(t.apply(PROBE), oracle.transform(PROBE), rtol=1e-12)
    np.testing.assert_allclose(t.undo(t.apply(PROBE)), PROBE, rtol=0, atol=4 * EPS * 100)
    z = np.asarray(t.apply(X))
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-14)
    np.testing.assert_allclose(z.std(0), 1, rtol=1e-14)
    assert "Standardize" in repr(t)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e9, 1e-30])
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_a_constant_column_becomes_zero(value, count, dtype):
    x = np.full((count, 1), value, dtype)
    t = Standardize.fit(x)
    np.testing.assert_array_equal(t.scale, 1)
    np.testing.assert_array_equal(t.apply(x), 0)
    assert t.apply(x).dtype == dtype


@pytest.mark.parametrize(
    ("scale", "dtype"),
    [(1e-25, np.float32), (1e25, np.float32), (1e-200, np.float64), (1e200, np.float64)],
)
def test_squares_out_of_range_do_not_matter(scale, dtype):
    """Physical units: a column of 1e-25 in float32 is not constant, though its variance underflows."""
    z = (X[:, :1] - 5).astype(dtype)
    found = Standardize.fit(z * dtype(scale)).apply(z * dtype(scale))
    assert relative(found, np.asarray(Standardize.fit(z).apply(z))) < 20 * np.finfo(dtype).eps


def test_huge_offsets_cost_no_more_than_the_data_have():
    """One ulp of 1e9 is 1.2e-7: the columns' own spread of about 1 is known to that, and no digit more is lost."""
    x = X / X.std(0)
    t = Standardize.fit(x + 1e9)
    np.testing.assert_allclose(t.scale, 1, rtol=1e-6)
    np.testing.assert_allclose(t.apply(x + 1e9), Standardize.fit(x).apply(x), atol=1e-6)
    narrow = Standardize.fit((x + 1000).astype(np.float32))  # one ulp is 6e-5
    np.testing.assert_allclose(narrow.scale, 1, rtol=1e-4)


@pytest.mark.parametrize("xp", [np, jnp])
def test_a_weight_is_how_often_a_row_counts(xp):
    weights = np.array([2.0, 1, 3, 0, 1])
    x = np.vstack([X[:3], np.full((1, 4), 1e30), X[4:5]])
    oracle = Standardize.fit(np.repeat(x, weights.astype(int), axis=0))
    t = Standardize.fit(xp.asarray(x), weights=xp.asarray(weights))
    np.testing.assert_allclose(t.mean, oracle.mean, rtol=1e-13)
    np.testing.assert_allclose(t.scale, oracle.scale, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_less_than_ten_roundoffs_are_no_scale(dtype):
    eps = np.finfo(dtype).eps
    x = (1 + eps * np.array([[20.0, 4], [-20, -4]])).astype(dtype)
    np.testing.assert_allclose(Standardize.fit(x).scale, [20 * eps, 1], rtol=1e-6)
    for column, scale in ((0, 20 * eps), (1, 0.0)):
        np.testing.assert_allclose(Whiten.fit(x[:, column : column + 1]).scale, [scale], rtol=1e-6)


def test_what_comes_out_is_what_went_in():
    whole = np.array([[1, 5], [3, 6], [5, 5]])
    for own in (whole, whole.astype(np.float16), whole.astype(np.float32)):
        expected = own.dtype if own.dtype.kind == "f" else np.float64
        assert Standardize.fit(own).mean.dtype == np.float64
        assert Standardize.fit(own).apply(own).dtype == expected
        narrow = jnp.asarray(own)
        t = Standardize.fit(narrow)
        wide = {np.dtype(np.float64): jnp.float64}.get(np.dtype(expected), jnp.float32)
        assert isinstance(t.apply(narrow), jax.Array)
        assert (t.mean.dtype, t.apply(narrow).dtype) == (wide, expected)
    narrow = jax.make_jaxpr(Standardize.fit(whole.astype(np.float64)).apply)(jnp.ones((3, 2), jnp.float32))
    assert "f64" not in str(narrow)  # which most accelerators are slow at
    traced = jax.jit(lambda m: Standardize(m, np.ones(2)).apply(whole))(np.ones(2))
    np.testing.assert_array_equal(traced, whole - 1)


def test_integers_are_numbers():
    x = np.array([[1, 5], [3, 5], [5, 5]])
    np.testing.assert_allclose(Standardize.fit(x).apply(x)[:, 0], [-np.sqrt(1.5), 0, np.sqrt(1.5)], rtol=1e-15)
    np.testing.assert_array_equal(Standardize.fit(x).apply(x)[:, 1], 0)


# --- Whiten


def up_to_sign(got, expected):
    got = np.asarray(got)
    return got * np.sign(np.sum(got * expected, axis=0))


@pytest.mark.parametrize("components", [None, 1, 3])
def test_whiten_is_scikit_learns_pca(components):
    from sklearn.decomposition import PCA

    oracle = PCA(components, whiten=True, svd_solver="full").fit(X)
    t = Whiten.fit(X, components)
    # scikit-learn divides by n − 1, so that the variance over n is (n − 1)/n; ours is 1.
    expected = oracle.transform(PROBE) * np.sqrt(30 / 29)
    np.testing.assert_allclose(up_to_sign(t.apply(PROBE), expected), expected, rtol=1e-9)
    np.testing.assert_allclose(t.scale, np.sqrt(oracle.explained_variance_ * 29 / 30), rtol=1e-12)
    z = np.asarray(t.apply(X))
    np.testing.assert_allclose(z.T @ z / 30, np.eye(z.shape[1]), atol=1e-12)
    np.testing.assert_allclose(t.undo(t.apply(PROBE)), oracle.inverse_transform(oracle.transform(PROBE)), rtol=1e-9)
    assert "4 columns" in repr(t)


def test_axes_have_a_fixed_sign():
    """The largest component of each axis is positive, so that mirrored data give the same axes."""
    axes = np.asarray(Whiten.fit(X).axes)
    assert np.all(axes[np.argmax(np.abs(axes), axis=0), np.arange(4)] > 0)
    np.testing.assert_allclose(Whiten.fit(-X).axes, axes, rtol=1e-10)


@pytest.mark.parametrize(
    ("x", "rank"),
    [
        (np.column_stack([X, np.full(30, 7.7)]), 4),
        (np.column_stack([X, X[:, 1]]), 4),
        (X[:3], 2),
        (X[:1], 0),
        (np.full((3, 2), 0.1), 0),
    ],
    ids=["constant column", "duplicated column", "n < d", "one example", "all constant"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_directions_without_variation_become_zero(x, rank, dtype):
    x = x.astype(dtype)
    t = Whiten.fit(x)
    assert t.axes.shape == (x.shape[1],) * 2
    np.testing.assert_array_equal(np.asarray(t.scale) > 0, np.arange(x.shape[1]) < rank)
    z = np.asarray(t.apply(x))
    np.testing.assert_array_equal(z[:, rank:], 0)
    # Singular values differ by 1e3 here, so float32 resolves the smallest to 1e-4.
    tolerance = 1e-9 if dtype == np.float64 else 2e-3
    np.testing.assert_allclose(z[:, :rank].T @ z[:, :rank] / len(x), np.eye(rank), atol=tolerance)
    assert relative(t.undo(z), x) < 100 * np.finfo(dtype).eps  # the examples themselves lose nothing


# --- what both have in common


FITS = {"standardize": Standardize.fit, "whiten": Whiten.fit, "two components": lambda x: Whiten.fit(x, 2)}
both = pytest.mark.parametrize("fitted", FITS.values(), ids=FITS.keys())


@both
def test_matrix_and_inverse_are_apply_and_undo(fitted):
    t = fitted(X)
    z = np.asarray(t.apply(PROBE))
    np.testing.assert_allclose(z, (PROBE - np.asarray(t.mean)) @ np.asarray(t.matrix), atol=1e-11)
    np.testing.assert_allclose(t.undo(z), z @ np.asarray(t.inverse) + np.asarray(t.mean), rtol=1e-11)
    np.testing.assert_allclose(t.apply(PROBE[0]), z[0], rtol=1e-10)  # one example, and any batch
    np.testing.assert_allclose(t.apply(PROBE.reshape(5, 1, 4)), z[:, None], rtol=1e-10)


@both
def test_transforms_are_pytrees_under_jit_and_vmap(fitted):
    folds = np.stack([X[:15], X[15:]])
    batched = jax.jit(jax.vmap(fitted))(folds)
    each = [fitted(x) for x in folds]
    for number, one in enumerate(each):
        member = jax.tree.map(lambda leaf, number=number: leaf[number], batched)
        np.testing.assert_allclose(member.apply(PROBE), one.apply(PROBE), rtol=1e-9)
        np.testing.assert_allclose(member.undo(one.apply(PROBE)), one.undo(one.apply(PROBE)), rtol=1e-9)
        if hasattr(one, "axes"):  # those of an ensemble, without vmap
            np.testing.assert_allclose(batched.matrix[number], one.matrix, rtol=1e-9)
            np.testing.assert_allclose(batched.inverse[number], one.inverse, rtol=1e-9)
    applied = jax.vmap(lambda t, x: t.apply(x))(batched, folds)
    np.testing.assert_allclose(applied[1], each[1].apply(folds[1]), rtol=1e-8, atol=1e-12)


@both
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:0], r"expected x of shape \(n, d\) with at least one example and one column; got \(0, 4\)"),
        (X[:, :0], r"got \(30, 0\)"),
        (X * np.nan, "x has NaN or infinite values; remove or impute them before fitting a transform"),
        (X * np.inf, "x has NaN or infinite values"),
    ],
)
def test_bad_data_are_refused(fitted, x, message):
    with pytest.raises(ValueError, match=message):
        fitted(x)


@both
def test_other_columns_are_refused(fitted):
    t = fitted(X)
    with pytest.raises(ValueError, match=r"expected x with 4 columns, as the transform was fitted to; got \(5, 3\)"):
        t.apply(PROBE[:, :3])
    with pytest.raises(ValueError, match="expected z with"):
        t.undo(PROBE[:, :1])


@pytest.mark.parametrize("components", [0, 5, -1])
def test_components_are_checked(components):
    with pytest.raises(ValueError, match=f"expected components .* got {components}"):
        Whiten.fit(X, components)


# --- folding

CASCADE = [(j, i) for i in range(5, 10) for j in range(1, min(i, 9))]
PARTIAL = [(0, 5), (1, 5), (2, 5), (0, 6), (3, 6), (5, 6), (5, 7), (6, 7), (0, 8), (6, 8), (7, 8), (4, 8)]
BUILD = {
    "linear": lambda d: mlp([d, 2]),
    "mlp": lambda d: mlp([d, 5, 3, 2], ["tanh", "softsign"]),
    "shortcuts": lambda d: mlp([d, 5, 3, 2], shortcuts=True),
    "dag of an mlp": lambda d: as_dag(mlp([d, 3, 2]), mlp([d, 3, 2]).init(jax.random.key(0)))[0],
    "cascade, blocks": lambda d: dag(4, 1, CASCADE, evaluation="blocks") if d == 4 else None,
    "cascade, sweep": lambda d: dag(4, 1, CASCADE, evaluation="sweep") if d == 4 else None,
    "partial, blocks": lambda d: dag(4, 1, PARTIAL, ["tanh", "relu", "tanh"], evaluation="blocks") if d == 4 else None,
    "partial, sweep": lambda d: dag(4, 1, PARTIAL, ["tanh", "relu", "tanh"], evaluation="sweep") if d == 4 else None,
    "two inputs": lambda d: dag(2, 1, [(2, 3), (1, 4), (3, 4)]) if d == 2 else None,
}


def random_params(network, key):
    """Biases too: they start from zero otherwise."""
    params = network.init(key, dtype=jnp.float64)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        [jax.random.normal(k, w.shape, w.dtype) * 0.5 for k, w in zip(keys, leaves, strict=True)]
    )


@pytest.mark.parametrize("transform", FITS)
@pytest.mark.parametrize("name", BUILD)
def test_a_folded_network_takes_raw_inputs(name, transform, key):
    x = X / X.std(0)  # offsets of some standard deviations, not thousands: what is lost there is lost to any program
    t = FITS[transform](x)
    network = BUILD[name](t.matrix.shape[1])
    if network is None:
        pytest.skip("a network of another number of inputs")
    params = random_params(network, key)
    wide, folded = fold(t, network, params)
    assert (wide.inputs, wide.outputs) == (4, network.outputs)
    assert relative(wide.apply(folded, jnp.asarray(x)), np.asarray(network.apply(params, t.apply(x)))) < 1e-12
    assert relative(wide.apply(folded, jnp.asarray(PROBE)), np.asarray(network.apply(params, t.apply(PROBE)))) < 1e-12
    expected = jax.eval_shape(wide.init, key)
    assert jax.tree.map(jnp.shape, folded) == jax.tree.map(jnp.shape, expected)


def test_standardize_keeps_the_edges_and_whitening_fills_them(key):
    network = dag(4, 1, PARTIAL, ["tanh", "relu", "tanh"])
    params = random_params(network, key)
    same, _ = fold(Standardize.fit(X), network, params)
    assert same == network
    filled, _ = fold(Whiten.fit(X), network, params)
    read = {(int(j), int(i)) for j, i in filled.edges}
    assert read == {(int(j), int(i)) for j, i in network.edges} | {(j, i) for i in (5, 6, 8) for j in (1, 2, 3, 4)}
    np.testing.assert_array_equal(filled.biased, network.biased)


def test_folding_keeps_the_dtype_and_works_under_jit(key):
    t = Standardize.fit(X.astype(np.float32))
    network = mlp([4, 3, 1], shortcuts=True)
    params = network.init(key)
    _, folded = fold(t, network, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(folded)} == {jnp.dtype(jnp.float32)}
    inside = jax.jit(lambda t, params: fold(t, network, params)[1])(t, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), inside, folded)


def test_bad_folds_are_refused(key):
    network = mlp([3, 2])
    with pytest.raises(ValueError, match="expected a transform to the network's 3 inputs, got one to 4"):
        fold(Standardize.fit(X), network, network.init(key))
    unbiased = dag(4, 1, [(0, 6), (1, 5), (2, 5), (3, 5), (4, 5), (5, 6)])
    with pytest.raises(ValueError, match="a neuron that reads inputs has no bias to take up the mean; connect"):
        fold(Standardize.fit(X), unbiased, unbiased.init(key))


@pytest.mark.parametrize("name", ["linear", "mlp", "shortcuts", "dag of an mlp", "partial, blocks", "partial, sweep"])
def test_folded_outputs_give_raw_targets(name, key):
    network = BUILD[name](4)
    params = random_params(network, key)
    targets = Standardize.fit(RNG.normal(size=(20, network.outputs)) * 5 + 3)
    folded = fold_outputs(targets, network, params)
    expected = np.asarray(targets.undo(network.apply(params, jnp.asarray(PROBE))))
    assert relative(network.apply(folded, jnp.asarray(PROBE)), expected) < 1e-13


def test_bad_output_folds_are_refused(key):
    network = mlp([4, 2])
    params = network.init(key)
    with pytest.raises(ValueError, match=r"expected a standardization of 2 target columns, got one of \(4,\)"):
        fold_outputs(Standardize.fit(X), network, params)
    with pytest.raises(TypeError, match="Whiten"):
        fold_outputs(Whiten.fit(X[:, :2]), network, params)
    unbiased = dag(4, 1, [(0, 5), (1, 5), (5, 6)])
    with (
        pytest.raises(ValueError, match="an output has no bias to take up the mean of the targets; connect neuron 0"),
    ):
        fold_outputs(Standardize.fit(X[:, :1]), unbiased, unbiased.init(key))
