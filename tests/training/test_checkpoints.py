"""Checkpoints: the same call goes on to the same bits, and only of the same problem."""

import functools
import resource
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnn
from jnn import Checkpoints, adam, ensembles, fit, mlp, optimizers, stopping
from jnn.likelihoods import Categorical, Gaussian
from jnn.training import CheckpointError, fingerprint
from tests import typechecker

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(15)
X = RNG.normal(size=(60, 3))
Y = np.sin(X[:, :1]) + X[:, 1:2]
NETWORK = mlp([3, 4, 1])
train = functools.partial(
    fit, NETWORK, Gaussian(), X, Y, key=jax.random.key(3), epochs=12, batch_size=4, optimizer=adam(0.02),
    validation=0.2, stopping=stopping.Patience(100),
)  # fmt: skip
together = functools.partial(
    ensembles.fit, NETWORK, Gaussian(), X, Y, key=jax.random.key(4), members=7, lanes=2, epochs=12, batch_size=4,
    optimizer=adam(np.linspace(0.01, 0.05, 7)), validation=0.2, stopping=stopping.Patience(3),
    devices=jax.devices()[:1],
)  # fmt: skip


class Stumbled(Exception):
    """What interrupts a training in these tests."""


@pytest.fixture
def kept(tmp_path):
    return Checkpoints(tmp_path / "run", seconds=0, keep=2)


def assert_equal(got, expected):
    def compare(a, b):
        if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)

    jax.tree.map(compare, (got.state, got.history), (expected.state, expected.history))
    assert str(got.stop_reason) == str(expected.stop_reason)


def stumbling(at, how):
    def callback(seen):
        if seen.epoch == at:
            how()

    return callback


def stumble():
    raise Stumbled


@pytest.mark.parametrize("more", [{}, {"rows_on_device": 16}, {"devices": jax.devices()}], ids=str)
def test_it_goes_on_after_an_exception_as_if_nothing_had_been(kept, more):
    whole = train(**more)
    for at in (3, 8):
        with pytest.raises(Stumbled):
            train(checkpoint=kept, callback=stumbling(at, stumble), **more)
    assert_equal(train(checkpoint=kept, **more), whole)
    # It has ended: the result, and nothing is trained or written any more.
    before = sorted(path.name for path in kept.folder.iterdir())
    assert_equal(train(checkpoint=kept, callback=stumbling(12, stumble), **more), whole)
    assert sorted(path.name for path in kept.folder.iterdir()) == before
    assert len(before) == 2


def test_ctrl_c_within_an_epoch(kept, monkeypatch):
    """The epoch's first blocks are not done again."""
    whole = train(rows_on_device=16)
    from jnn.training import streaming

    rows, taken = streaming.Source.rows, []

    def counted(self, program, numbers):
        taken.append(numbers)
        if len(taken) == 20:
            signal.raise_signal(signal.SIGINT)
        return rows(self, program, numbers)

    monkeypatch.setattr(streaming.Source, "rows", counted)
    first = train(rows_on_device=16, checkpoint=kept)
    assert "Ctrl-C" in first.stop_reason
    assert_equal(train(rows_on_device=16, checkpoint=kept), whole)
    # Of 48 examples 6 blocks an epoch, and one or two to validate on; only what had been sent ahead is sent again.
    blocks = 12 * (6 + 2)
    assert len(taken) <= blocks + 1


def test_it_goes_on_to_more_epochs_and_stays_stopped(kept):
    train(checkpoint=kept, epochs=5)
    assert_equal(train(checkpoint=kept), train())
    early = Checkpoints(kept.folder.with_name("early"), seconds=0)
    rule = {"stopping": stopping.Patience(1), "epochs": 300}
    whole = train(checkpoint=early, **rule)
    assert whole.stop_reason.startswith("the validation risk")
    assert_equal(train(checkpoint=early, **rule), whole)
    with pytest.raises(ValueError, match="epochs of at least the 12 already run, got 11"):
        train(checkpoint=kept, epochs=11)


def test_ensembles_with_those_that_ended_and_those_that_wait(kept, monkeypatch):
    whole = together()
    from jnn.ensembles import scheduling

    class Stumbling(scheduling._Queue):
        def tell(self, worker, mine, states):
            super().tell(worker, mine, states)
            if self._ended.sum() >= 3:  # both lanes may end at one visit
                raise Stumbled

    with monkeypatch.context() as patched:
        patched.setattr(scheduling, "_Queue", Stumbling)
        with pytest.raises(Stumbled):
            together(checkpoint=kept)
    trained = []
    original = scheduling.run_lanes
    monkeypatch.setattr(scheduling, "run_lanes", lambda *a: trained.append(1) or original(*a))
    assert_equal(together(checkpoint=kept).result, whole.result)
    assert trained
    trained.clear()
    assert_equal(together(checkpoint=kept).result, whole.result)
    assert len(trained) <= 1  # to see it compiled; nobody is trained


def test_another_problem_is_refused_and_told(kept):
    train(checkpoint=kept)
    changed = {
        "optimizer": ({"optimizer": adam(0.03)}, r"differs: optimizer \(another one\)\. Pass"),
        "weight_decay": ({"weight_decay": 0.1}, r"differs: weight_decay \(there 0.0, now 0.1\)"),
        "batch_size": ({"batch_size": 5}, r"differs: batch_size \(there 4, now 5\)"),
        "key": ({"key": jax.random.key(9)}, r"differs: key"),
        "streams": ({"rows_on_device": 16}, r"differs: rows_on_device \(there None, now 16\)"),
    }
    for settings, told in changed.values():
        with pytest.raises(ValueError, match=f"has checkpoints of another training; what {told}"):
            train(checkpoint=kept, **settings)
    other = functools.partial(fit, key=jax.random.key(3), epochs=12, checkpoint=kept)
    with pytest.raises(ValueError, match=r"what differs: .*network .*x .*y .*"):
        other(mlp([3, 5, 1]), Gaussian(), X + 1, Y)
    with pytest.raises(ValueError, match=r"what differs: .*dtype"):
        other(NETWORK, Gaussian(), X.astype(np.float32), Y.astype(np.float32))
    (kept.folder / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"a folder for checkpoints alone, but .* has 'notes.txt'"):
        train(checkpoint=kept)


def full_disk(kept):
    """Files that may not grow: the error says what happened, and what is left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(CheckpointError, match="could not be written to") as raised:
            train(checkpoint=kept, callback=stumbling(6, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    whole = [int(path.name) for path in kept.folder.iterdir() if path.name.isdigit()]
    assert f"; the last good one is number {max(whole)}. Make room" in str(raised.value)
    assert_equal(train(checkpoint=kept), train())


def damaged(kept):
    """A checkpoint of which files are empty: its number, and the remedy."""
    train(checkpoint=kept)
    newest = max(kept.folder.iterdir(), key=lambda path: int(path.name))
    for path in newest.rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"number {newest.name}, cannot be read .*; remove its folder"):
        train(checkpoint=kept)


@pytest.mark.parametrize("fault", [full_disk, damaged], ids=lambda fault: fault.__name__)
def test_what_the_disk_does_is_told(fault, tmp_path):
    """In a process of its own: after a failure Orbax's threads go on, and complain of it in later tests."""
    module = "from tests.training import test_checkpoints as here; from pathlib import Path"
    code = f"{module}; here.{fault.__name__}(here.Checkpoints(Path({str(tmp_path / 'run')!r}), seconds=0, keep=2))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr


def test_what_it_refuses(kept, tmp_path):
    for wrong, told in (({"seconds": -1}, "seconds ≥ 0"), ({"keep": 0}, "at least 1")):
        with pytest.raises(ValueError, match=told):
            Checkpoints(tmp_path, **wrong)
    with typechecker.off(), pytest.raises(TypeError, match=r"expected checkpoint as jnn.Checkpoints"):
        train(checkpoint="run")
    with pytest.raises(ValueError, match="got both"):
        train(checkpoint=kept, resume=train())
    with typechecker.off(), pytest.raises(ValueError, match="checkpoint needs a host to work from"):
        jax.jit(lambda key: fit(NETWORK, Gaussian(), X, Y, key=key, checkpoint=kept).params)(jax.random.key(0))


def test_fingerprints():
    """Equal for what is built again, different for what trains otherwise, and nothing about memory in them."""

    def made(power, scale):
        def h(a):
            return scale * a**power

        return h

    print_of = fingerprint.fingerprint
    for make in (
        lambda: made(2, 0.5), lambda: mlp([3, 4, 1], "relu"), lambda: adam(0.1), lambda: jnn.rprop(),
        lambda: optimizers.parametrized(made, power=1, scale=2), lambda: stopping.Patience(3), lambda: {"a": [1, (2,)]},
        lambda: jax.random.key(1), lambda: np.arange(300.0), lambda: jnn.dag(2, 1, [(1, 3), (2, 3), (3, 4)]),
        lambda: jax.jit(made(2, 1)), Categorical,
    ):  # fmt: skip
        assert print_of(value=make()) == print_of(value=make()), make()
        assert "0x" not in fingerprint._words(make(), ())
    different = [
        made(2, 0.5), made(3, 0.5), made(2, 0.6), lambda a: a, lambda a: a + 1, mlp([3, 4, 1]), mlp([3, 5, 1]),
        mlp([3, 4, 1], "relu"), adam(0.1), adam(0.2), np.arange(3), np.arange(3.0), np.arange(4), jax.random.key(1),
        jax.random.key(2), stopping.Patience(3), stopping.Patience(4), None, 0, False, "0",
    ]  # fmt: skip
    prints = [print_of(value=value)["value"] for value in different]
    assert len(set(prints)) == len(prints)


def test_nothing_of_it_is_imported_before_it_is_used():
    code = "import jnn, sys; assert not {'orbax', 'grain', 'pyarrow'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
