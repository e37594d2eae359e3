"""Holding examples out: exact sizes, exact class shares, every example equally likely."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jnn.training.splitting import held_out_count, in_order, shuffled, split, split_key

jitted = functools.partial(jax.jit, static_argnums=(1, 2))(split)


def check_partition(train, held_out, count, fraction):
    assert len(held_out) == round(fraction * count)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held_out])), np.arange(count))


# Two shapes only, so that the compiled program is shared by all the examples that hypothesis draws.
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    shape=st.sampled_from([(40, 0.3), (23, 0.5)]),
    seed=st.integers(0, 2**31 - 1),
    weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=12),
)
def test_each_class_gives_its_share_up_to_rounding(shape, seed, weights):
    count, fraction = shape
    classes = np.random.default_rng(seed).choice(len(weights), count, p=np.array(weights) / np.sum(weights))
    train, held_out = jitted(jax.random.key(seed), count, fraction, jnp.asarray(classes))
    check_partition(train, held_out, count, fraction)
    for label in np.unique(classes):
        share = np.sum(classes == label) * round(fraction * count) / count
        assert abs(np.sum(classes[held_out] == label) - share) < 1


def test_many_rare_classes_do_not_shift_a_common_one():
    """40 classes of one example each beside one of 100: the common one still gives exactly half of its own."""
    classes = np.r_[np.zeros(100, int), np.arange(1, 41)]
    for seed in range(30):
        _, held_out = jitted(jax.random.key(seed), 140, 0.5, jnp.asarray(classes))
        assert np.sum(classes[held_out] == 0) == 50


@pytest.mark.parametrize("stratified", [False, True])
def test_every_example_is_equally_likely_to_be_held_out(stratified, key):
    classes = jnp.asarray([0] * 5 + [1] * 3 + [2] * 2) if stratified else None
    keys = jax.random.split(key, 4000)
    _, held_out = jax.jit(jax.vmap(lambda k: split(k, 10, 0.4, classes)))(keys)
    # A share of 0.4 of 4,000 draws has a standard deviation of 0.008; 5 of those for 10 examples at once.
    np.testing.assert_allclose(np.bincount(held_out.ravel(), minlength=10) / 4000, 0.4, atol=0.04)


def test_keys_decide(key):
    again = [np.asarray(jitted(k, 40, 0.3, None)[1]) for k in (key, key, jax.random.fold_in(key, 1))]
    np.testing.assert_array_equal(again[0], again[1])
    assert not np.array_equal(np.sort(again[0]), np.sort(again[2]))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9])
def test_keys_are_split_as_jax_does(count, key):
    for own in (key, jax.random.key(3, impl="rbg")):
        found = split_key(own, count)
        assert (found.shape, jax.random.key_impl(found)) == ((count,), jax.random.key_impl(own))
    np.testing.assert_array_equal(
        jax.random.key_data(split_key(key, count)), jax.random.key_data(jax.random.split(key, count))
    )


@pytest.mark.parametrize("count", [100_000])
def test_large_counts_do_not_overflow(count, key):
    """Place times held-out count exceeds 2^31."""
    with jax.enable_x64(False):
        classes = jnp.arange(count, dtype=jnp.int32) % 7
        train, held_out = split(key, count, 0.5, classes)
    check_partition(train, held_out, count, 0.5)
    counts = np.bincount(np.asarray(classes)[held_out])
    assert np.all(np.abs(counts - np.bincount(np.asarray(classes)) / 2) < 1)


@pytest.mark.parametrize(
    ("count", "fraction", "message"),
    [
        (10, 0.0, "expected a validation fraction between 0 and 1, got 0.0"),
        (10, 1.0, "expected a validation fraction between 0 and 1, got 1.0"),
        (10, float("nan"), "between 0 and 1, got nan"),
        (10, 0.01, "a validation fraction of 0.01 of 10 examples leaves 10 for training and 0 for validation"),
        (10, 0.99, "leaves 0 for training and 10 for validation; expected at least one each"),
        (1, 0.5, "expected at least one each"),
    ],
)
def test_empty_parts_are_refused(count, fraction, message, key):
    with pytest.raises(ValueError, match=message):
        held_out_count(count, fraction)
    with pytest.raises(ValueError, match=message):
        split(key, count, fraction)


@pytest.mark.parametrize("count", [1, 2, 3, 100, 2000, 2048, 2049, 5000])
def test_an_order_is_that_of_its_random_numbers_whatever_the_size(count):
    """A stable sort by NumPy, of as many bits; on both sides of 2,048, where number and place need 64 bits."""
    bits = min(31, max(21, 2 * (count - 1).bit_length() - 1))
    for size in (count, count + 1, count + 60, 2 * count + 1000):
        key = jax.random.fold_in(jax.random.key(0), count)
        numbers = np.asarray(jax.random.bits(key, (size,), np.uint32))[:count] >> np.uint32(32 - bits)
        expected = [*np.argsort(numbers, kind="stable"), *range(count, size)]
        np.testing.assert_array_equal(jax.jit(shuffled, static_argnums=1)(key, size, count), expected)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(("size", "bits"), [(1, 32), (2, 31), (1000, 2), (1000, 22), (1000, 23), (5000, 32)])
def test_numbers_are_put_in_order_on_hosts_and_devices_alike(size, bits, x64):
    """Equal ones by their places; whatever the widest numbers are that JAX has, and for each member of a batch."""
    numbers = np.random.default_rng(size).integers(0, 2**bits, (3, size)).astype(np.uint32)
    numbers[:, ::7], numbers[:, ::5] = 2**bits - 1, 0
    with jax.enable_x64(x64):
        there = jax.jit(jax.vmap(lambda some: in_order(some, bits)))(numbers)
        assert there.dtype == jnp.asarray(0).dtype
    for some, found in zip(numbers, there, strict=True):
        expected = np.argsort(some, kind="stable")
        np.testing.assert_array_equal(in_order(some), expected)
        np.testing.assert_array_equal(in_order(some, bits), expected)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_order_is_equally_likely(count):
    orders = jax.vmap(lambda key: shuffled(key, count))(jax.random.split(jax.random.key(count), 24_000))
    _, found = np.unique(np.asarray(orders), axis=0, return_counts=True)
    expected = 24_000 / math.factorial(count)
    assert len(found) == math.factorial(count)
    assert (np.abs(found - expected) < 5 * np.sqrt(expected)).all()  # five standard deviations
