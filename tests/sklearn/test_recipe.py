"""From an estimator's parameters to the settings of training: scikit-learn's own defaults and loops; else by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.neural_network import MLPClassifier as Theirs

from jnn import adam, levenberg_marquardt, schedules, steepest_descent
from jnn.networks import fan_in_normal, nguyen_widrow
from jnn.sklearn import MLPClassifier
from jnn.sklearn.recipe import Plan, adaptive_descent, make_plan
from jnn.training.stopping import Patience

THEIRS = Theirs().get_params()


def plan(n: int = 1000, own_validation: bool = False, streaming: bool = False, **chosen) -> Plan:
    return make_plan(MLPClassifier(**chosen).get_params(), n, own_validation, streaming)


# --- as in scikit-learn


@pytest.mark.parametrize(
    "chosen",
    [{"max_iter": THEIRS["max_iter"]}, {"early_stopping": False}, {"solver": "sgd"}, {"optimizer": optax.sgd(0.1)}],
    ids=lambda chosen: next(iter(chosen)),
)
def test_without_the_recipe_defaults_are_scikit_learns(chosen) -> None:
    found = plan(**chosen)
    assert not found.recipe
    assert not found.lbfgs
    assert not found.streams
    assert (found.hidden, found.activation, found.members) == (THEIRS["hidden_layer_sizes"], THEIRS["activation"], 1)
    assert found.validation is None
    assert found.tol == THEIRS["tol"]
    expected = {
        "weight_decay": THEIRS["alpha"],
        "epochs": THEIRS["max_iter"],
        "batch_size": 200,
        "stopping": Patience(THEIRS["n_iter_no_change"], THEIRS["tol"], "train"),
        "initializer": fan_in_normal,
        "shuffle": THEIRS["shuffle"],
        "progress": THEIRS["verbose"],
    }
    assert {name: value for name, value in found.settings.items() if name != "optimizer"} == expected
    numbers = [THEIRS[name] for name in ("learning_rate_init", "beta_1", "beta_2", "epsilon")]
    rates = THEIRS["learning_rate_init"], THEIRS["momentum"], THEIRS["nesterovs_momentum"]
    solver = {"sgd": steepest_descent(*rates), "adam": adam(*numbers)}[chosen.get("solver", "adam")]
    assert found.settings["optimizer"] == chosen.get("optimizer", solver)


def test_what_is_given_is_taken() -> None:
    found = plan(
        max_iter=7, hidden_layer_sizes=5, activation="tanh", alpha=3, batch_size=50, tol=0.01, n_iter_no_change=4,
        learning_rate_init=0.3, beta_1=0.5, beta_2=0.6, epsilon=0.1, shuffle=False, verbose=True, members=2,
    )  # fmt: skip
    assert (found.hidden, found.activation, found.members, found.tol) == ((5,), "tanh", 2, 0.01)
    settings = found.settings
    assert (settings["epochs"], settings["batch_size"], settings["weight_decay"]) == (7, 50, 3.0)
    assert (settings["shuffle"], settings["progress"]) == (False, True)
    assert settings["optimizer"] == adam(0.3, 0.5, 0.6, 0.1)
    assert settings["stopping"] == Patience(4, 0.01, "train")
    assert plan(150, max_iter=7).settings["batch_size"] == 150  # of fewer than 200 examples, all
    for solver in ("sgd", "adam"):
        assert plan(max_iter=7, solver=solver, n_iter_no_change=np.inf).settings["stopping"] is None


def test_the_tolerance_is_in_units_of_the_loss_if_it_is_given() -> None:
    for chosen, expected in (({}, 1e-4), ({"tol": 0.01}, 0.04)):
        found = make_plan(MLPClassifier(max_iter=5, **chosen).get_params(), 100, False, loss_unit=4.0)
        assert (found.tol, found.settings["epochs"]) == (expected, 5)
    assert make_plan(MLPClassifier(max_iter=5, tol=0.01).get_params(), 100, False).tol == 0.01


def test_who_validates_on_what() -> None:
    """A rule watches the validation risk where there is one, else the training risk."""
    assert plan(max_iter=9, early_stopping=True).validation == THEIRS["validation_fraction"]
    assert plan(max_iter=9, early_stopping=True, validation_fraction=0.3).validation == 0.3
    assert plan(max_iter=9, own_validation=True).validation == plan(own_validation=True).validation == "own"
    for chosen in ({"early_stopping": True}, {"own_validation": True}):
        assert plan(max_iter=9, **chosen).settings["stopping"] == Patience(10, 1e-4, "validation")
    part = plan(streaming=True)
    assert (part.recipe, part.streams, part.validation, part.settings["stopping"]) == (False, True, None, None)
    assert part.settings["epochs"] == plan(streaming=True, max_iter=9).settings["epochs"] == 1
    assert plan(streaming=True, early_stopping=True).validation is None
    with pytest.warns(UserWarning, match="early_stopping=True has no effect"):
        whole = plan(solver="lbfgs", early_stopping=True)
    assert (whole.lbfgs, whole.validation) == (True, None)
    assert not plan(solver="lbfgs", optimizer=optax.sgd(0.1)).lbfgs
    assert plan(solver="lbfgs", optimizer=optax.sgd(0.1), early_stopping=True).validation == 0.1


def test_levenberg_marquardt_takes_all_examples_and_ends_by_itself() -> None:
    found = plan(solver="lm").settings
    assert (found["optimizer"], found["batch_size"], found["stopping"]) == (levenberg_marquardt(), None, None)
    assert found["initializer"] == nguyen_widrow
    validated = plan(solver="lm", early_stopping=True).settings
    assert validated["stopping"] == Patience(10, 1e-4, "validation")


@pytest.mark.parametrize(
    ("n", "early_stopping", "steps"), [(1000, False, 5), (1001, False, 6), (1050, False, 6), (1050, True, 5)]
)
def test_rates_that_fall_count_the_mini_batches_of_an_epoch(n, early_stopping, steps) -> None:
    chosen = {"solver": "sgd", "early_stopping": early_stopping, "power_t": 0.7, "momentum": 0.3}
    found = plan(n, **chosen, learning_rate="invscaling").settings["optimizer"]
    assert found == steepest_descent(schedules.inverse_scaling(1e-3, 0.7, steps, 200), 0.3, True)
    numbers = plan(n, **chosen, learning_rate="adaptive").settings["optimizer"].numbers
    assert numbers == {"learning_rate": 1e-3, "momentum": 0.3, "tol": 1e-4, "steps": steps}


@pytest.mark.parametrize("rate", [0.1, 1e-3, 8e-6, 2e-6, 5e-7, 1e-8])
def test_training_may_end_when_the_rate_has_fallen_to_a_millionth(rate) -> None:
    """There the rate is divided by 5 where training would end, as long as it is above 1e-6."""
    divisions, now = 0, rate
    while now > 1e-6:
        divisions, now = divisions + 1, now / 5
    chosen = {"learning_rate_init": rate, "max_iter": 9}
    found = plan(**chosen, solver="sgd", learning_rate="adaptive").settings["stopping"]
    assert found == Patience(10 + 2 * divisions, 1e-4, "train")
    for other in ({"solver": "sgd"}, {"solver": "adam", "learning_rate": "adaptive"}):
        assert plan(**chosen, **other).settings["stopping"] == Patience(10, 1e-4, "train")


@pytest.mark.parametrize(("rate", "tol"), [(0.1, 0.1), (1e-5, 0.1), (5e-7, 0.1), (0.1, 0.0)])
def test_adaptive_descent_is_a_plain_loop(rate, tol) -> None:
    """Divided by 5 after two epochs whose mean loss is not more than tol below the lowest; never below 1e-6."""
    means = [10, 5, 4.95, 4.93, 4.92, 4.91, 3, 3, 2.99, 2.98, 2.97, 2.96]
    losses = np.array([[m - 0.5, m, m + 0.5] for m in means])
    expected, now, lowest, since, step = [], rate, np.inf, 0, 0.0
    for epoch in losses:
        for _ in epoch:
            step = -rate + 0.5 * step  # the momentum's is not divided
            expected.append(step * now / rate)
        improved = epoch.mean() < lowest - tol
        lowest, since = (epoch.mean(), 0) if improved else (lowest, since + 1)
        if since == 2:
            now, since = max(now / 5, min(1e-6, rate)), 0
    optimizer = adaptive_descent(rate, 0.5, tol, 3, False)

    @jax.jit
    def all_steps(losses):
        def one(state, loss):
            made, state = optimizer.update(jnp.ones(()), state, jnp.ones(()), value=loss)
            return state, made

        return jax.lax.scan(one, optimizer.init(jnp.ones(())), losses)[1]

    np.testing.assert_allclose(all_steps(jnp.asarray(losses.ravel())), expected, rtol=1e-6)  # scales are float32


# --- the recipe


@pytest.mark.parametrize(
    ("n", "hidden", "batch_size", "epochs", "steps"),
    [
        # 7/8 are trained on: 875 = 27 · 32 + 11 = 32 · 27 + 11, fuller with 27; 1000 // 33 = 30
        (1000, (64, 64), 27, 40, 33),
        (593, (64, 64), 27, 50, 20),  # 519 = 16 · 32 + 7 = 19 · 27 + 6
        (500, (64, 64), 32, 71, 14),  # 438 = 13 · 32 + 22 = 16 · 27 + 6; 1000 // 14
        (400, (64, 64), 27, 76, 13),  # 350 = 10 · 32 + 30 = 12 · 27 + 26
        (384, (32, 32), 32, 90, 11),  # 336 = 10 · 32 + 16 = 12 · 27 + 12
        (50, (32, 32), 27, 100, 2),  # 44 = 32 + 12 = 27 + 17
    ],
)  # fmt: skip
def test_the_recipe_that_the_readmes_figures_were_measured_with(n, hidden, batch_size, epochs, steps) -> None:
    """Whoever changes it has to measure anew."""
    found = plan(n)
    assert found.recipe
    assert not found.streams
    assert (found.hidden, found.activation, found.members, found.validation) == (hidden, "silu", 8, "folds")
    settings = found.settings
    assert (settings["batch_size"], settings["epochs"], settings["weight_decay"]) == (batch_size, epochs, 1.0)
    assert settings["optimizer"] == adam(schedules.cosine(0.02, float(steps * epochs), 0.02), 0.9, 0.999, 1e-8)
    assert settings["stopping"] is None
    assert (settings["shuffle"], settings["progress"]) == (True, False)


def test_the_recipe_takes_what_is_given() -> None:
    found = plan(
        hidden_layer_sizes=(4, 3), activation="tanh", alpha=0.5, batch_size=50, tol=0.01, n_iter_no_change=7,
        learning_rate_init=0.3, beta_1=0.5, beta_2=0.6, epsilon=0.1, members=4,
    )  # fmt: skip
    assert found.recipe  # nothing but max_iter and early_stopping is left to it
    assert (found.hidden, found.activation, found.members) == ((4, 3), "tanh", 4)
    settings = found.settings  # 750 examples: 15 steps, 1000 // 15 epochs
    assert (settings["batch_size"], settings["epochs"], settings["weight_decay"]) == (50, 66, 0.5)
    assert settings["optimizer"] == adam(schedules.cosine(0.3, 15.0 * 66, 0.02), 0.5, 0.6, 0.1)
    assert settings["stopping"] == Patience(7)
    assert plan(n_iter_no_change=np.inf).settings["stopping"] is None
    assert plan(10, n_iter_no_change=7).settings["stopping"] is None  # nothing is held out


@pytest.mark.parametrize(
    ("n", "members", "validation"),
    [(16, 8, "folds"), (15, 8, None), (1000, 2, "folds"), (30, 20, 0.1), (20, 1, 0.1), (19, 1, None)],
)
def test_who_holds_out_what(n, members, validation) -> None:
    """Folds of two examples each at least; else a tenth, and of fewer than twenty nothing."""
    found = plan(n, members=members)
    assert (found.recipe, found.validation) == (True, validation)
    trained = {"folds": n - n // members, 0.1: n - round(n / 10), None: n}[validation]
    updates = found.settings["optimizer"].numbers["learning_rate"].updates
    assert updates == -(-trained // found.settings["batch_size"]) * found.settings["epochs"]
