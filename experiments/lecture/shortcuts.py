"""Shortcuts on real data: the same networks with and without them, for few and for many hidden neurons."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

import jnn
from experiments import datasets, drawing, statistics
from experiments.datasets import SOURCES, Data
from experiments.experiment import Effort, Experiment, Outcome, Picture, Session, Table, Verdict, efforts
from experiments.lecture import variants
from experiments.lecture.variants import Settings, Variant
from experiments.statistics import Estimate

EFFORTS = efforts(
    names=(("iris",), ("breast_cancer", "wine", "diabetes"), tuple(SOURCES)),
    splits=(2, 10, 40),
    epochs=(3, 100, 300),
    hidden=((1, 2), (2, 32), (1, 2, 4, 8, 16, 32)),
    examples=(60, None, None),
)
"""Which data sets and numbers of hidden neurons, how many splits, and for how many epochs at most."""


@dataclass(frozen=True)
class Pairs:
    """Test risks of the networks of one data set by the number of hidden neurons, `(sizes, splits)` each."""

    data: Data
    hidden: tuple[int, ...]
    without: np.ndarray
    shortcuts: np.ndarray

    @property
    def gains(self) -> np.ndarray:
        """The differences, `(sizes, splits)`, in units of the mean risk without shortcuts."""
        return (self.without - self.shortcuts) / self.without.mean(axis=1, keepdims=True)

    def gain(self, place: int, level: float = 0.95) -> Estimate:
        """How much lower the test risk is with shortcuts, as a share of that without."""
        return self.data.estimate(self.gains[place], level)

    def more_for_few(self, level: float) -> Estimate:
        """How much larger the gain is with the fewest neurons than with the most."""
        return self.data.estimate(self.gains[0] - self.gains[-1], level)


def compare(name: str, effort: Effort, seed: int) -> Pairs:
    """Train networks of all sizes on all splits, without and with shortcuts, as one program."""
    data = datasets.split(name, effort.splits, seed, effort.examples)
    kinds = [
        Variant(f"{n} hidden", jnn.mlp([data.inputs, n, data.outputs], hidden="tanh", shortcuts=shortcuts))
        for shortcuts in (False, True)
        for n in effort.hidden
    ]
    trained = variants.train(kinds, data, {"standardized": data.train.x}, Settings(effort.epochs), seed)
    risks = trained.risks(trained.result.params, np.stack([data.test.x] * len(kinds)))
    return Pairs(data, effort.hidden, *np.split(risks, 2))


def run(session: Session) -> Outcome:
    """Compare on every data set."""
    effort = EFFORTS[session.size]
    names = session.each(effort.names, lambda name: f"Shortcuts: {SOURCES[name].title}")
    found = [compare(name, effort, session.seed) for name in names]
    return Outcome(
        verdicts=[worth_trying(found), for_few_neurons(found)],
        tables=[_table(found)],
        pictures=[_gains(found)],
        interrupted=session.interrupted,
    )


def worth_trying(found: list[Pairs]) -> Verdict:
    """Whether shortcuts lower the risk somewhere, and raise it nowhere."""
    level = 1 - 0.05 / sum(len(p.hidden) for p in found)
    cells = {
        f"{p.data.source.title} with {hidden} hidden": p.gain(place, level)
        for p in found
        for place, hidden in enumerate(p.hidden)
    }
    better, worse = ([n for n, e in cells.items() if shown(e)] for shown in (lambda e: e.low > 0, lambda e: e.high < 0))
    return Verdict(
        "Shortcuts are worth trying: they lower the test risk on some data, and raise it on none.",
        statistics.direction(list(cells.values())),
        f"Of {len(cells)} pairs (joint 95% intervals), lower: {', '.join(better) or 'none'}; higher: "
        f"{', '.join(worse) or 'none'}.",
    )


def for_few_neurons(found: list[Pairs]) -> Verdict:
    """Whether the gain is larger if there are few hidden neurons."""
    cells = {p.data.source.title: p.more_for_few(1 - 0.05 / len(found)) for p in found}
    few, many = found[0].hidden[0], found[0].hidden[-1]
    return Verdict(
        f"Shortcuts help more with {few} hidden neurons than with {many}.",
        statistics.direction(list(cells.values())),
        "Difference of the gains in percentage points (joint 95% intervals): "
        + "; ".join(f"{name} {100 * e:+z.0f}" for name, e in cells.items())
        + ".",
    )


def _table(found: list[Pairs]) -> Table:
    rows = []
    for p in found:
        for place, hidden in enumerate(p.hidden):
            risks = [p.data.estimate(risks[place]) for risks in (p.without, p.shortcuts)]
            cells = [f"{e.mean:.3f} ± {e.error:.3f}" for e in risks]
            rows.append([f"{p.data.source.title}, {hidden} hidden", *cells, f"{100 * p.gain(place):+z.0f}"])
    return Table(
        "Test risk without and with shortcuts",
        ["", "without", "with", "lower by, % (95% interval)"],
        rows,
        f"−ln p per test example, mean ± standard error over {len(found[0].shortcuts[0])} random splits; the "
        "differences are paired. All are corrected for the overlap of the splits (Nadeau and Bengio 2003).",
    )


def _gains(found: list[Pairs]) -> Picture:
    return drawing.picture(
        "What shortcuts gain",
        "How much lower the test risk is with shortcuts, in % of that without, by the number of hidden neurons, with "
        "95% intervals. Where an interval lies above the dashed line, shortcuts help.",
        "how much lower the test risk is with shortcuts, by hidden neurons",
        _dots,
        {p.data.source.title: p for p in found},
        width=2.7,
        height=2.6,
    )


def _dots(axes: Axes, p: Pairs) -> None:
    places = range(len(p.hidden))
    drawing.intervals(axes, places, [100 * p.gain(place) for place in places])
    axes.axhline(0, color=drawing.INK, linestyle="--", linewidth=1)
    axes.set_xticks(places, [str(n) for n in p.hidden])
    axes.set_xlim(-0.5, len(places) - 0.5)
    drawing.finish(axes, "hidden neurons", "test risk lower by, %")


EXPERIMENT = Experiment(
    name="shortcuts",
    title="Shortcuts",
    question="When do shortcut connections from the inputs to the outputs help?",
    claim="Try shortcuts (slides “Multi-layer perceptron network with shortcuts”, “The secrets of successful shallow "
    "NN training”).",
    run=run,
    full_minutes=12,
)
