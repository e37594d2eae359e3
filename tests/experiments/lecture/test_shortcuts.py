"""The experiment on shortcuts: its networks are what they stand for, and its verdicts follow from the risks."""

import jax
import numpy as np
import pytest

import jnn
from experiments import datasets
from experiments.lecture import shortcuts, variants
from experiments.lecture.shortcuts import Pairs
from experiments.lecture.variants import Settings, Variant


def test_variants_are_the_networks_that_they_stand_for() -> None:
    """Each is, to rounding, what `fit` makes of its own network, which has neither mask nor unused neurons."""
    data, settings = datasets.split("iris", 2, 0, 60), Settings(epochs=4)
    own = jnn.mlp([4, 2, 3], hidden="tanh")
    kinds = [Variant("small", own), Variant("large", jnn.mlp([4, 5, 3], hidden="tanh", shortcuts=True))]
    trained = variants.train(kinds, data, {"standardized": data.train.x}, settings, 0)
    risks = trained.risks(trained.result.params, np.stack([data.test.x] * 2))
    for split, key in enumerate(jax.random.split(jax.random.key(0), 2)):
        alone = jnn.fit(
            own,
            data.source.likelihood,
            data.train.x[split],
            data.train.y[split],
            key=key,
            optimizer=jnn.adam(settings.learning_rate),
            epochs=4,
            validation=settings.validation,
            params=own.init(key, dtype=np.float32),
        )
        expected = data.source.likelihood.nll(own.apply(alone.params, data.test.x[split]), data.test.y[split]).mean()
        assert risks[0, split] == pytest.approx(float(expected), rel=1e-4)  # float32, and Adam divides by small numbers
        first = np.asarray(trained.result.last_params[1]["W"][0, split])
        assert (first[:4] == 0).all()  # no shortcuts
        assert (first[6:] == 0).all()  # no more than two neurons
        assert (np.asarray(trained.result.last_params[1]["W"][1, split]) != 0).all()


def pairs(few: float, many: float, name: str = "iris") -> Pairs:
    """Risks with shortcuts as multiples of those without, for few and for many neurons."""
    data = datasets.split(name, splits=6, seed=0, examples=60)
    noise = np.exp(0.02 * np.resize([1, -1], 6))
    return Pairs(data, (2, 32), np.ones((2, 6)), np.array([[few], [many]]) * noise)


@pytest.mark.parametrize(
    ("few", "many", "worth", "more"),
    [(0.5, 1.0, True, True), (1.0, 1.0, None, None), (1.0, 0.5, True, False), (1.5, 1.0, False, False)],
)
def test_the_verdicts_follow_from_the_risks(few: float, many: float, worth: bool | None, more: bool | None) -> None:
    found = [pairs(few, many)]
    assert shortcuts.worth_trying(found).holds is worth
    assert shortcuts.for_few_neurons(found).holds is more


def test_help_here_and_harm_there_decide_nothing() -> None:
    assert shortcuts.worth_trying([pairs(0.5, 1.0), pairs(1.5, 1.0, "wine")]).holds is None


def test_the_gain_is_a_share_of_the_risk_without() -> None:
    assert pairs(0.25, 1.0).gain(0).mean == pytest.approx(0.75, abs=1e-3)
