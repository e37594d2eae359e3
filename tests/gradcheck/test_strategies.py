"""The strategies contain what they promise, and find wrong rules that Gaussian inputs do not."""

import builtins
import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, find, given, settings, strategies as st

from jnn.gradcheck import GradientError, check, strategies

from .rules import numbers, pulled

PLAIN = settings(max_examples=20, deadline=None, derandomize=True, database=None)
# A check costs about a second, and these tests need a failure, not the smallest one.
FIRST = settings(PLAIN, phases=[Phase.generate])


def wide(x):
    return np.asarray(x).astype(np.float64)


def subnormal(x):
    v = np.abs(wide(x))
    return (v > 0) & (v < float(jnp.finfo(x.dtype).tiny))


def rows_without(mask):
    return ~np.asarray(mask).any(-1)


SHAPE = (4, 7)
# A strategy, and what some of its arrays must show.
PROMISES = {
    "normal": (strategies.normal(SHAPE), lambda x: len(np.unique(x)) == x.size),
    "large scale": (strategies.scales(SHAPE), lambda x: np.abs(wide(x)).max() > 1e15),
    "small scale": (strategies.scales(SHAPE), lambda x: np.abs(wide(x)).max() < 1e-15),
    "mixed scales": (strategies.mixed_scales(SHAPE), lambda x: np.ptp(np.log10(np.abs(wide(x)))) > 4),
    "ties of a row's maximum": (strategies.ties(SHAPE), lambda x: ((x == x.max(-1, keepdims=True)).sum(-1) > 1).any()),
    "constant": (strategies.constants(SHAPE), lambda x: np.ptp(wide(x)) == 0 and x.any()),
    "all zero": (strategies.constants(SHAPE), lambda x: not x.any()),
    "neighbors": (
        strategies.near_duplicates(SHAPE),
        lambda x: 0 < np.ptp(wide(x)) < 1e-6 and len(np.unique(x)) < x.size,
    ),
    "both zeros": (
        strategies.zeros(SHAPE),
        lambda x: {False, True} == set(np.signbit(x)[np.asarray(x) == 0].tolist()) and x.any(),
    ),
    "subnormals": (strategies.subnormals(SHAPE), lambda x: subnormal(x).any() and not subnormal(x).all()),
    "saturation": (
        strategies.saturating(SHAPE),
        lambda x: wide(x).max() > 88.8 and ((wide(x) > -27) & (wide(x) < -26)).any(),
    ),
    "positive": (strategies.positive(SHAPE), lambda x: wide(x).min() > 0 and np.ptp(np.log10(wide(x))) > 2),
    "causal mask": (strategies.masks((5, 5)), lambda m: (np.asarray(m) == np.tril(np.ones((5, 5), bool))).all()),
    "full mask": (strategies.masks(SHAPE), lambda m: m.all()),
    "a masked row": (strategies.masks(SHAPE), lambda m: rows_without(m).any() and m.any()),
    "repeated indices": (
        strategies.indices((6,), 10),
        lambda i: len(set(i.tolist())) < 6 and {0, 9} <= set(i.tolist()),
    ),
    "empty segments": (
        strategies.segment_ids((9,), 4),
        lambda i: len(set(i.tolist())) < 4 and (np.diff(i) >= 0).all() and np.ptp(i) > 0,
    ),
    "unordered segments": (strategies.segment_ids((9,), 4, ordered=False), lambda i: (np.diff(i) < 0).any()),
    "odd shapes": (strategies.shapes(2), lambda s: s[0] % 8 and s[1] % 8 and s[0] != s[1]),
    "keys": (strategies.keys(), lambda k: jnp.issubdtype(k.dtype, jax.dtypes.prng_key)),
}


@pytest.mark.parametrize("name", PROMISES)
def test_what_is_promised_occurs(name):
    strategy, promise = PROMISES[name]
    find(strategy, lambda v: bool(promise(v)), settings=settings(PLAIN, max_examples=300, phases=[Phase.generate]))


@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_arrays_are_finite_and_of_their_dtype(dtype):
    @PLAIN
    @given(strategies.arrays((3, 5), dtype))
    def every(x):
        assert (x.shape, x.dtype) == ((3, 5), jnp.dtype(dtype))
        assert np.isfinite(wide(x)).all()
        # Squares, and a short sum of them, are within the range.
        assert jnp.isfinite(jnp.sum(jnp.square(x)))

    every()


@PLAIN
@given(strategies.shapes(3, most=500), strategies.masks((4, 6), empty_rows=False), strategies.indices((2, 3), 1))
def test_limits_hold(shape, mask, only):
    assert np.prod(shape) <= 500
    assert not rows_without(mask).any()
    assert not only.any()
    assert (only.dtype, only.shape) == (jnp.int32, (2, 3))


def test_without_extremes_everything_is_ordinary():
    @PLAIN
    @given(strategies.arrays((8,), "float16", extreme=False))
    def every(x):
        assert np.abs(wide(x)).max() < 100

    every()


def test_wrong_requests_are_refused():
    with pytest.raises(TypeError, match="expected a floating dtype, got int32; for integers use indices"):
        strategies.arrays((3,), "int32")
    with pytest.raises(ValueError, match="expected size of at least 1, got 0"):
        strategies.indices((3,), 0)
    with pytest.raises(ValueError, match="expected segments of at least 1, got -1"):
        strategies.segment_ids((3,), -1)
    with pytest.raises(ValueError, match="expected a rank of at least 1, got 0"):
        strategies.masks(())
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match="x64 is off, got float64"):
            strategies.normal((3,), "float64")
        assert "float64" not in {find(strategies.dtypes(), lambda d, n=n: d == n).name for n in strategies.DTYPES[1:]}


def test_without_hypothesis_the_error_names_the_extra(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.split(".")[0] == "hypothesis":
            raise ImportError("No module named 'hypothesis'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "jnn.gradcheck.strategies")
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"needs hypothesis.*pip install 'jnn\[test\]'"):
        importlib.import_module("jnn.gradcheck.strategies")


def stable(x):
    return jax.nn.logsumexp(x, axis=-1)


def naive_backward(g, x):
    # exp overflows where the primal, which subtracts the maximum, does not.
    e = jnp.exp(x)
    return (g[:, None] * e / e.sum(-1, keepdims=True),)


def stable_backward(g, x):
    return (g[:, None] * jax.nn.softmax(x, axis=-1),)


naive_rule, stable_rule = pulled(stable, naive_backward), pulled(stable, stable_backward)


def gathered(index, backward):
    return pulled(lambda table: table[index], lambda g, table: (backward(jnp.zeros_like(table).at[index], g),))


def accept(fun, *args):
    return check(fun, *args, power=False).raise_for_failure(allow=("kink", "inconclusive"))


def test_saturation_finds_a_rule_that_is_right_on_gaussian_inputs():
    @FIRST
    @given(strategies.saturating((2, 5)))
    def saturated(x):
        accept(naive_rule, x)

    for seed in range(2):
        accept(naive_rule, numbers(2, 5, seed=seed))
    with pytest.raises(GradientError, match="FAIL"):
        saturated()


def test_repeated_indices_find_a_scatter_that_overwrites():
    table = numbers(6, 2)

    @FIRST
    @given(strategies.indices((4,), 6))
    def repeated(index):
        accept(gathered(index, lambda at, g: at.set(g)), table)

    accept(gathered(jnp.arange(4), lambda at, g: at.set(g)), table)
    with pytest.raises(GradientError, match="wrong in table"):
        repeated()


@settings(FIRST, max_examples=3)
@given(st.one_of(strategies.saturating((2, 5)), strategies.ties((2, 5))), strategies.indices((4,), 6))
def test_the_right_twins_pass(x, index):
    assert accept(stable_rule, x).verdict == "pass"
    assert accept(gathered(index, lambda at, g: at.add(g)), numbers(6, 2)).verdict == "pass"
