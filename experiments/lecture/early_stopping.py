"""Early stopping: the curves, the hypothesis it chooses, the risk it saves, and rules that do not run to the end."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from sklearn.datasets import make_moons

import jnn
from experiments import datasets, drawing, statistics
from experiments.experiment import Effort, Experiment, Outcome, Picture, Session, Table, Verdict, efforts
from experiments.statistics import Estimate
from jnn import ensembles, stopping
from jnn.likelihoods import Bernoulli, Gaussian, Likelihood
from jnn.training.stopping import Observation, StoppingRule

HIDDEN, RATE, VALIDATION = 32, 0.01, 0.25
RULES: dict[str, StoppingRule] = {
    "patience 20": stopping.Patience(20),
    "GL 5": stopping.GeneralizationLoss(5.0),
    "TP 0.1": stopping.TrainingProgress(0.1),
    "PQ 0.5": stopping.ProgressQuotient(0.5),
}
"""Patience, and Prechelt's generalization loss, training progress and their quotient."""

MARGIN = 0.05
"""A rule may cost this share of the risk, set before looking."""


EFFORTS = efforts(
    samples=(3, 24, 200),
    epochs=(30, 200, 1000),
    test=(50, 300, 2000),
    problems=(("Two moons",), ("Two moons", "Diabetes"), ("Two moons", "Diabetes")),
)
"""How many samples of each problem, for how many epochs, and with how many test examples."""


@dataclass(frozen=True)
class Problem:
    """Examples `(n, ...)`, and who trains, validates and tests in each sample: rows of them, `(samples, ...)`.

    `overlapping` tells whether the samples are splits of one data set, which are not independent.
    """

    title: str
    likelihood: Likelihood
    x: np.ndarray
    y: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    overlapping: bool

    def estimate(self, values: np.ndarray, level: float = 0.95) -> Estimate:
        """A mean over the samples, with an interval that knows whether they overlap."""
        if not self.overlapping:
            return statistics.over_seeds(values, level)
        learned_from = self.train.shape[1] + self.validation.shape[1]
        return statistics.over_splits(values, learned_from, self.test.shape[1], level)


@dataclass(frozen=True)
class Curves:
    """Risks after each epoch, `(samples, epochs)`; those on test examples were watched and used for nothing."""

    problem: Problem
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @functools.cached_property
    def ran(self) -> dict[str, np.ndarray]:
        """How many epochs each rule lets run, `(samples,)`."""
        return {name: np.asarray(stops(rule, self.train, self.validation)) for name, rule in RULES.items()}

    @property
    def chosen(self) -> np.ndarray:
        """Where the validation risk is lowest: the hypothesis that the slide's algorithm outputs (counted from 0)."""
        return np.argmin(self.validation, axis=1)

    @property
    def saved(self) -> np.ndarray:
        """How much lower the chosen hypothesis' test risk is than the last one's."""
        return self.test[:, -1] - self.tested(self.chosen)

    def tested(self, places: np.ndarray) -> np.ndarray:
        """The test risk of the hypothesis of one epoch in each sample."""
        return np.take_along_axis(self.test, places[:, None], axis=1)[:, 0]


def problem(
    title: str, likelihood: Likelihood, x: np.ndarray, y: np.ndarray, learned: int, overlapping: bool
) -> Problem:
    """Of x `(samples, n, d)` and y `(samples, n)`, the first `learned` examples of each sample are to learn from."""
    rows, held = np.arange(y.size).reshape(y.shape), round(VALIDATION * learned)
    parts = rows[:, held:learned], rows[:, :held], rows[:, learned:]
    flat = x.reshape(y.size, -1).astype(np.float32), y.reshape(-1, 1).astype(np.float32)
    return Problem(title, likelihood, *flat, *parts, overlapping)


def moons(effort: Effort, seed: int) -> Problem:
    """Two classes that overlap, 120 examples to learn from, new ones in each sample; 8 more inputs are noise."""
    learned = 120
    drawn = [make_moons(learned + effort.test, noise=0.3, random_state=seed + n) for n in range(effort.samples)]
    x, y = (np.stack(part) for part in zip(*drawn, strict=True))
    x = np.concatenate([x, np.random.default_rng(seed).normal(size=(*y.shape, 8))], axis=2)
    return problem("Two moons", Bernoulli(), x, y, learned, overlapping=False)


def diabetes(effort: Effort, seed: int) -> Problem:
    """Random splits of real data, each standardized by its own training part."""
    data = datasets.split("diabetes", effort.samples, seed)
    x, y = (np.concatenate(parts, axis=1) for parts in ((data.train.x, data.test.x), (data.train.y, data.test.y)))
    return problem("Diabetes", Gaussian(), x, y, data.train.x.shape[1], overlapping=True)


def learn(problem: Problem, effort: Effort, seed: int) -> Curves:
    """Train to the end, and watch validation and test risk.

    Every network is trained twice in one program, from the same key, so by the same steps: once beside its validation
    examples and once beside its test examples.
    """
    keys = jax.random.split(jax.random.key(seed), effort.samples)
    width = max(problem.validation.shape[1], problem.test.shape[1])
    held_out = [
        np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=-1)
        for rows in (problem.validation, problem.test)
    ]
    result = ensembles.fit(
        jnn.mlp([problem.x.shape[1], HIDDEN, 1], hidden="tanh"),
        problem.likelihood,
        problem.x,
        problem.y,
        key=jnp.concatenate([keys, keys]),
        rows=np.concatenate([problem.train, problem.train]),
        held_out=np.concatenate(held_out),
        optimizer=jnn.adam(RATE),
        epochs=effort.epochs,
    ).result
    if bool(np.any(result.epochs < effort.epochs)):  # Ctrl-C: curves that end somewhere say nothing
        raise KeyboardInterrupt
    history = result.history
    train, watched = (np.asarray(v) for v in (history.train_error, history.validation_error))
    return Curves(problem, train[: effort.samples], *np.split(watched, 2))


@jax.jit
def stops(rule: StoppingRule, train: jax.Array, validation: jax.Array) -> jax.Array:
    """How many epochs the rule lets run, `(samples,)`: what `fit` would do, told from the curves."""

    def one(train: jax.Array, validation: jax.Array) -> jax.Array:
        epochs = jnp.arange(1, len(train) + 1)
        unknown = jnp.nan  # no rule here needs the gradient
        _, stop = jax.lax.scan(
            lambda state, seen: rule.update(state, Observation(*seen, unknown)),
            rule.init(train.dtype),
            (epochs, train, validation),
        )
        return jnp.where(stop.any(), 1 + jnp.argmax(stop), len(train))

    return jax.vmap(one)(train, validation)


def output(curves: Curves, ran: np.ndarray) -> np.ndarray:
    """The epoch (from 0) with the lowest validation risk of those that were run."""
    run = np.arange(curves.validation.shape[1]) < ran[:, None]
    return np.argmin(np.where(run, curves.validation, np.inf), axis=1)


def run(session: Session) -> Outcome:
    """Learn both problems, and see what stopping early does."""
    effort = EFFORTS[session.size]
    problems = {"Two moons": moons, "Diabetes": diabetes}
    found = [
        learn(problems[name](effort, session.seed), effort, session.seed)
        for name in session.each(effort.problems, lambda name: f"Early stopping: {name}")
    ]
    return Outcome(
        verdicts=[saves(found), near(found), soon(found)],
        tables=[_rules(curves) for curves in found],
        pictures=[_pictures(found)],
        interrupted=session.interrupted,
    )


def saves(found: list[Curves]) -> Verdict:
    """Whether the chosen hypothesis has a lower test risk than the last one."""
    estimates = [c.problem.estimate(c.saved, 1 - 0.05 / len(found)) for c in found]
    return Verdict(
        "The hypothesis with the lowest validation risk has a lower risk than the last one.",
        statistics.above(*estimates),
        "Test risk saved (joint 95% intervals): "
        + "; ".join(
            f"{c.problem.title}: {e:.3f} of {c.test[:, -1].mean():.3f}, chosen after "
            f"{np.median(c.chosen) + 1:.0f} of {c.test.shape[1]} epochs (median)"
            for e, c in zip(estimates, found, strict=True)
        )
        + ".",
    )


def near(found: list[Curves]) -> Verdict:
    """Whether choosing by the validation risk saves at least half of what choosing by the test risk would."""
    most = [c.test[:, -1] - c.test.min(axis=1) for c in found]
    level = 1 - 0.05 / len(found)
    estimates = [c.problem.estimate(c.saved - 0.5 * best, level) for c, best in zip(found, most, strict=True)]
    words = [
        f"{c.problem.title}: {c.saved.mean():.3f} of {best.mean():.3f}" for c, best in zip(found, most, strict=True)
    ]
    return Verdict(
        "Few validation examples suffice to choose: they save more than half of what could be saved.",
        statistics.above(*estimates),
        f"Test risk saved, of what the best epoch by the test risk itself would save: {'; '.join(words)}. Saved less "
        f"half of that, joint 95% intervals: {', '.join(f'{e:.3f}' for e in estimates)}.",
    )


def cost(c: Curves, rule: str) -> np.ndarray:
    """How much higher the test risk is if the rule stops, in units of that of all epochs' best, `(samples,)`."""
    whole = c.tested(c.chosen)
    return (c.tested(output(c, c.ran[rule])) - whole) / whole.mean()


def soon(found: list[Curves]) -> Verdict:
    """Whether some rule finds about the same hypothesis on all problems in less than half of the epochs."""
    level = 1 - 0.05 / (len(found) * len(RULES))
    costs = {rule: [c.problem.estimate(cost(c, rule), level) for c in found] for rule in RULES}
    runs = {rule: [c.ran[rule].mean() for c in found] for rule in RULES}
    early = [rule for rule in RULES if max(runs[rule]) < found[0].test.shape[1] / 2]
    good = [rule for rule in early if all(e.high < MARGIN for e in costs[rule])]
    bad = [rule for rule in early if any(e.low > MARGIN for e in costs[rule])]
    return Verdict(
        f"Some rule stops before half of the epochs and costs less than {100 * MARGIN:g}% of the risk.",
        True if good else False if len(bad) == len(early) else None,
        f"Stopped so early on all problems: {', '.join(early) or 'none'}; of these shown to cost less: "
        f"{', '.join(good) or 'none'}; shown to cost more: {', '.join(bad) or 'none'}. Epochs run (mean): "
        + "; ".join(f"{rule} {', '.join(f'{ran:.0f}' for ran in runs[rule])}" for rule in RULES)
        + f" of {found[0].test.shape[1]} ({', '.join(c.problem.title for c in found)}).",
    )


def _rules(c: Curves) -> Table:
    epochs = np.full(len(c.test), c.test.shape[1])
    ways = {"last hypothesis": (epochs, epochs - 1), "all epochs": (epochs, c.chosen)}
    ways |= {rule: (ran, output(c, ran)) for rule, ran in c.ran.items()}
    rows = []
    for name, (ran, chosen) in ways.items():
        risk = c.problem.estimate(c.tested(chosen))
        more = c.problem.estimate(c.tested(chosen) - c.tested(c.chosen))
        rows.append(
            [
                name,
                f"{ran.mean():.0f}",
                f"{np.median(chosen) + 1:.0f}",
                f"{risk.mean:.3f} ± {risk.error:.3f}",
                "" if name == "all epochs" else f"{more:+.3f}",
            ]
        )
    return Table(
        f"{c.problem.title}: when to stop",
        ["", "epochs run", "epoch chosen", "test risk", "more than “all epochs” (95%)"],
        rows,
        f"Means over {len(c.test)} samples (epoch chosen: median). The last hypothesis: without early stopping. All "
        "epochs: the lowest validation risk of all, as on the slide. The rules output the lowest of those they ran.",
    )


def _pictures(found: list[Curves]) -> Picture:
    return drawing.picture(
        "Training, validation and test risk",
        "Medians over the samples. The training risk falls on, while validation and test risk turn up; the dotted "
        "line is the median of the chosen epochs, the faint ones are test risks of single samples.",
        "median training, validation and test risk by epoch, and the chosen epoch",
        _learning,
        {c.problem.title: c for c in found},
        width=4.2,
        height=3.2,
    )


def _learning(axes: Axes, c: Curves) -> None:
    epochs = 1 + np.arange(c.test.shape[1])
    axes.plot(epochs, c.test[:15].T, color=drawing.FAINT, linewidth=0.6)
    curves = {"training": c.train, "validation": c.validation, "test": c.test}
    drawing.lines(axes, {name: (epochs, risks) for name, risks in curves.items()}, marker="")
    axes.axvline(float(np.median(c.chosen)) + 1, color=drawing.INK, linestyle=":", linewidth=1, label="chosen")
    axes.set_ylim(0.3 * np.median(c.train[:, -1]), 2.5 * np.median(c.test[:, -1]))
    drawing.finish(axes, "epoch", "risk per example, −ln p", log="xy", below=4)


EXPERIMENT = Experiment(
    name="early_stopping",
    title="Early stopping",
    question="How much risk does early stopping save, and how early may training stop?",
    claim="Train on one part of the sample, watch the risk on the other, and output the hypothesis for which that is "
    "lowest (slides “Early stopping”, “Early stopping example”).",
    run=run,
    full_minutes=6,
)
