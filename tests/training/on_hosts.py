"""One of several processes, run by test_hosts.py: the same script in each, as users have it on several hosts.

python -m tests.training.on_hosts NUMBER COUNT PORT FOLDER [PART ...]

All have eight devices together. A line for each thing to compare; a process without companions also makes, in the
folder, what others are compared with and go on from.
"""

import functools
import hashlib
import os
import shutil
import signal
import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import jnn
from jnn import adam, dag, ensembles, fit, mlp, stopping
from jnn.ensembles import scheduling
from jnn.likelihoods import Categorical
from jnn.training import visiting

RNG = np.random.default_rng(8)
X = RNG.normal(size=(150, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)
F = X.astype(np.float32)
NETWORK = mlp([4, 5, 3], shortcuts=True)
DAG = dag(4, 3, [(1, 5), (2, 5), (3, 6), (4, 6), (5, 6), (5, 7), (6, 8), (4, 9), (6, 9)])
PLAIN = {  # network, inputs, what else
    "float32": (NETWORK, F, {}),
    "float64": (NETWORK, X, {}),
    "dag": (DAG, F, {"validation": (F[:40], Y[:40], np.linspace(1, 2, 40))}),
}


def train(x, y, network=NETWORK, **more):
    """Not a partial: a key, and so JAX, is made when it is called."""
    settings = {"epochs": 5, "batch_size": 50, "validation": 0.2, "weight_decay": 0.1, "optimizer": adam(0.02)}
    settings |= {"stopping": stopping.Patience(4), "weights": np.linspace(0.5, 2, 150), "key": jax.random.key(0)}
    return fit(network, Categorical(), x, y, **settings | more)


def hashed(result) -> str:
    """Of all bits of the result."""
    sums = hashlib.sha256()
    for leaf in jax.tree.leaves(result.state._replace(key=jax.random.key_data(result.state.key))):
        sums.update(np.asarray(leaf).tobytes())
    return sums.hexdigest()


def numbers(result):
    """Parameters and risks."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves((result.params, result.last_params, result.history))]


class Script:
    """What each process does, part by part."""

    def __init__(self, number: int, count: int, folder: Path) -> None:
        self.number, self.count, self.folder, self.alone = number, count, folder, count == 1
        self.devices = jax.devices()
        assert len(self.devices) == 8
        self.shards = {"devices": self.devices, "shards": 16}

    def plain(self) -> None:
        """How far from one device, relative to the largest number of each array."""
        for name, (network, x, more) in PLAIN.items():
            file = self.folder / f"{name}.npz"
            if self.alone:
                np.savez(file, *numbers(train(x, Y, network, **more)))
            one, many = np.load(file), numbers(train(x, Y, network, devices=self.devices, **more))
            pairs = zip(one.values(), many, strict=True)
            print(name, max(float(np.max(np.abs(a - b)) / np.max(np.abs(a))) for a, b in pairs))

    def kept(self) -> None:
        """To the last bit: on fewer devices, saved on eight and gone on with on fewer."""
        run = functools.partial(train, F, Y, **self.shards)
        print("kept", hashed(run(checkpoint=jnn.Checkpoints(self.folder / f"kept{self.count}", seconds=0))))
        begun = self.folder / "begun"
        if self.alone:
            run(checkpoint=jnn.Checkpoints(begun), callback=lambda seen: seen.epoch == 2)
            fewer = [{"devices": self.devices[:n]} for n in (1, 2, 4)]
            print("fewer", *(hashed(run(**some)) for some in fewer))
        else:
            fewer = [{}]
        for some in fewer:
            place = self.folder / f"begun{len(some.get('devices', []))}{self.count}"
            if self.number == 0:
                shutil.copytree(begun, place)
            if not self.alone:
                jax.experimental.multihost_utils.sync_global_devices("copied")
            print("resumed", hashed(run(checkpoint=jnn.Checkpoints(place), **some)))

    def streamed(self) -> None:
        """To the last bit, from the host."""
        some = [self.devices, self.devices[:1]] if self.alone else [self.devices]
        for devices in some:
            print("streamed", hashed(train(F, Y, rows_on_device=110, devices=devices, shards=16)))

    def hosts(self) -> None:
        """Rows of each process's own as one array; a callback of one that stops all; a call that differs."""
        run = functools.partial(fit, NETWORK, Categorical(), key=jax.random.key(0), batch_size=50, epochs=5)
        given = F[:144], Y[:144]
        if not self.alone:
            mesh = jax.make_mesh((8,), ("rows",))
            own = slice(self.number * 144 // self.count, (self.number + 1) * 144 // self.count)
            whole = functools.partial(
                jax.make_array_from_process_local_data, NamedSharding(mesh, PartitionSpec("rows"))
            )
            given = whole(F[own]), whole(Y[own])
        print("own", hashed(run(*given, **self.shards)))
        stopped = run(*given, callback=lambda seen: seen.epoch == 2 and self.number == self.count - 1, **self.shards)
        print("stopped", int(stopped.epochs))
        if not self.alone:
            print("told", told(lambda: run(F + self.number, Y, **self.shards)))
            print("told", told(lambda: train(F, Y, checkpoint=jnn.Checkpoints(self.folder / "refused"))))

    def members(self) -> None:
        """Each process's own members; interrupted in one of them, and gone on with."""
        firsts = [next(d for d in self.devices if d.process_index == number) for number in range(self.count)]
        place = jnn.Checkpoints(self.folder / f"members{self.count}", seconds=0)
        settings = {"lanes": 2, "devices": firsts, "key": jax.random.key(1), "epochs": 1500}
        rates = np.geomspace(0.001, 0.1, 7)
        run = functools.partial(ensembles.fit, NETWORK, Categorical(), F, Y, optimizer=adam(rates), **settings)
        if self.alone:
            print("members", hashed(run().result))
        timed, visits = scheduling._Worker._timed, []

        def interrupting(worker, *work):
            worker._pace = EveryEpoch()
            if not visits and self.number == self.count - 1:
                os.kill(os.getpid(), signal.SIGINT)
            visits.append(1)
            return timed(worker, *work)

        # They meet after every visit: or others, who may begin long before the last, end before they hear of it.
        scheduling._Worker._timed, scheduling.SECONDS_BETWEEN_MEETINGS = interrupting, 0
        some = run(checkpoint=place).result
        scheduling._Worker._timed = timed
        print("interrupted", some.interruption, bool(np.max(some.epochs) < 1500))
        if not self.alone:
            print("members", hashed(run(checkpoint=place).result))
        one = jnn.Checkpoints(self.folder / f"member{self.count}", seconds=0)
        print("single", hashed(run(optimizer=adam(rates[:1]), checkpoint=one).result))  # one process has nobody
        search = ensembles.cross_validate(
            NETWORK, Categorical(), F, Y, grid={"weight_decay": [0.1, 1.0]}, folds=2, **settings | {"epochs": 5}
        )
        print("search", *(value.hex() for value in search.scores.ravel()))

    def dies(self) -> None:
        """The last process ends in the third epoch, without a word."""

        def callback(seen):
            if seen.epoch == 3 and self.number == self.count - 1:
                os._exit(9)

        train(F, Y, checkpoint=jnn.Checkpoints(self.folder / "dies", seconds=0), callback=callback, **self.shards)

    def goes_on(self) -> None:
        """What the others go on with."""
        place = jnn.Checkpoints(self.folder / "dies", seconds=0)
        print("gone_on", hashed(train(F, Y, checkpoint=place, **self.shards)))


class EveryEpoch(visiting.Pace):
    """Visits after each epoch: the pace of a program is shared by its threads, which measure it anew."""

    def __init__(self) -> None:
        self.epochs = 1

    def took(self, epochs, seconds) -> None:
        """Nothing is learned."""


def told(call) -> str:
    """The beginning of an error's words."""
    try:
        call()
    except ValueError as error:
        return " ".join(str(error).split()[:12])
    return "nothing"


def main(number: int, count: int, port: int, folder: str, parts: list[str]) -> None:
    if count > 1:
        jax.distributed.initialize(f"localhost:{port}", count, number, heartbeat_timeout_seconds=10)
    script = Script(number, count, Path(folder))
    for part in parts:
        getattr(script, part)()
        sys.stdout.flush()


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main(*map(int, sys.argv[1:4]), sys.argv[4], sys.argv[5:])
