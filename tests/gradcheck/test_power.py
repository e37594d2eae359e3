"""The power of a check: mutations are noticed, and the smallest error it claims to notice is the one it does."""

import jax.numpy as jnp
import pytest

from jnn.gradcheck import check

from .rules import dense, dense_backward, numbers, pulled, right_dense

ARGS = numbers(5, 4), numbers(4, 4, seed=1), numbers(4, seed=2)


def test_every_mutation_of_a_float32_rule_is_noticed():
    report = check(right_dense, *ARGS)
    assert {m.path for m in report.mutations} == {"x", "w", "b"}
    assert len({m.name for m in report.mutations}) == 13
    assert all(m.noticed is not False for m in report.mutations)
    (transposed,) = [m for m in report.mutations if m.name == "transposed" and m.path == "w"]
    assert transposed.noticed is True
    (unsquare,) = [m for m in report.mutations if m.name == "transposed" and m.path == "b"]
    assert unsquare.noticed is None


def test_what_a_bfloat16_check_misses_is_said():
    report = check(right_dense, *(a.astype(jnp.bfloat16) for a in ARGS))
    noticed = {m.name: m.noticed for m in report.mutations if m.path == "w"}
    assert noticed["factor 1.1"] is True
    assert noticed["factor 1.001"] is False
    assert "factor 1.001 in w" in str(report)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16], ids=lambda d: d.dtype.name)
def test_the_claimed_resolution_is_the_real_one(dtype):
    args = [a.astype(dtype) for a in ARGS]
    (claimed,) = [v.detectable for v in check(right_dense, *args, power=False).leaves if v.path == "w"]

    def scaled(factor):
        def backward(g, x, w, b):
            dx, dw, db = dense_backward(g, x, w, b)
            # In float32 or wider, so that the factor itself is not rounded away.
            wider = jnp.promote_types(dtype, jnp.float32)
            return dx, (dw.astype(wider) * jnp.asarray(factor, wider)).astype(dtype), db

        return check(pulled(dense, backward), *args, power=False).verdict

    assert 0 < claimed < 0.02
    assert scaled(1 + 3 * claimed) == "fail"
    assert scaled(1 + claimed / 3) == "pass"


def test_a_wrong_leaf_is_not_mutated():
    wrong = pulled(dense, lambda g, x, w, b: (dense_backward(g, x, w, b)[0], 2 * dense_backward(g, x, w, b)[1],
                                              dense_backward(g, x, w, b)[2]))  # fmt: skip
    assert {m.path for m in check(wrong, *ARGS).mutations} == {"x", "b"}
