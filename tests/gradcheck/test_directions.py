"""Directions belong to leaves: signed, reproducible, and unmoved by other leaves."""

import jax.numpy as jnp
import numpy as np

from jnn.gradcheck import check, cotangent
from jnn.gradcheck.oracle.directions import border, corners, cotangents, generator, signed, varied
from jnn.gradcheck.oracle.problem import Leaf


def leaf(path, shape, dtype=np.float32):
    return Leaf(path, 0, shape, np.dtype(dtype))


def test_signed_numbers_are_neither_small_nor_of_one_sign():
    values = signed(generator(0, "a", "x"), (1000,), np.dtype(np.float32))
    assert np.all((np.abs(values) >= 0.5) & (np.abs(values) <= 1.5))
    assert 400 < np.sum(values > 0) < 600
    assert np.iscomplexobj(signed(generator(0, "a", "x"), (3,), np.dtype(np.complex64)))


def test_another_leaf_changes_no_direction():
    one = cotangents([leaf("out['a']", (5, 4))], 3, False)
    two = cotangents([leaf("out['new']", (2,)), leaf("out['a']", (5, 4))], 3, False)
    for name in ("random 1", "random 2", "corners", "borders"):
        (a,) = [p.values[0] for p in one if p.name == name]
        (b,) = [p.values[1] for p in two if p.name == name]
        np.testing.assert_array_equal(a, b)


def test_an_added_argument_changes_no_other_leaf_s_evidence():
    x, y = jnp.linspace(-1, 1, 5, dtype=jnp.float32), jnp.ones(3, jnp.float32)
    one = check(lambda p: jnp.sin(p["x"]), {"x": x}, power=False)
    two = check(lambda p: {"a": jnp.sin(p["x"]), "b": p["y"] ** 2}["a"], {"x": x, "y": y}, power=False)
    assert one.leaves[0] == two.leaves[0]


def test_seeds():
    x = jnp.linspace(-1, 1, 5, dtype=jnp.float32)
    same = [check(jnp.sin, x, seed=4, power=False) for _ in range(2)]
    assert same[0] == same[1]
    assert not np.array_equal(cotangent(jnp.sin, x, seed=4), cotangent(jnp.sin, x, seed=5))


def test_small_outputs_are_taken_one_by_one():
    probes = cotangents([leaf("out", (2, 2))], 0, False)
    single = [p.values[0] for p in probes if p.name.startswith("only")]
    assert len(single) == 4
    assert np.all([np.count_nonzero(v) == 1 for v in single])
    assert np.count_nonzero(sum(np.abs(v) for v in single)) == 4


def test_a_scalar_gets_both_signs():
    a, b = (float(p.values[0]) for p in cotangents([leaf("out", ())], 0, False))
    assert a * b < 0


def test_masks():
    assert border((4, 5)).sum() == 4 * 5 - 2 * 3
    assert corners((4, 5)).sum() == 2
    assert corners(()).sum() == border((3,)).sum() - 1 == 1


def test_variations_are_relative():
    (a, none) = varied([np.array([1e-20, 0.0, 1e18]), None], ["x", "y"], 0, 1, 1e-3)
    assert none is None
    assert a[1] == 0
    assert np.all(np.abs(a[[0, 2]] / [1e-20, 1e18] - 1) <= 1e-3)
