"""The judgement of single elements: ulps, floors, and no allowance that grows with the size."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jnn.gradcheck.judgement.comparison import Comparison, floors
from jnn.gradcheck.oracle.numbers import eps_of, reals, ulp

DTYPES = [np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.float16), np.dtype(jnp.bfloat16)]


def comparison(dtype, rule, truth, rule64=None, **more):
    truth = np.asarray(truth, np.float64)
    return Comparison(
        dtype, np.asarray(rule, np.float64), rule64, truth, np.zeros(truth.shape), float(np.abs(truth).max()), **more
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ulp(dtype):
    # Above a power of two, below it, and at the end of the normal numbers.
    for value in (1.0, 1.75, 0.3, 100.0):
        here = np.asarray(value, dtype)
        assert ulp(np.array([value]), dtype)[0] == float(np.spacing(here)) if dtype.kind == "f" else True
    assert ulp(np.array([1.0]), dtype)[0] == eps_of(dtype)
    assert ulp(np.array([0.0]), dtype)[0] == eps_of(dtype) * float(jnp.finfo(dtype).tiny)
    assert ulp(np.array([np.inf]), dtype)[0] > 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_element_is_judged_the_same_among_many(dtype):
    off = 1 + 4 * floors(dtype).arithmetic * eps_of(dtype)
    for n in (1, 10, 100_000):
        truth = np.ones(n)
        rule = truth.copy()
        rule[n // 2] = off + floors(dtype).scaled * eps_of(dtype)
        assert comparison(dtype, rule, truth).arithmetic_wrong().sum() == 1
        assert not comparison(dtype, truth * (1 + eps_of(dtype)), truth).arithmetic_wrong().any()


def test_formula_is_judged_more_sharply_than_arithmetic():
    dtype = np.dtype(jnp.bfloat16)
    truth = np.array([1.0, -2.0])
    two_percent = comparison(dtype, 1.02 * truth, truth, 1.02 * truth)
    assert two_percent.formula_wrong().all()
    assert not two_percent.arithmetic_wrong().any()


def test_noise_slack_and_rounding_widen():
    dtype = np.dtype(np.float32)
    base = comparison(dtype, [1.001], [1.0], np.array([1.001]))
    assert base.formula_wrong().all()
    assert base.arithmetic_wrong().all()
    assert not dataclasses.replace(base, noise=np.array([1e-3])).formula_wrong().any()
    assert not dataclasses.replace(base, slack=2e-3).formula_wrong().any()
    assert not dataclasses.replace(base, naive=np.array([1e-3])).arithmetic_wrong().any()
    # Rounding is no excuse for the formula, unless it is so far off that it took another branch.
    assert dataclasses.replace(base, rounding=np.array([2e-6])).formula_wrong().all()
    assert not dataclasses.replace(base, rounding=np.array([1e-3])).formula_wrong().any()
    assert not dataclasses.replace(base, tolerance=1e-2).formula_wrong().any()


def test_what_is_not_finite_is_wrong():
    c = comparison(np.dtype(np.float32), [np.nan, np.inf, 1.0, np.nan], [1.0, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(c.arithmetic_wrong(), [True, True, False, True])


def test_small_elements_beside_large_ones():
    # An element 1e-5 of the largest is resolved in float32; one of 1e-8 is below its eps and is not, by arithmetic.
    truth = np.array([1.0, 1e-4, 1e-8])
    wrong = comparison(np.dtype(np.float32), [1.0, 2e-4, 2e-8], truth).arithmetic_wrong()
    np.testing.assert_array_equal(wrong, [False, True, False])
    # In float64 it is.
    rule = np.array([1.0, 1e-4, 2e-8])
    np.testing.assert_array_equal(
        comparison(np.dtype(np.float32), rule, truth, rule).formula_wrong(), [False, False, True]
    )


def test_complex_numbers_are_two_reals():
    np.testing.assert_array_equal(reals(np.array([1 + 2j, 3j])), [[1, 2], [0, 3]])


def test_resolution():
    c = comparison(np.dtype(np.float32), [1.0, 0.0], [1.0, 0.0], np.array([1.0, 0.0]))
    smallest, none = c.resolution()
    assert none == np.inf
    truth = c.truth
    for factor, noticed in ((1 + 2 * smallest, True), (1 + 0.5 * smallest, False)):
        mutant = dataclasses.replace(c, rule=factor * truth, rule64=factor * truth)
        assert mutant.formula_wrong()[0] == noticed
