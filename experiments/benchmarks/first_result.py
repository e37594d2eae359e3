"""The first result of a fresh process: imports, compilation, training and the test error, as a user waits for it.

Whole processes `python -c SCRIPT data.npz SEED CACHE`, timed from their start to their end. The data come from a file
that NumPy reads, so that no contestant pays for another one's loader.
"""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks.workers import LIMIT, ROOT, Failure, environment

_BEGIN = """
import json, sys
import numpy as np
data, seed, cache = np.load(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
x, y, x_test, y_test = (data[name] for name in ("x", "y", "x_test", "y_test"))
"""
_END = """
print(json.dumps({"error": float((np.asarray(predicted) != y_test).mean())}))
"""

_JNN = """
import jax
import jnn
CACHE
network = jnn.mlp([64, 100, 10])
result = jnn.fit(network, jnn.likelihoods.Categorical(), x, y, key=jax.random.key(seed))
predicted = np.asarray(network.apply(result.params, x_test)).argmax(axis=1)
"""

_SKLEARN = """
import warnings
from sklearn.neural_network import MLPClassifier
warnings.simplefilter("ignore")
predicted = MLPClassifier(random_state=seed).fit(x, y).predict(x_test)
"""


def script(entrant: str) -> str:
    """What the process runs, with everybody's own defaults."""
    bodies = {
        "jnn": _JNN.replace("CACHE", ""),
        "jnn-before": _JNN.replace("CACHE", ""),
        "jnn-cached": _JNN.replace("CACHE", "jnn.enable_compilation_cache(cache)"),
        "sklearn": _SKLEARN,
    }
    return _BEGIN + bodies[entrant] + _END


class FreshProcess:
    """One contestant; call it with a seed."""

    def __init__(self, entrant: str, data: Path, cache: Path, device: str, python: str, root: Path = ROOT) -> None:
        self._root = root
        self._command = [python, "-c", script(entrant), str(data)]
        self._cache, self._device, self._python = cache, device, python

    def __call__(self, seed: int) -> dict[str, Any]:
        """Run it.

        Raises:
            Failure: if it fails; `missing` for a package or function that is not there.
        """
        begun = time.perf_counter()
        try:
            done = subprocess.run(
                [*self._command, str(seed), str(self._cache)],
                env=environment(self._device, self._root),
                cwd=self._root,
                capture_output=True,
                text=True,
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"no result in {LIMIT:.0f} s") from None
        except OSError as why:
            raise Failure(f"no interpreter {self._python}: {why.strerror}", missing=True) from None
        seconds = time.perf_counter() - begun
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            missing = last.startswith(("ModuleNotFoundError", "ImportError"))
            if "enable_compilation_cache" in last:
                last = "not available: there is no jnn.enable_compilation_cache"
            raise Failure(last, missing)
        error = json.loads(done.stdout.strip().splitlines()[-1])["error"]
        return {"seconds": seconds, "error": error, "risk": None, "networks": 1, "iterations": None}
