"""What is trained: networks, data, and how long, in three sizes. Read by every contestant, so only NumPy is needed."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

Size = Literal["tiny", "default", "full"]
SIZES: tuple[Size, ...] = ("tiny", "default", "full")
Loss = Literal["categorical", "bernoulli", "squared"]
Optimizer = Literal["adam", "rprop", "lbfgs"]
Kind = Literal["training", "first result"]

ALONE = 4
"""So many networks are trained where a contestant trains them one after another: the time is for each."""


EDGES_EACH = 10
"""Edges of a random graph for each of its neurons."""


@dataclass(frozen=True)
class Workload:
    """A training run that every contestant does alike, from drawing the weights to the trained network.

    Attributes:
        name: on the command line.
        title: in the table.
        data: which data set, a name in `experiments.benchmarks.data`.
        sizes: neurons from the inputs to the outputs; for a graph just those two and the hidden ones between.
        loss: the mean over the examples of −ln p(y | a), or of ½ ‖a − y‖².
        batch_size: None is full batch.
        epochs: passes over the data; of L-BFGS the most iterations.
        activation: of all hidden neurons.
        weight_decay: γ in (E + γ/2 ‖W‖²) / N, over all weights but the biases.
        members: networks to train, each with its own weights and shuffling.
        extras: whether jnn also validates each epoch, keeps the history and watches for an early stop (never reached).
        unit: what the time is divided by.
        kind: whole processes are timed where the first result is asked for.
        contestants: who can do this, in the order of the table; the first one is what the others are compared with.
    """

    name: str
    title: str
    data: str
    sizes: tuple[int, ...]
    loss: Loss
    batch_size: int | None
    epochs: int
    activation: Literal["tanh", "relu"] = "tanh"
    shortcuts: bool = False
    graph: bool = False
    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    members: int = 1
    extras: bool = False
    unit: Literal["step", "epoch", "iteration", "run"] = "step"
    kind: Kind = "training"
    contestants: tuple[str, ...] = ()

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """How much each layer reads, the bias aside, and its neurons; with shortcuts it reads all earlier ones."""
        reads = np.cumsum(self.sizes)[:-1].tolist() if self.shortcuts else self.sizes[:-1]
        return list(zip(reads, self.sizes[1:], strict=True))

    def steps(self, examples: int) -> int:
        """Updates in an epoch."""
        return 1 if self.batch_size is None else -(-examples // self.batch_size)

    def units(self, examples: int, iterations: int | None = None) -> int:
        """How many of its units one network's training has."""
        epochs = self.epochs if iterations is None else iterations
        return {"step": epochs * self.steps(examples), "epoch": epochs, "iteration": epochs, "run": 1}[self.unit]

    def as_json(self) -> dict[str, Any]:
        """For a worker."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Workload":
        """The inverse of `as_json`."""
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**{**fields, **lists})


class Data(NamedTuple):
    """Examples as rows, float32; labels are int32; `edges` of a graph `(E, 2)`, pairs (j, i), as `jnn.dag` takes."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    edges: np.ndarray


def load(path: str | Path) -> Data:
    """The data from the file that `experiments.benchmarks.data.write` made."""
    with np.load(path) as arrays:
        return Data(**{name: arrays[name] for name in Data._fields})


class Setting(NamedTuple):
    """Where and how precisely a contestant computes."""

    device: Literal["cpu", "gpu"]
    precision: Literal["float32", "tf32", "bfloat16"]


class Trained(NamedTuple):
    """What training came to.

    Attributes:
        outputs: the pre-activations `(n, K)`, or for several networks `(members, n, K)`, of given inputs; for classes
            up to a constant in each row.
        squared_norm: ‖W‖² without the biases, where weights decay.
        iterations: how many there were, where that is not up to the workload.
    """

    outputs: Callable[[np.ndarray], np.ndarray]
    squared_norm: float = 0.0
    iterations: int | None = None


Train = Callable[[int], Trained]
"""Trains from a seed, and returns when all is computed."""


class Contestant(Protocol):
    """What a module in `peers` has."""

    PACKAGES: tuple[str, ...]
    """Those that compute."""

    def prepare(self, workload: Workload, data: Data, setting: Setting) -> Train:
        """All that need not be done again for each seed."""
        ...


class Unavailable(Exception):
    """This contestant cannot take part here; says why."""


def minibatches(workload: Workload, seed: int, examples: int) -> Iterator[np.ndarray | None]:
    """Shuffled rows, batch after batch, epoch after epoch; the last of an epoch may be fewer. None: all rows."""
    rng = np.random.default_rng(seed)
    for _ in range(workload.epochs):
        if workload.batch_size is None:
            yield None
            continue
        order = rng.permutation(examples).astype(np.int32)
        for start in range(0, examples, workload.batch_size):
            yield order[start : start + workload.batch_size]


LOOPS = ("jax", "equinox", "flax")
TORCH = ("torch", "torch-compile")
MINIBATCH = ("jnn", "sklearn", *TORCH, *LOOPS)

_DIGITS = Workload(
    name="digits-32",
    title="digits, 64-100-10 tanh, mini-batch 32, Adam",
    data="digits",
    sizes=(64, 100, 10),
    loss="categorical",
    batch_size=32,
    epochs=20,
    contestants=MINIBATCH,
)
_CANCER = Workload(
    name="lbfgs",
    title="breast cancer, 30-20-1 tanh, full batch, L-BFGS, weight decay 1",
    data="breast_cancer",
    sizes=(30, 20, 1),
    loss="bernoulli",
    batch_size=None,
    epochs=100,
    optimizer="lbfgs",
    weight_decay=1.0,
    unit="iteration",
    contestants=("jnn", "scipy", "sklearn", "torch"),
)
_DEFAULT = (
    _DIGITS,
    replace(_DIGITS, name="digits-200", title="digits, 64-100-10 tanh, mini-batch 200, Adam", batch_size=200),
    Workload(
        name="exponential",
        title="matrix exponential, 4-32-16-4 tanh, 10,000 rows, full batch, Adam, squared error",
        data="exponential",
        sizes=(4, 32, 16, 4),
        loss="squared",
        batch_size=None,
        epochs=300,
        unit="epoch",
        contestants=MINIBATCH,
    ),
    Workload(
        name="wide",
        title="synthetic, 784-512-512-10 relu, mini-batch 128, Adam",
        data="clusters",
        sizes=(784, 512, 512, 10),
        loss="categorical",
        batch_size=128,
        epochs=2,
        activation="relu",
        contestants=MINIBATCH,
    ),
    *(
        replace(
            _DIGITS,
            name=f"ensemble-{members}",
            title=f"{members:,} networks at once on digits, 64-100-10 tanh, mini-batch 32, Adam; time for each",
            members=members,
            epochs=epochs,
            contestants=("jnn", "jnn-alone", "sklearn", "sklearn-joblib", "torch", "jax"),
        )
        for members, epochs in ((32, 10), (256, 5), (2048, 1))
    ),
    replace(
        _DIGITS,
        name="shortcuts",
        title="digits, 64-100-100-10 tanh with shortcuts, mini-batch 32, Adam",
        sizes=(64, 100, 100, 10),
        shortcuts=True,
        contestants=("jnn", *TORCH, *LOOPS),
    ),
    *(
        replace(
            _DIGITS,
            name=name,
            title=f"digits, random DAG of {neurons:,} neurons and {EDGES_EACH * neurons:,} edges, mini-batch 32, Adam",
            data="graph",
            sizes=(64, neurons - 75, 10),  # and the bias unit
            graph=True,
            epochs=epochs,
            contestants=("jnn", "connex"),
        )
        for name, neurons, epochs in (("dag-1000", 1000, 5), ("dag", 10_000, 1))
    ),
    _CANCER,
    replace(
        _CANCER,
        name="rprop",
        title="breast cancer, 30-20-1 tanh, full batch, iRprop-",
        optimizer="rprop",
        learning_rate=0.0125,
        weight_decay=0.0,
        unit="epoch",
        contestants=("jnn", "torch", "jax"),
    ),
    replace(
        _DIGITS,
        name="extras",
        title="digits, mini-batch 32: fit with validation, early stopping, history, shuffling; and without",
        extras=True,
        contestants=("jnn", "jnn-plain", "bare"),
    ),
    replace(
        _DIGITS,
        name="first-defaults",
        title="first result of a fresh process on digits, each with its own defaults",
        kind="first result",
        unit="run",
        epochs=100,
        contestants=("jnn", "jnn-cached", "sklearn"),
    ),
)

_FULL_EPOCHS = {
    "digits-32": 100,
    "digits-200": 100,
    "exponential": 10_000,
    "wide": 10,
    "ensemble-32": 50,
    "ensemble-256": 20,
    "ensemble-2048": 5,
    "shortcuts": 100,
    "dag-1000": 20,
    "dag": 5,
    "extras": 100,
}


def workloads(size: Size = "default") -> dict[str, Workload]:
    """All workloads by name; "tiny" ones try out the code, and their figures mean nothing."""
    made = {w.name: w for w in _DEFAULT}
    if size == "full":
        made = {name: replace(w, epochs=_FULL_EPOCHS.get(name, w.epochs)) for name, w in made.items()}
    elif size == "tiny":
        made = {name: _tiny(w) for name, w in made.items()}
    return made


def _tiny(workload: Workload) -> Workload:
    sizes = (64, 30, 10) if workload.graph else workload.sizes
    members = min(workload.members, 4)
    # Others than the first result's are not in its scripts' hands.
    epochs = workload.epochs if workload.name == "first-defaults" else min(workload.epochs, 2)
    return replace(workload, sizes=sizes, members=members, epochs=epochs)
