"""Batch, mini-batch and online learning by steepest descent: the risk against examples seen, and against time."""

import time
from dataclasses import dataclass

import jax
import numpy as np
from matplotlib.axes import Axes

import jnn
from experiments import datasets, drawing, statistics
from experiments.datasets import Data
from experiments.experiment import Effort, Experiment, Outcome, Picture, Session, Table, Verdict, efforts
from experiments.statistics import Estimate

RATES = tuple(float(f"{10 ** (k / 2):.1e}") for k in range(-6, 4))
"""Half decades from 0.001 to 30; each multiplies the *mean* gradient of a batch."""


EFFORTS = efforts(tries=(2, 5, 10), epochs=(2, 10, 50), examples=(60, 900, 1797), mini_batch=(8, 32, 32))
"""How many initial weights try each rate; there are as many fresh ones at the best rate as the sweep has runs."""


@dataclass(frozen=True)
class Learned:
    """What learning in batches of one size did.

    Attributes:
        name: of the size.
        size: examples in a batch.
        tried: log₁₀ of the test risk at the end, `(tries, rates)`.
        curves: test risks by epoch at the best rate, from other initial weights, `(seeds, epochs)`.
        seconds: for an epoch of one network, among as many as there are seeds.
    """

    name: str
    size: int
    tried: np.ndarray
    curves: np.ndarray
    seconds: float

    @property
    def rate(self) -> float:
        """The rate with the lowest risk at the end (geometric mean)."""
        return RATES[int(np.argmin(self.tried.mean(axis=0)))]

    @property
    def rates(self) -> np.ndarray:
        """log₁₀ of each try's own best rate."""
        return np.log10(RATES)[np.argmin(self.tried, axis=1)]

    @property
    def slide_rates(self) -> np.ndarray:
        """log₁₀ of η as the slide writes it, for a gradient *summed* over the batch: the rate over the batch's size."""
        return self.rates - np.log10(self.size)


def learn(name: str, size: int, data: Data, effort: Effort, seed: int) -> Learned:
    """Steepest descent with batches of one size: every rate first, then the best from other initial weights."""
    x, y = data.train.x[0], data.train.y[0]
    network = jnn.mlp([data.inputs, 20, data.outputs], hidden="tanh")
    nothing = float(np.log(data.outputs))  # the risk of equal probabilities: where a run that diverged is put

    def one(key: jax.Array, rate: jax.Array) -> jax.Array | np.ndarray:
        fitted = jnn.fit(
            network,
            data.source.likelihood,
            x,
            y,
            key=key,
            optimizer=jnn.steepest_descent(rate),
            epochs=effort.epochs,
            batch_size=size,
            validation=(data.test.x[0], data.test.y[0]),  # watched, and used for nothing
        )
        return fitted.history.validation_error

    program = jax.jit(jax.vmap(one))

    def risks(keys: jax.Array, rates: np.ndarray) -> np.ndarray:
        found = np.asarray(program(keys, rates.astype(np.float32)), float)
        return np.where(np.isfinite(found), np.minimum(found, nothing), nothing)

    sweep, fresh = jax.random.split(jax.random.key(seed))
    keys = jax.random.split(sweep, effort.tries)
    end = risks(keys[np.repeat(np.arange(effort.tries), len(RATES))], np.tile(RATES, effort.tries))[:, -1]
    tried = np.log10(end).reshape(effort.tries, len(RATES))
    best = RATES[int(np.argmin(tried.mean(axis=0)))]
    begun = time.perf_counter()
    curves = risks(jax.random.split(fresh, tried.size), np.full(tried.size, best))
    return Learned(name, size, tried, curves, (time.perf_counter() - begun) / curves.size)


def run(session: Session) -> Outcome:
    """Learn the digits in batches of each size."""
    effort = EFFORTS[session.size]
    data = datasets.split("digits", 1, session.seed, effort.examples)
    count = data.train.x.shape[1]
    sizes = {"batch": count, "mini-batch": effort.mini_batch, "online": 1}
    found = [
        learn(name, sizes[name], data, effort, session.seed)
        for name in session.each(sizes, lambda name: f"Batches: {name} learning")
    ]
    complete = len(found) == len(sizes)
    return Outcome(
        verdicts=[sooner(found), *smaller_rate(found)] if complete else [],
        tables=[_table(found)],
        pictures=[_curves(found, count), _sweep(found)],
        interrupted=session.interrupted,
    )


def against_batch(found: list[Learned], place: int, level: float = 0.95) -> Estimate:
    """log₁₀ of the test risk at the end over that of batch learning, from the same initial weights."""
    return statistics.over_seeds(np.log10(found[place].curves[:, -1] / found[0].curves[:, -1]), level)


def sooner(found: list[Learned]) -> Verdict:
    """Whether smaller batches learn more from as many examples."""
    ratios = {m.name: against_batch(found, place, 1 - 0.05 / 2) for place, m in enumerate(found) if place}
    return Verdict(
        "Mini-batch and online learning learn more from the same number of examples than batch learning.",
        statistics.below(*ratios.values()),
        f"Test risk after {found[0].curves.shape[1]} passes, in units of batch learning's (joint 95% intervals over "
        f"{len(found[0].curves)} initial weights): "
        + "; ".join(f"{name} {10**e:.2f}" for name, e in ratios.items())
        + ".",
    )


def smaller_rate(found: list[Learned]) -> list[Verdict]:
    """Whether online learning wants a smaller rate than batch learning: as the slide writes it, and of the mean."""
    batch, online = found[0], found[-1]
    compared = {
        "η, for gradients summed over the batch as the slide writes them": online.slide_rates - batch.slide_rates,
        "rate, if it multiplies the mean gradient of a batch": online.rates - batch.rates,
    }
    verdicts = []
    for claim, difference in compared.items():
        e = statistics.over_seeds(difference)
        verdicts.append(
            Verdict(
                f"Online learning needs a smaller learning {claim}.",
                statistics.below(e),
                f"The best of the sweep for online learning is {10**e.mean:.2g} times that for batch learning "
                f"(95%: {10**e.low:.2g} to {10**e.high:.2g}, over {len(difference)} initial weights).",
            )
        )
    return verdicts


def _table(found: list[Learned]) -> Table:
    def against(m: Learned) -> str:
        return "1" if m is found[0] else f"{10 ** against_batch(found, found.index(m)).mean:.2f}"

    return Table.of(
        "Digits, learned in batches of three sizes",
        found,
        {
            "": lambda m: f"{m.name} ({m.size})",
            "best rate (mean)": lambda m: f"{m.rate:g}",
            "η (sum)": lambda m: f"{m.rate / m.size:.2g}",
            "test risk (95%)": lambda m: f"{statistics.over_seeds(m.curves[:, -1]):.3f}",
            "in units of batch": against,
            "time for a pass": lambda m: f"{1e3 * m.seconds:.2g} ms",
        },
        f"Steepest descent from {len(found[0].curves)} initial weights, each size at its best rate of {len(RATES)}, "
        f"after {found[0].curves.shape[1]} passes through {found[0].size} examples. Times are those of one network "
        "among all that are trained at once.",
    )


def _curves(found: list[Learned], count: int) -> Picture:
    def draw(axes: Axes, by_time: bool) -> None:
        epochs = 1 + np.arange(found[0].curves.shape[1])
        curves = {m.name: ((1e3 * m.seconds if by_time else count) * epochs, m.curves) for m in found}
        drawing.lines(axes, curves, band=True, markersize=4)
        label = "time, ms" if by_time else "examples seen"
        drawing.finish(axes, label, "test risk per example, nats", log="xy", below=3)

    return drawing.picture(
        "The same digits, in three portions",
        "Median test risk with quartiles over the initial weights, each at its best rate. Left: an update for each "
        "example or few makes more of the same examples. Right: the same lines against time; small batches pay for "
        "their many updates.",
        "test risk of batch, mini-batch and online learning",
        draw,
        {"By examples seen": False, "By time": True},
        height=3.1,
    )


def _sweep(found: list[Learned]) -> Picture:
    def draw(axes: Axes, summed: bool) -> None:
        swept = {m.name: (np.array(RATES) / (m.size if summed else 1), 10 ** m.tried.mean(axis=0)) for m in found}
        drawing.lines(axes, swept)
        label = "η of the summed gradient" if summed else "learning rate of the mean gradient"
        drawing.finish(axes, label, "test risk per example, nats", log="xy", below=3)

    return drawing.picture(
        "The sweep of the rates",
        "Test risk at the end (geometric mean) by learning rate, twice the same: on the left the rate multiplies the "
        "mean gradient of a batch, on the right its sum. There all three fall along the same line, as η alone says how "
        "far a pass leads; but batch learning leaves it first, since its steps are the longest.",
        "test risk at the end for batch, mini-batch and online learning",
        draw,
        {"Rate of the mean gradient": False, "η as the slide writes it": True},
        height=3.1,
    )


EXPERIMENT = Experiment(
    name="batches",
    title="Batch, mini-batch and online learning",
    question="How much does learning from one example at a time, a few or all gain from the same examples, and the "
    "same time?",
    claim="Δw = −η∇E for batch learning; Δw = −η Σ_{n ∈ S_m} ∇E^n for mini-batches; Δw = −η∇E^n for online learning, "
    "with a smaller learning rate (slide “Online vs. batch learning iteration”).",
    run=run,
    full_minutes=4,
)
