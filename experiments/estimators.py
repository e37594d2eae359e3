"""Do the defaults of jnn.sklearn win? Repeated cross-validation beside scikit-learn's estimators.

    python -m experiments.estimators [--data FOLDER] [--repeats 2] [--only NAME ...] [--out FILE.json]

Classification sets: scikit-learn's own (iris, wine, breast cancer, digits), and with `--data` those of Proben1 whose
`.dt` files lie in that folder (one order of each problem's examples). Every model gets raw inputs but scikit-learn's
perceptron, which gets standardized ones. For each set the 5-fold cross-validated log-loss, error and calibration error,
and the seconds of a fit (the median; the first in a process compiles, and is left out), for every model at its
defaults. Then, over sets, Wilcoxon's signed-rank test of the difference from scikit-learn's perceptron.

The calibration error is the mean absolute difference between what is said and what is true, over ten bins of the
largest probability, weighted by how many examples fall into each.
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
import sklearn.datasets
from rich.console import Console
from scipy.stats import wilcoxon
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.neural_network import MLPClassifier as ScikitLearnsMLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments.command_line import rich_table
from experiments.experiment import Table
from experiments.proben1 import files
from experiments.statistics import calibration_error, over_splits
from jnn.sklearn import MLPClassifier

MODELS: dict[str, Callable[[int], Any]] = {
    "jnn": lambda seed: MLPClassifier(random_state=seed),
    "scikit-learn MLP": lambda seed: make_pipeline(StandardScaler(), ScikitLearnsMLPClassifier(random_state=seed)),
    "random forest": lambda seed: RandomForestClassifier(300, random_state=seed),
    "gradient boosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
}
RIVAL = "scikit-learn MLP"
FOLDS = 5
MEASURES = ("log-loss", "error", "calibration")


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


def sets(folder: Path | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Inputs and labels of each set, by name."""
    found = {
        name: getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
        for name in ("iris", "wine", "breast_cancer", "digits")
    }
    for path in sorted(folder.glob("*1.dt")) if folder else ():
        problem = files.read(path)
        if problem.classes:
            parts = (problem.train, problem.validation, problem.test)
            x, y = (np.concatenate([part[i] for part in parts]) for i in range(2))
            found[f"{problem.name} (Proben1)"] = x, y.argmax(axis=1) if y.shape[1] > 1 else y[:, 0].astype(int)
    return found


def evaluate(name: str, x: np.ndarray, y: np.ndarray, repeats: int, seed: int) -> list[Score]:
    """Cross-validate every model on one set, all on the same folds."""
    folds = list(RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=repeats, random_state=seed).split(x, y))
    scores = []
    for model, make in MODELS.items():
        values: dict[str, list[float]] = {measure: [] for measure in MEASURES}
        seconds = []
        for number, (train, test) in enumerate(folds):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scikit-learn's perceptron says that 200 epochs were not enough
                begun = time.perf_counter()
                fitted = make(seed + number).fit(x[train], y[train])
                seconds.append(time.perf_counter() - begun)
            p = fitted.predict_proba(x[test])
            values["log-loss"].append(float(log_loss(y[test], p, labels=np.unique(y))))
            values["error"].append(100 * float(np.mean(p.argmax(axis=1) != y[test])))
            values["calibration"].append(float(calibration_error(p.max(axis=1), p.argmax(axis=1) == y[test])))
        scores.append(Score(name, model, values, seconds[1:]))
    return scores


def row(scores: Sequence[Score], measure: str) -> list[str]:
    """One set: each model's mean, and jnn's difference from the rival with its interval."""
    by_model = {s.model: s for s in scores}
    difference = np.subtract(by_model["jnn"].values[measure], by_model[RIVAL].values[measure])
    interval = over_splits(difference.tolist(), train=FOLDS - 1, test=1)
    digits = 1 if measure == "error" else 3
    cells = [f"{by_model[m].mean(measure):.{digits}f}" for m in MODELS]
    return [
        scores[0].data,
        *cells,
        f"{interval.mean:+.{digits}f} [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]",
    ]


def signed_rank(scores: Sequence[Sequence[Score]], measure: str, rival: str = RIVAL) -> str:
    """Whether jnn is lower than a rival over the sets: how often, and the one-sided p of Wilcoxon's test."""
    differences = [
        {s.model: s.mean(measure) for s in one}["jnn"] - {s.model: s.mean(measure) for s in one}[rival]
        for one in scores
    ]
    lower, sets_ = sum(d < 0 for d in differences), len(differences)
    if not any(differences):
        return f"{measure}: equal to {rival} on all {sets_} sets"
    test: Any = wilcoxon(differences, alternative="less")
    return f"{measure}: lower than {rival} on {lower} of {sets_} sets, signed-rank p = {test.pvalue:.2g}"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m experiments.estimators", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--data", type=Path, metavar="FOLDER", help="with Proben1's .dt files")
    made.add_argument("--repeats", type=int, default=2, help="of the five-fold cross-validation (default: 2)")
    made.add_argument("--only", nargs="+", metavar="NAME", help="these sets only")
    made.add_argument("--seed", type=int, default=0, help="everything random derives from it (default: 0)")
    made.add_argument("--out", type=Path, metavar="FILE.json", help="where every fold's figures are saved")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, print the tables, save."""
    options = parser().parse_args(argv)
    if options.data is not None and not options.data.is_dir():
        print(f"expected a folder with Proben1's .dt files, {options.data} is none", file=sys.stderr)
        return 2
    if options.repeats < 1:
        print(f"expected --repeats of at least 1, got {options.repeats}", file=sys.stderr)
        return 2
    known = sets(options.data)
    if unknown := sorted(set(options.only or ()) - known.keys()):
        print(f"there is no set {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    console = Console()
    scores: list[list[Score]] = []
    try:
        for name in options.only or known:
            scores.append(evaluate(name, *known[name], options.repeats, options.seed))
            times = ", ".join(f"{s.model} {np.median(s.seconds):.2f}" for s in scores[-1])
            console.print(f"{name} {known[name][0].shape}: seconds of a fit: {times}", highlight=False)
            if options.out is not None:
                options.out.write_text(json.dumps([asdict(s) for one in scores for s in one], indent=1))
    except KeyboardInterrupt:
        console.print("interrupted: these are the sets that were done")
    if not scores:
        return 130
    for measure in MEASURES:
        title = f"{measure}{' in %' if measure == 'error' else ''}, {FOLDS}-fold cross-validation × {options.repeats}"
        table = Table(title, ("", *MODELS, f"jnn − {RIVAL}, 95%"), [row(one, measure) for one in scores])
        console.print(rich_table(table))
    for rival in list(MODELS)[1:]:
        for measure in MEASURES:
            console.print(signed_rank(scores, measure, rival), highlight=False)
    return 0 if len(scores) == len(options.only or known) else 130


if __name__ == "__main__":
    sys.exit(main())
