"""Rates by update, against optax's, closed values, and scikit-learn's loop."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnn import schedules


@pytest.mark.parametrize("final", [0.0, 0.2])
def test_cosine_is_optaxs(final):
    ours, theirs = schedules.cosine(0.3, 10, final), optax.cosine_decay_schedule(0.3, 10, alpha=final)
    np.testing.assert_allclose(
        [ours(jnp.asarray(t)) for t in range(15)], [theirs(t) for t in range(15)], rtol=1e-12, atol=1e-16
    )
    # At the beginning, half-way, from the end on.
    found = [float(ours(jnp.asarray(t))) for t in (0, 5, 10, 1000)]
    np.testing.assert_allclose(found, [0.3, 0.3 * (1 + final) / 2, 0.3 * final, 0.3 * final], rtol=1e-12, atol=1e-16)


def test_cosine_ends_at_nothing_by_default():
    assert float(schedules.cosine(0.3, 10)(jnp.asarray(10))) == pytest.approx(0, abs=1e-16)


def test_inverse_scaling_is_scikit_learns_loop():
    """There the rate is set anew after each epoch, by the examples seen: η₀ / (t + 1)^p."""
    expected, seen, rate = [], 0, 0.2
    for _ in range(4):
        for _ in range(3):
            expected.append(rate)
            seen += 8
        rate = 0.2 / (seen + 1) ** 0.5
    ours = schedules.inverse_scaling(0.2, 0.5, steps=3, batch_size=8)
    np.testing.assert_allclose([ours(jnp.asarray(t)) for t in range(12)], expected, rtol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.cosine(-0.1, 10),
        lambda: schedules.cosine(0.1, 0),
        lambda: schedules.cosine(0.1, 10, final=-1.0),
        lambda: schedules.inverse_scaling(-0.1, 0.5, 1, 1),
        lambda: schedules.inverse_scaling(0.1, -0.5, 1, 1),
        lambda: schedules.inverse_scaling(0.1, 0.5, 0, 1),
        lambda: schedules.inverse_scaling(0.1, 0.5, 1, 0),
    ],
)
def test_what_is_no_rate_is_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def test_the_least_that_is_a_rate():
    """No rate at all, one that does not fall, a single step of one example: η₀ / (t + 1)^p then."""
    assert float(schedules.cosine(0.0, 0.5, final=0.0)(jnp.asarray(0))) == 0
    assert [float(schedules.inverse_scaling(0.0, 0.0, 1, 1)(jnp.asarray(t))) for t in (0, 3)] == [0, 0]
    ours = schedules.inverse_scaling(0.3, 2.0, 1, 1)
    np.testing.assert_allclose([ours(jnp.asarray(t)) for t in range(4)], [0.3, 0.3 / 4, 0.3 / 9, 0.3 / 16], rtol=1e-14)
