"""The benchmarks run, and reckon rightly; what they measure is no test."""

import ast
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from experiments.benchmarks import (
    __main__ as command,
    accuracy,
    bounds,
    data,
    first_result,
    memory,
    running,
    scoring,
    table,
    timing,
)
from experiments.benchmarks.contestants import ENTRANTS, Entrant, interpreters
from experiments.benchmarks.floors import Costs, Work, floor, work
from experiments.benchmarks.peers import bare, jnn_fit
from experiments.benchmarks.results import Result, Row
from experiments.benchmarks.worker import Worker
from experiments.benchmarks.workers import Failure, WorkerProcess
from experiments.benchmarks.workloads import SIZES, Setting, Workload, load, minibatches, workloads

CPU = Setting("cpu", "float32")


def test_the_bare_loop_is_adam_on_the_same_error() -> None:
    """As many epochs as it takes to tell: it learns what `fit` learns, to about the same error."""
    workload = replace(workloads("tiny")["extras"], epochs=20)
    digits = data.digits(workload, "tiny")
    with jax.enable_x64(False):
        found = [peer.prepare(workload, digits, CPU)(1).outputs(digits.x) for peer in (bare, jnn_fit)]
    risks = [scoring.risk("categorical", a, digits.y) for a in found]
    assert risks[0] == pytest.approx(risks[1], rel=0.1)  # from other initial weights, in another order
    assert risks[0] < 0.5 * np.log(10)


# The whole command


def test_memory_is_measured_of_the_same_training(tmp_path: Path) -> None:
    memory.write(tmp_path, rows=400, columns=3)
    found = [memory.measure(way, tmp_path, epochs=1) for way in memory.WAYS]
    assert len({f["risk"] for f in found}) == 1
    assert all(f["seconds"] > 0 for f in found)
    assert memory.status("VmHWM") > 2**20 or not Path("/proc/self/status").exists()


def test_the_command_measures_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.json"
    options = ["--workloads", "digits-32", "--peers", "jnn", "sklearn", "torch", "--rounds", "2", "--size", "tiny"]
    nowhere = ["--python", f"torch={tmp_path / 'no-python'}"]
    assert command.main([*options, *nowhere, "--devices", "cpu", "--out", str(out)]) == 0
    shown = " ".join(capsys.readouterr().out.split())  # lines are broken anywhere
    for expected in (
        "digits, 64-100-10",
        "scikit-learn",
        "not installed",
        "Floor",
        "share of the matrix rate",
        "≥ 8 × jnn: ",
    ):
        assert expected in shown
    written = json.loads(out.read_text())
    assert {"processor", "cores", "dtype", "versions"} <= set(written["header"])
    (result,) = written["results"]
    rows = {row["name"]: row for row in result["rows"]}
    assert rows["torch"]["status"] == "not installed"
    for name in ("jnn", "sklearn"):
        assert len(rows[name]["seconds"]) == len(rows[name]["errors"]) == 2
        assert rows[name]["quartiles"]["median"] > 0
        assert rows[name]["versions"]
    assert rows["jnn"]["ratio"]["median"] == 1
    assert result["floor"] > 0
    assert {(b["row"], b["met"] is None) for b in result["bounds"]} >= {("sklearn", False), ("torch", True)}


def test_accuracy_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "accuracy.json"
    options = ["--seeds", "2", "--epochs", "1", "--peers", "sklearn", "--size", "tiny", "--out", str(out)]
    assert accuracy.main(options) == 0
    assert "minus jnn's" in capsys.readouterr().out
    assert set(json.loads(out.read_text())["figures"]) == {"jnn", "scikit-learn"}


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--python", "torch"], ["--python", "nobody=/bin/python"]])
def test_wrong_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2
    assert "xpected" in capsys.readouterr().err


def test_interpreters_by_peer() -> None:
    assert interpreters(["torch=/a", "flax,equinox=/b"]) == {"torch": "/a", "flax": "/b", "equinox": "/b"}


# Workers


@pytest.fixture
def small(tmp_path: Path) -> tuple[Workload, Path]:
    workload = workloads("tiny")["digits-32"]
    return workload, data.write(workload, "tiny", tmp_path)


def test_the_protocol(small: tuple[Workload, Path]) -> None:
    workload, path = small
    worker = WorkerProcess(ENTRANTS["sklearn"], CPU)
    try:
        assert worker.ask("describe")["precision"] == "float32"
        assert worker.ask("prepare", workload=workload.as_json(), data=str(path))["seconds"] > 0
        first, second = (worker.ask("train", seed=3) for _ in range(2))
        assert first["seconds"] > 0
        assert first["networks"] == 1
        assert (first["error"], first["risk"]) == (second["error"], second["risk"])
        assert worker.ask("train", seed=4)["risk"] != first["risk"]
        with pytest.raises(Failure, match="_no_such_command"):
            worker.ask("no_such_command")
        assert worker.ask("train", seed=3)["risk"] == first["risk"]  # it goes on after a failure
    finally:
        worker.close()


def test_what_is_not_installed_is_told_apart() -> None:
    answer = Worker("no_such_module", "", CPU).answer({"command": "describe"})
    assert answer["missing"] is True
    assert Worker("scikit_learn", "", CPU).answer({"command": "train", "seed": 0})["missing"] is False
    with pytest.raises(Failure, match="no interpreter") as raised:
        WorkerProcess(ENTRANTS["torch"], CPU, "/nowhere/python")
    assert raised.value.missing


def test_a_worker_that_is_late_or_dies() -> None:
    late = WorkerProcess(ENTRANTS["jnn"], CPU)
    with pytest.raises(Failure, match="no answer to 'describe'"):
        late.ask("describe", limit=0)
    dead = WorkerProcess(Entrant("x", "x", "x", "x"), CPU._replace(device="cpu"), sys.executable)
    dead.close()
    with pytest.raises(ValueError, match="closed"):
        dead.ask("describe")


# Taking turns, and ratios


def test_quartiles_and_ratios_on_known_numbers() -> None:
    assert timing.quartiles([4.0, 1.0, 3.0, 2.0, 5.0]) == timing.Quartiles(2.0, 3.0, 4.0)
    # Round by round, not the ratio of medians: 8/1, 9/3, 10/5.
    assert timing.ratios([8.0, 9.0, 10.0], [1.0, 3.0, 5.0]) == timing.Quartiles(2.5, 3.0, 5.5)
    with pytest.raises(ValueError, match="as many rounds"):
        timing.ratios([1.0], [1.0, 2.0])


def test_turns_rotate_and_who_fails_leaves() -> None:
    calls: list[tuple[str, int]] = []
    failures: list[tuple[str, str]] = []

    def contestant(name: str) -> Callable[[int], int]:
        def run(seed: int) -> int:
            calls.append((name, seed))
            if name == "b" and seed == 2:
                raise Failure("tired")
            return 10 * seed

        return run

    found = timing.in_turn(
        {name: contestant(name) for name in "abc"}, 3, lambda name, why: failures.append((name, str(why))), Failure
    )
    assert found == {"a": [10, 20, 30], "c": [10, 20, 30]}
    assert failures == [("b", "tired")]
    assert calls == [("a", 1), ("b", 1), ("c", 1), ("b", 2), ("c", 2), ("a", 2), ("a", 3), ("c", 3)]


def test_bounds() -> None:
    at_least = bounds.Bound("w", "sklearn", 8)
    assert (at_least.met(8.0), at_least.met(7.9), at_least.row) == (True, False, "sklearn")
    within = bounds.Bound("w", "bare", 1.25, within=True)
    assert (within.met(1.25), within.met(1.26)) == (True, False)
    assert bounds.Bound("w", "sklearn", 1, of="jnn-cached").row == "jnn-cached"
    for bound in bounds.BOUNDS:
        assert {bound.of, bound.against} <= set(workloads()[bound.workload].contestants)


def result_of(**seconds: list[float]) -> Result:
    rows = [Row(name, name, "measured", seconds=s, errors=[0.1, 0.2], risks=[1.0, 1.0]) for name, s in seconds.items()]
    return Result(workloads()["digits-32"], "cpu", "a processor", rows)


def test_results_and_their_table() -> None:
    result = result_of(jnn=[1e-6, 2e-6], sklearn=[9e-6, 16e-6])
    result.work, result.costs = Work(1000, 0, 0, 0), Costs(1e9, 0, 0, 0)
    verdicts = {v.row: v for v in result.verdicts() if v.text.startswith("≥")}
    assert verdicts["sklearn"].text == "≥ 8 × jnn"
    assert (verdicts["sklearn"].value, verdicts["sklearn"].met) == (8.5, True)
    assert (verdicts["torch"].value, verdicts["torch"].met) == (None, None)
    assert [v.met for v in result.verdicts() if "floor" in v.text] == [True]  # 1.5 µs for a floor of 1 µs
    assert result.share == pytest.approx(1 / 1.5)
    written = json.loads(json.dumps(result.as_json()))
    assert written["rows"][1]["ratio"] == {"low": 8.25, "median": 8.5, "high": 8.75}
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    table.show(console, result)
    console.file.close()
    shown = console.export_text()
    assert "8.50" in shown
    assert "15.00 ± 5.00 %" in shown
    assert "measured / floor 1.50" in shown


def test_what_was_not_measured_says_so() -> None:
    result = running.not_measured(workloads()["digits-32"], "gpu", "no GPU", lambda entrant: True)
    assert {row.status for row in result.rows} == {"not measured"}
    assert "sklearn" not in {row.name for row in result.rows}  # has no GPU version
    console = Console(width=200)
    with console.capture() as captured:
        table.show(console, result)
    assert "GPU: not measured (no GPU)" in captured.get()
    assert result.verdicts() == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.5 s"), (1234.0, "1,234 s"), (0.0123, "12.3 ms"), (2.1e-5, "21 µs"), (4e-9, "4 ns")]
)
def test_durations(seconds: float, text: str) -> None:
    assert table.duration(seconds) == text


# Workloads and floors


@pytest.mark.parametrize("size", SIZES)
def test_workloads_are_consistent(size: Any) -> None:
    for name, workload in workloads(size).items():
        assert workload.name == name
        assert set(workload.contestants) <= set(ENTRANTS)
        assert Workload.from_json(json.loads(json.dumps(workload.as_json()))) == workload
        assert workload.data in data.SOURCES


def test_units() -> None:
    digits = workloads()["digits-32"]
    assert digits.units(1437) == 20 * 45
    assert workloads("full")["exponential"].units(10_000) == 10_000
    assert workloads()["lbfgs"].units(455, iterations=37) == 37


def test_work_is_counted_as_by_hand() -> None:
    # 64-100-10 at 32: forward 2·32·7400, weights' gradients the same, deltas of the hidden layer 2·32·1000.
    digits = workloads()["digits-32"]
    counted = work(digits, 32 * 45, np.zeros((0, 2), int))
    assert counted == Work(2 * 32 * (7400 + 7400 + 1000), 3200, 320, 7510)
    # With shortcuts the first layer reads 64, the second 164, the third 264; deltas pass only from hidden neurons.
    shortcuts = workloads()["shortcuts"]
    products = 64 * 100 + 164 * 100 + 264 * 10
    assert work(shortcuts, 32 * 45, np.zeros((0, 2), int)).flops == 64 * (2 * products + 100 * 100 + 200 * 10)
    assert work(workloads()["wide"], 8192, np.zeros((0, 2), int)).tanh == 0
    edges = np.array([[1, 3], [2, 3], [3, 4]])
    graph = Workload("g", "", "graph", (2, 1, 1), "squared", None, 1, graph=True)
    assert work(graph, 5, edges) == Work(10 * (3 + 3 + 1), 5, 0, 5)
    assert floor(Work(10, 2, 3, 4), Costs(5, 1, 10, 100)) == 2 + 2 + 30 + 400


def test_edges_suit_a_network() -> None:
    inputs, hidden, outputs = 5, 30, 3
    edges = data.random_edges(inputs, hidden, outputs, edges=150)
    assert len(edges) == len(np.unique(edges, axis=0)) == 150
    j, i = edges.T
    assert (j < i).all()
    assert set(i) == set(range(inputs + 1, 1 + inputs + hidden + outputs))  # all read
    assert set(j) == set(range(1, 1 + inputs + hidden))  # all are read; outputs and the bias unit are not


def test_data_survive_their_file(tmp_path: Path) -> None:
    for workload in workloads("tiny").values():
        found = load(data.write(workload, "tiny", tmp_path))
        assert found.x.dtype == found.x_test.dtype == np.float32
        assert found.x.shape[1] == workload.sizes[0]
        assert found.y.dtype == (np.int32 if workload.loss == "categorical" else np.float32)
        assert len(found.x) == len(found.y)


def test_minibatches_show_every_row_once_an_epoch() -> None:
    batches = list(minibatches(replace(workloads()["digits-32"], batch_size=4, epochs=2), 0, 10))
    assert [len(b) for b in batches] == [4, 4, 2, 4, 4, 2]
    first, second = np.concatenate(batches[:3]), np.concatenate(batches[3:])
    assert sorted(first) == sorted(second) == list(range(10))
    assert (first != second).any()


def test_scores() -> None:
    a, y = np.log(np.array([[0.2, 0.8], [0.6, 0.4]])), np.array([1, 1])
    assert scoring.error("categorical", a, y) == 0.5
    assert scoring.risk("categorical", a + 3.0, y) == pytest.approx(-(np.log(0.8) + np.log(0.4)) / 2, rel=1e-12)
    assert scoring.risk("categorical", np.stack([a, a]), y) == pytest.approx(scoring.risk("categorical", a, y))
    logit = np.array([[np.log(4.0)], [-1.0]])
    assert scoring.error("bernoulli", logit, np.array([[1.0], [1.0]])) == 0.5
    expected = -(np.log(0.8) + stats.logistic.logsf(1.0)) / 2
    assert scoring.risk("bernoulli", logit, np.array([[1.0], [1.0]])) == pytest.approx(expected, rel=1e-12)
    y = np.array([[0.0, 0.0], [2.0, 2.0]])
    assert scoring.error("squared", y.mean(axis=0) + 0 * y, y) == 1.0
    assert scoring.risk("squared", y + 1.0, y) == 1.0


def test_scripts_of_fresh_processes_are_python() -> None:
    for entrant in workloads()["first-defaults"].contestants:
        ast.parse(first_result.script(entrant))


def test_a_fresh_process_that_fails(small: tuple[Workload, Path], tmp_path: Path) -> None:
    _, path = small
    run = first_result.FreshProcess("jnn", path, tmp_path, "cpu", sys.executable)
    run._command[2] = "import no_such_package"
    with pytest.raises(Failure, match="no_such_package") as raised:
        run(0)
    assert raised.value.missing
    run._command[2] = "print('{\"error\": 0.25}')"
    answer = run(0)
    assert answer["error"] == 0.25
    assert answer["seconds"] > 0


def test_differences_are_welchs() -> None:
    ours, theirs = [0.02, 0.03, 0.025, 0.028], [0.03, 0.035, 0.04]
    found = accuracy.compare(ours, theirs)
    expected = stats.ttest_ind(theirs, ours, equal_var=False)
    assert found.p == pytest.approx(float(expected.pvalue))
    assert found.difference == pytest.approx(np.mean(theirs) - np.mean(ours))
    assert found.low < found.difference < found.high
    assert found.error == pytest.approx(np.std(theirs, ddof=1) / np.sqrt(3))
    assert accuracy.compare([0.1, 0.1], [0.1, 0.1]).p == 1.0
    with pytest.raises(ValueError, match="two seeds"):
        accuracy.compare([0.1], [0.1, 0.2])
