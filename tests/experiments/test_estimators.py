"""The comparison of estimators: that its figures are what they are called."""

import json

import numpy as np

from experiments import estimators
from experiments.estimators import Score


def score(data: str, model: str, loss: float) -> Score:
    values = {m: [loss, loss + 0.01, loss] for m in estimators.MEASURES}
    return Score(data, model, values, [1.0])


def scores(jnn: list[float], rival: list[float]) -> list[list[Score]]:
    return [
        [score(f"set {n}", "jnn", a), *(score(f"set {n}", m, b) for m in list(estimators.MODELS)[1:])]
        for n, (a, b) in enumerate(zip(jnn, rival, strict=True))
    ]


def test_the_test_over_sets_can_turn_out_either_way() -> None:
    lower = estimators.signed_rank(scores([0.1] * 8, [0.2 + 0.01 * n for n in range(8)]), "log-loss")
    assert lower == "log-loss: lower than scikit-learn MLP on 8 of 8 sets, signed-rank p = 0.0039"  # 2^-8
    higher = estimators.signed_rank(scores([0.3 + 0.01 * n for n in range(8)], [0.2] * 8), "log-loss")
    assert "on 0 of 8 sets, signed-rank p = 1" in higher


def test_a_run_prints_and_saves_every_fold(monkeypatch, tmp_path, capsys) -> None:
    makers = {name: estimators.MODELS[name] for name in estimators.MODELS}
    makers["jnn"] = lambda seed: estimators.MLPClassifier(members=2, hidden_layer_sizes=4, random_state=seed)
    makers["random forest"] = lambda seed: estimators.RandomForestClassifier(5, random_state=seed)
    monkeypatch.setattr(estimators, "MODELS", makers)
    assert estimators.main(["--only", "iris", "--repeats", "1", "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert [f["model"] for f in found] == list(makers)
    assert all(len(f["values"][m]) == 5 for f in found for m in estimators.MEASURES)
    jnn = next(f for f in found if f["model"] == "jnn")
    assert np.mean(jnn["values"]["error"]) < 10
    assert "signed-rank" in capsys.readouterr().out


def test_wrong_arguments_are_named(capsys, tmp_path) -> None:
    for wrong, said in (
        (["--only", "nothing"], "no set 'nothing'"),
        (["--data", str(tmp_path / "none")], "expected a folder"),
        (["--repeats", "0"], "at least 1"),
    ):
        assert estimators.main(wrong) == 2
        assert said in capsys.readouterr().err
