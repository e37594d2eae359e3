"""From a shell: `python -m jnn train table.csv --target column` and `python -m jnn predict model.jnn table.csv`.

The estimators' own defaults (`jnn.sklearn`): an ensemble, standardization, categories and gaps dealt with inside.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WRONG, INTERRUPTED = 2, 130
"""Exit statuses: for what cannot be used, and after Ctrl-C, as shells have it."""


class Wrong(Exception):
    """Something that the user can mend, in a sentence."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m jnn", description="Train networks on a table, and predict.")
    commands = made.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train an ensemble on a table, and save it")
    train.add_argument("table", type=Path, help="a .csv or .parquet file with names of columns")
    train.add_argument("--target", required=True, metavar="COLUMN", help="what to predict")
    train.add_argument("--task", choices=("classes", "numbers"), help="by default classes for texts, booleans and "
                       "integers of at most 20 values, else numbers")  # fmt: skip
    train.add_argument("--members", type=int, metavar="N", help="networks in the ensemble (default: as jnn.sklearn)")
    train.add_argument("--seed", type=int, default=0, help="everything random derives from it (default: 0)")
    train.add_argument("--checkpoint", type=Path, metavar="FOLDER", help="the same command again goes on from there "
                       "after a crash or Ctrl-C")  # fmt: skip
    train.add_argument("--out", type=Path, default=Path("model.jnn"), help="file to write (default: model.jnn)")
    predict = commands.add_parser("predict", help="predict the rows of a table, as CSV")
    predict.add_argument("model", type=Path, help="what train wrote")
    predict.add_argument("table", type=Path, help="a table with the same columns")
    predict.add_argument("--out", type=Path, help="file to write (default: to the standard output)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = parser().parse_args(arguments)
    try:
        (train if options.command == "train" else predict)(options)
    except (Wrong, ImportError, OSError, ValueError, TypeError) as error:
        print(f"python -m jnn {options.command}: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        if getattr(options, "checkpoint", None) is not None:
            print(f"interrupted; the same command goes on from {options.checkpoint}", file=sys.stderr)
        return INTERRUPTED
    return 0


def train(options: argparse.Namespace) -> None:
    """Fit an estimator, and save it."""
    from jnn.sklearn import MLPClassifier, MLPRegressor

    table = read(options.table)
    if options.target not in table:
        raise Wrong(f"expected a column {options.target!r}, but {options.table} has {', '.join(map(str, table))}")
    if not options.out.absolute().parent.is_dir():
        raise Wrong(f"expected a folder for {options.out}, but there is none")
    x, y = table.drop(columns=options.target), table[options.target]
    if y.isna().any():
        raise Wrong(f"{int(y.isna().sum())} rows have no {options.target}; remove them")
    number = y.dtype.kind in "iuf" and not (y.dtype.kind in "iu" and y.nunique() <= 20)
    numbers = number if options.task is None else options.task == "numbers"
    settings: dict[str, Any] = {"random_state": options.seed, "verbose": _shown(), "checkpoint": options.checkpoint}
    if options.members is not None:
        settings["members"] = options.members
    estimator = (MLPRegressor if numbers else MLPClassifier)(**settings)
    estimator.fit(x, y)
    estimator.save(options.out)
    kind = "numbers" if numbers else f"{len(estimator.classes_)} classes"  # type: ignore[union-attr]
    print(f"{options.out}: {estimator.n_members_} networks that predict {options.target} ({kind}) from {x.shape[1]} "
          f"columns, trained on {len(x)} rows")  # fmt: skip


def predict(options: argparse.Namespace) -> None:
    """Write a column of predictions, and of classes their probabilities."""
    table = read(options.table)
    import pandas as pd

    from jnn import persistence
    from jnn.sklearn import MLPClassifier, MLPRegressor

    try:
        estimator: Any = MLPClassifier.load(options.model)
    except persistence.ForeignFileError:
        estimator = MLPRegressor.load(options.model)
    if missing := [name for name in getattr(estimator, "feature_names_in_", []) if name not in table]:
        raise Wrong(f"{options.table} lacks the columns {', '.join(map(str, missing))}, which the model was trained on")
    x = table[list(getattr(estimator, "feature_names_in_", table.columns))]
    found = pd.DataFrame({"prediction": estimator.predict(x)})
    for number, label in enumerate(getattr(estimator, "classes_", [])):
        found[f"p({label})"] = estimator.predict_proba(x)[:, number]
    found.to_csv(sys.stdout if options.out is None else options.out, index=False)


def read(path: Path) -> Any:
    """A table, by its ending."""
    from jnn.optional import needed

    needed("pandas", extra="data", what="tables are read by pandas")
    import pandas as pd

    if not path.is_file():
        raise Wrong(f"there is no file {path}")
    if path.suffix in (".parquet", ".pq"):
        return pd.read_parquet(path)
    if path.suffix in (".csv", ".txt", ".tsv"):
        return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")
    raise Wrong(f"expected a table as .csv, .tsv or .parquet, got {path}")


def _shown() -> bool:
    """Whether to draw a bar: for a person who looks on, if rich is there."""
    import importlib.util

    return sys.stdout.isatty() and importlib.util.find_spec("rich") is not None and "NO_PROGRESS" not in os.environ


if __name__ == "__main__":
    sys.exit(main())
