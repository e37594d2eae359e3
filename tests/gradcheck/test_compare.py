"""Two gradient functions side by side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn.gradcheck import compare

from .rules import dense, dense_backward, numbers

X, W, B = numbers(5, 3), numbers(3, 4, seed=1), numbers(4, seed=2)


def autodiff(x, w, b):
    return jax.grad(lambda *a: jnp.sum(dense(*a) ** 2), argnums=(0, 1, 2))(x, w, b)


def by_hand(x, w, b):
    return dense_backward(2 * dense(x, w, b), x, w, b)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16], ids=lambda d: d.dtype.name)
def test_right_ones_agree(dtype):
    args = [a.astype(dtype) for a in (X, W, B)]
    report = compare(by_hand, autodiff, *args)
    assert report.verdict == "pass", str(report)
    assert [v.path for v in report.leaves] == ["out[0]", "out[1]", "out[2]"]
    assert {v.dtype for v in report.leaves} == {args[0].dtype.name}


def test_wrong_ones_are_located():
    def wrong(x, w, b):
        dx, dw, db = by_hand(x, w, b)
        return dx, dw.at[1, 2].add(1e-3), db / 5

    report = compare(wrong, autodiff, X, W, B)
    assert [v.verdict for v in report.leaves] == ["pass", "fail", "fail"]
    assert report.leaves[1].worst.index == (1, 2)
    assert report.leaves[2].pattern == "factor 1/5"


def test_ill_conditioned_gradients_are_not_failed():
    # (1 − cos x)/x² at 1e-3 in float32: the two ways to write its derivative agree to a few digits only.
    def one(x):
        return jnp.sin(x) / x**2 - 2 * (1 - jnp.cos(x)) / x**3

    def two(x):
        return (x * jnp.sin(x) - 2 + 2 * jnp.cos(x)) / x**3

    assert compare(one, two, jnp.asarray([1e-1, 1.0], jnp.float32)).verdict != "fail"


def test_kinks():
    x = jnp.asarray([-1.0, 0.0, 1.0], jnp.float32)
    left = lambda x: jnp.where(x >= 0, 1, 0) * x**2 + (x >= 0)  # noqa: E731
    right = lambda x: jnp.where(x > 0, 1, 0) * x**2 + (x > 0)  # noqa: E731
    assert compare(left, right, x).verdict == "kink"


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="same shapes"):
        compare(lambda x: x, lambda x: x[:2], X)


def test_the_report_names_both():
    report = compare(by_hand, autodiff, X, W, B)
    assert report.function == "by_hand beside autodiff"
    assert np.isfinite(report.seconds)
