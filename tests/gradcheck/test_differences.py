"""Differences with error bars: the bar covers the error, kinks are seen from both sides, noise is admitted."""

import numpy as np
import pytest

from jnn.gradcheck.oracle.differences import slope

EPS = 2.0**-52
ONE = np.ones(1)

# (function of a step, derivative at 0)
SMOOTH = {
    "sine": (lambda s: np.sin(0.3 + s), np.cos(0.3)),
    "large": (lambda s: 1e18 * np.exp(s), 1e18),
    "small": (lambda s: 1e-20 * np.exp(s), 1e-20),
    "steep": (lambda s: np.tanh(1e3 * s), 1e3),
    "oscillating": (lambda s: np.sin(1e4 * s + 1), 1e4 * np.cos(1)),
    "offset": (lambda s: 1e6 + np.sin(s), 1.0),
    "cubic": (lambda s: (1 + s) ** 3, 3.0),
    "linear": (lambda s: 2 + 3 * s, 3.0),
    "pole beside": (lambda s: 1 / (s + 0.01), -1e4),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_bar_covers_the_error(name):
    fun, exact = SMOOTH[name]
    found = slope(lambda s: np.array([fun(s)]), ONE, EPS)
    assert abs(found.estimate - exact) <= 4 * found.bar
    assert found.bar <= 1e-4 * abs(exact)
    assert found.agrees(exact)
    assert not found.agrees(1.01 * exact)
    assert not found.kinked
    assert abs(found.left - exact) <= 4 * found.left_bar + 1e-6 * abs(exact)
    assert abs(found.right - exact) <= 4 * found.right_bar + 1e-6 * abs(exact)


def test_zero_derivative():
    found = slope(lambda s: np.array([np.cos(s)]), ONE, EPS)
    assert abs(found.estimate) <= 4 * found.bar
    assert found.bar < 1e-9


@pytest.mark.parametrize("fun", [lambda s: s**4, lambda s: 1e-12 * s**3, lambda s: np.exp(-1 / s**2) if s else 0.0])
def test_a_zero_derivative_is_resolved_beside_the_slope_close_by(fun):
    found = slope(lambda s: np.array([fun(s)]), ONE, EPS)
    assert found.resolves(0.0)
    assert found.agrees(0.0)
    assert not found.agrees(1e-6 * abs(fun(1 / 16)))


@pytest.mark.parametrize(("here", "after"), [(1e-9, 0.0), (0.0, 1e-9), (-1e-9, 2e-9)])
def test_pieces_that_do_not_quite_join(here, after):
    """An exact case at the point, another series on the other side."""
    found = slope(lambda s: np.array([np.sin(0.3 + s) + (here if s == 0 else after if s > 0 else 0.0)]), ONE, EPS)
    assert not found.kinked
    assert found.agrees(np.cos(0.3))
    assert not found.agrees(np.cos(0.3) + 1e-6)
    broken = slope(lambda s: np.array([np.sin(0.3 + s) + 1e-9 * (s > 0) + 1e-3 * max(s, 0.0)]), ONE, EPS)
    assert broken.kinked


KINKS = {
    "abs": (np.abs, -1.0, 1.0),
    "relu": (lambda s: max(s, 0.0), 0.0, 1.0),
    "leaky beside a slope": (lambda s: np.sin(1 + s) + max(s, 0.1 * s), 0.1 + np.cos(1), 1 + np.cos(1)),
}


@pytest.mark.parametrize("name", KINKS)
def test_one_sided_derivatives_at_a_kink(name):
    fun, left, right = KINKS[name]
    found = slope(lambda s: np.array([fun(s)]), ONE, EPS)
    assert found.kinked
    np.testing.assert_allclose([found.left, found.right], [left, right], rtol=1e-6, atol=1e-9)
    assert found.encloses((left + right) / 2)
    assert not found.encloses(right + 0.1)


def test_noise_is_admitted():
    rng = np.random.default_rng(0)
    found = slope(lambda s: np.array([1e8 * (1 + 1e-7 * rng.normal()) + s]), ONE, 1e-7)
    assert not found.resolves(1.0)


def test_a_jump_is_no_derivative():
    found = slope(lambda s: np.array([float(s > 0)]), ONE, EPS)
    assert found.kinked or not found.resolves(1.0) or found.bar > 0.1 * abs(found.estimate)


def test_weights_and_zero_cotangents():
    found = slope(lambda s: np.array([np.sin(s), np.inf, 2 * s]), np.array([2.0, 0.0, -1.0]), EPS)
    assert abs(found.estimate) <= 4 * found.bar + 1e-9
    assert len(found.steps) == len(found.central) == 10


@pytest.mark.parametrize("place", [0.3, 0.0])  # on a tread, on an edge
@pytest.mark.parametrize("height", [1e-4, 1e-7, 1e-9, 1e-10])
def test_staircases_whose_steps_are_wider_or_narrower_than_the_smallest_difference(height, place):
    found = slope(lambda s: np.array([1 + height * np.floor(place + np.expm1(s) / height)]), ONE, EPS)
    assert found.stairs
    assert not found.kinked
    assert found.resolves(1.0)
    assert abs(found.estimate - 1) <= 4 * found.bar + 1e-9
