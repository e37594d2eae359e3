"""Estimators on tables: categories and gaps inside, names checked, saved and exported, the README's path."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from jnn import persistence
from jnn.sklearn import MLPClassifier, MLPRegressor

pandas = pytest.importorskip("pandas", reason="needs pandas: pip install 'jnn[test]'")

RNG = np.random.default_rng(0)
N = 200
TABLE = pandas.DataFrame(
    {
        "age": np.where(np.arange(N) % 7 == 0, np.nan, RNG.normal(40, 10, N)),
        "city": RNG.choice(["Rome", "Oslo", "Bonn"], N, p=[0.5, 0.35, 0.15]),
        "size": pandas.Categorical(RNG.choice(["s", "m"], N)),
        "paid": RNG.random(N) < 0.3,
    }
)
TABLE.loc[::11, "city"] = None
Y = np.where((TABLE["city"] == "Oslo") ^ TABLE["paid"], "yes", "no")
SMALL = {"members": 2, "hidden_layer_sizes": 8, "random_state": 0}


@pytest.fixture(scope="module")
def model() -> MLPClassifier:
    return MLPClassifier(**SMALL).fit(TABLE, Y)


def test_a_rule_about_categories_is_learned(model: MLPClassifier) -> None:
    assert model.score(TABLE, Y) > 0.95
    assert model.feature_names_in_.tolist() == list(TABLE)
    assert model.n_features_in_ == 4
    assert model._transforms[-1].columns == 8  # age and whether it is known, three cities or none known, size, paid


def test_what_a_gap_tells_is_learned() -> None:
    y = TABLE["age"].isna().to_numpy().astype(int)
    assert MLPClassifier(**SMALL).fit(TABLE[["age"]], y).score(TABLE[["age"]], y) > 0.95
    x = TABLE[["age"]].to_numpy()
    assert MLPClassifier(**SMALL).fit(x, y).score(x, y) > 0.95


def test_other_packages_tables_are_the_same(model: MLPClassifier) -> None:
    expected = model.predict_proba(TABLE)
    for other in (
        pytest.importorskip("polars").from_pandas(TABLE), pytest.importorskip("pyarrow").Table.from_pandas(TABLE)
    ):  # fmt: skip
        np.testing.assert_array_equal(model.predict_proba(other), expected)
        np.testing.assert_array_equal(MLPClassifier(**SMALL).fit(other, Y).predict_proba(other), expected)


def test_numbers_that_stand_for_categories() -> None:
    code = RNG.permutation(np.arange(N) % 5).astype(float)
    x, y = np.stack([code, RNG.normal(size=N)], axis=1), np.isin(code, [1, 3]).astype(int)
    chosen = MLPClassifier(categorical_features=[0], **SMALL).fit(x, y)
    assert chosen._transforms[-1].columns == 6
    parts = [MLPRegressor(categorical_features=[0], **SMALL).fit(x[own], y[own]) for own in (code < 4, code < 3)]
    assert [model.network_.inputs for model in parts] == [8, 8]  # of 5 and 4 columns: one program for both
    assert chosen.score(x, y) == 1
    # What is unknown is as what is missing: an average.
    np.testing.assert_array_equal(*chosen.predict_proba([[7.0, 0], [np.nan, 0]]))
    assert np.isfinite(chosen.predict_proba([[np.nan, np.nan]])).all()


def test_columns_and_their_order_are_checked(model: MLPClassifier) -> None:
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(TABLE[TABLE.columns[::-1]])
    with pytest.raises(ValueError, match="as column 0"):
        model.as_model().mean(TABLE[TABLE.columns[::-1]])
    with pytest.raises(ValueError, match="column 'age' has 'old' in row 0"):
        model.predict(TABLE.assign(age="old"))
    with pytest.raises(ValueError, match=r"infinity .*: column 'age', row 5"):
        model.predict(TABLE.assign(age=np.where(np.arange(N) == 5, np.inf, 1)))
    with pytest.raises(ValueError, match=r"shape \(0, 4\)"):
        model.predict(TABLE.iloc[:0])
    with pytest.raises(ValueError, match="column 'when' holds dates"):
        MLPRegressor(**SMALL).fit(TABLE.assign(when=pandas.date_range("2026-01-01", periods=N)), np.arange(N))


def test_the_encoding_goes_into_files_and_graphs(model: MLPClassifier, tmp_path) -> None:
    expected = model.predict_proba(TABLE)
    model.save(tmp_path / "m.safetensors")
    again = MLPClassifier.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict_proba(TABLE), expected)
    plain = persistence.load(tmp_path / "m.safetensors")
    assert plain.table == model.as_model().table
    np.testing.assert_allclose(plain.mean(TABLE)[:, 0], expected[:, 1], rtol=1e-6)
    onnxruntime = pytest.importorskip("onnxruntime")
    persistence.export_onnx(tmp_path / "m.onnx", plain)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    new = TABLE.copy()
    new.loc[:3, "city"] = "Lima"
    got = session.run(None, feed(session, new))[0]
    np.testing.assert_allclose(got[:, 0], model.predict_proba(new)[:, 1], atol=1e-6)  # float32


def test_a_model_prints_what_it_takes_and_says(model: MLPClassifier) -> None:
    first, second, *network, last = str(model.as_model()).splitlines()
    assert first == "age, city (3 categories), size (2 categories), paid → Encode → Standardize → Clip → Pieces"
    assert second == "2 members of"
    assert network == str(model.network_).splitlines()
    assert last == "Bernoulli()"
    regressor = MLPRegressor(**SMALL).fit(np.eye(4), np.arange(4.0))
    assert str(regressor.as_model()).startswith("4 columns → Encode")
    assert str(regressor.as_model()).endswith("Gaussian(s=1.0) → Standardize undone")


def feed(session, table):
    """A table as a graph's inputs."""
    kinds = {column.name: object if "string" in column.type else "float32" for column in session.get_inputs()}
    return {
        name: table[[name]].fillna("").astype(object).to_numpy() if kind is object else table[[name]].to_numpy(kind)
        for name, kind in kinds.items()
    }


def test_a_graph_of_numbers_that_stand_for_categories(tmp_path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    x = np.stack(
        [RNG.permutation(np.arange(N) % 5), 1.78e9 + np.linspace(0, 60, N)], axis=1
    )  # the second needs float64
    model = MLPRegressor(categorical_features=[0], **SMALL).fit(x, x[:, 0] % 2 + np.sin(x[:, 1] / 10))
    persistence.export_onnx(tmp_path / "m.onnx", model.as_model())
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    x[:2, 0] = [9, np.nan]
    got = session.run(None, {"x0": x[:, :1].astype(np.float32), "x1": x[:, 1:]})[0]
    np.testing.assert_allclose(got[:, 0], model.predict(x), atol=1e-5)


def test_the_path_of_the_readme(tmp_path) -> None:
    """From a CSV file to a model that predicts in another process and in onnxruntime, in at most 15 lines."""
    pytest.importorskip("onnxruntime")
    text = (pathlib.Path(__file__).parents[2] / "jnn/sklearn/README.md").read_text()
    section = text.split("## From a CSV file")[1].split("\n## ")[0]
    train, use = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    lines = [line for line in (train + use).splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 15
    table = TABLE.assign(day=pandas.date_range("2026-01-01", periods=N), returned=Y)
    table.to_csv(tmp_path / "visits.csv", index=False)
    (tmp_path / "train.py").write_text(train)
    prepared = train[: train.index("model =")]
    (tmp_path / "use.py").write_text("import onnxruntime\n" + prepared + use)
    root = str(pathlib.Path(__file__).parents[2])
    printed = [
        subprocess.run(
            [sys.executable, script], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=300,
            env={"PYTHONPATH": root, "PATH": ""},
        ).stdout
        for script in ("train.py", "use.py")
    ]  # fmt: skip
    numbers = np.array(re.findall(r"\d\.\d+(?:e-\d+)?", printed[1]), float)
    ours, theirs = numbers[:10].reshape(-1, 2)[:, 1], numbers[10:]
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
