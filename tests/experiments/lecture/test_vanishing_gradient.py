"""The experiment on the vanishing gradient: δ beside a chain computed by hand, and verdicts that follow from |δ|."""

import math

import jax
import numpy as np
import pytest

from experiments.lecture import vanishing_gradient as experiment
from experiments.lecture.vanishing_gradient import SCALES, STEEPEST, WIDTH, Deltas
from jnn.activations import logistic, relu, tanh


@pytest.mark.parametrize("shortcuts", [False, True])
def test_towers_have_the_edges_of_an_mlp_each(shortcuts: bool) -> None:
    depth = 3
    network = experiment.towers(depth, shortcuts)
    sources = sum(range(1, depth + 1)) if shortcuts else depth
    to_output = depth + 1 if shortcuts else 1
    assert len(network.edges) == len(STEEPEST) * (sources * WIDTH**2 + to_output * WIDTH)
    hidden = network.edges[network.edges > WIDTH].reshape(-1)
    assert hidden.max() == WIDTH + depth * WIDTH * len(STEEPEST) + len(STEEPEST)
    inside = network.edges[network.edges[:, 0] > WIDTH]
    tower_of = ((inside - WIDTH - 1) // WIDTH) % len(STEEPEST)
    to_hidden = inside[:, 1] <= WIDTH + depth * WIDTH * len(STEEPEST)
    assert (tower_of[to_hidden, 0] == tower_of[to_hidden, 1]).all()


def test_deltas_step_from_layer_to_layer_as_the_slide_says() -> None:
    """|δ_l| = |h'(a_l) Wᵀ δ_{l+1}| where h' = 1: a tower of rectified units, from its weights alone."""
    depth, towers = 3, len(STEEPEST)
    keys = jax.random.split(jax.random.key(0), 2)
    found, w = experiment.deltas(experiment.towers(depth, False), depth, [1.0], experiment.unscaled, keys)
    matrices = w[0, 0, : depth * towers * WIDTH**2].reshape(depth, towers, WIDTH, WIDTH)
    place = list(STEEPEST).index(relu)
    for example in found[0, 0]:
        for layer in range(depth - 1):
            back = matrices[layer + 1, place].T @ example[layer + 1, place]
            fires = example[layer, place] != 0
            np.testing.assert_allclose(example[layer, place][fires], back[fires], rtol=1e-12)
    assert experiment.use_of_bound(found, w).max() <= 1


def test_the_bound_is_used_up_by_a_multiple_of_an_orthogonal_matrix() -> None:
    rng = np.random.default_rng(0)
    towers = len(STEEPEST)
    matrices = np.stack([3 * np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0] for _ in range(2 * towers)])
    matrices = matrices.reshape(2, towers, WIDTH, WIDTH)
    last = rng.normal(size=(towers, WIDTH))
    slope = np.array(list(STEEPEST.values()))[:, None]
    first = slope * np.einsum("tij,ti->tj", matrices[1], last)
    w = np.concatenate([matrices.ravel(), np.ones(towers * WIDTH)])[None, None]
    np.testing.assert_allclose(experiment.use_of_bound(np.stack([first, last])[None, None, None], w), 1)


def made(pace: list[float], h=logistic, use: float = 0.5, shortcuts: float = 0.0, seeds: int = 5) -> Deltas:
    """Exact powers: |δ| changes by `pace` decades a layer at each scale."""
    from_last = np.arange(9)[::-1]
    wobble = 1 + 0.01 * np.arange(seeds)[:, None]
    chain = np.stack([10.0 ** (p * from_last * wobble) for p in pace])
    return Deltas(h, chain, use, 10.0 ** (shortcuts * from_last[-5:] * wobble))


def test_paces_are_decades_a_layer() -> None:
    assert made([-1.0] * 5).pace(0).mean == pytest.approx(-1.02)


@pytest.mark.parametrize(("last", "holds"), [(-0.1, True), (0.1, False)])
def test_a_scale_at_which_delta_grows_refutes_that_it_vanishes(last: float, holds: bool) -> None:
    assert experiment.vanishes(made([-1, -1, -1, -1, last])).holds is holds


@pytest.mark.parametrize(("own", "other", "holds"), [(0.0, 0.3, True), (-0.2, 0.3, False), (0.0, 0.0, False)])
def test_passing_needs_the_right_scale_and_no_other(own: float, other: float, holds: bool) -> None:
    pace = [own if c == math.sqrt(2) else other for c in SCALES]
    assert experiment.passes(made(pace, relu)).holds is holds


def test_the_other_verdicts_follow_from_the_figures() -> None:
    assert experiment.bounded({"tanh": made([0.0] * 5, tanh, use=1.01)}).holds is False
    assert experiment.shortcuts_help({"tanh": made([-1.0] * 5, tanh, shortcuts=0.0)}).holds is True
    assert experiment.shortcuts_help({"tanh": made([0.0] * 5, tanh, shortcuts=-1.0)}).holds is False
