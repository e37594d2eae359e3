"""Folds and bootstrap samples: who is where, and how often."""

import jax
import numpy as np
import pytest

from jnn import ensembles


@pytest.mark.parametrize(("count", "folds"), [(12, 3), (13, 3), (14, 3), (5, 5), (7, 2)])
@pytest.mark.parametrize("stratified", [False, True])
def test_every_example_is_held_out_once(count, folds, stratified, key):
    classes = np.arange(count) % 2 if stratified else None
    train, held_out = ensembles.k_fold(key, count, folds, classes)
    assert train.shape == (folds, count - count // folds)
    assert held_out.shape == (folds, -(-count // folds))
    for mine, other in zip(np.asarray(train), np.asarray(held_out), strict=True):
        np.testing.assert_array_equal(np.sort(np.concatenate([mine[mine >= 0], other[other >= 0]])), np.arange(count))
    everyone = np.asarray(held_out).ravel()
    np.testing.assert_array_equal(np.sort(everyone[everyone >= 0]), np.arange(count))


def test_classes_are_dealt_out_evenly(key):
    classes = np.r_[np.zeros(11, int), np.ones(6, int), np.full(4, 2)]
    _, held_out = ensembles.k_fold(key, 21, 4, classes)
    for label in range(3):
        counts = [np.sum(classes[row[row >= 0]] == label) for row in np.asarray(held_out)]
        assert max(counts) - min(counts) <= 1


def test_keys_decide_the_folds(key):
    first, again, other = (np.asarray(ensembles.k_fold(k, 20, 4)[1]) for k in (key, key, jax.random.fold_in(key, 1)))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_bootstrap_draws_with_replacement(key):
    rows, out = ensembles.bootstrap(key, 50, 200)
    for drawn, left in zip(np.asarray(rows), np.asarray(out), strict=True):
        np.testing.assert_array_equal(left[left >= 0], np.setdiff1d(np.arange(50), drawn))
    # (1 − 1/50)^50 = 0.364 are left out; a member's share has a standard deviation of 0.044, the mean of 200 of 0.003.
    assert np.mean(np.asarray(out) >= 0) == pytest.approx((1 - 1 / 50) ** 50, abs=0.015)
    np.testing.assert_allclose(np.bincount(np.asarray(rows).ravel()) / 200, 1, atol=5 / np.sqrt(200))


def test_bad_numbers_are_told(key):
    for folds in (1, 8):
        with pytest.raises(ValueError, match=f"expected from 2 to 7 folds, one example each at least; got {folds}"):
            ensembles.k_fold(key, 7, folds)
    with pytest.raises(ValueError, match="expected a class for each of the 7 examples"):
        ensembles.k_fold(key, 7, 2, np.zeros(6, int))
    with pytest.raises(ValueError, match="expected count as an integer of at least 1, got 0"):
        ensembles.bootstrap(key, 0, 2)
