"""Proben1: the reader against files made by hand, the measures by hand, the published table, and tiny runs."""

import json
import math
import operator
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments.proben1 import command_line, comparison, files, measures, printing, published, study
from experiments.proben1.published import Sample

HEADER = {
    "bool_in": 1,
    "real_in": 2,
    "bool_out": 2,
    "real_out": 0,
    "training_examples": 2,
    "validation_examples": 1,
    "test_examples": 1,
}
ROWS = ["1 0.25 -0.5 1 0", "0 1 0.5  0 1", "  1 0 1e-1 0 1", "0 0 0\t1 0"]


def lines(rows=ROWS, **header) -> list[str]:
    return [*(f"{name}={size}" for name, size in {**HEADER, **header}.items()), *rows]


def written(folder: Path, text: list[str], name: str = "toy1") -> Path:
    path = folder / f"{name}.dt"
    path.write_text("\n".join(text) + "\n")
    return path


def synthetic(folder: Path, name: str, outputs: int = 2, classes: bool = True, inputs: int = 4) -> Path:
    """A learnable problem: 24 + 12 + 12 examples."""
    generator = np.random.default_rng(sum(map(ord, name)))
    x = generator.uniform(0, 1, (48, inputs))
    numbers = x @ generator.normal(size=(inputs, outputs)) / inputs
    if classes and outputs > 1:
        y = np.eye(outputs)[np.argmax(numbers, axis=1)]
    elif classes:
        y = (numbers > np.median(numbers)).astype(float)
    else:
        y = numbers
    kinds = {"bool_out": outputs, "real_out": 0} if classes else {"bool_out": 0, "real_out": outputs}
    rows = [" ".join(f"{value:g}" for value in row) for row in np.hstack([x, y])]
    sizes = {"training_examples": 24, "validation_examples": 12, "test_examples": 12}
    return written(folder, lines(rows, bool_in=0, real_in=inputs, **kinds, **sizes), name)


# Reading.


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n  \n"])
def test_a_file_made_by_hand(tmp_path: Path, end: str) -> None:
    path = tmp_path / "toy1.dt"
    path.write_bytes((end.strip(" ").join(lines()) + end).encode())
    if end == "\n\n  \n":
        path.write_text("\n".join(lines()) + end)
    problem = files.read(path)
    assert (problem.name, problem.classes, problem.inputs, problem.outputs) == ("toy1", True, 3, 2)
    np.testing.assert_array_equal(problem.train.x, np.float32([[1, 0.25, -0.5], [0, 1, 0.5]]))
    np.testing.assert_array_equal(problem.train.y, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(problem.validation.x, np.float32([[1, 0, 0.1]]))
    np.testing.assert_array_equal(problem.test.x, [[0, 0, 0]])
    np.testing.assert_array_equal(problem.test.y, [[1, 0]])
    assert problem.train.x.dtype == problem.train.y.dtype == np.float32


def test_numbers_to_approximate_are_no_classes(tmp_path: Path) -> None:
    problem = files.read(written(tmp_path, lines(["1 2 3 0.5 0.25"] * 4, bool_out=0, real_out=2)))
    assert not problem.classes
    assert problem.test.y.tolist() == [[0.5, 0.25]]


def test_numbers_declared_as_booleans_are_numbers_with_a_warning(tmp_path: Path) -> None:
    """As in the archive's `hearta` files: one output of 0, 0.25, ..., 1, declared as a Boolean."""
    rows = ["1 2 3 1", "1 2 3 0.25", "1 2 3 0.75", "1 2 3 0"]
    with pytest.warns(UserWarning, match=r"hearta1\.dt, line 9: .* Boolean outputs, here is 0\.25; .* to approximate"):
        problem = files.read(written(tmp_path, lines(rows, bool_in=0, real_in=3, bool_out=1), "hearta1"))
    assert not problem.classes
    assert problem.train.y.tolist() == [[1], [0.25]]


@pytest.mark.parametrize(
    ("text", "line", "expected", "got"),
    [
        ([], 1, '"bool_in=" and a number', "the end of the file"),
        (lines()[:3], 4, '"real_out=" and a number', "the end of the file"),
        (lines()[1:], 1, '"bool_in=" and a number', '"real_in=2"'),
        (["bool_in=x", *lines()[1:]], 1, '"bool_in=" and a number', '"bool_in=x"'),
        (["bool_in=-1", *lines()[1:]], 1, '"bool_in=" and a number', '"bool_in=-1"'),
        (lines(bool_in=0, real_in=0), 2, "at least one input", "bool_in=0 and real_in=0"),
        (lines(bool_out=0), 4, "at least one output", "bool_out=0 and real_out=0"),
        (lines(test_examples=0), 7, "at least one example in each part", '"test_examples=0"'),
        (lines([*ROWS[:2], "1 0 1 0", ROWS[3]]), 10, "5 numbers (3 inputs and 2 outputs, as the header says)", "4"),
        (lines([ROWS[0], "1 0 1 0 1 1", *ROWS[2:]]), 9, "5 numbers (3 inputs and 2 outputs", "6"),
        (lines([ROWS[0], "1 ? 0.5 1 0", *ROWS[2:]]), 9, "a number as value 2", '"?"'),
        (lines(["1 0 nan 1 0", *ROWS[1:]]), 8, "a number as value 3", '"nan"'),
        (lines(["1_0 0 1 1 0", *ROWS[1:]]), 8, "a number as value 1", '"1_0"'),
        (lines(["1 0 1e60 1 0", *ROWS[1:]]), 8, "a number as value 3", '"1e60"'),
        (lines([*ROWS[:3], "0 0 0 1 1"]), 11, "a single 1 among the outputs", '"1 1"'),
        (lines(ROWS[:3]), 10, "4 examples (2 + 1 + 1, as the header says)", "only 3 before the file ends"),
        (lines([*ROWS, ROWS[0]]), 12, "the end of the file after 4 examples (2 + 1 + 1", "another line"),
        (["\x00" * 100, *lines()], 1, '"bool_in=" and a number', "…"),
    ],
)
def test_a_malformed_file_says_where_and_what(tmp_path: Path, text, line: int, expected: str, got: str) -> None:
    path = written(tmp_path, text)
    if not text:
        path.write_text("")
    with pytest.raises(files.MalformedFile) as raised:
        files.read(path)
    message = str(raised.value)
    assert message.startswith(f"{path}, line {line}: expected ")
    before, after = message.split("; got ")
    assert expected in before
    assert got in after


# Measures.


def test_the_squared_error_percentage_by_hand() -> None:
    outputs = jnp.array([[0.5, 0.25], [1.0, 0.0], [0.0, 2.0]])
    targets = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    # Squares 0.25, 0.0625, 0, 0, 0, 1: their sum is 1.3125, of 3 examples and 2 outputs. Exact in binary.
    assert float(measures.squared_error_percentage(outputs, targets)) == 100 * 1.3125 / 6
    assert float(measures.squared_error_percentage(outputs, targets, -1, 1)) == 200 * 1.3125 / 6


def test_the_winner_takes_all() -> None:
    outputs = jnp.array([[0.2, 0.1], [0.4, 0.6], [3.0, 2.0], [-1.0, 0.0]])
    targets = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert float(measures.classification_error_percentage(outputs, targets)) == 25
    single = measures.classification_error_percentage(outputs[:, :1], jnp.array([[0.0], [1.0], [1.0], [0.0]]))
    assert float(single) == 25


# What was published.

SUMS = [136.81, 1.05, 310.13, 10.0, 1712, 128.42, 9.36, 291.48, 34.59, 3646, 121.96, 10.31, 293.09, 44.33, 2768]
SHAPES = {"cancer": (9, 2), "diabetes": (8, 2), "gene": (120, 3), "glass": (9, 6), "thyroid": (21, 3)}


def test_the_published_table_is_complete() -> None:
    assert sorted(published.TABLE) == sorted(f"{name}{order}" for name in SHAPES for order in (1, 2, 3))
    for row in published.TABLE.values():
        for kind in published.KINDS:
            figures = row.figures[kind]
            assert 1 <= figures.squared.mean <= 20
            assert 0 <= figures.squared.deviation <= 2
            assert 1 <= figures.wrong.mean <= 65
            assert 0 <= figures.wrong.deviation <= 10
            assert 25 <= figures.epochs <= 700
    # Sums over the columns, so that no figure changes unnoticed.
    columns = [
        [figure(row.figures[kind]) for row in published.TABLE.values()]
        for kind in published.KINDS
        for figure in map(
            operator.attrgetter, ("squared.mean", "squared.deviation", "wrong.mean", "wrong.deviation", "epochs")
        )
    ]
    assert [round(sum(column), 2) for column in columns] == SUMS


@pytest.mark.parametrize("name", published.TABLE)
def test_the_networks_have_the_published_numbers_of_weights(name: str) -> None:
    inputs, outputs = SHAPES[name[:-1]]
    part = files.Part(np.zeros((4, inputs), np.float32), np.zeros((4, outputs), np.float32))
    problem = files.Problem(name, True, part, part, part)
    cell = study.Cell(problem, "pivot", study.PARAMETERS["final"])
    assert cell.network.weight_count == published.TABLE[name].weights
    assert study.Cell(problem, "linear", study.PARAMETERS["final"]).network.weight_count == (inputs + 1) * outputs
    assert cell.output == ("softsign" if name in ("gene2", "gene3") else "linear")


def test_outputs_go_through_what_was_asked_for(tmp_path: Path) -> None:
    synthetic(tmp_path, "gene2")
    for outputs, without, with_linear in (("logistic", "logistic", "linear"), ("linear", "linear", "linear")):
        words = ["--data", str(tmp_path), "--outputs", outputs, "--networks", "no shortcuts", "linear"]
        ((*cells,),) = command_line.plan(command_line.parser().parse_args(words))
        found = {cell.kind: cell for cell in cells}
        assert (found["no shortcuts"].output, found["linear"].output) == (without, with_linear)
    a = jnp.array([[0.5, -2.0]])
    logistic = study.Cell(_problem(), "pivot", study.PARAMETERS["final"], (3,), "logistic").likelihood
    np.testing.assert_allclose(logistic.mean(a), 1 / (1 + np.exp(-np.asarray(a))), rtol=1e-6)
    np.testing.assert_allclose(logistic.nll(a, a), 0.5 * np.sum((1 / (1 + np.exp(-np.asarray(a))) - a) ** 2), rtol=1e-6)


# Training.


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "EPOCHS", 10)


@pytest.mark.usefixtures("short")
def test_all_runs_are_one_program_and_the_same_in_any_company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [
        study.Cell(files.read(synthetic(tmp_path, name)), "pivot", study.PARAMETERS["final"], (3, 2))
        for name in ("toy1", "toy2")
    ]
    before = study._train_all._cache_size()
    five = study.train(cells[0], runs=5, seed=1)
    study.train(cells[1], runs=5, seed=1)
    assert study._train_all._cache_size() == before + 1  # the other data have the same shapes
    assert five.runs.squared.shape == five.runs.epochs.shape == (5,)
    assert len(set(five.runs.squared.tolist())) == 5
    assert set(five.runs.epochs.tolist()) <= {5, 10}
    assert (five.runs.best_epoch % study.STRIP == 0).all()
    assert (five.runs.best_epoch <= five.runs.epochs).all()

    monkeypatch.setattr(study, "EXAMPLES_AT_ONCE", 48)  # in groups of two, the last one filled up
    grouped = study.train(cells[0], runs=3, seed=1)
    # Sums in another order: float32, errors of some ulps, ten steps.
    np.testing.assert_allclose(grouped.runs.squared, five.runs.squared[:3], rtol=1e-4)
    np.testing.assert_array_equal(grouped.runs.epochs, five.runs.epochs[:3])


def test_weights_and_steps_are_drawn_from_their_intervals(key) -> None:
    cell = study.Cell(_problem(), "no shortcuts", study.PARAMETERS["search"], (50,))
    weights, steps = study._draw(cell.network, cell.choices, key)
    for layer, step in zip(weights, steps, strict=True):
        for name in ("W", "b"):
            assert layer[name].shape == step[name].shape
            assert layer[name].dtype == jnp.float32
            assert float(jnp.abs(layer[name]).max()) <= 0.5
            assert 0.05 <= float(step[name].min()) <= float(step[name].max()) <= 0.2
    assert float(jnp.abs(weights[0]["W"]).max()) > 0.45
    assert np.ptp(np.asarray(steps[0]["b"])) > 0.1


def _problem(classes: bool = True) -> files.Problem:
    part = files.Part(np.zeros((4, 3), np.float32), np.zeros((4, 2), np.float32))
    return files.Problem("toy1", classes, part, part, part)


# Comparing.


def test_the_combined_standard_error_and_the_bounds() -> None:
    d = comparison.Difference(Sample(10.0, 3.0, 9), Sample(11.5, 4.0, 16))
    assert d.error == pytest.approx(math.sqrt(1 + 1), rel=1e-12)
    assert d.in_errors == pytest.approx(-1.5 / math.sqrt(2), rel=1e-12)
    assert d.agrees
    assert not comparison.Difference(Sample(10.0, 0.1, 9), Sample(11.5, 0.1, 16)).agrees
    assert comparison.Difference(Sample(10.0, 0.0, 9), Sample(10.3, 0.0, 16)).agrees  # within 3%
    assert comparison.Difference(Sample(10.0, 0.0, 9), Sample(10.0, 0.0, 16)).in_errors == 0


@pytest.mark.parametrize(
    ("with_shortcuts", "without", "effect"),
    [
        (Sample(1.0, 0.1, 60), Sample(2.0, 0.1, 60), "better"),
        (Sample(2.0, 0.1, 60), Sample(1.0, 0.1, 60), "worse"),
        (Sample(2.0, 1.0, 60), Sample(2.1, 1.0, 60), "no difference"),
        (Sample(2.0, 0.0, 60), Sample(2.0, 0.0, 60), "no difference"),
        (Sample(1.0, 0.0, 60), Sample(2.0, 0.0, 60), "better"),
    ],
)
def test_the_effect_of_shortcuts(with_shortcuts: Sample, without: Sample, effect: str) -> None:
    assert comparison.effect_of_shortcuts(with_shortcuts, without) == effect


def result(name: str, kind: published.Kind, squared: float) -> study.Result:
    part = files.Part(np.zeros((4, 9), np.float32), np.zeros((4, 2), np.float32))
    values = squared + np.array([-0.1, 0.1])
    cell = study.Cell(files.Problem(name, True, part, part, part), kind, study.PARAMETERS["final"])
    return study.Result(cell, study.Runs(values, values, np.array([95, 105]), np.array([50, 60]), np.array([2, 3])), 1)


def test_the_tables_show_ours_beside_the_published_figures() -> None:
    results = [result("cancer1", "pivot", 1.6), result("cancer1", "no shortcuts", 9.0), result("other1", "pivot", 5.0)]
    table = printing.errors_table(results)
    by_name = {tuple(row[:2]): row for row in table.rows}
    assert by_name["cancer1", "pivot"][2:7] == ["4+2", "1.60 ± 0.14", "1.60 ± 0.41", "+0.00 (+0.0)", "yes"]
    assert by_name["cancer1", "pivot"][9:] == ["100", "152"]
    assert by_name["cancer1", "no shortcuts"][6] == "no"
    assert by_name["other1", "pivot"][4:7] == ["–", "–", "–"]
    shortcuts = printing.shortcuts_table(results)
    assert shortcuts is not None
    assert [row[3:] for row in shortcuts.rows] == [["better", "worse"]]
    assert "The same in 0 of 1." in shortcuts.note
    choices = printing.choices_table([results])
    assert choices is not None
    assert choices.rows[0][1:5] == ["–", "1 of 1", "0 of 1", "1 of 2 (50%)"]


# The command line.


@pytest.mark.usefixtures("short")
def test_problems_that_were_never_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the folders of the original archive: classes, one Boolean, and numbers to approximate."""
    for name, outputs, classes in (("horse1", 3, True), ("card1", 1, True), ("building1", 2, False)):
        (tmp_path / name[:-1]).mkdir()
        synthetic(tmp_path / name[:-1], name, outputs, classes)
    data = ["--data", str(tmp_path), "--runs", "2", "--hidden", "3"]
    planned = command_line.plan(command_line.parser().parse_args([*data, "--parameters", "final", "search"]))
    assert [len(cells) for cells in planned] == [9, 6]  # linear networks once
    assert all(cell.hidden == (3,) and cell.output == "linear" for cells in planned for cell in cells)

    out = tmp_path / "results" / "all.json"
    assert command_line.main([*data, "--networks", "linear", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for words in ("horse1, linear: ", "building1, linear: ", "Test errors", "all.json"):
        assert words in printed
    kept = json.loads(out.read_text())
    assert (kept["runs"], kept["seed"], len(kept["cells"])) == (2, 0, 3)
    for cell in kept["cells"]:
        assert len(cell["squared_error_percentage"]) == len(cell["epochs"]) == 2
        assert all(0 < value < 200 for value in cell["squared_error_percentage"])
        assert (cell["classification_error_percentage"] is None) is (cell["problem"] == "building1")
        assert (cell["hidden"], cell["published"]) == ([], None)

    two = ["--problems", "horse", "--networks", "pivot", "no shortcuts", "--parameters", "search"]
    assert command_line.main([*data, *two]) == 0
    printed = " ".join(capsys.readouterr().out.split())  # notes are as wide as their tables
    for words in ("horse1, no shortcuts, search: ", "What shortcuts do", "first weights ±0.5"):
        assert words in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Expected --data FOLDER"),
        (["--data", "{}/nowhere"], "There is no folder"),
        (["--data", "{}/empty"], "There is no .dt file in"),
        (["--data", "{}", "--problems", "toy"], None),
        (["--data", "{}", "--problems", "tay1"], "did you mean 'toy1'? There are toy1, toy2."),
        (["--data", "{}", "--runs", "1"], "Expected --runs of at least 2"),
        (["--data", "{}", "--seed", "-1"], "Expected a --seed of at least 0"),
        (["--data", "{}", "--hidden", "a+2"], "Expected --hidden as sizes of layers"),
        (["--data", "{}", "--out", "{}"], "Expected --out as a file"),
        (["--data", "{}", "--problems", "toy1", "broken1"], "broken1.dt, line 1: expected"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, capsys, arguments: list[str], message: str | None) -> None:
    (tmp_path / "empty").mkdir()
    written(tmp_path, lines(), "toy1")
    written(tmp_path, lines(), "toy2")
    if any("broken1" in word for word in arguments):
        written(tmp_path, ["nonsense"], "broken1")
    words = [word.format(tmp_path) for word in arguments]
    if message is None:
        planned = command_line.plan(command_line.parser().parse_args(words))
        assert [cell.problem.name for cell in planned[0]].count("toy2") == 3
        return
    assert command_line.main(words) == 2
    assert message in capsys.readouterr().err


def test_an_interrupted_study_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first Ctrl-C finishes what has begun; a second one leaves at once, with the same tables and files."""
    cells = [result(name, "pivot", 2.0).cell for name in ("a1", "b1", "c1", "d1")]
    console = Console(width=printing.WIDTH, record=True)
    out = tmp_path / "kept.json"
    asked: list[str] = []

    def train(cell: study.Cell, runs: int, seed: int) -> study.Result:
        asked.append(cell.name)
        return result(cell.problem.name, cell.kind, 2.0)

    monkeypatch.setattr(study, "train", train)
    found = command_line.train_all(cells, 2, 0, lambda: bool(asked), lambda names: None)
    assert 1 <= len(list(found)) <= command_line.TOGETHER

    def breaking_off(*arguments):
        yield result("a1", "pivot", 2.0)
        raise KeyboardInterrupt

    left: list[int] = []
    monkeypatch.setattr(command_line, "train_all", breaking_off)
    monkeypatch.setattr(command_line.os, "_exit", left.append)
    assert command_line.run([cells], 2, 0, out, console) == command_line.INTERRUPTED
    assert left == [command_line.INTERRUPTED]
    assert [cell["problem"] for cell in json.loads(out.read_text())["cells"]] == ["a1"]
    text = console.export_text()
    assert "Interrupted: 1 of 4 done." in text
    assert re.search(r"a1 +pivot", text)
