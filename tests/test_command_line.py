"""`python -m jnn train` and `predict`: a table in, a model, predictions; and what it says when something is wrong."""

import os
import signal

import numpy as np
import pandas as pd
import pytest

from jnn.__main__ import main
from jnn.ensembles import scheduling

RNG = np.random.default_rng(30)
X = RNG.normal(size=(90, 2))
TABLE = pd.DataFrame({"a": X[:, 0], "kind": np.where(X[:, 1] > 0, "new", "old"), "cost": X[:, 0] + (X[:, 1] > 0),
                      "buys": np.where(X[:, 0] > 0, "yes", "no")})  # fmt: skip


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TABLE.to_csv("table.csv", index=False)
    TABLE.to_parquet("table.parquet")
    return tmp_path


def test_classes_and_numbers(table, capsys):
    assert main(["train", "table.csv", "--target", "buys", "--members", "2"]) == 0
    assert capsys.readouterr().out == (
        "model.jnn: 2 networks that predict buys (2 classes) from 3 columns, trained on 90 rows\n"
    )
    assert main(["predict", "model.jnn", "table.parquet", "--out", "out.csv"]) == 0
    found = pd.read_csv("out.csv")
    assert list(found) == ["prediction", "p(no)", "p(yes)"]
    assert (found.prediction == TABLE.buys).mean() > 0.85
    np.testing.assert_allclose(found["p(no)"] + found["p(yes)"], 1, rtol=1e-6)
    assert main(["train", "table.parquet", "--target", "cost", "--members", "2", "--out", "cost.jnn"]) == 0
    assert "(numbers) from 3 columns" in capsys.readouterr().out
    assert main(["predict", "cost.jnn", "table.csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "prediction"


def test_it_goes_on_where_it_was_interrupted(table, capsys, monkeypatch):
    """Ctrl-C at the third visit; the same command then comes to the file of a command that nobody disturbed."""
    command = ["train", "table.csv", "--target", "cost", "--members", "4"]
    assert main([*command, "--out", "whole.jnn"]) == 0
    timed, begun = scheduling._Worker._timed, []

    def interrupting(worker, members, states, *others):
        begun.append(np.asarray(states.epoch).max())
        worker._pace.epochs = 1
        if len(begun) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return timed(worker, members, states, *others)

    monkeypatch.setattr(scheduling._Worker, "_timed", interrupting)
    assert main([*command, "--checkpoint", "run"]) == 130
    assert "the same command goes on from run" in capsys.readouterr().err
    assert not (table / "model.jnn").exists()
    monkeypatch.setattr(scheduling._Worker, "_timed", timed)
    first = []
    begin = scheduling._Worker.begin
    monkeypatch.setattr(scheduling._Worker, "begin", lambda *a: first.append(begin(*a)) or first[-1])
    assert main([*command, "--checkpoint", "run"]) == 0
    assert max(int(np.max(states.epoch)) for _, states in first) >= 1  # not from the start
    assert (table / "model.jnn").read_bytes() == (table / "whole.jnn").read_bytes()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("train none.csv --target buys", "there is no file none.csv"),
        ("train table.csv --target sells", "expected a column 'sells', but table.csv has a, kind, cost, buys"),
        ("train table.csv --target buys --out no/where.jnn", "expected a folder for no/where.jnn"),
        ("predict table.csv table.csv", "table.csv"),
    ],
)
def test_what_it_says(command, told, table, capsys):
    assert main(command.split()) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train table.csv --target buys", "predict model.jnn table.csv"])
def test_without_pandas_it_says_what_to_install(command, table, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(command.split()) == 2
    assert "pip install 'jnn[data]'" in capsys.readouterr().err
