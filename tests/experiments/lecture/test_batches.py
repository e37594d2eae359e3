"""The experiment on batch sizes: its verdicts follow from the risks and the rates."""

import numpy as np
import pytest

from experiments import datasets
from experiments.experiment import Effort
from experiments.lecture import batches
from experiments.lecture.batches import RATES, Learned


def learned(name: str, size: int, end: float, best: int) -> Learned:
    """Risks that end at about `end`, with the lowest at the rate of number `best` in each try."""
    noise = 0.1 * np.resize([1, -1, -1, 1] if name == "batch" else [1, -1], (30, 1))
    tried = np.zeros((4, len(RATES)))
    tried[np.arange(4), best + np.array([0, 0, 0, 1])] = -1
    return Learned(name, size, tried, end * np.exp(noise), 0.001)


@pytest.mark.parametrize(("end", "holds"), [(0.5, True), (1.0, None), (2.0, False)])
def test_small_batches_win_only_if_their_risk_is_lower(end: float, holds: bool | None) -> None:
    found = [learned("batch", 100, 1.0, 5), learned("mini-batch", 10, end, 5), learned("online", 1, end, 3)]
    assert batches.sooner(found).holds is holds


@pytest.mark.parametrize(
    ("batch", "online", "summed", "mean"),
    [(7, 1, True, True), (7, 5, False, True), (1, 7, False, False), (3, 3, False, None)],
)
def test_the_smaller_rate_depends_on_how_gradients_are_counted(
    batch: int, online: int, summed: bool, mean: bool | None
) -> None:
    """Rates are half decades apart, and the batch has 100 examples: two decades between sum and mean."""
    found = [learned("batch", 100, 1.0, batch), learned("online", 1, 1.0, online)]
    if online == batch:
        found[1].tried[:] = np.roll(found[1].tried, 1, axis=0)  # the same rates in other tries: no difference
    assert [verdict.holds for verdict in batches.smaller_rate(found)] == [summed, mean]


def test_a_whole_batch_is_one_step_whatever_the_order() -> None:
    """Equal to plain gradient descent on the mean risk, by the risks of one rate that did not diverge."""
    data = datasets.split("digits", 1, 0, 60)
    effort = Effort(tries=2, epochs=2)
    whole = batches.learn("batch", data.train.x.shape[1], data, effort, 0)
    more = batches.learn("batch", 10 * data.train.x.shape[1], data, effort, 0)
    np.testing.assert_allclose(whole.curves, more.curves, rtol=1e-5)
    assert (whole.curves <= np.log(10)).all()
