"""The benchmark of reading, on few rows."""

import re

from experiments.benchmarks import reading


def test_it_reads_and_goes_on_exactly(capsys, monkeypatch):
    monkeypatch.setattr(reading, "GROUP", 500)
    reading.main(["--rows", "6000", "--rounds", "1", "--only", "rows", "interruptions"])
    printed = capsys.readouterr().out
    assert len(re.findall(r"rows .* [\d,]+ thousand rows a second", printed)) == 4
    assert "100 of 100 go on with the same mini-batches" in printed
