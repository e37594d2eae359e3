"""A few kills of each kind of training, and the full disk."""

import pathlib
import subprocess
import sys


def test_results_are_equal_after_kills():
    root = pathlib.Path(__file__).parents[2]
    command = [
        sys.executable,
        "-m",
        "experiments.checkpoint_kills",
        "--kills",
        "3",
        "--trainings",
        "streamed",
        "ensemble",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every result was equal bit for bit" in done.stdout
    assert "full disk: CheckpointError" in done.stdout
