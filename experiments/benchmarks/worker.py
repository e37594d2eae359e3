"""A contestant's process: takes commands as lines of JSON, answers each with one.

    python -m experiments.benchmarks.worker MODULE VARIANT DEVICE PRECISION

{"command": "describe"}                             → {"versions": ..., "python": ..., "device": ..., "precision": ...}
{"command": "prepare", "workload": ..., "data": ..} → {"seconds": of the first training, "threads": the best, or None}
{"command": "train", "seed": 3}                     → {"seconds": ..., "error": ..., "risk": ..., "networks": ...}
{"command": "floor", "workload": ..., "data": ...}  → the costs that `floors` measures (in jnn's interpreter)

An answer to a command that failed is {"failure": why, "missing": whether something is not installed}. Imports nothing
but NumPy before the contestant itself.
"""

import importlib.metadata
import json
import os
import platform
import sys
import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.benchmarks import machine
from experiments.benchmarks.scoring import error, risk
from experiments.benchmarks.workloads import ALONE, Data, Setting, Train, Unavailable, Workload, load

TRIES = 3
"""How often each number of threads is tried."""


SOME = 256
"""So many training rows tell the risk of several networks."""


class Worker:
    """Answers commands."""

    def __init__(self, module: str, variant: str, setting: Setting) -> None:
        self.module, self.variant, self.setting = module, variant, setting
        self.train: Train | None = None
        self.workload: Workload | None = None
        self.data: Data | None = None

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command; nothing is raised."""
        arguments = {name: value for name, value in command.items() if name != "command"}
        try:
            return getattr(self, f"_{command['command']}")(**arguments)
        except ImportError as missing:
            return {"failure": str(missing), "missing": True}
        except Unavailable as why:
            return {"failure": str(why), "missing": False}
        except Exception as failure:
            return {"failure": f"{type(failure).__name__}: {failure}"[:2000], "missing": False}

    def _peer(self) -> Any:
        return importlib.import_module(f"experiments.benchmarks.peers.{self.module}")

    def _describe(self) -> dict[str, Any]:
        peer = self._peer()
        return {
            "versions": {name: importlib.metadata.version(name) for name in peer.PACKAGES},
            "python": platform.python_version(),
            "device": peer.device(self.setting),
            # The CPU computes in float32 whatever is asked for.
            "precision": self.setting.precision if self.setting.device == "gpu" else "float32",
        }

    def _prepare(self, workload: dict[str, Any], data: str) -> dict[str, Any]:
        peer = self._peer()
        self.workload = Workload.from_json(workload)
        self.data = load(data)
        prepare = getattr(peer, f"prepare_{self.variant.replace('-', '_')}") if self.variant else peer.prepare
        threads = None
        if self.variant in getattr(peer, "VARIANTS_WITH_THREADS", ()) and self.setting.device == "cpu":
            threads = self._best_threads(peer, prepare)
        self.train = train = prepare(self.workload, self.data, self.setting)
        begun = time.perf_counter()
        train(0)  # compiles, where something compiles
        return {"seconds": time.perf_counter() - begun, "threads": threads}

    def _best_threads(self, peer: Any, prepare: Any) -> int:
        """All cores or one, whichever trains a shorter run faster: small products gain nothing by threads."""
        assert self.workload is not None
        epochs = max(1, self.workload.epochs // 10)
        short = replace(self.workload, epochs=epochs, members=min(self.workload.members, ALONE))
        seconds: dict[int, float] = {}
        set_threads = getattr(peer, "set_threads", self._set_threads)
        train = prepare(short, self.data, self.setting)
        train(0)
        for threads in (machine.cores(), 1) * TRIES:
            set_threads(threads)
            begun = time.perf_counter()
            train(1)
            seconds[threads] = min(time.perf_counter() - begun, seconds.get(threads, np.inf))
        best = min(seconds, key=seconds.__getitem__)
        set_threads(best)
        return best

    def _set_threads(self, count: int) -> None:
        import threadpoolctl  # of the BLAS; PyTorch has a function of its own

        self._limits = threadpoolctl.threadpool_limits(count)

    def _train(self, seed: int) -> dict[str, Any]:
        assert self.train is not None
        assert self.workload is not None
        assert self.data is not None
        begun = time.perf_counter()
        trained = self.train(seed)
        seconds = time.perf_counter() - begun
        x, y, x_test, y_test, _ = self.data
        if self.workload.members > 1:  # all rows of thousands of networks would take gigabytes
            x, y = x[:SOME], y[:SOME]
        outputs = trained.outputs(x)
        decay = 0.5 * self.workload.weight_decay * trained.squared_norm / len(self.data.x)
        return {
            "seconds": seconds,
            "error": error(self.workload.loss, trained.outputs(x_test), y_test),
            "risk": risk(self.workload.loss, outputs, y) + decay,
            "networks": len(outputs) if outputs.ndim == 3 else 1,
            "iterations": trained.iterations,
        }

    def _floor(self, workload: dict[str, Any], data: str) -> dict[str, Any]:
        from experiments.benchmarks import costs  # needs JAX

        return costs.measure(Workload.from_json(workload), load(data), self.setting)


def main(arguments: list[str]) -> None:
    """Answer until the pipe is closed."""
    module, variant, device, precision = arguments
    warnings.simplefilter("ignore")  # of steps that were no convergence, mostly
    # What the libraries print must not get among the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = Worker(module, variant, Setting(device, precision))  # type: ignore[arg-type]
    for line in sys.stdin:
        answers.write(json.dumps(worker.answer(json.loads(line))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
