"""The experiment on Adam: steps known in closed form, and verdicts that read differently for other steps."""

import numpy as np
import optax
import pytest

from experiments.lecture import adam_effects
from experiments.lecture.adam_effects import B1, B2, SLIDE, TIGHT, TIMES


@pytest.fixture(scope="module")
def steps() -> dict[str, np.ndarray]:
    made = adam_effects.constructed()
    found, _ = adam_effects.in_float64(np.stack(list(made.values()), axis=1))
    return dict(zip(made, found.T, strict=True))


def test_steps_without_correction_are_those_of_plain_moments() -> None:
    g = np.random.default_rng(0).normal(size=(50, 3))
    found, v_found = adam_effects.in_float64(g, corrected=False)
    m = v = np.zeros(3)
    for n in range(50):
        m, v = B1 * m + (1 - B1) * g[n], B2 * v + (1 - B2) * g[n] ** 2
        # The powers of β in float32 steps through the count: 1 − β2ᵗ loses nothing in float64.
        np.testing.assert_allclose(found[n], -m / np.sqrt(v), rtol=1e-9)
        np.testing.assert_allclose(v_found[n], v, rtol=1e-12)


def test_the_long_step_is_optaxs_too() -> None:
    """A bound that the slide states is exceeded by another implementation of Adam on the same gradients."""
    g = adam_effects.constructed(3000)["0 for long, then growing by β₂/β₁"].astype(np.float32)
    adam = optax.adam(1.0, eps=1e-20)
    state = adam.init(np.float32(0))
    updates = []
    for value in g[-260:]:
        update, state = adam.update(value, state)
        updates.append(abs(float(update)))
    assert max(updates) > 1.5  # the corrections are still large after 260 steps: no step of 7 α yet, but above α
    found, _ = adam_effects.in_float64(g[-260:, None])
    np.testing.assert_allclose(updates[-1], abs(found[-1, 0]), rtol=1e-3)


def test_the_bounds_hold_and_are_refuted_by_longer_steps(steps: dict[str, np.ndarray]) -> None:
    assert adam_effects.slides_bound(steps, 1.0).holds is False
    assert adam_effects.tight_bound(steps, 1.0).holds is True
    capped = {name: np.clip(s, -SLIDE, SLIDE) for name, s in steps.items()}
    assert adam_effects.slides_bound(capped, 1.0).holds is True
    assert adam_effects.tight_bound(capped, 1.0).holds is False
    assert adam_effects.tight_bound(steps, TIGHT + 0.1).holds is False


def test_alternating_gradients_end_at_the_closed_form(steps: dict[str, np.ndarray]) -> None:
    assert abs(steps["+1, −1, +1, ..."][-1]) == pytest.approx((1 - B1) / (1 + B1))
    assert adam_effects.signs(steps).holds is True
    assert adam_effects.signs(steps | {"+1, −1, +1, ...": steps["always 1"]}).holds is False


def test_the_second_moment_is_found_only_where_it_stays() -> None:
    v = {
        name: adam_effects.in_float64(adam_effects.random_gradients(name, 500, seed=1))[1][TIMES - 1]
        for name in (*adam_effects.SECOND_MOMENT, "growing")
    }
    assert adam_effects.second_moment({name: v[name] for name in adam_effects.SECOND_MOMENT}).holds is True
    assert adam_effects.second_moment({"normal, mean 0": v["growing"]}).holds is False


def test_the_other_verdicts_follow_from_their_figures() -> None:
    n = np.random.default_rng(0).normal(0, 0.1, 400)
    assert adam_effects.ratio({"normal, mean 0": n}).holds is True
    assert adam_effects.ratio({"normal, mean 0": n + 0.1}).holds is False
    one, long = -np.ones(20), -np.linspace(3, 1, 20)
    assert adam_effects.correction(one, long).holds is True
    assert adam_effects.correction(long, long).holds is False
    risks = np.abs(np.random.default_rng(1).normal(1, 0.1, (40, 5)))
    assert adam_effects.learning({"with": risks, "without": 2 * risks}).holds is True
    assert adam_effects.learning({"with": 2 * risks, "without": risks}).holds is False
