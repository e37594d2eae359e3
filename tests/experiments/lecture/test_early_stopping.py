"""The experiment on early stopping: its rules stop where `fit` does, and its verdicts follow from the curves."""

import jax
import numpy as np
import pytest

import jnn
from experiments.experiment import Effort
from experiments.lecture import early_stopping
from experiments.lecture.early_stopping import Curves, Problem
from jnn.likelihoods import Bernoulli
from jnn.training.stopping import GeneralizationLoss


@pytest.fixture(scope="module")
def learned() -> Curves:
    effort = Effort(samples=3, epochs=40, test=50)
    return early_stopping.learn(early_stopping.moons(effort, 0), effort, 0)


def test_rules_stop_where_fit_does(learned: Curves) -> None:
    """`fit` with the rule, on the first sample with its key, runs as long and chooses the same epoch."""
    problem, risks = learned.problem, learned.validation[0].astype(float)
    # Where training becomes worse than ever before by most: halfway there, rounding cannot decide when to stop.
    worst = np.maximum.accumulate(100 * (risks / np.minimum.accumulate(risks) - 1))
    place = int(np.argmax(np.diff(worst[:-1])))
    rule = GeneralizationLoss(float(worst[place] + worst[place + 1]) / 2)
    train, held = problem.train[0], problem.validation[0]
    fitted = jnn.fit(
        jnn.mlp([10, early_stopping.HIDDEN, 1], hidden="tanh"),
        problem.likelihood,
        problem.x[train],
        problem.y[train],
        key=jax.random.split(jax.random.key(0), 3)[0],
        optimizer=jnn.adam(early_stopping.RATE),
        epochs=40,
        validation=(problem.x[held], problem.y[held]),
        stopping=rule,
    )
    assert 1 < int(fitted.epochs) < 40
    ran = np.asarray(early_stopping.stops(rule, learned.train, learned.validation))
    assert ran[0] == int(fitted.epochs)
    assert 1 + early_stopping.output(learned, ran)[0] == int(fitted.best_epoch)


def test_samples_are_disjoint_parts(learned: Curves) -> None:
    problem = learned.problem
    parts = [set(rows.ravel().tolist()) for rows in (problem.train, problem.validation, problem.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(problem.x)


def curves(test_at_chosen: float, test_at_end: float, lowest: float, samples: int = 8, epochs: int = 100) -> Curves:
    """The validation risk is lowest in epoch 10, the test risk in epoch 20; the last test risk is given."""
    noise = 0.01 * np.resize([1, -1], (samples, 1))
    validation = np.full((samples, epochs), 2.0)
    validation[:, 9] = 1.0
    test = np.full((samples, epochs), max(test_at_chosen, test_at_end)) + noise
    test[:, 9], test[:, 19], test[:, -1] = test_at_chosen + noise[:, 0], lowest, test_at_end - noise[:, 0]
    rows = np.zeros((samples, 4), int)
    problem = Problem("p", Bernoulli(), np.zeros((4, 1)), np.zeros((4, 1)), rows, rows, rows, overlapping=False)
    return Curves(problem, np.full((samples, epochs), 1.0), validation, test)


@pytest.mark.parametrize(("end", "holds"), [(2.0, True), (1.0, None), (0.8, False)])
def test_stopping_saves_only_if_the_last_risk_is_higher(end: float, holds: bool | None) -> None:
    assert early_stopping.saves([curves(1.0, end, 0.8)]).holds is holds


@pytest.mark.parametrize(("lowest", "holds"), [(0.9, True), (0.0, None), (-2.0, False)])
def test_choosing_is_good_only_if_little_is_left(lowest: float, holds: bool | None) -> None:
    assert early_stopping.near([curves(1.0, 2.0, lowest)]).holds is holds


def test_rules_that_stop_too_soon_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    good = curves(1.0, 2.0, 0.9)
    assert early_stopping.soon([good]).holds is True
    early = {rule: np.full(8, 5) for rule in early_stopping.RULES}  # before the lowest validation risk
    bad = curves(1.0, 2.0, 0.9)
    monkeypatch.setitem(bad.__dict__, "ran", early)
    assert early_stopping.soon([bad]).holds is False


def test_curves_that_were_broken_off_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ensembles.fit` returns what was learned up to Ctrl-C."""
    effort = Effort(samples=3, epochs=40, test=50)
    whole = early_stopping.ensembles.fit

    def broken_off(*arguments, **options):
        return whole(*arguments, **{**options, "stopping": jnn.stopping.Patience(1)})

    monkeypatch.setattr(early_stopping.ensembles, "fit", broken_off)
    with pytest.raises(KeyboardInterrupt):
        early_stopping.learn(early_stopping.moons(effort, 0), effort, 0)
