"""The command that measures the estimators in use, at a tiny size."""

from experiments.benchmarks import estimators_in_use


def test_it_runs_and_predictions_compile_few_programs(capsys) -> None:
    assert estimators_in_use.main(["--quick"]) == 0
    printed = capsys.readouterr().out
    assert "jnn, eight by default" in printed
    # Those for one row, and for parts of 1,024 and of 16,384; the size between is not asked for here.
    assert "predictions of 10 sizes: 3 programs compiled" in printed
