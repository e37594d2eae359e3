"""The experiment on likelihoods: its measures beside closed forms, and verdicts that follow from them."""

import numpy as np
import pytest
from scipy import stats

from experiments.lecture import likelihoods
from experiments.lecture.likelihoods import TEST, TRAIN, Probabilities


@pytest.mark.parametrize("kind", ["s=0.3", "growing noise", "counts", "classes of two", "classes of three"])
def test_data_are_drawn_from_their_truth(kind: str) -> None:
    data = likelihoods.draw(kind, 20, 0)
    assert data.train.x.shape[1] == TRAIN
    assert data.test.x.shape[1] == TEST
    if kind == "classes of three":
        truth, y = data.truth, np.eye(3)[data.y]
    elif kind.startswith(("s=", "growing")):
        truth, y = data.truth**2, (data.y - likelihoods.sine(data.x)) ** 2
    else:
        truth, y = data.truth, data.y
    difference = (y - truth).reshape(-1, y.shape[-1])
    z = difference.mean(axis=0) / (difference.std(axis=0) / np.sqrt(len(difference)))
    assert np.abs(z).max() < 4


def test_a_rounded_normal_is_a_distribution_over_counts() -> None:
    """Its probabilities of 0, 1, 2, ... sum to 1, and so do Poisson's."""
    counts = np.arange(TRAIN + 60.0)[None, :, None]
    counts[:, TRAIN:] -= TRAIN
    mean = np.full_like(counts, 3.7)
    one = np.array([likelihoods.rounded_normal_nll(mean[:, : TRAIN + 1], shifted) for shifted in _one_by_one(counts)])
    assert np.exp(-one).sum() == pytest.approx(1, abs=1e-6)
    log_rate = np.log(mean)
    two = np.array([likelihoods.poisson_nll(log_rate[:, : TRAIN + 1], shifted) for shifted in _one_by_one(counts)])
    np.testing.assert_allclose(two[:, 0], -stats.poisson.logpmf(np.arange(60), 3.7), rtol=1e-4)


def _one_by_one(counts: np.ndarray) -> list[np.ndarray]:
    """The same training targets with one test target after another."""
    train = np.full_like(counts[:, :TRAIN], 3.7)
    train[:, ::2] += 1.5
    train[:, 1::2] -= 1.5
    return [np.concatenate([train, counts[:, [TRAIN + k]]], axis=1) for k in range(60)]


@pytest.mark.parametrize(("ratio", "holds"), [(1.0, True), (1.2, False), (1.03, None)])
def test_noise_that_is_not_found_is_told(ratio: float, holds: bool | None) -> None:
    wobble = np.linspace(-0.01, 0.01, 20)
    assert likelihoods.noise_is_found({0.1: 1 + wobble, 0.3: ratio + wobble}).holds is holds


@pytest.mark.parametrize(("sharpen", "holds"), [(1.0, True), (2.0, False)])
def test_overconfident_networks_are_told(sharpen: float, holds: bool) -> None:
    rng = np.random.default_rng(0)
    true = rng.random((20, TEST))
    happened = (rng.random(true.shape) < true).astype(float)
    predicted = true**sharpen / (true**sharpen + (1 - true) ** sharpen)
    assert likelihoods.calibrated("two", Probabilities(predicted, happened, true, happened)).holds is holds


def test_the_better_likelihood_is_the_one_with_the_lower_nll() -> None:
    wobble = np.linspace(-0.1, 0.1, 20)
    assert likelihoods.better("a", "b", "data", {"a": wobble, "b": 1 + wobble}).holds is True
    assert likelihoods.better("a", "b", "data", {"a": 1 + wobble, "b": wobble}).holds is False
    assert likelihoods.better("a", "b", "data", {"a": wobble, "b": wobble[::-1]}).holds is None
