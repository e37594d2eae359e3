"""Real data: networks trained with hand-written gradients, beside a linear model, scikit-learn's MLP and a forest.

Of scikit-learn's bundled sets only Linnerud is left out: its 20 examples leave 5 for testing, which tell nothing.
"""

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

from experiments import drawing
from experiments.datasets import SOURCES, Data
from experiments.experiment import Experiment, Outcome, Picture, Session, Table, Verdict
from experiments.lecture.recipe import EFFORTS, Recipe, Trained, train
from experiments.statistics import Estimate
from jnn.training import FitResult

METHODS = ("jnn", "linear", "sklearn MLP", "random forest")
CALLED = {"linear": "the linear model", "sklearn MLP": "scikit-learn's MLP", "random forest": "the random forest"}

CLASS_MARGIN, SQUARED_MARGIN = 2.0, 0.05
"""Differences of the test error that matter, set before looking: percentage points, and shares of the variance."""


@dataclass(frozen=True)
class Comparison:
    """Test errors `(splits,)` of each method on the same splits of one data set."""

    trained: Trained
    errors: dict[str, np.ndarray]

    @property
    def data(self) -> Data:
        return self.trained.data

    def joint_difference(self, other: str, sets: int) -> Estimate:
        """How much larger the network's test error is than another method's, split by split.

        The intervals of as many data sets hold together with 95%: each has the level 1 − 0.05 / sets.
        """
        return self.data.estimate(self.errors["jnn"] - self.errors[other], 1 - 0.05 / sets)

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
        tables=[error_table(found), difference_table(found)],
        pictures=[learning_curves(found)],
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
    for method, build in rivals(data, recipe, seed).items():
        decided = [
            _fitted(build(place), x, y).predict(x_test)
            for place, (x, y, x_test) in enumerate(zip(data.train.x, data.train.y, data.test.x, strict=True))
        ]
        errors[method] = test_error(data, np.stack(decided))
    return Comparison(trained, errors)


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
        estimates = (c.data.estimate(c.errors[method]) for method in METHODS)
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


def difference_table(found: list[Comparison]) -> Table:
    """The network's test error less that of its rivals."""
    rows = []
    for c in found:
        digits = 2 if c.data.source.classes else 3
        differences = (c.joint_difference(other, len(found)) for other in METHODS[1:])
        rows.append([c.data.source.title, *(f"{d:+z.{digits}f}" for d in differences)])
    return Table(
        "How much larger jnn's test error is",
        ["", "than the linear model's", "than sklearn's MLP's", "than the forest's"],
        rows,
        "Mean of the differences on the same splits, with intervals that hold jointly for all data sets with 95%: "
        "percentage points, and for diabetes squared error. Negative: jnn is better. Both MLPs have the same size, "
        "optimizer and patience, but scikit-learn stops early by the validation accuracy (or R²), jnn by the risk.",
    )


def learning_curves(found: list[Comparison]) -> Picture:
    """Training and validation risk by epoch, and the epoch whose hypothesis was chosen."""
    return drawing.picture(
        "Learning curves",
        "Risk per example (−ln p; training: as each example was met, before the step) by epoch on one split, with the "
        "hypothesis of lowest validation risk marked by a ring and a dotted line; faint: the validation risk on the "
        "other splits. Where the validation curve turns up while the training curve still falls, early stopping saves "
        "what lies between.",
        "training and validation risk by epoch, with the chosen epoch marked",
        _curves,
        {c.data.source.title: c.trained.result for c in found},
    )


def _curves(axes: Axes, result: FitResult) -> None:
    train, validation = (np.asarray(v) for v in (result.history.train_error, result.history.validation_error))
    epochs, best = 1 + np.arange(train.shape[1]), int(result.best_epoch[0])
    axes.plot(epochs, validation[1:].T, color=drawing.FAINT, linewidth=0.7, zorder=1)
    drawing.lines(axes, {"training": (epochs, train[0]), "validation": (epochs, validation[0])}, marker="")
    axes.axvline(best, color=drawing.INK, linestyle=":", linewidth=1)
    lowest = float(result.best_validation_error[0])
    axes.plot(best, lowest, "o", ms=8, mfc="none", mec=drawing.INK, zorder=5, label=f"chosen: {best}")
    drawing.logarithmic(axes, "y")
    axes.set_xlim(0, 1.05 * int(result.epochs[0]))
    drawing.finish(axes, "epoch", "risk per example", below=3)


EXPERIMENT = Experiment(
    name="real_data",
    title="Real data",
    question="How good are networks trained with hand-written gradients on real data, beside other methods?",
    claim="Standardized inputs, a single hidden layer with enough neurons, small initial weights and early stopping "
    "make a good network (slide “The secrets of successful shallow NN training”).",
    run=run,
    full_minutes=6,
)
