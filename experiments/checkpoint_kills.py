"""`python -m experiments.checkpoint_kills`: kills trainings while they run, and goes on from their checkpoints.

A training is killed (−9) at random moments between its first checkpoint and its end, several times, now and then while
it is just going on from one, and started again with the same call, until it ends. Its result must be that of a training
that nobody disturbed, bit for bit: parameters, best hypothesis, history, optimizer.
Then a training whose files may suddenly not grow any more, as on a full disk: it must end with an error that says so,
and go on when there is room again.
"""

import argparse
import functools
import hashlib
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jnn
from jnn import ensembles, stopping
from jnn.training import CheckpointError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2000, 8)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(np.int32)
FEW = 400
NETWORK = jnn.mlp([8, 12, 2], shortcuts=True)
LIKELIHOOD = jnn.likelihoods.Categorical()
PER_RUN = 4
"""Kills that one training suffers, before it is left to end."""
EARLY = 0.2
"""How often a training that goes on is killed before it has written a checkpoint of its own."""


def network(checkpoint: Any, **more: Any) -> Any:
    """One network on data in memory."""
    return jnn.fit(
        NETWORK, LIKELIHOOD, X[:FEW], Y[:FEW], key=jax.random.key(0), epochs=15_000, validation=0.2, weight_decay=0.1,
        stopping=stopping.Patience(100_000), checkpoint=checkpoint, **more,
    )  # fmt: skip


def streamed(checkpoint: Any) -> Any:
    """One network on data that come block by block; checkpoints are written within an epoch."""
    return jnn.fit(
        NETWORK, LIKELIHOOD, X, Y, key=jax.random.key(1), epochs=12, batch_size=4, rows_on_device=64, validation=0.1,
        checkpoint=checkpoint,
    )  # fmt: skip


def ensemble(checkpoint: Any) -> Any:
    """Members that end early, some in work and others that wait."""
    return ensembles.fit(
        NETWORK, LIKELIHOOD, X[:FEW], Y[:FEW], key=jax.random.key(2), members=64, lanes=4, epochs=400, validation=0.2,
        stopping=stopping.Patience(60), optimizer=jnn.adam(np.geomspace(1e-4, 1e-2, 64)), checkpoint=checkpoint,
    ).result  # fmt: skip


def search(checkpoint: Any) -> Any:
    """Cross-validation, with networks of several widths."""
    grid = {"network": [jnn.mlp([8, n, 2]) for n in (2, 8)], "learning_rate": [0.003, 0.03]}
    return ensembles.cross_validate(
        None, LIKELIHOOD, X[:FEW], Y[:FEW], key=jax.random.key(3), grid=grid, epochs=600, checkpoint=checkpoint
    ).scores


TRAININGS: dict[str, Callable[[Any], Any]] = {f.__name__: f for f in (network, streamed, ensemble, search)}


def hashed(result: Any) -> str:
    """Of all bits of a result."""
    sums = hashlib.sha256()
    for leaf in jax.tree.leaves(result):
        is_key = isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        sums.update(np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes())
    return sums.hexdigest()


def begun(training: Callable[[Any], Any], folder: Path, seconds: float) -> int:
    """A process that trains, and writes its result's hash, or its error, beside the folder; its number.

    It is forked from this one, which has imported everything but started no part of JAX.
    """
    if child := os.fork():
        return child
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Orbax's own account of errors, which are told here
        jnn.enable_compilation_cache(folder.parent / "compiled")
        checkpoint = jnn.Checkpoints(folder, seconds=seconds, keep=2)
        folder.with_suffix(".hash").write_text(hashed(training(checkpoint)))
        status = 0
    except BaseException as error:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        folder.with_suffix(".error").write_text(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    os._exit(status)


def newest(folder: Path) -> int:
    """The number of the newest whole checkpoint; 0 if there is none."""
    names = os.listdir(folder) if folder.exists() else []
    return max((int(name) for name in names if name.isdigit()), default=0)


def ended(child: int, pause: float = math.inf, since: Callable[[], bool] = lambda: True) -> bool:
    """Whether a process ends by itself; so many seconds since something has come to be, it is killed."""
    deadline = math.inf
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        if deadline == math.inf and since():
            deadline = time.monotonic() + pause
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def undisturbed(name: str, folder: Path, seconds: float) -> tuple[str, float, float]:
    """The hash of a training that nobody disturbs, its seconds to the first checkpoint, and from there to the end."""
    start = first = 0.0

    def begins() -> bool:
        nonlocal first
        first = time.monotonic()
        return newest(folder) > 0

    for _ in range(2):  # compiles; then is timed
        shutil.rmtree(folder, ignore_errors=True)
        start = time.monotonic()
        ended(begun(TRAININGS[name], folder, seconds), since=begins)
    return outcome(folder), first - start, time.monotonic() - first


def outcome(folder: Path) -> str:
    """What a process left: the hash; or what went wrong, raised."""
    if (error := folder.with_suffix(".error")).exists():
        raise RuntimeError(error.read_text())
    return folder.with_suffix(".hash").read_text()


def killed(name: str, kills: int, folder: Path, chance: random.Random, seconds: float) -> tuple[int, int, int]:
    """Trainings that ended, those with the undisturbed result, and kills after a first checkpoint."""
    expected, starts, takes = undisturbed(name, folder / name, seconds)
    trainings = equal = late = 0
    while kills > 0:
        place = folder / f"{name}{trainings}"
        moments = sorted(chance.uniform(0, takes) for _ in range(min(PER_RUN, kills)))
        for pause in np.diff([0.0, *moments]):
            known = newest(place)
            since = functools.partial(lambda place, known: newest(place) > known, place, known)
            if known and chance.random() < EARLY:
                pause, since = chance.uniform(0, starts), lambda: True
            if ended(begun(TRAININGS[name], place, seconds), pause, since):
                break
            kills -= 1
            late += newest(place) > 0
        else:
            ended(begun(TRAININGS[name], place, seconds))
        trainings, equal = trainings + 1, equal + (outcome(place) == expected)
        shutil.rmtree(place)
    return trainings, equal, late


def filling_up(checkpoint: Any) -> Any:
    """`network`, whose files may not grow any more after the 200th epoch."""

    def callback(seen: Any) -> None:
        if seen.epoch == 200:
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    return network(checkpoint, callback=callback, callback_every=50)


def full_disk(folder: Path) -> str:
    """The error of a training whose disk is full; it went on to the undisturbed result when there was room again."""
    ended(begun(TRAININGS["network"], folder / "whole", 60.0))
    expected, place = outcome(folder / "whole"), folder / "full"
    ended(begun(filling_up, place, 0.0))
    limited = place.with_suffix(".error")
    error = limited.read_text().splitlines()[0]
    limited.unlink()
    if not error.startswith(CheckpointError.__name__):
        raise RuntimeError(f"expected {CheckpointError.__name__}, got {error}")
    if f"the last good one is number {newest(place)}." not in error:
        raise RuntimeError(f"the newest whole checkpoint is number {newest(place)}, but the error says: {error}")
    ended(begun(TRAININGS["network"], place, 60.0))
    if outcome(place) != expected:
        raise RuntimeError("after the full disk, the result differs from the undisturbed one")
    return error.replace(str(folder), "...")


def main(arguments: list[str] | None = None) -> int:
    """Kill, go on, compare; the exit status is 1 if any result differs."""
    parser = argparse.ArgumentParser(prog="python -m experiments.checkpoint_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="in all (default: 200)")
    parser.add_argument("--trainings", nargs="+", choices=TRAININGS, default=list(TRAININGS), metavar="NAME",
                        help=f"of {', '.join(TRAININGS)} (default: all)")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=0.1, help="from one checkpoint to the next (default: 0.1)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills (default: 0)")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message=".*fork")  # nothing of JAX has been started here
    chance, start, wrong = random.Random(options.seed), time.monotonic(), 0
    print(f"JAX {jax.__version__}, Python {sys.version.split()[0]}")
    print(f"{'training':10} {'kills':>6} {'after the first checkpoint':>27} {'trainings':>10} {'equal':>6}")
    with tempfile.TemporaryDirectory() as temporary:
        for number, name in enumerate(options.trainings):
            kills = (options.kills + number) // len(options.trainings)
            trainings, equal, late = killed(name, kills, Path(temporary), chance, options.seconds)
            wrong += trainings - equal
            print(f"{name:10} {kills:6} {late:27} {trainings:10} {equal:6}", flush=True)
        print(f"full disk: {full_disk(Path(temporary))}\n           and on to the same result when there was room")
    print(f"{'every result was' if not wrong else f'{wrong} results were NOT'} equal bit for bit; "
          f"{time.monotonic() - start:.0f} s")  # fmt: skip
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
