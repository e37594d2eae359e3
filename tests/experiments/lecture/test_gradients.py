"""The experiment on gradients: its verdicts follow from the derivatives, and a wrong one is found."""

import jax
import numpy as np
import pytest

import jnn
from experiments import datasets
from experiments.experiment import Outcome, Session
from experiments.lecture import gradient_cases, gradients, recipe

from .test_every_experiment import says_something


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return gradients.EXPERIMENT.run(Session(seed=3, size="tiny"))


def test_it_says_something(outcome: Outcome) -> None:
    says_something(outcome)


def test_every_data_set_is_in_the_table_of_leaves_and_in_the_picture(outcome: Outcome) -> None:
    titles = {datasets.SOURCES[name].title for name in recipe.EFFORTS["tiny"].names}
    leaves, _ = outcome.tables
    assert {row[0].split(",")[0] for row in leaves.rows} == titles | {"XOR"}
    (differences,) = outcome.pictures
    assert len(differences.panels) == len(titles) + 1


def test_the_gradients_agree(outcome: Outcome) -> None:
    assert [v.holds for v in outcome.verdicts] == [True, True, True]


def test_a_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdicts would be others if a hand-written derivative were wrong by 1 in 10⁵."""
    right = gradients.backprop.value_and_grad

    def wrong(network, likelihood):
        by_hand = right(network, likelihood)

        def evaluate(*batch):
            value, (first, second) = by_hand(*batch)
            return value, (first, {**second, "b": second["b"] * (1 + 1e-5)})

        return evaluate

    problem = gradients.xor_problem(0)
    with monkeypatch.context() as patched:
        patched.setattr(gradients.backprop, "value_and_grad", wrong)
        found = [gradients.agreement(problem, weights_a_leaf=2, seed=0)]
    assert [verdict(found).holds for verdict in (gradients._exact, gradients._as_accurate, gradients._differences)] == [
        False,
        False,
        False,
    ]


def test_every_likelihood_meets_every_kind_of_network(outcome: Outcome) -> None:
    cases = outcome.tables[1]
    assert [row[0] for row in cases.rows] == list(gradient_cases.LIKELIHOODS)
    assert len(cases.columns) == 1 + len(gradient_cases.NETWORKS)


def test_a_wrong_case_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gradient_cases.backprop.value_and_grad

    def wrong(network, likelihood):
        def evaluate(*batch):
            value, gradient = right(network, likelihood)(*batch)
            return value, jax.tree.map(lambda leaf: leaf * (1 + 1e-5), gradient)

        return evaluate

    monkeypatch.setattr(gradient_cases.backprop, "value_and_grad", wrong)
    monkeypatch.setattr(gradient_cases, "LIKELIHOODS", {"Poisson": gradient_cases.Poisson()})
    found = [gradients.Agreement("MLP", gradient_cases.compare(jnn.mlp([3, 4]), 2, 0))]
    assert gradients._exact(found).holds is False
    assert gradients._as_accurate(found).holds is False


def test_ulps_are_those_of_the_largest_entry() -> None:
    wide = {"hand-written": np.array([[1.0, -3.0]]), "autodiff": np.array([[1.0, -3.0]])}
    narrow = {
        "hand-written": np.array([[1 + 2**-22, -3.0]], np.float32),  # one spacing at 3 is 2^-22
        "autodiff": np.array([[1.0, -3 - 3 * 2**-22]], np.float32),
    }
    leaf = gradient_cases.compare_leaf("W1", narrow, wide)
    assert leaf.ulps == {"hand-written": 1.0, "autodiff": 3.0}
    assert leaf.relative == 0
