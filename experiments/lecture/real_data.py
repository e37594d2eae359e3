"""Real data: networks trained with hand-written gradients, beside a linear model, scikit-learn's MLP and a forest.

Of scikit-learn's bundled sets only Linnerud is left out: its 20 examples leave 5 for testing, which tell nothing.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor

from experiments import drawing, statistics
from experiments.datasets import SOURCES, Data
from experiments.experiment import Experiment, Outcome, Picture, Session, Table, Verdict
from experiments.lecture.recipe import EFFORTS, Recipe, Trained, train
from experiments.statistics import Estimate

METHODS = ("jnn", "linear", "sklearn MLP", "random forest")
COLORS = dict(zip(METHODS, (drawing.FIRST, drawing.SECOND, drawing.THIRD, drawing.INK), strict=True))
MARKERS = dict(zip(METHODS, ("o", "s", "^", "D"), strict=True))
CALLED = {"linear": "the linear model", "sklearn MLP": "scikit-learn's MLP", "random forest": "the random forest"}

CLASS_MARGIN, SQUARED_MARGIN = 2.0, 0.05
"""Differences of the test error that matter, set before looking: percentage points, and shares of the variance."""


@dataclass(frozen=True)
class Comparison:
    """Test errors `(splits,)` of each method on the same splits of one data set, and seconds for one training."""

    trained: Trained
    errors: dict[str, np.ndarray]
    seconds: dict[str, float]

    @property
    def data(self) -> Data:
        """The splits."""
        return self.trained.data

    def estimate(self, values: np.ndarray, level: float = 0.95) -> Estimate:
        """A mean over these splits, with an interval that knows how they overlap."""
        return statistics.over_splits(values.tolist(), self.data.train.x.shape[1], self.data.test.x.shape[1], level)

    def joint_difference(self, other: str, sets: int) -> Estimate:
        """How much larger the network's test error is than another method's, split by split.

        The intervals of as many data sets hold together with 95%: each has the level 1 − 0.05 / sets.
        """
        return self.estimate(self.errors["jnn"] - self.errors[other], 1 - 0.05 / sets)

    @property
    def margin(self) -> float:
        """The difference that counts."""
        return CLASS_MARGIN if self.data.source.classes else SQUARED_MARGIN


def run(session: Session) -> Outcome:
    """Train and compare on every data set (for the tiny size, on one of each likelihood)."""
    effort = EFFORTS[session.size]
    names = session.each(effort.names, lambda name: f"{SOURCES[name].title}: training networks, and their rivals")
    found = [compare(train(name, session), effort.recipe, session.seed) for name in names]
    return Outcome(
        verdicts=[verdict(found, rival, called) for rival, called in CALLED.items()],
        tables=[error_table(found), difference_table(found), time_table(found)],
        pictures=[learning_curves(found), test_errors(found)],
        interrupted=session.interrupted,
    )


def test_error(data: Data, decided: np.ndarray) -> np.ndarray:
    """For each split the share of wrong labels in percent, or the mean squared error of standardized targets."""
    if data.source.classes:
        return 100.0 * np.mean(decided != data.test.y, axis=1)
    return np.mean((decided - data.test.y) ** 2, axis=1)


def compare(trained: Trained, recipe: Recipe, seed: int) -> Comparison:
    """Fit the rivals to the same training examples, and test all on the same test examples."""
    data = trained.data
    errors = {"jnn": test_error(data, trained.decisions(data.test.x))}
    seconds = {"jnn": trained.train_seconds / trained.splits}
    for method, build in rivals(data, recipe, seed).items():
        begun = time.perf_counter()
        decided = [
            _fitted(build(place), x, y).predict(x_test)
            for place, (x, y, x_test) in enumerate(zip(data.train.x, data.train.y, data.test.x, strict=True))
        ]
        seconds[method] = (time.perf_counter() - begun) / trained.splits
        errors[method] = test_error(data, np.stack(decided))
    return Comparison(trained, errors, seconds)


def rivals(data: Data, recipe: Recipe, seed: int) -> dict[str, Callable[[int], Any]]:
    """The linear model and the forest as scikit-learn has them, and an MLP of the same size, optimizer and stopping.

    (scikit-learn stops by the validation score, accuracy or R², where jnn stops by the validation risk.)
    """
    classes = data.source.classes
    linear, mlp = (LogisticRegression, MLPClassifier) if classes else (Ridge, MLPRegressor)
    forest = RandomForestClassifier if classes else RandomForestRegressor
    options: dict[str, Any] = {
        "hidden_layer_sizes": (recipe.hidden,),
        "activation": "tanh",
        "alpha": 0.0,
        "learning_rate_init": recipe.learning_rate,
        "batch_size": min(recipe.batch_size, int((1 - recipe.validation) * data.train.x.shape[1])),
        "max_iter": recipe.epochs,
        "early_stopping": True,
        "validation_fraction": recipe.validation,
        "n_iter_no_change": recipe.patience,
        "tol": 0.0,
    }
    more: dict[str, Any] = {"max_iter": 1000} if classes else {}
    return {
        "linear": lambda place: linear(**more),
        "sklearn MLP": lambda place: mlp(**options, random_state=seed + place),
        "random forest": lambda place: forest(random_state=seed + place),
    }


def _fitted(model: Any, x: np.ndarray, y: np.ndarray) -> Any:
    with warnings.catch_warnings():
        # Running out of epochs is no fault here: the best hypothesis so far is kept, as with jnn.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


def verdict(found: list[Comparison], other: str, called: str) -> Verdict:
    """Whether the networks are nowhere worse by more than the margin, nowhere shown to be, or neither."""
    by_set = {c.data.source.title: (c.joint_difference(other, len(found)), c.margin) for c in found}
    worse = [title for title, (d, margin) in by_set.items() if d.low > margin]
    open_ = [title for title, (d, margin) in by_set.items() if d.low <= margin < d.high]
    better = [title for title, (d, _) in by_set.items() if d.high < 0]
    shown = [title for title, (d, _) in by_set.items() if d.low > 0]
    return Verdict(
        f"On none of the data sets are the networks worse than {called} by more than {CLASS_MARGIN:g} percentage "
        f"points (regression: {SQUARED_MARGIN:g}).",
        False if worse else None if open_ else True,
        f"Worse by more: {_listed(worse)}. Too uncertain to tell: {_listed(open_)}. "
        f"Shown to be better: {_listed(better)}; shown to be worse at all: {_listed(shown)}.",
    )


def _listed(titles: list[str]) -> str:
    return ", ".join(titles) if titles else "none"


def error_table(found: list[Comparison]) -> Table:
    """Test error ± standard error."""
    rows = []
    for c in found:
        unit, digits = ("%", 2) if c.data.source.classes else ("", 3)
        estimates = (c.estimate(c.errors[method]) for method in METHODS)
        rows.append([c.data.source.title, *(f"{e.mean:.{digits}f} ± {e.error:.{digits}f}{unit}" for e in estimates)])
    return Table(
        "Test error",
        ["", *METHODS],
        rows,
        f"Mean ± standard error over {found[0].trained.splits} random splits, a quarter of the examples for testing. "
        "Classes: wrong labels; diabetes: squared error of the standardized target. The standard error is corrected "
        "for the overlap of the splits (Nadeau and Bengio 2003). Linear: logistic or ridge regression, and the "
        "random forest, as scikit-learn has them by default. (Linnerud is left out: it has 20 examples.)",
    )


def time_table(found: list[Comparison]) -> Table:
    """Seconds of one training."""
    return Table(
        "Time for one training",
        ["", *METHODS, "jnn's compilation"],
        [
            [c.data.source.title, *(_time(c.seconds[method]) for method in METHODS), _time(c.trained.compile_seconds)]
            for c in found
        ],
        f"jnn trains all {found[0].trained.splits} splits at once: this is that time divided by their number, and "
        "beside it the compilation, once for all of them. The networks stop at different epochs, and the others "
        "compute one split after another.",
    )


def difference_table(found: list[Comparison]) -> Table:
    """The network's test error less that of its rivals."""
    rows = []
    for c in found:
        digits = 2 if c.data.source.classes else 3
        differences = (c.joint_difference(other, len(found)) for other in METHODS[1:])
        cells = [
            f"{_signed(d.mean, digits)} ({_signed(d.low, digits)} to {_signed(d.high, digits)})" for d in differences
        ]
        rows.append([c.data.source.title, *cells])
    return Table(
        "How much larger jnn's test error is",
        ["", "than the linear model's", "than sklearn's MLP's", "than the forest's"],
        rows,
        "Mean of the differences on the same splits, with intervals that hold jointly for all data sets with 95%: "
        "percentage points, and for diabetes squared error. Negative: jnn is better. Both MLPs have the same size, "
        "optimizer and patience, but scikit-learn stops early by the validation accuracy (or R²), jnn by the risk.",
    )


def _signed(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:+.{digits}f}"  # + 0.0: no minus before 0.00


def _time(seconds: float) -> str:
    number = f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"
    return number.replace(" ", "\N{NO-BREAK SPACE}")


def learning_curves(found: list[Comparison]) -> Picture:
    """Training and validation risk by epoch, and the epoch whose hypothesis was chosen."""
    return Picture(
        "Learning curves",
        [
            drawing.panel(
                lambda axes, c=c: _curves(axes, c),
                c.data.source.title,
                f"{c.data.source.title}: training and validation risk by epoch, with the chosen epoch marked",
            )
            for c in found
        ],
        "Risk per example (−ln p; training: as each example was met, before the step) by epoch on one split, with the "
        "hypothesis of lowest validation risk marked by a ring and a dotted line; faint: the validation risk on the "
        "other splits. Where the validation curve turns up while the training curve still falls, early stopping saves "
        "what lies between.",
    )


def _curves(axes: Axes, c: Comparison) -> None:
    history = c.trained.result.history
    train_error, validation_error = np.asarray(history.train_error), np.asarray(history.validation_error)
    epochs = 1 + np.arange(train_error.shape[1])
    for other in validation_error[1:]:
        axes.plot(epochs, other, color=drawing.FAINT, linewidth=0.7, zorder=1)
    best = int(c.trained.result.best_epoch[0])
    lowest = float(c.trained.result.best_validation_error[0])
    axes.plot(epochs, train_error[0], color=drawing.SECOND, linestyle="--", label="training")
    axes.plot(epochs, validation_error[0], color=drawing.FIRST, label="validation")
    axes.axvline(best, color=drawing.INK, linestyle=":", linewidth=1)
    ring = {"markersize": 8, "markerfacecolor": "none", "markeredgecolor": drawing.INK, "linestyle": "none"}
    axes.plot([best], [lowest], marker="o", zorder=5, label=f"chosen: {best}", **ring)
    drawing.logarithmic(axes, "y")
    ran = int(c.trained.result.epochs[0])
    axes.set_xlim(0, 1.05 * ran)
    drawing.finish(axes, "epoch", "risk per example", below=3)


def test_errors(found: list[Comparison]) -> Picture:
    """A dot and an interval for each method on each data set."""
    panels = []
    for classes, label in ((True, "test error, % of examples"), (False, "test error, squared, standardized target")):
        group = [c for c in found if c.data.source.classes is classes]
        if group:
            panels.append(
                drawing.panel(
                    lambda axes, group=group, label=label: _dots(axes, group, label),
                    "Classification" if classes else "Regression",
                    f"{label} of four methods on {', '.join(c.data.source.title for c in group)}",
                    height=1.7 + 0.72 * len(group),
                    width=4.2,
                )
            )
    return Picture(
        "Test error",
        panels,
        "Mean over the splits with its 95% interval (corrected for overlapping splits). Further left is better. The "
        "intervals are wider than the differences between the methods: the splits are the same for all, so "
        "compare the methods by the table of differences, not by overlap here.",
    )


def _dots(axes: Axes, group: list[Comparison], label: str) -> None:
    for place, method in enumerate(METHODS):
        estimates = [c.estimate(c.errors[method]) for c in group]
        means = np.array([e.mean for e in estimates])
        reach = np.array([e.high - e.mean for e in estimates])
        axes.errorbar(
            means,
            np.arange(len(group)) + 0.19 * (place - 1.5),
            xerr=[np.minimum(reach, means), reach],
            fmt=MARKERS[method],
            color=COLORS[method],
            elinewidth=1.4,
            capsize=2.5,
            label=method,
        )
    axes.set_yticks(range(len(group)), [c.data.source.title for c in group])
    axes.set_ylim(len(group) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(label)
    axes.grid(visible=False, axis="y")
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2, columnspacing=1)


EXPERIMENT = Experiment(
    name="real_data",
    title="Real data",
    question="How good are networks trained with hand-written gradients on real data, beside other methods?",
    claim="Standardized inputs, a single hidden layer with enough neurons, small initial weights and early stopping "
    "make a good network (slide “The secrets of successful shallow NN training”).",
    run=run,
    full_minutes=6,
)
