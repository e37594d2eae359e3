"""Data from disk: how fast they are read, in how much memory, and what they and checkpoints cost a training.

    python -m experiments.benchmarks.reading [--rows 1000000] [--only rows memory speed interruptions checkpoints]

100 columns of float32, as a memory map and in Parquet, in the page cache. In turn:

- rows: the reader of `jnn.fit` alone, mini-batches of 1,000 rows in random order, beside NumPy's own indexing of an
  array in memory, and beside pyarrow reading the same groups of rows in their order. Processor time is what a busy
  machine disturbs least.
- memory: a process trains on a file four times as large as its limit, which the system enforces (RLIMIT_DATA: memory of
  the process's own; pages of a mapped file can be taken back at any time).
- speed: training from disk beside training from memory, and beside the reader alone: in wall time, and in processor
  time, which bounds what two cores that are busy can do of both.
- interruptions: the reader stops at 100 random places, another one goes on there: the same mini-batches, bit for bit;
  each epoch is a permutation.
- checkpoints: a training with one at every visit and one without, in turn; what that makes of one a minute.
"""

import argparse
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jnn
from experiments.benchmarks.machine import cores
from experiments.benchmarks.timing import in_turn, quartiles
from jnn.training.program import Examples, Program
from jnn.training.splitting import in_order, random_numbers
from jnn.training.streaming import Source

COLUMNS, BATCH, GROUP = 100, 1000, 10_000
PARTS = ("rows", "memory", "speed", "interruptions", "checkpoints")
WAYS = ("memory map", "Parquet")


def write(folder: Path, rows: int) -> None:
    """Standard normal inputs; two classes by the sign of a sum."""
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, COLUMNS), np.float32)
    y = (x[:, 0] + x[:, -1] > 0).astype(np.int32)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    table = {f"c{number}": x[:, number] for number in range(COLUMNS)} | {"y": y}
    # Random numbers do not get smaller by compression or dictionaries.
    parquet.write_table(
        pa.table(table), folder / "rows.parquet", row_group_size=GROUP, compression="none", use_dictionary=False
    )


def few(folder: Path, rows: int) -> Path:
    """A folder with at most so many rows."""
    write(folder / str(rows), min(rows, len(np.load(folder / "y.npy"))))
    return folder / str(rows)


def opened(folder: Path, way: str, memory: int = 2**26) -> tuple[Any, Any]:
    """Inputs and targets, as users open them."""
    if way == "memory map":
        return np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy")
    data = jnn.data.parquet(folder / "rows.parquet", target="y", memory=memory)
    return data.x, data.y


def batches(x: Any, y: Any, order: np.ndarray, begin: int = 0) -> Iterator[np.ndarray]:
    """The inputs as `fit` reads them, some mini-batches at a time, from one on."""
    source = Source(Examples(x, y, None), np.dtype(np.float32), 65_536)
    program = Program(
        jnn.mlp([COLUMNS, 2]), jnn.likelihoods.Categorical(), "backprop", "mean", BATCH, shuffle=True, decays=False,
        split="none", places=(len(order), 0), room=1, dtype=np.dtype(np.float32), platform="cpu",
    )  # fmt: skip
    for block in source.blocks(program, order, begin):
        yield from np.asarray(block.examples.x)[: int(block.steps)]


def ordered(x: Any, key: Any, epoch: int) -> np.ndarray:
    """The order of an epoch, as `fit` has it: a function of key and epoch."""
    order = in_order(np.asarray(_numbers(jax.random.fold_in(key, epoch), len(x))))
    return x.shuffled(order) if isinstance(x, jnn.data.OnDisk) else order


_numbers = jax.jit(random_numbers, static_argnums=1)


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def both(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds, and seconds of processor time."""
    start = time.process_time()
    return seconds(run), time.process_time() - start


def rows(folder: Path, rounds: int) -> None:
    """Thousand rows a second."""
    import pyarrow.parquet

    whole, key = np.load(folder / "x.npy"), jax.random.key(0)

    def read(x: Any, y: Any) -> Callable[[int], tuple[float, float]]:
        return lambda seed: both(lambda: [b[0, 0] for b in batches(x, y, ordered(x, key, seed))])

    def numpy(seed: int) -> tuple[float, float]:
        order = np.random.default_rng(seed).permutation(len(whole))
        return both(lambda: [whole[order[first : first + BATCH]] for first in range(0, len(order), BATCH)])

    def pyarrow_alone(seed: int) -> tuple[float, float]:
        file = pyarrow.parquet.ParquetFile(folder / "rows.parquet", memory_map=True)
        return both(lambda: [file.read_row_group(number) for number in range(file.num_row_groups)])

    contestants = {way: read(*opened(folder, way)) for way in WAYS}
    contestants |= {"NumPy, in memory": numpy, "pyarrow alone, in order": pyarrow_alone}
    for contestant in contestants.values():
        contestant(0)
    for name, took in in_turn(contestants, rounds, _failed, ArithmeticError).items():
        walls, used = (quartiles([len(whole) / each / 1000 for each in times]) for times in zip(*took, strict=True))
        print(f"rows           {name:24} {walls.median:8,.0f} thousand rows a second ({walls.low:,.0f} to "
              f"{walls.high:,.0f}), {used.median:,.0f} a second of processor time", flush=True)  # fmt: skip


def _failed(name: str, why: Exception) -> None:
    print(f"{name}: {why}")


def train(x: Any, y: Any, epochs: int, **more: Any) -> Any:
    """A classifier of 100-100-2, or with other numbers of hidden neurons."""
    network = jnn.mlp([COLUMNS, *more.pop("hidden", (100,)), 2])
    settings = {"key": jax.random.key(1), "epochs": epochs, "batch_size": BATCH, "optimizer": jnn.adam()}
    return jnn.fit(network, jnn.likelihoods.Categorical(), x, y, **settings | more)


def limited(folder: Path, way: str, limit: int) -> None:
    """In a process of its own: trains within so many bytes beyond what JAX has after a first, small training."""
    x, y = opened(folder, way, memory=limit // 4)
    small = x[np.arange(20_000)]
    train(small, y[:20_000], 1, rows_on_device=16_384)  # compiles for blocks, not for sizes of orders
    del small
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + limit, used + limit))
    print(f"{train(x, y, 2, rows_on_device=16_384).history.train_error[-1]:.3f}")


def memory(folder: Path) -> None:
    size = (folder / "x.npy").stat().st_size
    limit = size // 4
    for way in WAYS:
        command = [sys.executable, "-m", "experiments.benchmarks.reading", "--limited", str(folder), way, str(limit)]
        done = subprocess.run(command, capture_output=True, text=True)
        words = f"trained, error {done.stdout.strip()}" if done.returncode == 0 else f"FAILED\n{done.stderr[-2000:]}"
        print(
            f"memory         {way:24} {size / 2**20:.0f} MiB of data within {limit / 2**20:.0f} MiB: {words}",
            flush=True,
        )


def speed(folder: Path, rounds: int) -> None:
    """Seconds an epoch, without what comes before the first: of a small network and one that has more to do."""
    folder = few(folder, 200_000)
    for hidden in ((100,), (500, 500)):
        one_speed(folder, rounds, hidden)


def one_speed(folder: Path, rounds: int, hidden: tuple[int, ...]) -> None:
    """From memory, from disk, and the reader alone: what keeps the cores busy in both cannot be had at once."""
    epochs, key = 3, jax.random.key(1)
    whole = tuple(np.load(folder / f"{name}.npy") for name in "xy")
    given: dict[str, tuple[Any, Any, dict[str, Any]]] = {"memory": (*whole, {})}
    given |= {way: (*opened(folder, way), {"rows_on_device": 65_536}) for way in WAYS}

    def epoch(x: Any, y: Any, more: dict[str, Any]) -> Callable[[int], np.ndarray]:
        def run(seed: int) -> np.ndarray:
            once, often = (np.array(both(lambda n=n: train(x, y, n, hidden=hidden, **more))) for n in (1, 1 + epochs))
            return (often - once) / epochs

        return run

    def read(x: Any, y: Any) -> Callable[[int], np.ndarray]:
        return lambda seed: np.array(both(lambda: [b[0, 0] for b in batches(x, y, ordered(x, key, seed))]))

    contestants = {name: epoch(*each) for name, each in given.items()}
    contestants |= {f"{way} alone": read(*given[way][:2]) for way in WAYS}
    for run in contestants.values():
        run(0)  # compiles
    took = in_turn(contestants, rounds, _failed, ArithmeticError)
    middle = {name: np.median(np.stack(found), axis=0) for name, found in took.items()}
    in_memory, used = middle["memory"]
    print(f"speed          {'-'.join(map(str, hidden))} from memory: {in_memory:.3f} s an epoch, {used:.3f} s of "
          f"processor time on {cores()} cores")  # fmt: skip
    for way in WAYS:
        shares = quartiles([ours[0] / theirs[0] for ours, theirs in zip(took["memory"], took[way], strict=True)])
        (alone, reading), work = middle[f"{way} alone"], middle[way][1]
        most = in_memory / max(in_memory, alone, (used + reading) / cores())
        print(f"speed          {way:24} {100 * shares.median:.0f} % of the speed from memory ({100 * shares.low:.0f} "
              f"to {100 * shares.high:.0f}), {100 * used / work:.0f} % by processor time; the reader alone {alone:.3f} "
              f"s, {reading:.3f} of processor time, so at most {100 * most:.0f} %", flush=True)  # fmt: skip
        rows = len(whole[1])
        print(f"               80 % of busy cores from {4e6 * reading / rows:.1f} µs of processor time a row on (here "
              f"{1e6 * used / rows:.1f})", flush=True)  # fmt: skip


def interruptions(folder: Path) -> None:
    """Exact at 100 random places."""
    folder = few(folder, 100_000)
    rng, key, exact = np.random.default_rng(0), jax.random.key(2), 0
    for way in WAYS:
        for epoch in range(5):
            x, y = opened(folder, way)
            numbers = ordered(x, key, epoch)
            if not np.array_equal(np.sort(numbers), np.arange(len(x))):
                raise AssertionError(f"epoch {epoch} of {way} is no permutation")
            whole = [hash(batch.tobytes()) for batch in batches(x, y, numbers)]
            for place in rng.integers(len(whole), size=10):
                again, y = opened(folder, way)  # another process knows the key, the epoch and the step
                rest = itertools.islice(batches(again, y, ordered(again, key, epoch), int(place)), 70)
                exact += [hash(batch.tobytes()) for batch in rest] == whole[place : place + 70]
    print(f"interruptions  {exact} of 100 go on with the same mini-batches; each epoch is a permutation", flush=True)


def checkpoints(folder: Path, rounds: int) -> None:
    """What one a minute costs: the processor time of all threads, so also what is written in the background."""
    x, y = (np.load(folder / f"{name}.npy")[:50_000] for name in "xy")

    def run(kept: bool) -> Callable[[int], tuple[float, int]]:
        def once(seed: int) -> tuple[float, int]:
            with tempfile.TemporaryDirectory() as place:
                more = {"checkpoint": jnn.Checkpoints(place, seconds=0)} if kept else {}
                start = time.process_time()
                train(x, y, 100, **more)
                return time.process_time() - start, max(map(int, os.listdir(place)), default=0)

        return once

    contestants = {"none": run(False), "many": run(True)}
    contestants["many"](0)
    took = in_turn(contestants, rounds, _failed, ArithmeticError)
    pairs = zip(took["none"], took["many"], strict=True)
    each = quartiles([(kept - plain) / count for (plain, _), (kept, count) in pairs])
    print(f"checkpoints    {1e3 * each.median:.0f} ms of processor time for one ({1e3 * each.low:.0f} to "
          f"{1e3 * each.high:.0f}): one a minute is {100 * each.median / 60:.2f} % of a core", flush=True)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files, and print a line for each thing that is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--limited", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.limited:
        limited(Path(options.limited[0]), options.limited[1], int(options.limited[2]))
        return
    parts = {"rows": (rows, True), "memory": (memory, False), "speed": (speed, True),
             "interruptions": (interruptions, False), "checkpoints": (checkpoints, True)}  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder, options.rows)
        print(f"{options.rows:,} rows, JAX {jax.__version__}, load {os.getloadavg()[0]:.1f}")
        for name in options.only:
            part, timed = parts[name]
            part(folder, options.rounds) if timed else part(folder)


if __name__ == "__main__":
    main()
