"""The experiment on the recipe: each secret's verdict follows from its own risks, and inputs are what they say."""

import numpy as np
import pytest

from experiments import datasets
from experiments.lecture import secrets
from experiments.lecture.secrets import EFFORTS, RECIPE, SECRETS, Ablation


def ablation(secret: str, factor: float, name: str = "iris") -> Ablation:
    """Risks of 1 for everything but one secret left out."""
    data = datasets.split(name, splits=6, seed=0, examples=60)
    noise = 1 + 0.05 * np.resize([1, -1], 6)
    risks = dict.fromkeys((RECIPE, *SECRETS), np.ones(6)) | {secret: factor * noise}
    return Ablation(data, risks, np.ones(6))


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(("factor", "holds"), [(1.5, True), (1.0, None), (0.5, False)])
def test_a_verdict_follows_from_the_risk_without_it(secret: str, factor: float, holds: bool | None) -> None:
    found = [ablation(secret, factor)]
    assert secrets.verdict(found, secret).holds is holds
    other = next(s for s in SECRETS if s != secret)
    assert secrets.verdict(found, other).holds is None


def test_help_here_and_harm_there_decide_nothing() -> None:
    found = [ablation("no shortcuts", 1.5), ablation("no shortcuts", 0.5, "wine")]
    assert secrets.verdict(found, "no shortcuts").holds is None


def test_raw_inputs_are_the_same_examples_before_standardization() -> None:
    effort = EFFORTS["tiny"]
    data = datasets.split("iris", effort.splits, 5, effort.examples)
    train, test = secrets.raw("iris", data, effort, 5)
    for split in range(effort.splits):
        mean, deviation = train[split].mean(axis=0), train[split].std(axis=0)
        np.testing.assert_allclose((test[split] - mean) / deviation, data.test.x[split], atol=1e-4)
