"""The pattern of a wrong gradient is guessed from its values."""

import numpy as np
import pytest

from jnn.gradcheck.judgement.comparison import Comparison
from jnn.gradcheck.judgement.patterns import guess

RNG = np.random.default_rng(0)
T = RNG.normal(size=(6, 6))
X = RNG.normal(size=(6, 6))


def changed(mask, factor=3.0):
    return np.where(mask, factor * T + 0.3, T)


def region(*index):
    mask = np.zeros((6, 6), bool)
    mask[index] = True
    return mask


CASES = {
    "right": (T, ""),
    "sign": (-T, "sign flipped"),
    "factor": (2 * T, "factor 2"),
    "fraction": (T / 3, "factor 1/3"),
    "number": (1.2345 * T, "factor 1.234"),
    "no simple fraction": (95 / 61 * T, "factor 1.557"),
    "number of examples": (32 * T, "factor 32"),
    "dead": (0 * T, "dead leaf: no gradient arrives"),
    "transposed": (T.T, "transposed"),
    "transposed sign": (-T.T, "transposed and sign flipped"),
    "reversed": (T[::-1], "reversed along axis 0"),
    "rolled": (np.roll(T, 1, 1), "shifted by 1 along axis 1"),
    "summed": (np.broadcast_to(T.sum(0), T.shape), "summed over axis 0"),
    "averaged": (np.broadcast_to(T.mean(1, keepdims=True), T.shape), "averaged over axis 1"),
    "last row dropped": (np.where(region(slice(5, 6)), 0, T), "zero in 6 of 36 elements, the last 1 along axis 0"),
    "single": (changed(region(2, 3)), "a single element"),
    "border": (changed(region(slice(None), slice(0, 1))), "border, the first 1 along axis 1"),
    "both ends": (changed(region([0, -1])), "border, both ends of axis 0"),
    "negative": (changed(X < 0), "wrong where the input is negative"),
    "large": (changed(np.abs(X) > 1.2), "wrong where the input is large"),
    "sign lost": (np.sign(T), "of one magnitude"),
    "absolute": (np.abs(T), "sign flipped in "),
    "offset": (T + 0.5, "a constant added (0.5)"),
    "decay": (T + 0.1 * X, "0.1 times the input added"),
    "nan": (np.where(region(1, 1), np.nan, T), "not finite"),
    "nothing simple": (RNG.normal(size=(6, 6)), ""),
}


@pytest.mark.parametrize("name", CASES)
def test_patterns(name):
    rule, pattern = CASES[name]
    rule = np.asarray(rule, np.float64).ravel()
    c = Comparison(np.dtype(np.float32), rule, rule, T.ravel(), np.zeros(36), float(np.abs(T).max()))
    found = guess(c, (6, 6), X.ravel())
    assert found.startswith(pattern) if pattern else found == ""


def test_lost_precision_is_told_from_a_wrong_formula():
    c = Comparison(np.dtype(np.float32), 1.01 * T.ravel(), T.ravel(), T.ravel(), np.zeros(36), 1.0)
    assert guess(c, (6, 6)).startswith("precision lost")


@pytest.mark.parametrize(("factor", "pattern"), [(2.0, "factor 2"), (-0.5, "factor -1/2"), (-1.0, "sign flipped")])
def test_a_factor_is_no_sign_in_a_coarse_dtype(factor, pattern):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rule = (factor * T).astype(ml_dtypes.bfloat16).astype(np.float64).ravel()
    c = Comparison(np.dtype(ml_dtypes.bfloat16), rule, rule, T.ravel(), np.zeros(36), float(np.abs(T).max()))
    assert guess(c, (6, 6)) == pattern
