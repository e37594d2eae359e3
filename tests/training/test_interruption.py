"""Divergence, Ctrl-C, resuming, callbacks and the progress bar."""

import functools
import os
import re
import signal
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import adam, fit, mlp, steepest_descent, stopping
from jnn.likelihoods import Gaussian
from jnn.training import DivergenceWarning, program, visiting

RNG = np.random.default_rng(3)
X = RNG.normal(size=(10, 2))
Y = np.sin(X[:, :1]) + X[:, 1:]
NETWORK = mlp([2, 3, 1])
train = functools.partial(fit, NETWORK, Gaussian(), X, Y, optimizer=adam(0.02), batch_size=4)


def assert_equal(got, expected):
    def compare(a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)

    jax.tree.map(compare, got, expected)


def all_finite(params):
    return all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(params))


# --- divergence


def test_divergence_is_told_and_the_last_good_hypothesis_kept(key):
    with pytest.warns(DivergenceWarning, match=r"diverged in epoch (\d+): .*; lower the learning rate") as seen:
        result = train(key=key, optimizer=steepest_descent(1e8), epochs=200)
    t = int(result.epochs)
    assert f"in epoch {t}:" in str(seen[0].message)
    assert t < 200
    assert result.diverged
    assert "became NaN or infinite" in result.stop_reason
    assert all_finite(result.params)
    assert all_finite(result.last_params)
    assert int(result.best_epoch) == t - 1
    history = np.asarray(result.history.train_error)
    assert np.isfinite(history[: t - 1]).all()
    assert np.isnan(history[t:]).all()
    with pytest.warns(DivergenceWarning):  # nothing to go on from: told again, and unchanged
        again = train(key=key, optimizer=steepest_descent(1e8), epochs=200, resume=result)
    assert_equal(again.params, result.params)


def test_poisoned_data_under_jit_return_the_initial_hypothesis(key):
    start = NETWORK.init(key, dtype=jnp.float64)
    run = jax.jit(lambda x: train_on(x, params=start, key=key, epochs=5))
    assert run(X).stop_reason == "all 5 epochs were run"
    result = run(np.where(np.arange(10) == 7, np.nan, X.T).T)
    assert result.diverged
    assert int(result.epochs) == 1
    assert int(result.best_epoch) == 0
    assert_equal(result.params, start)


def train_on(x, **settings):
    return fit(NETWORK, Gaussian(), x, Y, batch_size=4, **settings)


def test_an_infinite_validation_risk_is_divergence(key):
    x = np.full((1, 2), 1e200)  # squared, out of range; its training data are fine
    linear = mlp([2, 1])
    with pytest.warns(DivergenceWarning, match="in epoch 1: .* The hypothesis of epoch 0"):
        result = fit(linear, Gaussian(), X, Y, key=key, epochs=5, validation=(x, np.zeros((1, 1))))
    assert all_finite(result.params)


def test_members_of_a_vmap_diverge_alone(key):
    rates = jnp.array([0.05, 1e9])
    batched = jax.vmap(lambda rate: train(key=key, optimizer=steepest_descent(rate), epochs=40))(rates)
    assert batched.diverged.tolist() == [False, True]
    assert int(batched.epochs[0]) == 40
    alone = train(key=key, optimizer=steepest_descent(0.05), epochs=40)
    # Batched products are rounded differently: a few ulps an epoch.
    np.testing.assert_allclose(batched.history.train_error[0], alone.history.train_error, rtol=1e-11)
    assert all_finite(batched.params)


# --- Ctrl-C and resuming


def interrupting(at, times=1):
    """A callback that presses Ctrl-C."""

    def callback(seen):
        if seen.epoch == at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    return callback


SETTINGS = {"validation": 0.3, "stopping": stopping.Patience(50), "validate_every": 2}


def test_ctrl_c_returns_what_was_learned_and_resuming_goes_on_exactly(key):
    before = signal.getsignal(signal.SIGINT)
    through = train(key=key, epochs=9, **SETTINGS)
    result = train(key=key, epochs=9, callback=interrupting(4), **SETTINGS)
    assert signal.getsignal(signal.SIGINT) is before
    assert int(result.epochs) == 4
    assert result.stop_reason == result.interruption == "interrupted (Ctrl-C)"
    np.testing.assert_array_equal(result.history.train_error[:4], through.history.train_error[:4])
    assert np.isnan(result.history.train_error[4:]).all()
    resumed = train(key=key, epochs=9, resume=result, **SETTINGS)
    assert_equal(resumed.state, through.state)
    assert resumed.stop_reason == "all 9 epochs were run"


def test_more_epochs_resume_exactly(key):
    through = train(key=key, epochs=9, **SETTINGS)
    part = train(key=key, epochs=5, **SETTINGS)
    assert_equal(train(key=key, epochs=9, resume=part, **SETTINGS).state, through.state)


def test_ctrl_c_from_outside_while_the_program_runs(key):
    """A real signal from another thread, in the middle of a run that would take hours."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    train(key=key, epochs=5_000_000, callback=lambda seen: True)  # compiled
    before, deadline = signal.getsignal(signal.SIGINT), time.monotonic() + 60

    def press():
        while signal.getsignal(signal.SIGINT) is before:  # until training has begun
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    result = train(key=key, epochs=5_000_000)
    thread.join()
    assert 1 <= int(result.epochs) < 5_000_000
    assert result.stop_reason == "interrupted (Ctrl-C)"
    assert np.isfinite(result.history.train_error[int(result.epochs) - 1])


def test_ctrl_c_before_the_first_epoch_is_told(key, monkeypatch):
    """While the program is being compiled."""

    def interrupted(*arguments, original=program.run):
        signal.raise_signal(signal.SIGINT)
        return original(*arguments)

    visiting.pace_of.cache_clear()
    monkeypatch.setattr(program, "run", interrupted)
    result = train(key=key, epochs=9, validation=0.3)
    assert int(result.epochs) == int(result.best_epoch) == 0
    assert result.stop_reason == result.interruption == "interrupted (Ctrl-C)"
    assert np.isnan(result.history.train_error).all()
    assert np.isinf(result.best_validation_error)
    monkeypatch.undo()
    assert_equal(
        train(key=key, epochs=9, validation=0.3, resume=result).state, train(key=key, epochs=9, validation=0.3).state
    )


def test_ctrl_c_in_the_last_epoch_is_not_lost(key):
    result = train(key=key, epochs=3, callback=interrupting(3))
    assert int(result.epochs) == 3
    assert result.interruption == "interrupted (Ctrl-C)"


def test_the_second_ctrl_c_is_raised(key):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(key=key, epochs=9, callback=interrupting(2, times=2))
    assert signal.getsignal(signal.SIGINT) is before


def test_the_handler_is_restored_after_an_error(key):
    before = signal.getsignal(signal.SIGINT)

    def fail(seen):
        raise RuntimeError("of the callback's own")

    with pytest.raises(RuntimeError, match="of the callback's own"):
        train(key=key, epochs=2, callback=fail)
    assert signal.getsignal(signal.SIGINT) is before


def test_fit_runs_in_another_thread(key):
    found = []
    thread = threading.Thread(target=lambda: found.append(train(key=key, epochs=3)))
    thread.start()
    thread.join()
    assert_equal(found[0].params, train(key=key, epochs=3).params)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 3}, "expected epochs of at least the 4 already run, got 3"),
        ({"epochs": 9, "optimizer": steepest_descent(0.1)}, "expected a result to resume from the same network"),
        ({"epochs": 9, "stopping": stopping.Patience(3, monitor="train")}, "the same network, optimizer, stopping"),
        ({"epochs": 9, "validation": 0.3}, "the same network, optimizer, stopping rules, validation"),
        ({"epochs": 9, "params": mlp([2, 3, 1]).init(jax.random.key(0))}, "number of examples and dtype"),
    ],
)
def test_resuming_something_else_is_refused(settings, message, key):
    part = train(key=key, epochs=4)
    with pytest.raises(ValueError, match=message):
        train(key=key, resume=part, **settings)


def test_a_batch_of_results_resumes_under_vmap(key):
    keys = jax.random.split(key, 2)
    part = jax.vmap(lambda k: train(key=k, epochs=3))(keys)
    through = jax.vmap(lambda k: train(key=k, epochs=6))(keys)
    resumed = jax.vmap(lambda k, part: train(key=k, epochs=6, resume=part))(keys, part)
    np.testing.assert_allclose(resumed.history.train_error, through.history.train_error, rtol=1e-12)
    with pytest.raises(ValueError, match=r"expected one result to resume, got a batch of \(2,\)"):
        train(key=key, epochs=6, resume=part)


# --- callbacks and the bar


@pytest.mark.parametrize(("every", "epochs"), [(1, [1, 2, 3, 4, 5, 6, 7]), (3, [3, 6, 7]), (10, [7])])
def test_callbacks_come_at_their_epochs_and_see_what_history_says(every, epochs, key):
    seen = []
    result = train(key=key, epochs=7, callback=seen.append, callback_every=every, validation=0.3)
    assert [s.epoch for s in seen] == epochs
    for s in seen:
        assert s.train_error == result.history.train_error[s.epoch - 1]
        assert s.validation_error == result.history.validation_error[s.epoch - 1]
        assert s.best_epoch == np.argmin(result.history.validation_error[: s.epoch]) + 1
    assert_equal(seen[-1].params, result.last_params)
    assert_equal(seen[-1].best_params, result.params)
    assert_equal(result.params, train(key=key, epochs=7, validation=0.3).params)  # watching changes nothing


def test_a_callback_stops_by_true_and_by_nothing_else(key):
    result = train(key=key, epochs=7, callback=lambda seen: seen.epoch == 3)
    assert int(result.epochs) == 3
    assert result.stop_reason == "the callback asked to stop"


def test_a_callback_sees_a_rule_stop(key):
    seen = []
    rule = stopping.GradientNorm(1e9)
    result = train(key=key, epochs=7, callback=seen.append, callback_every=5, stopping=rule)
    assert [s.epoch for s in seen] == [1]
    assert result.stop_reason == rule.reason


def test_the_bar_is_drawn(key, capsys):
    train(key=key, epochs=30, progress=True, validation=0.3)
    drawn = capsys.readouterr().out
    assert "30/30" in drawn
    assert re.search(r"train 0\.\d+", drawn)
    assert "validation best" in drawn


def test_the_bar_says_what_it_needs(key, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(ImportError, match=r"progress=True draws its bar with rich: pip install 'jnn\[progress\]'"):
        train(key=key, epochs=3, progress=True)
    train(key=key, epochs=3)  # and nobody else does


@pytest.mark.parametrize("settings", [{"progress": True}, {"callback": lambda seen: None}])
def test_watching_needs_a_host(settings, key):
    keys = jax.random.split(key, 2)
    with pytest.raises(
        ValueError, match="progress, callback and checkpoint need a host to visit: not under jit, vmap or grad"
    ):
        jax.vmap(lambda k: train(key=k, epochs=3, **settings))(keys)
    with pytest.raises(ValueError, match="progress, callback and checkpoint need a host"):
        jax.vmap(lambda rate: train(key=key, epochs=3, **settings | {"optimizer": adam(rate)}))(jnp.ones(2))


def test_callback_every_is_checked(key):
    with pytest.raises(ValueError, match="expected callback_every as an integer of at least 1, got 0"):
        train(key=key, epochs=3, callback=lambda seen: None, callback_every=0)
