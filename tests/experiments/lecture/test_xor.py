"""XOR: the hand-set network's units, and the argument that no single unit does it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnn
from experiments.experiment import Effort
from experiments.lecture import xor, xor_training
from experiments.lecture.variants import masked
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


def trial(shares: dict[tuple[bool, int], int], activation: str = "tanh", seeds: int = 100) -> xor.Trial:
    """A trial in which so many of 100 seeds solved it, by (shortcuts, hidden neurons)."""
    solved = np.zeros((2, len(xor.WIDTHS), seeds), bool)
    for (shortcuts, hidden), count in shares.items():
        solved[int(shortcuts), hidden, :count] = True
    return xor.Trial(activation, None, None, solved)  # type: ignore[arg-type]


@pytest.mark.parametrize(("few", "more", "holds"), [(40, 90, True), (90, 40, False), (60, 62, None)])
def test_more_is_easier_follows_from_the_shares(few: int, more: int, holds: bool | None) -> None:
    assert xor.more_is_easier([trial({(False, 2): few, (False, 8): more})]).holds is holds


@pytest.mark.parametrize(("some", "holds"), [(40, True), (0, False), (100, None)])
def test_two_suffice_follows_from_the_shares(some: int, holds: bool | None) -> None:
    assert xor.two_suffice([trial({(False, 2): 40}), trial({(False, 2): some})]).holds is holds


def test_a_solving_single_unit_would_refute_the_claim() -> None:
    assert xor.no_single_unit(3, [trial({})]).holds is True
    assert xor.no_single_unit(3, [trial({(True, 0): 1})]).holds is False


def test_one_neuron_needs_shortcuts() -> None:
    assert xor.one_with_shortcuts([trial({(True, 1): 90})]).holds is True
    assert xor.one_with_shortcuts([trial({(True, 1): 90, (False, 1): 1})]).holds is False
    assert xor.one_with_shortcuts([trial({})]).holds is False


@pytest.mark.parametrize("activation", ["logistic", "tanh"])
def test_a_part_of_a_network_is_trained_as_the_network_of_that_size(activation: str) -> None:
    """Absent weights stay 0, and nothing that they would have done reaches the others: the output depends on none."""
    found = xor_training.train(activation, Effort(seeds=2, epochs=30), 0)
    hidden, output = found.params
    for m in xor.WIDTHS:
        assert not np.any(hidden["W"][:, m, :, :, m:])
        assert not np.any(hidden["b"][:, m, :, m:])
        assert not np.any(output["W"][:, m, :, 2 + m :])
        assert np.all(np.any(output["W"][1, m, :, :2] != 0, axis=-1))
    assert not np.any(output["W"][0, :, :, :2])
    own = jnn.mlp([2, 2, 1], activation)
    start = own.init(jax.random.key(0))
    wide = jnn.mlp([2, 8, 1], activation, shortcuts=True)
    present = xor_training.part(wide, jnp.asarray(2), jnp.asarray(0.0))
    padded = (
        {"W": jnp.pad(start[0]["W"], ((0, 0), (0, 6))), "b": jnp.pad(start[0]["b"], (0, 6))},
        {"W": jnp.pad(start[1]["W"], ((2, 6), (0, 0))), "b": start[1]["b"]},
    )
    adam = jnn.adam(0.03)
    trained = [
        jnn.fit(
            network,
            jnn.likelihoods.Bernoulli(),
            xor.X,
            xor.Y[:, None],
            key=jax.random.key(1),
            optimizer=optimizer,
            epochs=50,
            batch_size=None,
            params=params,
        ).params
        for network, optimizer, params in (
            (own, adam, start),
            (wide, masked(adam, present), padded),
        )
    ]
    np.testing.assert_allclose(trained[0][0]["W"], trained[1][0]["W"][:, :2], rtol=1e-4)
    np.testing.assert_allclose(trained[0][1]["W"], trained[1][1]["W"][2:4], rtol=1e-4)
