"""The parent's side of a contestant's process."""

import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from experiments.benchmarks.contestants import Entrant
from experiments.benchmarks.workloads import Setting

ROOT = Path(__file__).parents[2]

DEVICES = {"cpu": "cpu", "gpu": "cuda"}
"""In the words of JAX."""


LIMIT = 600.0
"""Seconds that a contestant may take for an answer."""


class Failure(Exception):
    """A contestant could not do what it was asked to; `missing` if it is not installed."""

    def __init__(self, why: str, missing: bool = False) -> None:
        super().__init__(why)
        self.missing = missing


def environment(device: str, root: Path = ROOT) -> dict[str, str]:
    """For a process that computes on one kind of device, and shares a GPU with others.

    Python keeps a checkout's byte code, as it does an installed package's: else whole processes would compile it anew.
    """
    left_out = ("PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE", "XLA_FLAGS", "JAX_ENABLE_X64", "JAX_COMPILATION_CACHE_DIR")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    path = os.pathsep.join(part for part in (str(root), os.environ.get("PYTHONPATH", "")) if part)
    return {
        **kept,
        "PYTHONPATH": path,
        "JAX_PLATFORMS": DEVICES[device],
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }


class WorkerProcess:
    """Sends commands, and reads what comes back; a process that does not answer in time is ended."""

    def __init__(self, entrant: Entrant, setting: Setting, python: str = sys.executable, root: Path = ROOT) -> None:
        self.entrant = entrant
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        try:
            self._process = subprocess.Popen(
                [python, "-m", "experiments.benchmarks.worker", entrant.module, entrant.variant, *setting],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment(setting.device, root),
                cwd=root,
            )
        except OSError as why:
            self._errors.close()
            raise Failure(f"no interpreter {python}: {why.strerror}", missing=True) from None

    def ask(self, command: str, limit: float = LIMIT, **arguments: Any) -> dict[str, Any]:
        """The answer to a command, within so many seconds.

        Raises:
            Failure: if the contestant says so, dies, or takes too long.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
            readable, _, _ = select.select([self._process.stdout], [], [], limit)
            if not readable:
                self.close(kill=True)
                raise Failure(f"no answer to {command!r} in {limit:.0f} s")
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise Failure(f"the process ended: {self._last_words()}")
        answer = json.loads(line)
        if "failure" in answer:
            raise Failure(answer["failure"], answer["missing"])
        return answer

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self._process.returncode}"

    def close(self, kill: bool = False) -> None:
        """End the process."""
        if self._process.poll() is None and kill:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if not self._errors.closed:
            self._errors.close()
