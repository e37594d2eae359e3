"""`ensembles.fit`: every member is what `jnn.fit` makes of it alone, whatever the lanes, threads and devices."""

import os
import re
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnn
from jnn import adam, ensembles, mlp, stopping
from jnn.ensembles import scheduling
from jnn.likelihoods import Categorical, Gaussian
from jnn.training import DivergenceWarning, program, visiting

from .. import typechecker

RNG = np.random.default_rng(4)
X = RNG.normal(size=(21, 3))
Y = np.stack([np.sin(X[:, 0]) + X[:, 1], X[:, 2] ** 2], axis=1)
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
NETWORK = mlp([3, 4, 2])
CPU = jax.devices("cpu")[0]

# One setting for most tests, so that they share what is compiled: early stopping at different epochs.
COMMON = {"epochs": 30, "batch_size": 5, "validation": 0.3, "stopping": stopping.Patience(3)}
RATES = np.array([0.003, 0.03, 0.3, 0.01, 0.1, 0.02, 0.2])
DECAYS = np.array([0.0, 0.1, 1.0, 0.3, 0.0, 0.01, 2.0])


def keys(count=7):
    return jax.random.split(jax.random.key(12), count)


def sweep(**changes):
    arguments = {
        "key": keys(),
        "optimizer": adam(RATES),
        "weight_decay": DECAYS,
        "devices": [CPU],
        **COMMON,
        **changes,
    }
    return ensembles.fit(NETWORK, Gaussian(), X, Y, **arguments)


@pytest.fixture(scope="module")
def swept():
    return sweep(lanes=7)


@pytest.fixture(scope="module")
def alone():
    return [
        jnn.fit(NETWORK, Gaussian(), X, Y, key=key, optimizer=adam(rate), weight_decay=decay, **COMMON)
        for key, rate, decay in zip(keys(), RATES, DECAYS, strict=True)
    ]


def assert_members(result, expected, rtol=1e-11):
    """Each member's results; sums over lanes may be ordered otherwise, training amplifies the last bit a little."""
    assert [int(e) for e in result.epochs] == [int(e.epochs) for e in expected]
    assert [int(e) for e in result.best_epoch] == [int(e.best_epoch) for e in expected]
    for number, one in enumerate(expected):
        mine = jax.tree.map(lambda leaf, n=number: leaf[n], (result.params, result.last_params, result.history))
        theirs = (one.params, one.last_params, one.history)
        for g, e in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(g, e, rtol=0, atol=rtol * np.nanmax(np.abs(e), initial=1e-300))
        assert result.stop_reason[number] == one.stop_reason


def test_members_are_what_fit_makes_of_them_alone(swept, alone):
    assert len({int(e.epochs) for e in alone}) > 2  # else early stopping of members is not tried
    assert_members(swept.result, alone)


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_lanes_and_threads_change_nothing(lanes, swept, alone, monkeypatch):
    """Fewer lanes than members: whoever stops makes room for the next, in two threads."""
    monkeypatch.setattr(scheduling, "cpu_workers", lambda: 2)
    assert_members(sweep(lanes=lanes).result, alone)


def test_two_devices_give_the_same(alone):
    devices = jax.devices("cpu")[:2]
    if len(devices) < 2:
        pytest.skip("one device only")
    assert_members(sweep(lanes=2, devices=devices).result, alone)


def test_a_member_costs_nothing_after_its_end(monkeypatch):
    """Epochs computed, over all lanes, against epochs needed: waiting members take the lanes of those that ended."""
    computed = []

    def counted(compiled_for, shared, members, states, epochs, fewest, original=scheduling.run_lanes):
        out = original(compiled_for, shared, members, states, epochs, fewest)
        computed.append(int(np.max(out.epoch - states.epoch)) * len(states.epoch))
        assert computed[-1] <= int(epochs) * len(states.epoch)  # then the host wants to visit
        return out

    monkeypatch.setattr(scheduling, "run_lanes", counted)
    monkeypatch.setattr(scheduling, "cpu_workers", lambda: 1)
    monkeypatch.setattr(visiting, "SECONDS_BETWEEN_VISITS", 0.0)  # a visit an epoch
    visiting.pace_of.cache_clear()
    result = sweep(lanes=2).result
    # Two lanes; only while the last member runs alone is one of them idle.
    assert sum(computed) <= int(np.sum(result.epochs)) + int(np.max(result.epochs))


def test_one_compiled_program_for_any_number_of_members(swept):
    before = program.run_lanes.count()
    ensembles.fit(
        NETWORK, Gaussian(), X, Y, key=keys(13), weight_decay=np.full(13, 0.1), optimizer=adam(np.full(13, 0.02)),
        lanes=3, devices=[CPU], **COMMON,
    )  # fmt: skip
    after = program.run_lanes.count()
    sweep(lanes=3)
    assert program.run_lanes.count() == after
    assert after <= before + 1


def test_classes_are_stratified_and_optax_optimizers_run(key):
    rmsprop = optax.rmsprop(0.01)
    arguments = {"epochs": 5, "batch_size": None, "validation": 0.3, "optimizer": rmsprop}
    network = mlp([3, 3], hidden="relu")
    many = ensembles.fit(network, Categorical(), X, LABELS, key=key, members=3, **arguments)
    one_by_one = [jnn.fit(network, Categorical(), X, LABELS, key=k, **arguments) for k in jax.random.split(key, 3)]
    assert_members(many.result, one_by_one)


def test_weights_by_member_are_weights(key):
    weights = RNG.integers(0, 3, (3, 21)).astype(float)
    arguments = {"epochs": 4, "batch_size": 6}
    many = ensembles.fit(NETWORK, Gaussian(), X, Y, key=keys(3), weights=weights, **arguments)
    expected = [
        jnn.fit(NETWORK, Gaussian(), X, Y, key=k, weights=w, **arguments) for k, w in zip(keys(3), weights, strict=True)
    ]
    assert_members(many.result, expected)


# --- rows by member


def test_rows_by_member_are_a_data_set_of_their_own():
    """Batch learning on the rows, −1 left out, is `fit` on just these examples, validated on the others."""
    rows, held_out = ensembles.k_fold(jax.random.key(3), 21, 4)
    arguments = {"epochs": 6, "batch_size": None, "optimizer": adam(0.05), "weight_decay": 0.1}
    many = ensembles.fit(NETWORK, Gaussian(), X, Y, key=keys(4), rows=rows, held_out=held_out, **arguments)
    for number, k in enumerate(keys(4)):
        mine, other = (np.asarray(r[number])[np.asarray(r[number]) >= 0] for r in (rows, held_out))
        one = jnn.fit(NETWORK, Gaussian(), X[mine], Y[mine], key=k, validation=(X[other], Y[other]), **arguments)
        got = jax.tree.map(lambda leaf, n=number: leaf[n], (many.params, many.result.history))
        for g, e in zip(jax.tree.leaves(got), jax.tree.leaves((one.params, one.history)), strict=True):
            np.testing.assert_allclose(g, e, rtol=1e-10, atol=1e-12)


def test_every_row_counts_once_an_epoch_and_missing_ones_never():
    """Unit vectors as inputs: the i-th weight moves only in the step that has example i. Two batches are empty."""
    n, rows = 6, np.array([[0, 2, 5, -1, -1, -1, -1, -1], [1, 3, 4, 0, 2, 5, 1, -1]])
    seen = []

    def update(grads, state, params=None):
        return jax.tree.map(jnp.zeros_like, grads), jax.tree.map(lambda s, g: s + (g != 0), state, grads)

    counting = optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), update)
    many = ensembles.fit(
        *(mlp([n, 1]), Gaussian(), np.eye(n), np.ones((n, 1))),
        key=keys(2),
        rows=rows,
        epochs=3,
        batch_size=2,
        optimizer=counting,
    )
    seen = np.asarray(many.result.state.optimizer[0]["W"])[..., 0]
    np.testing.assert_array_equal(seen[0], 3 * np.array([1, 0, 1, 0, 0, 1]))
    # The second member has example 1 twice: two steps an epoch, or one if both come into the same batch.
    np.testing.assert_array_equal(seen[1][[0, 2, 3, 4, 5]], 3)
    assert 3 <= seen[1][1] <= 6


def test_a_batch_that_is_missing_makes_no_step():
    """Adam would move by its momentum: with 2 of 8 rows there is one step an epoch, not four as beside it."""
    rows = np.array([[0, 2, -1, -1, -1, -1, -1, -1], np.arange(8)])
    many = ensembles.fit(NETWORK, Gaussian(), X, Y, key=keys(2), rows=rows, epochs=5, batch_size=2)
    np.testing.assert_array_equal(many.result.state.optimizer.count, [5, 20])


def test_a_fraction_of_the_members_own_rows_is_held_out():
    rows, _ = ensembles.bootstrap(jax.random.key(0), 21, 3)
    many = ensembles.fit(NETWORK, Gaussian(), X, Y, key=keys(3), rows=rows, **COMMON)
    state = many.result.state
    for number in range(3):
        own = jax.tree.map(lambda leaf, n=number: leaf[n], (state.rows, state.held_out))
        parts = np.concatenate([part.numbers() for part in own])
        np.testing.assert_array_equal(np.sort(parts), np.sort(rows[number]))


# --- the bar


@pytest.mark.parametrize("lanes", [2, 7], ids=["a queue", "all at once"])
def test_the_bar_shows_how_many_and_their_risks(lanes, capsys):
    sweep(lanes=lanes, progress=True)
    drawn = capsys.readouterr().out
    assert "7/7 networks" in drawn
    assert re.search(r"train -?\d", drawn)
    assert re.search(r"validation best -?\d", drawn)


# --- networks of different widths


@pytest.mark.parametrize(
    ("optimizer", "shortcuts"),
    [
        (adam(0.05), True),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.05)), False),  # a norm over all weights
        (jnn.rprop(0.05), True),
        pytest.param(optax.lbfgs(0.1), False, marks=pytest.mark.slow),  # compiles for a minute
    ],
    ids=["adam", "clipped", "rprop", "lbfgs"],
)
def test_a_padded_unit_never_changes_anything(optimizer, shortcuts):
    """Logistic neurons: those that are not there send 1/2 on, and nobody may read it."""
    networks = [mlp([3, *hidden, 2], hidden="logistic", shortcuts=shortcuts) for hidden in ((2, 5), (6, 3), (2, 5))]
    arguments = {"epochs": 6, "batch_size": None, "optimizer": optimizer, "weight_decay": 0.1}
    many = ensembles.fit(networks, Gaussian(), X, Y, key=keys(3), **arguments)
    assert many.network.sizes == (3, 6, 5, 2)
    for number, (network, k) in enumerate(zip(networks, keys(3), strict=True)):
        own, params = many.member(number)
        assert own == network
        one = jnn.fit(network, Gaussian(), X, Y, key=k, **arguments)
        for g, e in zip(jax.tree.leaves(params), jax.tree.leaves(one.params), strict=True):
            np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(
            many.network.apply(jax.tree.map(lambda leaf, n=number: leaf[n], many.params), X),
            own.apply(params, X), rtol=1e-12, atol=1e-13,
        )  # fmt: skip


# --- what they say together


def test_mean_and_moments_of_the_mixture(swept):
    a = jax.vmap(lambda p: NETWORK.apply(p, X))(swept.params)
    np.testing.assert_allclose(swept.mean(X), np.mean(a, axis=0), rtol=1e-12)
    np.testing.assert_allclose(swept.member_means(X), a, rtol=1e-12)
    mean, variance = swept.moments(X)
    # Gaussian(s=1): draws of the mixture have the variance 1 + that of the means.
    np.testing.assert_allclose(mean, np.mean(a, axis=0), rtol=1e-12)
    np.testing.assert_allclose(variance, 1 + np.var(a, axis=0), rtol=1e-12)


def test_probabilities_are_averaged_not_pre_activations(key):
    many = ensembles.fit(mlp([3, 3]), Categorical(), X, LABELS, key=key, members=4, epochs=3)
    each = jax.nn.softmax(jax.vmap(lambda p: X @ p[0]["W"] + p[0]["b"][None, :])(many.params))
    np.testing.assert_allclose(many.mean(X), np.mean(each, axis=0), rtol=1e-12)


# --- bad input, divergence, interruption


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"members": 3}, ValueError, "expected one number of members, at least 1, in all arguments; got .'members': 3"),
        ({"key": jax.random.key(0), "weight_decay": 0.1, "optimizer": None}, ValueError,
         "expected the number of members: pass members="),
        ({"key": 3}, TypeError, "expected a typed key"),
        ({"weight_decay": np.ones((7, 2))}, ValueError, "expected weight_decay with a first axis over the members"),
        ({"weight_decay": -DECAYS}, ValueError, "weight_decay to be a number ≥ 0"),
        ({"optimizer": adam(RATES[:3])}, ValueError, "optimizer.*learning_rate.*: 3"),
        ({"stopping": stopping.Patience(np.arange(1, 3))}, ValueError, "'stopping.epochs': 2"),
        ({"rows": np.zeros(7, int)}, ValueError, "expected rows with a first axis over the members"),
        ({"rows": np.full((7, 2), 21)}, ValueError, "expected rows below the number of examples, 21; got 21"),
        ({"rows": np.full((7, 2), -1)}, ValueError, "expected at least one example in rows of each member"),
        ({"rows": np.zeros((7, 2))}, ValueError, "expected rows as integers"),
        ({"held_out": np.zeros((7, 2), int)}, ValueError, "expected validation or held_out, got both"),
        ({"weights": np.ones((7, 3))}, ValueError, "expected weights of shape"),
        ({"lanes": 0}, ValueError, "expected lanes as an integer of at least 1"),
        ({"devices": []}, ValueError, "expected at least one device"),
        ({"devices": "cpu"}, TypeError, "expected devices as a list"),
    ],
)  # fmt: skip
def test_bad_input_is_told(changes, error, message):
    with typechecker.off(), pytest.raises(error, match=message):
        sweep(**changes)


def test_networks_must_differ_in_width_only():
    for other in (mlp([3, 4, 4, 2]), mlp([3, 4, 2], hidden="relu"), mlp([3, 4, 2], shortcuts=True)):
        with pytest.raises(ValueError, match="differ in the sizes of their hidden layers only"):
            ensembles.fit([NETWORK, other], Gaussian(), X, Y, key=keys(2))


def test_given_parameters_are_where_members_start_or_are_refused():
    """A rate of 0 leaves everybody where he started; members of several widths cannot be given parameters."""
    params = jax.vmap(lambda k: NETWORK.init(k, dtype=jnp.float64))(keys(3))
    many = ensembles.fit(NETWORK, Gaussian(), X, Y, key=keys(3), params=params, optimizer=adam(0.0), epochs=1)
    jax.tree.map(np.testing.assert_array_equal, many.params, params)
    with pytest.raises(ValueError, match="those of several widths draw theirs"):
        ensembles.fit([NETWORK, NETWORK, mlp([3, 6, 2])], Gaussian(), X, Y, key=keys(3), params=params)


def test_it_cannot_be_traced():
    with typechecker.off(), pytest.raises(TypeError, match="call it outside jit and vmap"):
        jax.jit(lambda key: ensembles.fit(NETWORK, Gaussian(), X, Y, key=key, members=2).params)(jax.random.key(0))


def test_members_diverge_alone(alone):
    rates = np.where(np.arange(7) == 2, 1e200, RATES)
    with pytest.warns(DivergenceWarning, match="1 of 7 members diverged"):
        result = sweep(optimizer=adam(rates), lanes=3).result
    np.testing.assert_array_equal(result.diverged, np.arange(7) == 2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.params))
    np.testing.assert_allclose(result.params[0]["W"][3], alone[3].params[0]["W"], rtol=1e-10)


def test_ctrl_c_returns_what_was_learned(monkeypatch):
    calls = []

    def interrupting(self, *arguments, original=scheduling._Worker._timed):
        if not calls:
            os.kill(os.getpid(), signal.SIGINT)
        calls.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(scheduling._Worker, "_timed", interrupting)
    monkeypatch.setattr(scheduling, "cpu_workers", lambda: 1)
    result = sweep(lanes=2, stopping=None, epochs=100_000).result
    assert np.all(np.asarray(result.epochs[:2]) >= 1)
    assert np.all(np.asarray(result.epochs[2:]) == 0)  # never begun: their first weights
    assert np.isfinite(result.params[0]["W"]).all()
    assert len(calls) == 1
    assert result.stop_reason[-1] == "interrupted (Ctrl-C)"


def test_ctrl_c_that_reaches_a_workers_thread_is_seen(monkeypatch):
    """As it may, between the moment when the main thread last looks and the one when it begins to wait for the others.

    Python tells the main thread alone, when that runs: a wait that nothing ends would leave Ctrl-C unseen to the end.
    """

    def interrupting(self, *arguments, original=scheduling._Worker._timed):
        if not sent:
            sent.append(threading.current_thread() is not threading.main_thread())
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(scheduling._Worker, "_timed", interrupting)
    monkeypatch.setattr(scheduling, "cpu_workers", lambda: 2)
    monkeypatch.setattr(visiting, "SECONDS_BETWEEN_VISITS", 0.01)
    sent = []
    result = sweep(lanes=2, stopping=None, epochs=50_000).result
    assert sent == [True]
    assert np.max(result.epochs) < 50_000
    assert result.interruption == "interrupted (Ctrl-C)"


def test_a_callback_sees_all_members_after_each_epoch(swept, alone):
    seen = []
    result = sweep(lanes=2, callback=seen.append).result
    assert_members(result, alone)
    history, epochs = swept.result.history, np.asarray(swept.result.epochs)
    assert len(seen) == epochs.max()
    for number, one in enumerate(seen, start=1):
        np.testing.assert_array_equal(one.epoch, np.minimum(number, epochs))  # who has ended stays
        at = np.arange(len(epochs)), one.epoch - 1
        np.testing.assert_allclose(one.train_error, history.train_error[at], rtol=1e-9)
        np.testing.assert_allclose(one.validation_error, history.validation_error[at], rtol=1e-9)
    jax.tree.map(lambda g, e: np.testing.assert_allclose(g, e, rtol=1e-9), seen[-1].best_params, swept.result.params)
    np.testing.assert_array_equal(seen[-1].best_epoch, swept.result.best_epoch)


def test_a_callback_ends_training_which_goes_on_from_there(tmp_path):
    through = sweep().result
    checkpoint = jnn.Checkpoints(tmp_path)
    part = sweep(callback=lambda seen: seen.epoch.max() >= 4, callback_every=2, checkpoint=checkpoint).result
    assert part.interruption == part.stop_reason[0] == "the callback asked to stop"
    assert np.asarray(part.epochs).tolist() == [4] * 7
    for resumed in (sweep(resume=part, callback=lambda seen: None).result, sweep(checkpoint=checkpoint).result):
        np.testing.assert_array_equal(resumed.epochs, through.epochs)
        jax.tree.map(
            lambda g, e: np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-12), resumed.params, through.params
        )

    def fail(seen):
        raise RuntimeError("of the callback's own")

    with pytest.raises(RuntimeError, match="of the callback's own"):
        sweep(callback=fail)


def test_numbers_of_each_members_own(alone):
    """Patience and Adam's β1 as leaves with a member axis; a rule tells its own number."""
    patience, b1 = np.array([1, 3, 2]), np.array([0.5, 0.9, 0.95])
    many = sweep(key=keys(3), weight_decay=0.1, optimizer=adam(0.05, b1), stopping=stopping.Patience(patience))
    one = [
        jnn.fit(NETWORK, Gaussian(), X, Y, key=k, weight_decay=0.1, optimizer=adam(0.05, b),
                **COMMON | {"stopping": stopping.Patience(int(p))})
        for k, b, p in zip(keys(3), b1, patience, strict=True)
    ]  # fmt: skip
    assert_members(many.result, one)


def test_a_history_grows_with_the_epochs_that_are_to_come():
    """Beyond the room of 64 epochs that every record has."""
    more = {"key": keys(2), "optimizer": adam(), "weight_decay": 0.0, "stopping": ()}
    through = sweep(**more, epochs=70)
    resumed = sweep(**more, epochs=70, resume=sweep(**more, epochs=9).result)
    assert through.result.history.train_error.shape == (2, 70)
    np.testing.assert_allclose(resumed.result.history.train_error, through.result.history.train_error, rtol=1e-9)


def test_resuming_goes_on_exactly():
    through, part = sweep(epochs=30), sweep(epochs=9)
    resumed = sweep(epochs=30, resume=part.result, lanes=3)
    np.testing.assert_array_equal(resumed.result.epochs, through.result.epochs)
    assert_same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)  # noqa: E731
    jax.tree.map(assert_same, resumed.result.params, through.result.params)
    with pytest.raises(ValueError, match=r"expected the result of 7 members to resume, got \(2,\)"):
        sweep(resume=sweep(key=keys(2), optimizer=adam(), weight_decay=0.0, epochs=3).result)
