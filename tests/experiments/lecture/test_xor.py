"""XOR: the hand-set network's units, and the argument that no single unit does it."""

import itertools

import numpy as np
import pytest

from experiments.lecture import xor
from jnn import activations


def test_truth_table_of_each_unit() -> None:
    assert xor.truth_tables() == {
        "both 1": (0, 0, 0, 1),
        "at least one 1": (0, 1, 1, 1),
        "output": (0, 1, 1, 0),
    }


def test_the_threshold_network_computes_xor_exactly() -> None:
    network, params = xor.threshold_network()
    output = activations.step(network.apply(params, xor.X))[:, 0]
    assert np.asarray(output).tolist() == [a ^ b for a, b in itertools.product((0, 1), repeat=2)]


def test_no_single_unit_computes_xor() -> None:
    none = [labels for labels in itertools.product((0, 1), repeat=4) if xor.separable(labels) is None]
    assert none == [(0, 1, 1, 0), (1, 0, 0, 1)]


@pytest.mark.parametrize("labels", list(itertools.product((0, 1), repeat=4)))
def test_witnesses_compute_their_tables(labels: tuple[int, ...]) -> None:
    unit = xor.separable(labels)
    if unit is not None:
        w1, w2, b = unit
        assert tuple(int(w1 * p + w2 * q + b > 0) for p, q in itertools.product((0, 1), repeat=2)) == labels


def test_the_best_single_unit_gets_three_right() -> None:
    right, (w1, w2, b) = xor.best_single_unit()
    outputs = [int(w1 * p + w2 * q + b > 0) for p, q in itertools.product((0, 1), repeat=2)]
    assert right == sum(o == y for o, y in zip(outputs, xor.Y, strict=True)) == 3


def trial(name: str, solved: int, seeds: int = 100) -> xor.Trial:
    return xor.Trial(name, None, None, np.arange(seeds) < solved)  # type: ignore[arg-type]


@pytest.mark.parametrize(("few", "more", "holds"), [(40, 90, True), (90, 40, False), (60, 62, None)])
def test_the_verdict_follows_from_the_shares(few: int, more: int, holds: bool | None) -> None:
    trials = [trial("no hidden unit", 0), trial("2 hidden", few), trial("4 hidden", more)]
    assert xor._more_is_easier(trials).holds is holds


def test_a_solving_single_unit_would_refute_the_claim() -> None:
    assert xor._no_single_unit(3, trial("no hidden unit", 0)).holds is True
    assert xor._no_single_unit(3, trial("no hidden unit", 1)).holds is False
