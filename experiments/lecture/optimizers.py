"""Steepest descent, momentum, Adam, four Rprops and L-BFGS on the same batch problems, each at its best rate."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from sklearn.datasets import load_diabetes, make_friedman1

import jnn
from experiments import drawing, statistics
from experiments.experiment import Effort, Experiment, Outcome, Picture, Session, Table, Verdict, efforts
from experiments.statistics import Estimate
from jnn.likelihoods import Gaussian
from jnn.transforms import Standardize

NETWORK = jnn.mlp([10, 8, 1], hidden="tanh")
MOMENTUM = 0.9

Rule = Callable[[jax.Array], optax.GradientTransformation]
RULES: dict[str, Rule] = {
    "steepest descent": lambda rate: jnn.steepest_descent(rate),
    "momentum": lambda rate: jnn.steepest_descent(rate, momentum=MOMENTUM),
    "Adam": lambda rate: jnn.adam(rate),
    "Rprop+": lambda rate: jnn.rprop(rate, "Rprop+"),
    "Rprop−": lambda rate: jnn.rprop(rate, "Rprop-"),
    "iRprop+": lambda rate: jnn.rprop(rate, "iRprop+"),
    "iRprop−": lambda rate: jnn.rprop(rate, "iRprop-"),
    "L-BFGS": lambda rate: optax.lbfgs(),
}
"""A learning rate η or α, for Rprop the initial step Δ(0), makes a rule; L-BFGS (optax's) searches along its lines."""

PLAIN, NEEDS_NO_RATE = "steepest descent", ("L-BFGS",)
RATES = tuple(float(f"{10 ** (k / 2):.1e}") for k in range(-8, 2))
"""The same sweep for all: half decades from 10⁻⁴ to 3."""


NOTHING_LEARNED = 0.5
"""The risk of predicting the mean of a standardized target; a run that diverged counts as no better, none as worse."""


NEARLY = 1.5
"""A risk that is higher by no more than this factor is nearly the best."""


EFFORTS = efforts(
    tries=(2, 5, 40),
    epochs=(10, 150, 1000),
    examples=(40, 200, 400),
    rules=((PLAIN, "iRprop+"), tuple(RULES), tuple(RULES)),
)
"""How many initial weights try each rate (at the best one there are as many others as the sweep has runs), for how many
epochs, each of which is one update, and on how many examples."""


@dataclass(frozen=True)
class Runs:
    """What a rule did.

    Attributes:
        tried: log₁₀ of the risk at the end for the rates of the sweep, `(problems, rates, tries)`.
        curves: the risk per example before each update, from other initial weights at the problem's best rate,
            `(problems, seeds, epochs)`.
        seconds: for a single update of a single network, among all that are trained at once.
    """

    tried: np.ndarray
    curves: np.ndarray
    seconds: float

    @property
    def swept(self) -> np.ndarray:
        """Mean log₁₀ of the risk at the end, `(problems, rates)`."""
        return self.tried.mean(axis=-1)

    @property
    def best(self) -> np.ndarray:
        """Which rate ends lowest on each problem."""
        return np.argmin(self.swept, axis=1)

    @property
    def final(self) -> np.ndarray:
        """log₁₀ of the risk at the end, `(problems, seeds)`."""
        return np.log10(self.curves[..., -1])

    @property
    def tolerance(self) -> np.ndarray:
        """Over how many decades of the rate a try ends within a factor of `NEARLY` of its own best, by tries."""
        near = self.tried <= self.tried.min(axis=1, keepdims=True) + np.log10(NEARLY)
        return near.sum(axis=1) * (np.log10(RATES[-1] / RATES[0]) / (len(RATES) - 1))


def problems(seed: int, examples: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Three regressions of one shape, 10 standardized inputs and one target, so that one program learns them all."""
    rng = np.random.default_rng(seed)
    diabetes = load_diabetes(return_X_y=True)
    rows = rng.permutation(len(diabetes[0]))[:examples]
    signs = rng.normal(size=(examples, 10))
    products = signs[:, 0] * signs[:, 1] + signs[:, 2] * signs[:, 3]
    found = {
        "Diabetes": (diabetes[0][rows], diabetes[1][rows]),
        "Friedman's function": make_friedman1(examples, 10, noise=1.0, random_state=seed),
        "Products": (signs, products),
    }
    x = [Standardize.fit(x).apply(x) for x, _ in found.values()]
    y = [Standardize.fit(y[:, None]).apply(y[:, None]) for _, y in found.values()]
    return list(found), np.stack(x).astype(np.float32), np.stack(y).astype(np.float32)


def learn(name: str, x: np.ndarray, y: np.ndarray, effort: Effort, seed: int) -> Runs:
    """Batch learning of every problem by one program, run twice.

    First all rates are tried; then each problem's best is run again from other initial weights, so that the comparison
    is not with the luckiest of those that chose the rate.
    """

    def one(key: jax.Array, rate: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array | np.ndarray:
        rule = RULES[name](rate)
        fitted = jnn.fit(NETWORK, Gaussian(), x, y, key=key, optimizer=rule, epochs=effort.epochs, batch_size=None)
        return fitted.history.train_error

    every_problem = jax.vmap(jax.vmap(one, in_axes=(0, 0, None, None)), in_axes=(None, 0, 0, 0))
    sweep, fresh = jax.random.split(jax.random.key(seed))
    every = np.tile(np.repeat(np.array(RATES, np.float32), effort.tries), (len(x), 1))
    keys = jnp.tile(jax.random.split(sweep, effort.tries), len(RATES))
    program = jax.jit(every_problem).lower(keys, every, x, y).compile()
    tried = np.zeros((len(x), len(RATES), effort.tries))
    if name not in NEEDS_NO_RATE:
        tried = np.log10(_risks(program(keys, every, x, y))[..., -1]).reshape(tried.shape)
    chosen = np.array(RATES, np.float32)[np.argmin(tried.mean(axis=-1), axis=1)]
    seeds = effort.tries * len(RATES)
    keys = jax.random.split(fresh, seeds)
    begun = time.perf_counter()
    curves = _risks(program(keys, np.tile(chosen[:, None], (1, seeds)), x, y))
    return Runs(tried, curves, (time.perf_counter() - begun) / curves.size)


def _risks(found: jax.Array) -> np.ndarray:
    """The risks, with `NOTHING_LEARNED` where a run had diverged (NaN: not run any more)."""
    return np.clip(np.nan_to_num(np.asarray(found, float), nan=np.inf), 1e-12, NOTHING_LEARNED)


def run(session: Session) -> Outcome:
    """Sweep the rates of each rule, and compare the rules at their best."""
    effort = EFFORTS[session.size]
    names, x, y = problems(session.seed, effort.examples)
    found = {
        name: learn(name, x, y, effort, session.seed)
        for name in session.each(effort.rules, lambda name: f"Optimizers: {name}")
    }
    return Outcome(
        verdicts=[beaten(found, names), tolerant(found, names)] if len(found) == len(effort.rules) else [],
        tables=[risk_table(found, names)],
        pictures=[_curves(found, names), _sweeps(found, names)],
        interrupted=session.interrupted,
    )


def ratio(found: dict[str, Runs], name: str, problem: int, level: float) -> Estimate:
    """log₁₀ of the risk at the end over that of steepest descent, from the same initial weights."""
    return statistics.over_seeds(found[name].final[problem] - found[PLAIN].final[problem], level)


def beaten(found: dict[str, Runs], names: list[str]) -> Verdict:
    """Whether on every problem some rule ends lower than steepest descent does at its best rate."""
    rivals = [name for name in found if name != PLAIN]
    level = 1 - 0.05 / (len(rivals) * len(names))
    better = {p: [r for r in rivals if ratio(found, r, i, level).high < 0] for i, p in enumerate(names)}
    never = [p for i, p in enumerate(names) if all(ratio(found, r, i, level).low > 0 for r in rivals)]
    epochs = found[PLAIN].curves.shape[-1]
    return Verdict(
        "Steepest descent is not the best choice for batch learning, even at its best learning rate.",
        True if all(better.values()) else False if never else None,
        f"Lower risk after {epochs} updates (joint 95% intervals of the ratio, paired over seeds): "
        + "; ".join(f"{p}: {', '.join(rules) if rules else 'none'}" for p, rules in better.items())
        + ".",
    )


def tolerant(found: dict[str, Runs], names: list[str]) -> Verdict:
    """Whether more decades of the rate are good enough for iRprop+ than for steepest descent, over all problems."""
    ours, plain = found["iRprop+"].tolerance, found[PLAIN].tolerance
    more = statistics.over_seeds((ours - plain).mean(axis=0))
    return Verdict(
        "Rprop depends less on its initial step size than steepest descent on its learning rate.",
        statistics.above(more),
        f"Of the {np.log10(RATES[-1] / RATES[0]):.1f} decades of the sweep, those that end within a factor of "
        f"{NEARLY:g} of the best, iRprop+ and steepest descent: "
        + "; ".join(f"{p}: {a.mean():.1f} and {b.mean():.1f}" for p, a, b in zip(names, ours, plain, strict=True))
        + f". On average {more.mean:.1f} decades more (95%: {more.low:+.1f} to {more.high:+.1f}, over {ours.shape[1]} "
        "initial weights).",
    )


def risk_table(found: dict[str, Runs], names: list[str]) -> Table:
    """The risk at the end in units of steepest descent's, the best rates, and the time."""
    level = 1 - 0.05 / max(1, (len(found) - 1) * len(names))
    rows = []
    for name, runs in found.items():
        ratios = [10 ** ratio(found, name, place, level) for place in range(len(names))]
        rates = "none needed" if name in NEEDS_NO_RATE else ", ".join(f"{RATES[b]:.2g}" for b in runs.best)
        cells = [f"{e.mean:.2g}" if name == PLAIN else f"{e:.2g}" for e in ratios]
        rows.append([name, *cells, rates, f"{1e6 * runs.seconds:.1f} µs"])
    seeds, epochs = found[PLAIN].curves.shape[1:]
    return Table(
        "Training risk in units of steepest descent's",
        ["", *names, "best rates", "time for an update"],
        rows,
        f"Geometric mean over {seeds} initial weights, the same for all rules, after {epochs} updates with the whole "
        f"batch, each rule at its best of {len(RATES)} rates, or initial steps, from {RATES[0]:g} to {RATES[-1]:g}; "
        "with intervals that hold jointly with 95%. The time is that of one network among all that are trained at "
        "once; an update of L-BFGS tries out several steps.",
    )


LOOKS = {
    "steepest descent": (drawing.SECOND, "--", "s"),
    "momentum": (drawing.SECOND, "-", "D"),
    "Adam": (drawing.THIRD, "-", "^"),
    "iRprop+": (drawing.FIRST, "-", "o"),
    "L-BFGS": (drawing.INK, ":", "x"),
}
"""Drawn in full; the other Rprops are close to iRprop+ and stay in the tables."""


def _curves(found: dict[str, Runs], names: list[str]) -> Picture:
    shown = {name: look for name, look in LOOKS.items() if name in found}
    updates = 1 + np.arange(found[PLAIN].curves.shape[-1])
    marked = np.unique(np.geomspace(1, len(updates), 7).astype(int) - 1).tolist()

    def draw(axes: Axes, place: int) -> None:
        curves = {name: (updates, found[name].curves[place]) for name in shown}
        drawing.lines(axes, curves, shown.values(), markersize=4, markevery=marked)
        drawing.finish(axes, "update (one epoch each)", "risk per example, ½ variance", log="xy", below=2)

    return drawing.picture(
        "The way down",
        "Median training risk over the initial weights, each rule at its own best rate. The lower the sooner, the "
        "better; Adam and Rprop leave the line of steepest descent within the first dozens of updates.",
        "median training risk by update for five optimizers at their best learning rates",
        draw,
        {name: place for place, name in enumerate(names)},
        height=3.3,
    )


def _sweeps(found: dict[str, Runs], names: list[str]) -> Picture:
    shown = {name: look for name, look in LOOKS.items() if name in found and name not in NEEDS_NO_RATE}

    def draw(axes: Axes, place: int) -> None:
        drawing.lines(axes, {name: (RATES, 10 ** found[name].swept[place]) for name in shown}, shown.values())
        drawing.finish(axes, "learning rate, or initial step", "risk per example, ½ variance", log="xy", below=2)

    return drawing.picture(
        "The sweep of the rates",
        "Training risk at the end (geometric mean) by learning rate (Rprop: initial step); a run that diverged counts "
        "as ½, the risk of the mean. A wide valley forgives a wrong choice: Rprop's is wide, since it adapts its "
        "steps; that of steepest descent is narrow and ends in a cliff.",
        "risk at the end by learning rate or initial step",
        draw,
        {name: place for place, name in enumerate(names)},
        height=3.3,
    )


EXPERIMENT = Experiment(
    name="optimizers",
    title="Optimizers",
    question="How much better than steepest descent can batch learning be?",
    claim="Δw = −η∇E + μΔw(t−1); steepest descent is usually not the best choice for batch learning, and many powerful "
    "gradient-based techniques exist (slides “Gradient descent”, “Efficient gradient-based optimization”).",
    run=run,
    full_minutes=10,
)
