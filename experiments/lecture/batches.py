"""Batch, mini-batch and online learning by steepest descent: the risk against examples seen, and against time."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from matplotlib.axes import Axes

import jnn
from experiments import datasets, drawing, statistics
from experiments.datasets import Data
from experiments.experiment import Experiment, Outcome, Picture, Session, Table, Verdict
from experiments.statistics import Estimate

RATES = tuple(float(f"{10 ** (k / 2):.1e}") for k in range(-6, 4))
"""Half decades from 0.001 to 30; each multiplies the *mean* gradient of a batch."""


@dataclass(frozen=True)
class Effort:
    """How many initial weights try each rate; there are as many fresh ones at the best rate as the sweep has runs."""

    tries: int
    epochs: int
    examples: int
    mini_batch: int = 32


EFFORTS = {"tiny": Effort(2, 2, 60, 8), "quick": Effort(5, 10, 900), "full": Effort(10, 50, 1797)}


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
        tables=[_risk_table(found), _time_table(found)],
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
        + "; ".join(f"{name} {10**e.mean:.2f} ({10**e.low:.2f} to {10**e.high:.2f})" for name, e in ratios.items())
        + ".",
    )


def smaller_rate(found: list[Learned]) -> list[Verdict]:
    """Whether online learning wants a smaller rate than batch learning: as the slide writes it, and of the mean."""
    batch, online = found[0], found[-1]
    verdicts = []
    for claim, ours, theirs in (
        ("η, for gradients summed over the batch as the slide writes them", online.slide_rates, batch.slide_rates),
        ("rate, if it multiplies the mean gradient of a batch", online.rates, batch.rates),
    ):
        e = statistics.over_seeds(ours - theirs)
        verdicts.append(
            Verdict(
                f"Online learning needs a smaller learning {claim}.",
                statistics.below(e),
                f"The best of the sweep for online learning is {10**e.mean:.2g} times that for batch learning "
                f"(95%: {10**e.low:.2g} to {10**e.high:.2g}, over {len(ours)} initial weights).",
            )
        )
    return verdicts


def _risk_table(found: list[Learned]) -> Table:
    rows = []
    for place, m in enumerate(found):
        e = statistics.over_seeds(m.curves[:, -1])
        ratio = f"{10 ** against_batch(found, place).mean:.2f}" if place else "1"
        risk = f"{e.mean:.3f} ({e.low:.3f} to {e.high:.3f})"
        rows.append([f"{m.name} ({m.size})", f"{m.rate:g}", f"{m.rate / m.size:.2g}", risk, ratio])
    return Table(
        "Digits, learned in batches of three sizes",
        ["", "best rate (mean)", "η (sum)", "test risk (95%)", "in units of batch"],
        rows,
        f"Steepest descent from {len(found[0].curves)} initial weights, each size at its best rate of {len(RATES)}, "
        f"after {found[0].curves.shape[1]} passes through {found[0].size} examples.",
    )


def _time_table(found: list[Learned]) -> Table:
    rows = []
    goal = float(np.median(found[0].curves[:, -1]))
    for m in found:
        reached = np.flatnonzero(np.median(m.curves, axis=0) <= goal)
        passes = int(reached[0]) + 1 if len(reached) else None
        total = "" if passes is None else f"{1e3 * m.seconds * passes:.2g} ms"
        rows.append([m.name, "never" if passes is None else str(passes), f"{1e3 * m.seconds:.2g} ms", total])
    return Table(
        "How soon each is where batch learning ends",
        ["", "passes", "time for a pass", "time"],
        rows,
        "Until the median test risk is what batch learning ends with. Times are those of one network among all that "
        "are trained at once.",
    )


LOOKS = ((drawing.SECOND, "--", "s"), (drawing.FIRST, "-", "o"), (drawing.THIRD, "-.", "^"))


def _curves(found: list[Learned], count: int) -> Picture:
    axes = {
        "By examples seen": ("examples seen", lambda m, epochs: count * epochs),
        "By time": ("time, ms", lambda m, epochs: 1e3 * m.seconds * epochs),
    }
    return Picture(
        "The same digits, in three portions",
        [
            drawing.panel(
                lambda axes, label=label, at=at: _lines(axes, found, label, at),
                title,
                f"Test risk of batch, mini-batch and online learning {title.lower()}",
                height=3.1,
            )
            for title, (label, at) in axes.items()
        ],
        "Median test risk with quartiles over the initial weights, each at its best rate. Left: an update for each "
        "example or few makes more of the same examples. Right: the same lines against time; small batches pay for "
        "their many updates.",
    )


def _lines(axes: Axes, found: list[Learned], label: str, at: Callable[[Learned, np.ndarray], np.ndarray]) -> None:
    for m, (color, dash, marker) in zip(found, LOOKS, strict=False):
        low, middle, high = np.quantile(m.curves, (0.25, 0.5, 0.75), axis=0)
        places = at(m, 1 + np.arange(len(middle)))
        axes.fill_between(places, low, high, color=color, alpha=0.2, linewidth=0)
        axes.plot(places, middle, linestyle=dash, marker=marker, markersize=4, color=color, label=m.name)
    drawing.finish(axes, label, "test risk per example, nats", log="xy", below=3)


def _sweep(found: list[Learned]) -> Picture:
    scales = {
        "Rate of the mean gradient": ("learning rate of the mean gradient", False),
        "η as the slide writes it": ("η of the summed gradient", True),
    }
    return Picture(
        "The sweep of the rates",
        [
            drawing.panel(
                lambda axes, label=label, summed=summed: _valleys(axes, found, label, summed),
                title,
                f"Test risk at the end by {label} for batch, mini-batch and online learning",
                height=3.1,
            )
            for title, (label, summed) in scales.items()
        ],
        "Test risk at the end (geometric mean) by learning rate, twice the same: on the left the rate multiplies the "
        "mean gradient of a batch, on the right its sum. There all three fall along the same line, as η alone says how "
        "far a pass leads; but batch learning leaves it first, since its steps are the longest.",
    )


def _valleys(axes: Axes, found: list[Learned], label: str, summed: bool) -> None:
    for m, (color, dash, marker) in zip(found, LOOKS, strict=False):
        places = np.array(RATES) / (m.size if summed else 1)
        axes.plot(places, 10 ** m.tried.mean(axis=0), linestyle=dash, marker=marker, color=color, label=m.name)
    drawing.finish(axes, label, "test risk per example, nats", log="xy", below=3)


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
