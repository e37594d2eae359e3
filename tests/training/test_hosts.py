"""Several processes, as on several hosts, over the loopback: the same script in each, the same bits as in one."""

import os
import pathlib
import socket
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def run(count, folder, fails=False, **environment):
    """The script in so many processes with eight devices together; what each printed, by the lines' first words."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = f"--xla_force_host_platform_device_count={8 // count} --xla_backend_optimization_level=1"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags} | environment
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.on_hosts", str(number), str(count), str(port), str(folder)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
        )
        for number in range(count)
    ]  # fmt: skip
    found = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert (process.returncode != 0) == fails, err
        found.append({line.split()[0]: line.split()[1:] for line in out.splitlines() if not line.startswith("[")})
    return found


def test_two_processes_are_one(tmp_path):
    """In memory with checkpoints, streamed, rows of each process's own, a callback of one that stops all."""
    (alone,) = run(1, tmp_path / "one")
    both = run(2, tmp_path / "two")
    for found in both:
        assert found.pop("told") == ["expected_the_same_call_in_every_process,_but_x"]
        assert found == alone
    assert alone["stopped"] == ["2"]
    assert alone["kept"] == alone["streamed"]


@pytest.mark.slow
def test_a_host_that_dies_ends_the_run_and_half_of_them_go_on(tmp_path):
    """The others end within the heartbeat's time, 10 s here; with shards, even the bits are those of all alive."""
    run(4, tmp_path / "run", fails=True, DIE_AT="3")
    assert any(path.name.isdigit() for path in (tmp_path / "run").iterdir())
    first, second = run(2, tmp_path / "run")
    assert first["kept"] == second["kept"] == first["streamed"]  # that one was not interrupted
