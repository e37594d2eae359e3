"""How much memory does training on large data take?

    python -m experiments.benchmarks.memory [--rows 1000000] [--columns 100] [--epochs 2]

Three processes train 100-32-2 by mini-batches of 1,000: with all examples on the device (which on a CPU means a second
copy), with `rows_on_device` a tenth of them, and the same from a memory-mapped file. Printed for each: the seconds, the
highest resident memory beyond what the process had after its imports, in multiples of the data, and the training risk.
Of a mapped file the pages that were read count as resident, but can be given back at any time; "own" memory is without
them, at the end. (Both from Linux's /proc; elsewhere NaN.)
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

import jnn
from experiments.command_line import rich_table
from experiments.experiment import Table

WAYS = ("all on the device", "a tenth on the device", "from a mapped file")


def write(folder: Path, rows: int, columns: int) -> None:
    """Standard normal inputs; two classes by the sign of a sum."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, columns)).astype(np.float32)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", (x[:, 0] + x[:, -1] > 0).astype(np.int32))


def measure(way: str, folder: Path, epochs: int) -> dict[str, Any]:
    """Train, in this process."""
    before, own_before = status("VmHWM"), status("RssAnon")
    x = np.load(folder / "x.npy", mmap_mode="r" if way == WAYS[2] else None)
    y = np.load(folder / "y.npy")
    begun = time.perf_counter()
    result = jnn.fit(
        jnn.mlp([x.shape[1], 32, 2]),
        jnn.likelihoods.Categorical(),
        x,
        y,
        key=jax.random.key(0),
        epochs=epochs,
        batch_size=min(1000, len(x) // 20),
        rows_on_device=None if way == WAYS[0] else len(x) // 10,
    )
    risk = float(result.history.train_error[-1])
    return {
        "seconds": time.perf_counter() - begun,
        "peak": (status("VmHWM") - before) / x.nbytes,
        "own": (status("RssAnon") - own_before) / x.nbytes,
        "risk": risk,
    }


def status(field: str) -> float:
    """Bytes of Linux's /proc, NaN elsewhere: VmHWM is the most resident memory so far, RssAnon that which is no file's.

    (`getrusage` reports the parent's peak, from before exec.)
    """
    status = Path("/proc/self/status")
    found = re.search(rf"{field}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return 1024 * float(found[1]) if found else float("nan")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is not None:
        print(json.dumps(measure(options.way, options.folder, options.epochs)))
        return
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.rows, options.columns)
        for way in WAYS:
            command = [sys.executable, "-m", "experiments.benchmarks.memory", "--way", way, "--folder", folder]
            done = subprocess.run([*command, "--epochs", str(options.epochs)], check=True, stdout=subprocess.PIPE)
            found[way] = json.loads(done.stdout.splitlines()[-1])
    size = options.rows * options.columns * 4 / 2**20
    title = (
        f"{options.rows:,} × {options.columns} float32, {size:.0f} MiB, {options.epochs} epochs, JAX {jax.__version__}"
    )
    columns = {
        "": str,
        "seconds": lambda way: f"{found[way]['seconds']:.1f}",
        "peak / data": lambda way: f"{found[way]['peak']:.2f}",
        "own at the end / data": lambda way: f"{found[way]['own']:.2f}",
        "training risk": lambda way: f"{found[way]['risk']:.4f}",
    }
    Console().print(rich_table(Table.of(title, WAYS, columns)))


if __name__ == "__main__":
    main()
