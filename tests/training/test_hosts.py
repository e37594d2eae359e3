"""Several processes, as on several hosts, over the loopback, and eight devices of one: the same script, the same bits.

All that is compared with one another is made by a process with eight devices, one pair of processes, and (slow) four.
"""

import os
import pathlib
import re
import socket
import subprocess
import sys
from collections import defaultdict

import pytest

ROOT = pathlib.Path(__file__).parents[2]
ALL = ("plain", "kept", "streamed", "hosts", "members")


def run(count, folder, *parts, fails=False, optimized=False):
    """The script in so many processes with eight devices together; what each printed, by the lines' first words."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    quickly = "" if optimized else os.environ["XLA_FLAGS"]  # as conftest has it
    flags = f"{quickly} --xla_force_host_platform_device_count={8 // count}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "tests.training.on_hosts"]
    processes = [
        subprocess.Popen(
            [*command, str(number), str(count), str(port), str(folder), *parts],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
        )
        for number in range(count)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=300) for process in processes]
    found = []
    for process, (out, err) in zip(processes, outputs, strict=True):
        assert (process.returncode != 0) == fails, err
        told = defaultdict(list)
        for line in out.splitlines():
            if not line.startswith("["):
                word, _, rest = line.partition(" ")
                told[word].append(rest)
        found.append(dict(told))
    return found


def assert_near(found):
    """Sums in another order, five epochs long."""
    assert float(found["float32"][0]) < 1e-6
    assert float(found["dag"][0]) < 1e-6
    assert float(found["float64"][0]) < 1e-12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def alone(folder):
    (found,) = run(1, folder, *ALL)
    return found


def test_eight_devices_are_one(alone):
    """Within rounding; with shards to the last bit, as when it was interrupted on eight and goes on on fewer."""
    assert_near(alone)
    fewer = alone["fewer"][0].split()
    assert len({*alone["kept"], *fewer, *alone["resumed"]}) == len(set(alone["streamed"])) == 1
    assert (len(fewer), len(alone["resumed"]), len(alone["streamed"])) == (3, 3, 2)


def test_two_processes_are_one(alone, folder):
    """The same; rows of each process's own, a callback of one that stops all, members of each one's own."""
    both = run(2, folder, *ALL)
    for found in both:
        assert_near(found)
        assert found["kept"] == found["resumed"] == alone["kept"]
        assert found["streamed"] == alone["streamed"][:1]
        assert found["told"] == [
            "expected the same call in every process, but x differ. Rows that",
            "checkpoints are written by all 2 processes together: expected devices of all",
        ]
        for name in ("own", "stopped", "members", "single", "search", "interrupted"):
            assert found[name] == alone[name], name
    assert alone["stopped"] == ["2"]
    assert alone["interrupted"] == ["interrupted (Ctrl-C) True"]


def test_the_readmes_script_on_two_hosts(tmp_path):
    """With the line that it has for several hosts, as Slurm would start it; both print what the README shows."""
    text = (ROOT / "README.md").read_text().split("## From one device to many")[1]
    code, printed = re.findall(r"```(?:python|text)\n(.*?)```", text, flags=re.DOTALL)[:2]
    assert "# jax.distributed.initialize()" in code
    with socket.socket() as free:
        free.bind(("localhost", 0))
        job = free.getsockname()[1]  # from which jax makes the port's number
    slurm = {"SLURM_JOB_ID": str(job), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"}
    flags = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code.replace("# jax.distributed", "jax.distributed")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            env=os.environ | flags | slurm | {"SLURM_PROCID": str(number)},
        )
        for number in range(2)
    ]  # fmt: skip
    for process, (out, err) in [(process, process.communicate(timeout=300)) for process in processes]:
        assert process.returncode == 0, err
        assert out.splitlines()[-1] == printed.strip()


@pytest.mark.slow
def test_four_processes_are_one(alone, folder):
    for found in run(4, folder, "plain", "members"):
        assert_near(found)
        for name in ("members", "search"):
            assert found[name] == alone[name], name


@pytest.mark.slow
def test_bits_as_users_compile(tmp_path):
    (alone,) = run(1, tmp_path, "kept", optimized=True)
    first, second = run(2, tmp_path, "kept", optimized=True)
    assert len({*alone["kept"], *alone["fewer"][0].split(), *alone["resumed"], *first["kept"], *second["resumed"]}) == 1


@pytest.mark.slow
def test_a_host_that_dies_ends_the_run_and_half_of_them_go_on(alone, folder):
    """The others end within the heartbeat's time, 10 s here; with shards, even the bits are those of all alive."""
    run(4, folder, "dies", fails=True)
    assert any(path.name.isdigit() for path in (folder / "dies").iterdir())
    first, second = run(2, folder, "goes_on")
    assert first["gone_on"] == second["gone_on"] == alone["kept"]
