"""Do intervals hold what they promise? The share of new targets inside, beside the share asked for.

    python -m experiments.coverage [--data FOLDER] [--folds 5] [--only NAME ...]

`MLPRegressor.predict_interval` with defaults, by cross-validation, on the regression sets of `experiments.estimators`:
scikit-learn's diabetes, synthetic ones, and with `--data` Proben1's. Nothing was tuned on any of them for this. The
mean width is in standard deviations of the targets; the standard error of a share is that of as many independent
examples.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from sklearn.model_selection import KFold

from experiments import estimator_data
from experiments.command_line import rich_table
from experiments.estimator_data import Examples
from experiments.experiment import Table
from jnn.sklearn import MLPRegressor

ASKED = (0.8, 0.9, 0.95)


def measure(examples: Examples, folds: int, **parameters: int) -> tuple[list[float], list[float]]:
    """For each coverage asked for, the share of the held-out targets inside and the mean width."""
    inside: list[list[np.ndarray]] = [[] for _ in ASKED]
    widths: list[list[np.ndarray]] = [[] for _ in ASKED]
    for train, test in KFold(folds, shuffle=True, random_state=0).split(examples.x):
        model = MLPRegressor(random_state=0, **parameters).fit(*examples.take(train))
        new = examples.take(test)
        for place, asked in enumerate(ASKED):
            lower, upper = model.predict_interval(new.x, asked)
            inside[place].append((lower <= new.y) & (new.y <= upper))
            widths[place].append(upper - lower)
    deviation = np.std(examples.y)
    shares = [float(np.mean(np.concatenate(each))) for each in inside]
    return shares, [float(np.mean(np.concatenate(each)) / deviation) for each in widths]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        "python -m experiments.coverage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="with Proben1's .dt files")
    parser.add_argument("--folds", type=int, default=5, help="of the cross-validation (default: 5)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these sets only")
    options = parser.parse_args(argv)
    known = estimator_data.regression(options.data)
    if unknown := sorted(set(options.only or ()) - known.keys()):
        print(f"there is no set {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    rows, all_shares = [], []
    for name in options.only or known:
        shares, widths = measure(known[name], options.folds)
        all_shares.append(shares)
        pairs = [f"{100 * share:.1f} ({width:.2f})" for share, width in zip(shares, widths, strict=True)]
        rows.append([f"{name}, {len(known[name].y)}", *pairs, f"{50 / np.sqrt(len(known[name].y)):.1f}"])
    mean = [f"{100 * share:.1f}" for share in np.mean(all_shares, axis=0)]
    titles = ("set, examples", *(f"asked {100 * asked:.0f} %" for asked in ASKED), "s.e. at most")
    Console().print(rich_table(Table("targets inside in % (mean width)", titles, [*rows, ["mean", *mean, ""]])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
