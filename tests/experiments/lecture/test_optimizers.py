"""The experiment on optimizers: its verdicts follow from the risks, and its steepest descent is that of the slide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.lecture import optimizers
from experiments.lecture.optimizers import RATES, Runs
from jnn.likelihoods import Gaussian

NAMES = ["one", "two"]


def runs(final: float, good: int = 1) -> Runs:
    """Risks at the end around `final` on both problems; ten times higher at all rates of the sweep but `good` of them.

    (But for one try, in which one more rate is good.)
    """
    noise = 1 + 0.05 * np.resize([1, -1], (2, 12, 4))
    tried = np.full((2, len(RATES), 5), np.log10(10 * final))
    tried[:, 3 : 3 + good] = np.log10(final)
    tried[:, 2, 0] = np.log10(final)
    return Runs(tried, final * noise, 1e-6)


@pytest.mark.parametrize(("rival", "holds"), [(0.01, True), (0.1, None), (0.2, False)])
def test_steepest_descent_is_beaten_only_if_a_rival_ends_lower(rival: float, holds: bool | None) -> None:
    found = {optimizers.PLAIN: runs(0.1), "Adam": runs(rival)}
    assert optimizers.beaten(found, NAMES).holds is holds


@pytest.mark.parametrize(("good", "holds"), [(6, True), (3, None), (1, False)])
def test_rprop_is_tolerant_only_if_more_rates_are_good(good: int, holds: bool | None) -> None:
    plain, ours = runs(0.1, 3), runs(0.1, good)
    plain.tried[:, 2, 0], plain.tried[:, 2, 1] = plain.tried[:, 8, 0], plain.tried[:, 3, 0]  # in another try
    found = {optimizers.PLAIN: plain, "iRprop+": ours}
    assert optimizers.tolerant(found, NAMES).holds is holds


def test_the_best_rate_and_the_decades_that_are_nearly_as_good() -> None:
    found = runs(0.1, good=3)
    assert found.best.tolist() == [3, 3]
    np.testing.assert_allclose(found.tolerance[0], [2.0, 1.5, 1.5, 1.5, 1.5], rtol=0.01)  # half a decade a rate


def test_steepest_descent_is_the_slides() -> None:
    """Three updates w ← w − η∇E / N, with JAX's derivative of the risk, from the same weights."""
    _, x, y = optimizers.problems(0, 30)
    key, rate = jax.random.key(3), jnp.float32(0.1)
    fitted = optimizers.jnn.fit(
        optimizers.NETWORK,
        Gaussian(),
        x[0],
        y[0],
        key=key,
        optimizer=optimizers.RULES["steepest descent"](rate),
        epochs=3,
        batch_size=None,
    )

    def risk(w):
        return 0.5 * jnp.mean((optimizers.NETWORK.apply(w, x[0]) - y[0]) ** 2)

    w = optimizers.NETWORK.init(jax.random.split(key, 3)[0], dtype=jnp.float32)
    risks = []
    for _ in range(3):
        value, gradient = jax.value_and_grad(risk)(w)
        risks.append(float(value))
        w = jax.tree.map(lambda w, g: w - rate * g, w, gradient)
    np.testing.assert_allclose(fitted.history.train_error, risks, rtol=1e-5)  # sums of 30 in another order


def test_problems_are_standardized_and_the_same_for_a_seed() -> None:
    names, x, y = optimizers.problems(1, 50)
    assert len(names) == len(x) == len(y) == 3
    np.testing.assert_allclose(y.var(axis=1), 1, atol=1e-4)
    np.testing.assert_array_equal(x, optimizers.problems(1, 50)[1])
