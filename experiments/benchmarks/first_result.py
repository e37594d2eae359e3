"""The first result of a fresh process: imports, compilation, training and the test error, as a user waits for it.

Whole processes `python -c SCRIPT data.npz SEED CACHE`, timed from their start to their end. The data come from a file
that NumPy reads, so that no contestant pays for another one's loader.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks.workers import ROOT, Failure, environment
from experiments.benchmarks.workloads import Workload

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
result = jnn.fit(network, jnn.likelihoods.Categorical(), x, y, key=jax.random.key(seed)OPTIONS)
predicted = np.asarray(network.apply(result.params, x_test)).argmax(axis=1)
"""

_SKLEARN = """
import warnings
from sklearn.neural_network import MLPClassifier
warnings.simplefilter("ignore")
predicted = MLPClassifier(OPTIONS).fit(x, y).predict(x_test)
"""

_TORCH = """
import torch
torch.manual_seed(seed)
model = torch.nn.Sequential(torch.nn.Linear(64, 100), torch.nn.Tanh(), torch.nn.Linear(100, 10))
optimizer = torch.optim.Adam(model.parameters(), fused=True)
x, y = torch.from_numpy(x), torch.from_numpy(y).long()
for epoch in range(EPOCHS):
    for rows in torch.randperm(len(x)).split(32):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
with torch.no_grad():
    predicted = model(torch.from_numpy(x_test)).argmax(dim=1).numpy()
"""

_EQUINOX = """
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
model = eqx.nn.MLP(64, 10, 100, 1, activation=jnp.tanh, key=jax.random.key(seed))
optimizer = optax.adam(1e-3)
state = optimizer.init(eqx.filter(model, eqx.is_array))

@eqx.filter_jit
def step(model, state, x, y):
    def loss(model):
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()
    updates, state = optimizer.update(eqx.filter_grad(loss)(model), state)
    return eqx.apply_updates(model, updates), state

rng = np.random.default_rng(seed)
for epoch in range(EPOCHS):
    order = rng.permutation(len(x))
    for start in range(0, len(x), 32):
        rows = order[start : start + 32]
        model, state = step(model, state, x[rows], y[rows])
predicted = np.asarray(jax.vmap(model)(x_test)).argmax(axis=1)
"""


def script(entrant: str, workload: Workload) -> str:
    """What the process runs."""
    epochs = workload.epochs
    jnn_options = f", epochs={epochs}, batch_size=32"
    sklearn_options = (
        f'(100,), activation="tanh", alpha=0.0, batch_size=32, max_iter={epochs}, tol=0.0, '
        f"n_iter_no_change={epochs}, random_state=seed"
    )
    if workload.name == "first-defaults":
        jnn_options, sklearn_options = "", "random_state=seed"
    bodies = {
        "jnn": _JNN.replace("CACHE", "").replace("OPTIONS", jnn_options),
        "jnn-before": _JNN.replace("CACHE", "").replace("OPTIONS", jnn_options),
        "jnn-cached": _JNN.replace("CACHE", "jnn.enable_compilation_cache(cache)").replace("OPTIONS", jnn_options),
        "sklearn": _SKLEARN.replace("OPTIONS", sklearn_options),
        "torch": _TORCH.replace("EPOCHS", str(epochs)),
        "equinox": _EQUINOX.replace("EPOCHS", str(epochs)),
    }
    return _BEGIN + bodies[entrant] + _END


class FreshProcess:
    """One contestant; call it with a seed."""

    def __init__(
        self, entrant: str, workload: Workload, data: Path, cache: Path, device: str, python: str, root: Path = ROOT
    ) -> None:
        self.entrant, self.limit, self._root = entrant, 600.0, root
        self._command = [python, "-c", script(entrant, workload), str(data)]
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
                timeout=self.limit,
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"no result in {self.limit:.0f} s") from None
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


def interpreter(chosen: str | None) -> str:
    """The one that was named, or this one."""
    return chosen or sys.executable
