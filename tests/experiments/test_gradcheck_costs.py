"""The command that prints what a check costs."""

import pytest

from experiments import gradcheck_costs
from jnn import gradcheck


def test_the_figures_are_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradcheck_costs, "memory", lambda: 80e6)
    few = {"Cholesky": gradcheck_costs.often_asked_for()["Cholesky, 6 x 6"]}
    monkeypatch.setattr(gradcheck_costs, "often_asked_for", lambda: few)
    assert gradcheck_costs.main(["--cases", "cos_sign", "--slowest", "1"]) == 0
    printed = capsys.readouterr().out
    assert "all 2 checks of the corpus" in printed
    assert "of these, cos_sign" in printed
    assert "Cholesky" in printed
    assert "10.0 arrays of float64" in printed


@pytest.mark.parametrize("name", gradcheck_costs.often_asked_for())
def test_what_is_measured_passes(name: str) -> None:
    fun, args = gradcheck_costs.often_asked_for()[name]
    report = gradcheck.check(fun, *args, power=False)
    assert report.verdict == "pass", str(report)
