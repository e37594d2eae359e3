"""Preprocessing: raw, standardized and whitened inputs, by the shape of the error surface and by the epochs needed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.datasets
from matplotlib.axes import Axes

import jnn
from experiments import drawing, statistics
from experiments.experiment import Effort, Experiment, Outcome, Picture, Session, Table, Verdict, efforts
from jnn.likelihoods import Categorical, Gaussian, Likelihood
from jnn.transforms import Standardize, Whiten

HIDDEN = 8
RATES = (1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Learning rates that each kind of inputs may choose from."""
LOST = 1e6
"""The risk of a network that diverged."""


@dataclass(frozen=True)
class Problem:
    """Data, and the risk that training is to reach.

    Attributes:
        title: a headline.
        likelihood: of the targets.
        load: gives inputs and targets for a seed.
        outputs: K.
        target: the risk.
    """

    title: str
    likelihood: Likelihood
    load: Callable[[int], tuple[np.ndarray, np.ndarray]]
    outputs: int
    target: float


def wine(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """13 measurements in units of their own: one is in the hundreds, another below 1."""
    del seed
    x, y = map(np.asarray, sklearn.datasets.load_wine(return_X_y=True))
    return x.astype(np.float32), y.astype(np.int32)


def correlated(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """10 inputs of unit variance, correlated by 0.95, with a smooth function of them as target."""
    rng = np.random.default_rng(seed)
    x = np.sqrt(0.95) * rng.normal(size=(200, 1)) + np.sqrt(0.05) * rng.normal(size=(200, 10))
    y = np.tanh(x @ rng.normal(size=(10, 3))) @ rng.normal(size=(3, 1))
    return x.astype(np.float32), ((y - y.mean()) / y.std()).astype(np.float32)


PROBLEMS = {
    "wine": Problem("Wine", Categorical(), wine, 3, 0.01),
    "correlated": Problem("Correlated inputs", Gaussian(), correlated, 1, 0.05),
}


EFFORTS = efforts(seeds=(4, 30, 100), epochs=(20, 400, 2000))
"""How many networks of each kind, half of them to choose the rate by; and for how long."""
KINDS = ("raw", "standardized", "whitened")


@dataclass(frozen=True)
class Found:
    """What was found on one problem, by kind of inputs.

    Attributes:
        problem: which.
        condition: κ of each seed's examples, `(seeds,)`.
        risk: by rate, seed and epoch, `(RATES, seeds, epochs)`.
    """

    problem: Problem
    condition: Mapping[str, np.ndarray]
    risk: Mapping[str, np.ndarray]

    def needed(self, kind: str) -> np.ndarray:
        """Epochs until the risk is at the target, `(RATES, seeds)`; inf where it never was."""
        reached = self.risk[kind] <= self.problem.target
        return np.where(reached.any(axis=2), reached.argmax(axis=2), np.inf)

    def rate(self, kind: str) -> int:
        """The place of the rate that took the fewest epochs on the first half of the seeds (never: twice all)."""
        half = self.needed(kind)[:, : self.risk[kind].shape[1] // 2]
        capped = np.minimum(half, 2 * self.risk[kind].shape[2])
        last = self.risk[kind][:, : half.shape[1], -1].mean(axis=1)
        return int(np.lexsort((last, capped.mean(axis=1)))[0])  # the lowest risk where none gets there

    def epochs(self, kind: str) -> np.ndarray:
        """Epochs needed at that rate by the other seeds."""
        return self.needed(kind)[self.rate(kind), self.risk[kind].shape[1] // 2 :]


def inputs(x: np.ndarray) -> dict[str, np.ndarray]:
    """The three kinds, `(seeds, n, d)`; a transform is learned from each seed's examples."""
    transforms = {"standardized": Standardize, "whitened": Whiten}
    return {"raw": x} | {
        name: np.stack([kind.fit(each).apply(each) for each in x]) for name, kind in transforms.items()
    }


def condition(x: np.ndarray) -> np.ndarray:
    """κ = λ_max/λ_min of a linear model's Hessian, H = Σ_n x_n x_nᵀ with x_n0 = 1, for each seed.

    The error of a linear model is a quadratic function whose Hessian is the same everywhere, and steepest descent at
    its best rate shrinks the distance to the minimum by (κ − 1)/(κ + 1) an epoch. A network's Hessian at its initial
    weights has negative eigenvalues and zeros: its condition number would say nothing.
    """
    with_bias = np.concatenate([np.ones((*x.shape[:2], 1)), x], axis=2).astype(np.float64)
    singular = np.linalg.svd(with_bias, compute_uv=False)
    return (singular[:, 0] / singular[:, -1]) ** 2


def linear_epochs(kappa: float) -> float:
    """Epochs in which steepest descent takes a linear model 99% of the way: ln 100 / ln((κ + 1)/(κ − 1))."""
    return max(1.0, float(np.log(100) / np.log1p(2 / max(kappa - 1, 1e-9))))


def train(problem: Problem, x: np.ndarray, y: np.ndarray, effort: Effort, seed: int) -> np.ndarray:
    """Risks `(kinds, RATES, seeds, epochs)`, all networks at once; x is `(kinds, seeds, n, d)`, y `(seeds, n, ...)`."""
    network = jnn.mlp([x.shape[-1], HIDDEN, problem.outputs])

    def one(x: jax.Array, rate: jax.Array, key: jax.Array, y: jax.Array) -> jax.Array | np.ndarray:
        return jnn.fit(
            network,
            problem.likelihood,
            x,
            y,
            key=key,
            optimizer=jnn.steepest_descent(rate),
            epochs=effort.epochs,
            batch_size=None,
        ).history.train_error

    by_seed = jax.vmap(one, in_axes=(0, None, 0, 0))
    by_rate = jax.vmap(by_seed, in_axes=(None, 0, None, None))
    by_kind = jax.jit(jax.vmap(by_rate, in_axes=(0, None, None, None)))
    keys = jax.random.split(jax.random.key(seed), effort.seeds)
    return np.asarray(by_kind(x, jnp.asarray(RATES), keys, y))


def examine(name: str, session: Session) -> Found:
    """One problem; each seed has half of the examples."""
    problem, effort = PROBLEMS[name], EFFORTS[session.size]
    x, y = problem.load(session.seed)
    rng = np.random.default_rng(session.seed)
    rows = np.stack([rng.permutation(len(x))[: len(x) // 2] for _ in range(effort.seeds)])
    kinds = inputs(x[rows])
    risk = train(problem, np.stack([kinds[k] for k in KINDS]), y[rows], effort, session.seed)
    return Found(
        problem,
        {kind: condition(z) for kind, z in kinds.items()},
        {kind: np.minimum(np.nan_to_num(r, nan=LOST), LOST) for kind, r in zip(KINDS, risk, strict=True)},
    )


def run(session: Session) -> Outcome:
    """Examine each problem."""
    found = [
        examine(name, session) for name in session.each(PROBLEMS, lambda name: f"Preprocessing: {PROBLEMS[name].title}")
    ]
    pairs = (("standardized", "raw"), ("whitened", "standardized"))
    claims = [rounder(found), *(sooner(f, one, other) for f in found for one, other in pairs)]
    return Outcome(verdicts=claims, tables=[_table(found)], pictures=[_curves(found)], interrupted=session.interrupted)


def rounder(found: Sequence[Found]) -> Verdict:
    """κ of standardized inputs against that of raw ones, and that of whitened ones, which should be 1."""
    words, parts = [], []
    for f in found:
        change = statistics.over_seeds(np.log10(f.condition["raw"]) - np.log10(f.condition["standardized"]))
        whitened = statistics.over_seeds(f.condition["whitened"])
        parts += [change.low > -0.01, whitened.high < 1.01]
        words.append(
            f"{f.problem.title}: standardizing divides κ by {10**change:.3g}, whitening leaves {whitened.high:.4f}"
        )
    return Verdict(
        "Preprocessing makes the error surface of a linear model rounder: standardizing never harms (κ grows by less "
        "than 2%), and whitening makes it round, κ < 1.01.",
        all(parts),
        "; ".join(words) + ".",
    )


def sooner(found: Found, one: str, other: str) -> Verdict:
    """In how many seeds one kind of inputs takes fewer epochs than another, each at its best rate; ties count half."""
    first, second = found.epochs(one), found.epochs(other)
    wins = float(np.sum(first < second) + 0.5 * np.sum(first == second))
    share = statistics.share(round(wins), len(first))
    return Verdict(
        f"{found.problem.title}: networks learn sooner from {one} than from {other} inputs.",
        statistics.above(share, than=0.5),
        f"In {wins:g} of {len(first)} pairs (95% interval {100 * share.low:.0f} to {100 * share.high:.0f}%) they reach "
        f"a risk of {found.problem.target} in fewer epochs; the medians are {_epochs(first, found, one)} and "
        f"{_epochs(second, found, other)}.",
    )


def _epochs(needed: np.ndarray, found: Found, kind: str) -> str:
    middle = np.median(needed)
    return f"{middle:.0f}" if np.isfinite(middle) else f"more than {found.risk[kind].shape[2]}"


def _table(found: list[Found]) -> Table:
    rows = []
    for f in found:
        for kind in KINDS:
            kappa = 10 ** statistics.over_seeds(np.log10(f.condition[kind]))
            needed = f.epochs(kind)
            rows.append(
                [
                    f"{f.problem.title}, {kind}",
                    f"{kappa:.3g}",
                    f"{linear_epochs(kappa.mean):.2g}",
                    f"{RATES[f.rate(kind)]:g}",
                    _epochs(needed, f, kind),
                    f"{np.isfinite(needed).sum()} of {len(needed)}",
                ]
            )
    return Table(
        "Raw, standardized and whitened inputs",
        ["", "κ (95% interval)", "epochs, linear model", "best η", "epochs, network", "reached"],
        rows,
        "κ: condition number of the Hessian of a linear model's error; geometric mean over random halves of the data. "
        "Epochs of a linear model: what steepest descent needs at its best rate to come 99% of the way. Epochs of a "
        f"network with {HIDDEN} hidden neurons: median until the risk is {PROBLEMS['wine'].target} (wine) or "
        f"{PROBLEMS['correlated'].target} (correlated), by steepest descent at the best of {len(RATES)} rates, "
        "chosen by other initial weights and halves than those counted.",
    )


def _curves(found: list[Found]) -> Picture:
    def draw(axes: Axes, f: Found) -> None:
        risks = {kind: f.risk[kind][f.rate(kind)] for kind in KINDS}
        drawing.lines(axes, {kind: (1 + np.arange(r.shape[1]), r) for kind, r in risks.items()}, marker="")
        axes.axhline(f.problem.target, color=drawing.INK, linestyle=":", linewidth=1)
        drawing.finish(axes, "epoch", "training risk", log="xy", below=3)

    return drawing.picture(
        "How soon networks learn",
        "Median training risk of networks by epoch, each kind of inputs at its best learning rate; dotted, the risk to "
        "be reached.",
        "median risk by epoch for raw, standardized and whitened inputs",
        draw,
        {f.problem.title: f for f in found},
    )


EXPERIMENT = Experiment(
    name="preprocessing",
    title="Preprocessing",
    question="What do zero mean, unit variance and the removal of linear correlations do for learning?",
    claim="Normalize the data component-wise to zero mean and unit variance (using PCA for removing linear "
    "correlations helps) (slide “The secrets of successful shallow NN training”).",
    run=run,
    full_minutes=2,
)
