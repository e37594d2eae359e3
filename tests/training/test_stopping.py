"""The stopping rules against a plain reading of Prechelt's formulas, and early stopping in `fit`."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnn import adam, ensembles, fit, mlp
from jnn.likelihoods import Bernoulli, Categorical, Gaussian
from jnn.training.stopping import (
    GeneralizationLoss,
    GradientNorm,
    LargeDamping,
    Observation,
    Patience,
    ProgressQuotient,
    SmallGradient,
    SmallStep,
    StoppingRule,
    TrainingProgress,
)

from .training_oracles import categorical_risk

# --- plain readings: given all errors up to epoch t (validation errors None where there were none), stop at t?


def generalization_loss(validation):
    seen = [e for e in validation if not np.isnan(e)]
    return 100 * (validation[-1] / min(seen) - 1) if not np.isnan(validation[-1]) else -np.inf


def strip_progress(train, k):
    strip = train[-k:]
    return 1000 * (sum(strip) / (k * min(strip)) - 1)


def patience(errors, epochs, min_delta):
    if np.isnan(errors[-1]):
        return False
    lowest, at = np.inf, 0
    for t, e in enumerate(errors, start=1):
        if e < lowest - min_delta:
            lowest, at = e, t
    return len(errors) - at >= epochs


RULES = {
    "patience": (Patience(4), lambda tr, va, g: patience(va, 4, 0)),
    "patience with a margin": (Patience(3, min_delta=0.2), lambda tr, va, g: patience(va, 3, 0.2)),
    "patience on training": (Patience(3, 0.05, "train"), lambda tr, va, g: patience(tr, 3, 0.05)),
    "GL": (GeneralizationLoss(20.0), lambda tr, va, g: generalization_loss(va) > 20),
    "P": (TrainingProgress(60.0, 4), lambda tr, va, g: len(tr) % 4 == 0 and strip_progress(tr, 4) < 60),
    "PQ": (
        ProgressQuotient(0.1, 3),
        lambda tr, va, g: len(tr) % 3 == 0 and generalization_loss(va) / strip_progress(tr, 3) > 0.1,
    ),
    "gradient": (GradientNorm(0.1), lambda tr, va, g: g[-1] <= 0.1),
}


@jax.jit
def _stops(rule, train, validation, gradient, validated):
    def step(state, seen):
        return rule.update(state, Observation(*seen))

    epochs = jnp.arange(1, len(train) + 1)
    return jax.lax.scan(step, rule.init(train.dtype), (epochs, train, validation, gradient, validated))[1]


def stops(rule, train, validation, gradient):
    """Whether the rule says stop, for every epoch of a curve; NaN where there was no validation."""
    validated = ~np.isnan(validation)
    return _stops(rule, jnp.asarray(train), np.where(validated, validation, 0), gradient, validated)


def curves(seed, count=40):
    rng = np.random.default_rng(seed)
    falling = np.exp(-np.linspace(0, rng.uniform(0, 2), count))
    train = falling * rng.uniform(0.9, 1.1, count)
    validation = falling + 0.3 * np.linspace(0, rng.uniform(0, 2), count) ** 2 + 0.1 * rng.uniform(size=count)
    return train, validation, rng.uniform(size=count)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("name", RULES)
def test_rules_are_prechelts(name, every):
    rule, plain = RULES[name]
    said = []
    for seed in range(20):
        train, validation, gradient = curves(seed)
        validation = np.where(np.arange(1, 41) % every == 0, validation, np.nan)
        got = np.asarray(stops(rule, train, validation, gradient))
        expected = [bool(plain(train[:t], validation[:t], gradient[:t])) for t in range(1, 41)]
        np.testing.assert_array_equal(got, expected)
        said.append(got)
    assert 0 < np.mean(said) < 1  # the curves decide both ways


def test_patience_waits_for_the_first_validation():
    """Validated every 10 epochs, a patience of 3 may end at the second validation, not before the first."""
    validation = np.full(25, np.nan)
    validation[[9, 19]] = 1.0, 2.0
    got = np.asarray(stops(Patience(3), np.ones(25), validation, np.ones(25)))
    np.testing.assert_array_equal(np.flatnonzero(got) + 1, [20])


def test_float32_curves_decide_as_float64_ones():
    for rule, _ in RULES.values():
        for seed in range(5):
            wide = curves(seed)
            narrow = [jnp.asarray(c, jnp.float32) for c in wide]
            np.testing.assert_array_equal(stops(rule, *narrow), stops(rule, *wide))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Patience(0), "expected epochs as an integer of at least 1, got 0"),
        (lambda: Patience(3, monitor="loss"), 'expected monitor "validation" or "train", got \'loss\''),
        (lambda: GeneralizationLoss(-1.0), "expected alpha to be a number > 0, got -1.0"),
        (lambda: TrainingProgress(0.0), "expected threshold to be a number > 0, got 0.0"),
        (lambda: TrainingProgress(strip=0), "expected strip as an integer of at least 1, got 0"),
        (lambda: ProgressQuotient(float("nan")), "expected alpha to be a number > 0, got nan"),
        (lambda: ProgressQuotient(strip=0), "expected strip as an integer of at least 1, got 0"),
        (lambda: GradientNorm(0.0), "expected tolerance to be a number > 0, got 0.0"),
    ],
)
def test_bad_rules_are_refused(make, message):
    # jaxtyping's check of the Literal in `monitor`, which only the tests have on, may come first.
    with pytest.raises((ValueError, TypeError)) as caught:
        make()
    assert message in str(caught.value) or "loss" in message


def test_numbers_of_rules_that_are_not_given_and_that_are_just_allowed():
    assert Patience() == Patience(20, 0.0, "validation")
    assert GeneralizationLoss() == GeneralizationLoss(5.0)
    assert TrainingProgress() == TrainingProgress(0.1, 5)  # Proben1's
    assert ProgressQuotient() == ProgressQuotient(0.5, 5)
    assert GradientNorm() == GradientNorm(1e-5)
    for rule in (Patience(1, -1.0), GeneralizationLoss(1e-9), TrainingProgress(1e-9, 1), GradientNorm(1e-300)):
        rule.check()
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="expected min_delta to be a number"):
            Patience(3, wrong)
    with pytest.raises(ValueError, match=r"expected epochs as an integer of at least 1, got 2\.5"):
        Patience(2.5)
    with pytest.raises(ValueError, match="expected epochs as an integer of at least 1"):
        Patience(np.array([3, 0]))
    jax.jit(lambda epochs, margin: Patience(epochs, margin).check() or epochs)(
        3, 0.5
    )  # of traced ones nothing is known


def test_reasons_are_said_with_the_numbers_there_are():
    assert Patience(3).reason == "the validation risk did not fall for 3 epochs"
    assert Patience(3, monitor="train").reason == "the train risk did not fall for 3 epochs"
    assert GradientNorm(np.float64(1e-5)).reason == "the gradient's norm fell to 1e-05"
    assert "for its own number of epochs" in Patience(np.array([3, 4])).reason
    assert TrainingProgress(0.25, 7).reason == "the training progress P_7 fell below 0.25"


@pytest.mark.parametrize(
    ("rule", "name", "below"),
    [(SmallGradient(), "gradient", True), (SmallStep(), "step", True), (LargeDamping(), "relative_damping", False)],
)
def test_ends_of_levenberg_marquardt(rule, name, below):
    """At the number itself a small gradient or step ends training, a damping does not yet."""
    tolerance = {"gradient": 1e-7, "step": 1e-7, "relative_damping": 1e10}[name]
    assert rule == type(rule)(tolerance)
    for factor, stops_there in ((0.5, below), (1.0, below), (2.0, not below)):
        state = types.SimpleNamespace(**{name: jnp.asarray(factor * tolerance)})
        said = rule.update(rule.init(jnp.float64), Observation(1, 1.0, 1.0, 1.0, optimizer=state))[1]
        assert bool(said) == stops_there


def test_which_rules_ask_for_what():
    asks = {
        (type(rule).__name__, rule.needs_validation, rule.needs_gradient)
        for rule in (Patience(), Patience(monitor="train"), GeneralizationLoss(), TrainingProgress(), GradientNorm())
    }
    assert asks == {
        ("Patience", True, False),
        ("Patience", False, False),
        ("GeneralizationLoss", True, False),
        ("TrainingProgress", False, False),
        ("GradientNorm", False, True),
    }
    assert ProgressQuotient().needs_validation


# --- in fit: noisy labels, so that the validation risk has its minimum early

RNG = np.random.default_rng(5)
X = RNG.normal(size=(40, 2))
LABELS = np.where(RNG.uniform(size=40) < 0.25, RNG.integers(0, 3, 40), (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5))
V = RNG.integers(1, 4, 40).astype(float)
NETWORK = mlp([2, 12, 3])
STILL = optax.set_to_zero()
train = functools.partial(
    *(fit, NETWORK, Categorical()), optimizer=adam(0.05), epochs=60, batch_size=8
)  # fmt: skip


def test_the_hypothesis_with_the_lowest_validation_risk_is_returned(key):
    own = (X[25:], LABELS[25:], V[25:])
    result = train(X[:25], LABELS[:25], key=key, validation=own)
    history = np.asarray(result.history.validation_error)
    assert int(result.best_epoch) == np.argmin(history) + 1
    assert 1 < int(result.best_epoch) < 60
    # 1e-12: the network's outputs are about 10, with a few ulps each.
    np.testing.assert_allclose(categorical_risk(result.params, *own), history.min(), rtol=1e-12)
    np.testing.assert_allclose(categorical_risk(result.last_params, *own), history[-1], rtol=1e-12)
    np.testing.assert_allclose(result.best_validation_error, history.min(), rtol=0)


def test_a_fraction_is_held_out_and_judged(key):
    result = train(X, LABELS, key=key, weights=V, validation=0.4)
    held_out, rows = result.state.held_out.numbers(), result.state.rows.numbers()
    assert len(held_out) == 16
    assert sorted([*held_out, *rows]) == list(range(40))
    for label in range(3):  # stratified: each class gives its share, rounded up or down
        assert abs(np.sum(LABELS[held_out] == label) - 0.4 * np.sum(label == LABELS)) < 1
    risk = categorical_risk(result.params, X[held_out], LABELS[held_out], V[held_out])
    np.testing.assert_allclose(risk, np.min(result.history.validation_error), rtol=1e-12)


def test_labels_that_do_not_exclude_each_other_are_no_strata(key):
    labels = np.stack([LABELS == 0, X[:, 0] > 0], axis=1).astype(float)
    held_out = [
        fit(mlp([2, 2]), likelihood, X, labels, key=key, epochs=1, validation=0.4).state.held_out.numbers()
        for likelihood in (Bernoulli(), Gaussian())
    ]
    np.testing.assert_array_equal(*held_out)


def test_validate_every(key):
    result = train(X[:25], LABELS[:25], key=key, validation=(X[25:], LABELS[25:]), validate_every=4, epochs=30)
    every = train(X[:25], LABELS[:25], key=key, validation=(X[25:], LABELS[25:]), epochs=30)
    due = np.arange(1, 31) % 4 == 0
    np.testing.assert_array_equal(np.isnan(result.history.validation_error), ~due)
    np.testing.assert_allclose(result.history.validation_error[due], every.history.validation_error[due], rtol=1e-9)
    assert int(result.best_epoch) == np.nanargmin(result.history.validation_error) + 1


def test_before_the_first_validation_the_newest_hypothesis_is_the_best(key):
    """A rule on the training error may stop before anything was validated: not the initial weights are returned."""
    result = train(
        *(X[:25], LABELS[:25]),
        key=key,
        validation=(X[25:], LABELS[25:]),
        validate_every=50,
        stopping=GradientNorm(1e6),
    )
    assert int(result.epochs) == int(result.best_epoch) == 1
    jax.tree.map(np.testing.assert_array_equal, result.params, result.last_params)


@pytest.mark.parametrize("name", ["patience", "GL", "PQ", "P"])
def test_fit_stops_when_its_rule_says_so(name, key):
    rule = {
        "patience": Patience(5),
        "GL": GeneralizationLoss(10.0),
        "PQ": ProgressQuotient(0.05, 3),
        "P": TrainingProgress(100.0, 5),
    }[name]
    result = train(X[:25], LABELS[:25], key=key, validation=(X[25:], LABELS[25:]), stopping=rule)
    t = int(result.epochs)
    assert t < 60
    history = result.history
    said = np.asarray(stops(rule, history.train_error[:t], history.validation_error[:t], jnp.ones(t)))
    np.testing.assert_array_equal(np.flatnonzero(said), [t - 1])
    assert np.isnan(history.train_error[t:]).all()
    assert not np.isnan(history.train_error[:t]).any()
    assert int(result.best_epoch) == np.nanargmin(history.validation_error) + 1
    assert result.stop_reason == rule.reason


class AtEpoch(StoppingRule):
    """A rule of a user's own, which is no pytree."""

    says = "it was time"

    def __init__(self, epoch):
        self.epoch = epoch

    def init(self, dtype):
        return ()

    def update(self, state, seen):
        return state, seen.epoch >= self.epoch


def test_a_rule_of_ones_own(key):
    rule = AtEpoch(3)
    result = train(X, LABELS, key=key, stopping=rule)
    assert (int(result.epochs), result.stop_reason) == (3, "it was time")
    many = jax.vmap(lambda k: train(X, LABELS, key=k, stopping=rule))(jax.random.split(key, 2))
    assert many.stop_reason.tolist() == ["it was time"] * 2
    together = ensembles.fit(NETWORK, Categorical(), X, LABELS, key=key, members=2, stopping=rule, epochs=5)
    assert together.result.stop_reason.tolist() == ["it was time"] * 2


def test_of_several_rules_the_first_in_time_then_in_place_wins(key):
    def reason(*rules):
        own = (X[25:], LABELS[25:])
        return train(X[:25], LABELS[:25], key=key, validation=own, stopping=rules).stop_reason

    late, at_once, at_once_too = Patience(30), GradientNorm(1e6), GradientNorm(1e5)
    assert reason(late, at_once, at_once_too) == at_once.reason
    assert reason(late, at_once_too, at_once) == at_once_too.reason


def test_gradient_norm_watches_the_gradient_of_the_objective(key):
    """Linear model from zero weights: ∇J = −(Xᵀy, Σ y) / n, on the first epoch, whatever the batches."""
    x, y = X[:7], X[:7] @ np.ones((2, 1)) + 1
    zero = ({"W": np.zeros((2, 1)), "b": np.zeros(1)},)
    norm = np.linalg.norm(np.append(x.T @ y, y.sum())) / 7
    for factor, expected in ((1 + 1e-9, 1), (1 - 1e-9, 2)):
        run = functools.partial(fit, mlp([2, 1]), Gaussian(), x, y, key=key, params=zero, optimizer=STILL, epochs=2)
        assert int(run(batch_size=3, stopping=GradientNorm(norm * factor)).epochs) == expected
        assert int(run(batch_size=None, stopping=GradientNorm(norm * factor)).epochs) == expected
