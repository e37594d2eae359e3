"""The experiment on weight decay: roughness and linearity against closed forms, and verdicts that can fail."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from experiments.experiment import Effort, Session
from experiments.lecture import weight_decay
from experiments.lecture.weight_decay import ALL, GAMMAS, SPARED, Fits


def test_roughness_is_that_of_tanh() -> None:
    """f(x) = v tanh(w x) has f'' = −2 v w² tanh(w x) (1 − tanh²(w x))."""
    w, v = 3.0, 2.0
    params = (
        {"W": jnp.zeros((1, 20)).at[0, 0].set(w), "b": jnp.zeros(20)},
        {"W": jnp.zeros((20, 1)).at[0, 0].set(v), "b": jnp.zeros(1)},
    )
    exact, _ = integrate.quad(lambda x: (2 * v * w**2 * np.tanh(w * x) * (1 - np.tanh(w * x) ** 2)) ** 2, -1, 1)
    found = weight_decay.roughness(params, jnp.asarray(weight_decay.GRID, float))
    # The grid's mean stands for half of the integral: 201 points, a smooth function, ends of small value.
    assert float(found) == pytest.approx(exact / 2, rel=0.01)


def test_a_line_is_not_bent_and_a_parabola_is() -> None:
    x = jnp.linspace(-1, 1, 2001)
    assert float(weight_decay.bent(3 * x + 1, x)) < 1e-20
    assert float(weight_decay.bent(x**2, x)) == pytest.approx(4 / 45, rel=1e-2)  # the variance of x²


def fits(power: float, risk: float = 1.0, seeds: int = 20) -> Fits:
    """Roughness ∝ ‖w‖ to a power; γ > 0 multiplies the risk."""
    rng = np.random.default_rng(0)
    hidden = np.tile(np.geomspace(10, 0.1, len(GAMMAS)), (seeds, 1))
    noise = np.exp(0.05 * rng.normal(size=(3, *hidden.shape)))
    rough = hidden**power * noise[0]
    risks = np.where(np.arange(len(GAMMAS)) == 0, 1.0, risk) * noise[1]
    return Fits(hidden, 1 / hidden, rough, rough, risks, np.zeros((seeds, len(GAMMAS), 3)))


@pytest.mark.parametrize(("power", "holds"), [(2.0, True), (0.0, None), (-1.0, False)])
def test_smoothness_follows_from_the_exponent(power: float, holds: bool | None) -> None:
    found = fits(power)
    assert weight_decay.smoother(found).holds is holds
    assert weight_decay.more_linear(found).holds is holds


def test_the_exponent_is_recovered() -> None:
    found = fits(2.0)
    assert weight_decay.trend(found.hidden, found.roughness).mean == pytest.approx(2, abs=0.02)


@pytest.mark.parametrize(("risk", "holds"), [(0.5, True), (1.0, None), (2.0, False)])
def test_weight_decay_helps_only_if_the_risk_falls(risk: float, holds: bool | None) -> None:
    assert weight_decay.helps(fits(1.0, risk)).holds is holds
    ours, theirs = fits(1.0), fits(1.0)
    assert weight_decay.spare({SPARED: replace(ours, risk=risk * ours.risk), ALL: theirs}).holds is holds


def test_an_interrupted_run_reports_the_samples_that_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_decay, "TOGETHER", 2)
    session = Session(0, "tiny", stop_asked=lambda: True)
    found = weight_decay.fits(Effort(seeds=4, epochs=2), session)
    assert session.interrupted
    assert found[SPARED].risk.shape == (2, len(GAMMAS))
