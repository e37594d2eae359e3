"""What a call leaves behind: no memory, no setting of the process, nothing in a call beside it."""

import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnn
from jnn import ensembles, gradcheck, laplace, persistence
from jnn.likelihoods import Gaussian
from jnn.sklearn import MLPClassifier, MLPRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 2))
Y = np.sin(X[:, :1])
LABELS = (X[:, 0] > 0).astype(int)
NETWORK, KEY = jnn.mlp([2, 3, 1]), jax.random.key(0)
ROOT = Path(__file__).parents[1]


def settings():
    """What a process has one of, and a library could change for everybody.

    But for the state of `random`, from which the tests' run-time type checks draw.
    """
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return {
        "jax.config": dict(jax.config.values),
        "warnings": list(warnings.filters),
        "numpy's errors": np.geterr(),
        "numpy's printing": np.get_printoptions(),
        "numpy's random state": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "signals": handlers,
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "streams": (sys.stdout, sys.stderr),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "logging": (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
    }


def breaks_off(_):
    raise RuntimeError("from inside")


BROKEN = optax.GradientTransformation(lambda params: (), lambda *_: breaks_off(_))


def broken_rule():
    rule = jax.custom_vjp(lambda a: a**2)
    rule.defvjp(lambda a: (a**2, a), lambda a, g: breaks_off(a))
    return rule


def wrong_rule():
    rule = jax.custom_vjp(lambda a: a**2)
    rule.defvjp(lambda a: (a**2, a), lambda a, g: (a * g,))
    return rule


def train(**settings):
    return jnn.fit(NETWORK, Gaussian(), X, Y, key=KEY, epochs=3, batch_size=5, **settings)


def train_many(**settings):
    return ensembles.fit(NETWORK, Gaussian(), X, Y, key=KEY, members=2, epochs=3, batch_size=5, **settings)


CALLS = {
    "fit": train,
    "fit, diverging": lambda: train(optimizer=jnn.steepest_descent(1e30)),
    "fit, refused": lambda: train(weights=[1.0]),
    "fit, broken off": lambda: train(callback=breaks_off),
    "ensembles.fit": train_many,
    "ensembles.fit, refused": lambda: train_many(rows=np.array([[99], [0]])),
    "ensembles.fit, broken off": lambda: train_many(optimizer=BROKEN),
    "MLPClassifier": lambda: MLPClassifier(random_state=0, max_iter=2).fit(X, LABELS).predict(X),
    "MLPRegressor": lambda: MLPRegressor(random_state=0, max_iter=2).fit(X, Y[:, 0]).predict(X),
    "MLPClassifier, refused": lambda: MLPClassifier().fit(X, LABELS[:3]),
    "MLPRegressor, refused": lambda: MLPRegressor(alpha=-1.0).fit(X, Y[:, 0]),
    "gradcheck, pass": lambda: gradcheck.check(jnp.sin, jnp.arange(3.0)),
    "gradcheck, fail": lambda: gradcheck.check(wrong_rule(), jnp.arange(3.0)),
    "gradcheck, of a rule that raises": lambda: gradcheck.check(broken_rule(), jnp.arange(3.0)),
    "gradcheck, raising": lambda: gradcheck.check(breaks_off, jnp.arange(3.0)),
    "gradcheck, refused": lambda: gradcheck.check(jnp.sin, "one"),
    "laplace": lambda: laplace.fit(NETWORK, Gaussian(), train().params, X, Y, weight_decay=1.0, structure="diagonal"),
    "laplace, refused": lambda: laplace.fit(NETWORK, Gaussian(), train().params, X, Y, weight_decay=0.0),
    "load, refused": lambda: persistence.load(ROOT / "pyproject.toml"),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_setting_of_the_process_is_left_changed(name):
    wanted = ("refused", "broken off", "raising")
    before = settings()
    raised = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        filters = list(warnings.filters)
        try:
            CALLS[name]()
        except (ValueError, TypeError, RuntimeError) as error:
            raised = "from inside" in str(error) or not name.endswith(("broken off", "raising"))
        assert list(warnings.filters) == filters
    assert raised is name.endswith(wanted)
    after = settings()
    assert {what for what in before if before[what] != after[what]} == set()


def test_the_check_of_settings_would_notice():
    before = settings()
    with np.errstate(all="ignore"), jax.numpy_rank_promotion("allow"):
        after = settings()
    assert {what for what in before if before[what] != after[what]} == {"jax.config", "numpy's errors"}


@pytest.mark.filterwarnings("ignore:.*the maximum of .* iterations was reached")
def test_two_threads_that_fit_at_once_get_what_each_gets_alone():
    """While compiling as well: nothing is left of the programs that were compiled for each alone."""

    def work(number):
        network = jnn.mlp([2, 4 + number, 1])
        one = jnn.fit(network, Gaussian(), X, Y, key=jax.random.key(number), epochs=20, batch_size=5)
        many = ensembles.fit(network, Gaussian(), X, Y, key=jax.random.key(number), members=3, epochs=5, batch_size=5)
        model = MLPClassifier(random_state=number, max_iter=5 + number).fit(X, LABELS)
        return one.params, many.params, model.predict_proba(X)

    def beside(number):
        at_once.wait()
        found[number] = work(number)

    alone = {number: work(number) for number in range(2)}
    jax.clear_caches()
    found, at_once = {}, threading.Barrier(2)
    threads = [threading.Thread(target=beside, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    jax.tree.map(np.testing.assert_array_equal, found, alone)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python's own, from 3.12 on
def test_fork_is_warned_of():
    """By JAX, whose threads are not there in the child; jnn/sklearn/README.md says what to do."""

    def fork():
        if not (child := os.fork()):
            os._exit(0)
        os.waitpid(child, 0)

    jnp.zeros(1).block_until_ready()
    with pytest.warns(RuntimeWarning, match="fork"):
        fork()
    assert "Do not `fork`" in (ROOT / "jnn" / "sklearn" / "README.md").read_text()


HUNDRED_FITS = """
import ctypes, gc, warnings
import jax, numpy as np, jnn
from jnn.sklearn import MLPRegressor
from jnn.likelihoods import Gaussian

rng = np.random.default_rng(0)
x = rng.normal(size=(200, 3))
network = jnn.mlp([3, 5, 1])

def fits(first):
    for number in range(first, first + 50):
        y, key = np.sin(x[:, :1]) + 0.1 * rng.normal(size=(200, 1)), jax.random.key(number)
        jnn.fit(network, Gaussian(), x, y, key=key, epochs=2, optimizer=jnn.adam(0.001 * (1 + number)))
        if number % 5 == 0:
            jnn.ensembles.fit(network, Gaussian(), x, y, key=key, members=3, epochs=2)
            MLPRegressor(random_state=number, members=2).fit(x, y[:, 0]).predict(x)

def resident():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(open("/proc/self/statm").read().split()[1])

fits(0)
before = resident()
fits(50)
fits(100)
print(resident() / before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, and trims glibc's reserve")
def test_a_hundred_fits_in_a_row_leave_memory_flat():
    """After fifty that compile what there is to compile."""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", HUNDRED_FITS], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 1.05


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_promoted_implicitly(dtype):
    """Also where numbers are wider than those that must be wide enough, which JAX has no promotion for then."""
    x, y = X.astype(dtype), Y.astype(dtype)
    with jax.enable_x64(dtype == np.float64), jax.numpy_dtype_promotion("strict"):
        fitted = jnn.fit(NETWORK, Gaussian(), x, y, key=KEY, epochs=2, validation=0.2, weight_decay=0.1)
        assert fitted.params[0]["W"].dtype == dtype
        with pytest.warns(laplace.NotConvergedWarning):
            posterior = laplace.fit(NETWORK, Gaussian(), fitted.params, x, y, weight_decay=1.0)
        assert np.isfinite(posterior.log_evidence)
        assert jnn.transforms.Standardize.fit(jnp.asarray(x)).apply(jnp.asarray(x)).dtype == dtype
