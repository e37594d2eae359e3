"""Does a damaged file ever load, and does a killed process ever lose one?

    python -m experiments.persistence_fuzz [--damages 10000] [--kills 200]

- Damages: files of several models are cut off at every length, and have every bit flipped, at random places if there
  are more than wanted; blocks of them are zeroed, doubled, removed and exchanged. Each must be refused as a
  `PersistenceError`. Of half as many, the checksum is then made right again, as by someone who forges a file: those
  must be refused, or load as a model whose parts fit.
- Kills: a process saves two models in turn under one name, and is killed (SIGKILL) after a random time. The file must
  be one of the two, whole, each time.
"""

import argparse
import itertools
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import random
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jnn
from jnn import likelihoods, transforms
from jnn.networks import Network, Params
from jnn.persistence import Model, PersistenceError, container, load, save

PAIR: list[Model] = []
"""What is saved in turn; forked processes find it here."""


class Damages(NamedTuple):
    """How many files were damaged and refused, forged and refused, forged and loaded as a model that fits."""

    refused: int
    forged_refused: int
    forged_loaded: int


class Kills(NamedTuple):
    """How many processes were killed, how many of them while a file was being written, and how many files were lost."""

    killed: int
    while_writing: int
    lost: int


def models() -> list[Model]:
    """Small models of all kinds."""
    rng = np.random.default_rng(0)

    def params(network: Network, *members: int, dtype: Any = jnp.float32) -> Params:
        shapes = jax.eval_shape(network.init, jax.random.key(0))
        return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=(*members, *s.shape)).astype(dtype)), shapes)

    chain = jnn.mlp([3, 2, 2], hidden="relu", shortcuts=True)
    general = jnn.dag(3, 2, [(1, 4), (2, 4), (3, 5), (4, 5), (4, 6)], ["softsign"])
    ones = jnp.ones(3, jnp.float32)
    standardize, whiten = transforms.Standardize(ones, 2 * ones), transforms.Whiten(ones, jnp.diag(ones), ones)
    labels = likelihoods.OneHot.fit(["ant", "bee"])
    return [
        Model(chain, likelihoods.Categorical(), params(chain), (standardize, whiten), encoding=labels),
        Model(general, likelihoods.SquaredError("tanh", 0.3), params(general, dtype=jnp.bfloat16)),
        Model(chain, likelihoods.Gaussian(2.0), params(chain, 2), extra={"curve": np.array([0.5, np.nan]), "seed": 3}),
    ]


def mutations(data: bytes) -> list[Callable[[random.Random], bytes]]:
    """Ways to change a file: random ones, each another every time."""

    def of_a_block(change: Callable[[bytes, bytes, bytes, random.Random], bytes]) -> Callable[[random.Random], bytes]:
        def way(rng: random.Random) -> bytes:
            first = rng.randrange(len(data))
            last = min(len(data), first + rng.randint(1, 64))
            return change(data[:first], data[first:last], data[last:], rng)

        return way

    return [
        lambda rng: data[: rng.randrange(len(data))],
        lambda rng: flipped(data, rng.randrange(8 * len(data))),
        of_a_block(lambda before, block, after, rng: before + bytes(len(block)) + after),
        of_a_block(lambda before, block, after, rng: before + block + block + after),
        of_a_block(lambda before, block, after, rng: before + after),
        of_a_block(lambda before, block, after, rng: before + bytes(rng.randrange(256) for _ in block) + after),
    ]


def flipped(data: bytes, bit: int) -> bytes:
    """The bytes with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def forged(data: bytes) -> bytes:
    """The bytes with the checksum that they should have, if they still have a place for one."""
    place = re.search(rb'"checksum\\":\\"(.{64})\\"', data)
    if place is None:
        return data
    at = place.start(1)
    return data[:at] + container.digest(memoryview(data), at) + data[at + 64 :]


def damage(count: int, seed: int = 0) -> Damages:
    """Load that many damaged files and half as many forged ones.

    Raises:
        AssertionError: if a damaged one loads.
    """
    rng = random.Random(seed)
    refused = forged_refused = forged_loaded = 0
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.safetensors"
        originals = []
        for model in models():
            save(path, model)
            originals.append(path.read_bytes())
        each = [
            *((data, lambda _, d=data, n=n: d[:n]) for data in originals for n in range(len(data))),
            *((data, lambda _, d=data, n=n: flipped(d, n)) for data in originals for n in range(8 * len(data))),
        ]
        chosen = rng.sample(each, min(len(each), count // 2))
        ways = [(data, way) for data in originals for way in mutations(data)]
        chosen += [rng.choice(ways) for _ in range(count - len(chosen))]
        for number, (data, way) in enumerate(chosen):
            changed = way(rng)
            while changed == data:  # zeroed what was zero
                changed = flipped(data, rng.randrange(8 * len(data)))
            path.write_bytes(changed)
            try:
                load(path)
            except PersistenceError:
                refused += 1
            else:
                raise AssertionError(f"a damaged file was loaded: {len(data)} bytes, now {changed!r}")
            if number % 2:
                path.write_bytes(forged(changed))
                try:
                    load(path).check()
                    forged_loaded += 1
                except PersistenceError:
                    forged_refused += 1
    return Damages(refused, forged_refused, forged_loaded)


def large(seed: int) -> Model:
    """A model of 8 MB, which takes a while to write."""
    network = jnn.mlp([500, 4000 + seed, 10])
    sizes = [(500, 4000 + seed), (4000 + seed, 10)]
    rng = np.random.default_rng(seed)
    params = tuple({"W": rng.normal(size=size).astype("f"), "b": np.zeros(size[1], "f")} for size in sizes)
    return Model(network, likelihoods.Categorical(), params)


def _save_each(paths: Sequence[pathlib.Path]) -> None:
    for path, model in zip(paths, PAIR, strict=True):
        save(path, model)


def _save_forever(path: pathlib.Path, ready: multiprocessing.connection.Connection) -> None:
    for number, model in enumerate(itertools.cycle(PAIR)):
        save(path, model)
        if number == 1:
            ready.send("saving")


def _wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)


def kill(count: int, seed: int = 0) -> Kills:
    """Kill that many processes while they save: at any time, and every other one just after it began to write.

    Call it before anything else uses JAX: the processes are forks.
    """
    rng = random.Random(seed)
    fork = multiprocessing.get_context("fork")
    PAIR.extend(large(n) for n in (0, 1))
    writing = lost = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        path, originals = folder / "model.safetensors", [folder / "0", folder / "1"]
        first = fork.Process(target=_save_each, args=(originals,))
        first.start()
        first.join()
        whole = [original.read_bytes() for original in originals]
        for number in range(count):
            ours, theirs = fork.Pipe()
            process = fork.Process(target=_save_forever, args=(path, theirs))
            process.start()
            ours.recv()
            if number % 2:
                _wait_for(lambda: list(folder.glob(".*.tmp")))
            time.sleep(rng.uniform(0, 0.005 if number % 2 else 0.2))
            process.kill()
            process.join()
            strays = list(folder.glob(".*.tmp"))
            writing += bool(strays)
            for stray in strays:
                stray.unlink()
            lost += path.read_bytes() not in whole
        check = fork.Process(target=load, args=(path,))
        check.start()
        check.join()
        lost += check.exitcode != 0
    return Kills(count, writing, lost)


def main() -> None:
    """Run both, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damages", type=int, default=10_000, metavar="N")
    parser.add_argument("--kills", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.kills:
        kills = kill(options.kills, options.seed)
        print(
            f"{kills.killed} killed, {kills.while_writing} of them while writing; {kills.lost} files lost", flush=True
        )
        if kills.lost:
            raise SystemExit(1)
    if options.damages:
        damages = damage(options.damages, options.seed)
        print(
            f"{damages.refused} damaged files, all refused; of those forged to have the right checksum "
            f"{damages.forged_refused} refused, {damages.forged_loaded} loaded as models whose parts fit"
        )


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main()
