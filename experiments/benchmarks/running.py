"""Measures workloads: starts the contestants' processes, lets them take turns, and gathers what they answer."""

import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.benchmarks import data
from experiments.benchmarks.contestants import ENTRANTS, Entrant
from experiments.benchmarks.first_result import FreshProcess
from experiments.benchmarks.floors import Costs, work
from experiments.benchmarks.results import Result, Row
from experiments.benchmarks.timing import in_turn
from experiments.benchmarks.workers import ROOT, Failure, WorkerProcess
from experiments.benchmarks.workloads import Setting, Size, Workload, load

FLOORS = ("step", "epoch")
BEFORE = "jnn-before"


class Bench:
    """Holds the processes, which live on from workload to workload. Use it in a `with` statement.

    Args:
        setting: where, and how precisely.
        size: of the data.
        chosen: contestants to run, by name or by peer; None for all but those on request.
        pythons: interpreters by peer, where it is not this one.
        say: is told what is being done.
        before: another checkout of this repository, whose jnn takes part beside this one's.
    """

    def __init__(
        self,
        setting: Setting,
        size: Size = "default",
        chosen: Iterable[str] | None = None,
        pythons: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda what: None,
        before: Path | None = None,
    ) -> None:
        self.setting, self.say = setting, say
        self.size: Size = size
        self.chosen = None if chosen is None else set(chosen)
        self.pythons = dict(pythons or {})
        self.before = before
        self._folder = tempfile.TemporaryDirectory(prefix="benchmarks-")
        self._workers: dict[str, WorkerProcess] = {}
        self._described: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()
        self._folder.cleanup()

    def takes_part(self, entrant: Entrant) -> bool:
        """Whether it was asked for, or nothing was."""
        if entrant.name == BEFORE:
            return self.before is not None
        if self.chosen is None:
            return not entrant.on_request
        # A peer's name stands for all of its entrants but those on request.
        return entrant.name in self.chosen or (entrant.peer in self.chosen and not entrant.on_request)

    def device_name(self) -> str:
        """Where jnn computes.

        Raises:
            Failure: if there is no such device.
        """
        self._start(ENTRANTS["jnn"])
        return self._described["jnn"]["device"]

    def _start(self, entrant: Entrant) -> WorkerProcess:
        if entrant.name not in self._workers:
            python = self.pythons.get(entrant.peer, sys.executable)
            worker = WorkerProcess(entrant, self.setting, python, self._root(entrant))
            try:
                self._described[entrant.name] = worker.ask("describe")
            except Failure:
                worker.close(kill=True)
                raise
            self._workers[entrant.name] = worker
        return self._workers[entrant.name]

    def _root(self, entrant: Entrant) -> Path:
        return self.before if self.before is not None and entrant.name == BEFORE else ROOT

    def _drop(self, name: str) -> None:
        if name in self._workers:
            self._workers.pop(name).close(kill=True)

    def measure(self, workload: Workload, rounds: int, floors: bool = True) -> Result:
        """All contestants of a workload, in turn; and what the floor is."""
        if self.before is not None and "jnn" in workload.contestants:
            workload = replace(workload, contestants=(*workload.contestants, BEFORE))
        path = data.write(workload, self.size, Path(self._folder.name))
        rows = {name: Row(name, ENTRANTS[name].title, "not measured") for name in workload.contestants}
        ready: dict[str, Callable[[int], dict[str, Any]]] = {}

        def failed(name: str, why: Exception) -> None:
            missing = isinstance(why, Failure) and why.missing
            unavailable = str(why).startswith("not available")
            rows[name].status = "not installed" if missing else "not available" if unavailable else "failed"
            rows[name].why = str(why)
            self._drop(name)

        for name, row in list(rows.items()):
            entrant = ENTRANTS[name]
            if not self.takes_part(entrant) or self.setting.device not in entrant.devices:
                del rows[name]
                continue
            self.say(f"{workload.name}: preparing {entrant.title}")
            try:
                if workload.kind == "first result":
                    ready[name] = self._fresh(entrant, path, row)
                else:
                    ready[name] = self._prepared(entrant, workload, path, row)
            except Failure as why:
                failed(name, why)
        self.say(f"{workload.name}: {rounds} rounds in turn")
        examples = len(load(path).x)
        for name, answers in in_turn(ready, rounds, failed, Failure).items():
            row = rows[name]
            row.status = "measured"
            row.errors = [answer["error"] for answer in answers]
            row.risks = [answer["risk"] for answer in answers if answer["risk"] is not None]
            row.iterations = [answer["iterations"] for answer in answers if answer["iterations"] is not None]
            row.seconds = [
                answer["seconds"] / answer["networks"] / workload.units(examples, answer["iterations"])
                for answer in answers
            ]
        result = Result(workload, self.setting.device, "", list(rows.values()))
        if floors:
            self._add_floor(result, path)
        return result

    def _prepared(self, entrant: Entrant, workload: Workload, path: Path, row: Row) -> Callable[[int], dict[str, Any]]:
        worker = self._start(entrant)
        described = self._described[entrant.name]
        row.versions, row.precision = described["versions"], described["precision"]
        answer = worker.ask("prepare", workload=workload.as_json(), data=str(path))
        row.threads = answer["threads"]
        row.first = None if row.threads else answer["seconds"]
        return lambda seed: worker.ask("train", seed=seed)

    def _fresh(self, entrant: Entrant, path: Path, row: Row) -> Callable[[int], dict[str, Any]]:
        cache = Path(self._folder.name) / "compilation-cache"
        python = self.pythons.get(entrant.peer, sys.executable)
        run = FreshProcess(entrant.name, path, cache, self.setting.device, python, self._root(entrant))
        row.first = run(0)["seconds"]  # fills the cache, the compilation cache and the system's cache of files
        return run

    def _add_floor(self, result: Result, path: Path) -> None:
        workload = result.workload
        if workload.kind != "training" or workload.unit not in FLOORS or workload.optimizer != "adam":
            return
        self.say(f"{workload.name}: what its parts cost")
        try:
            worker = self._start(ENTRANTS["jnn"])
            costs = worker.ask("floor", workload=workload.as_json(), data=str(path))
        except Failure:  # the figures stay, without a floor
            return
        result.matrix_rates = costs.pop("matrix_rates")
        found = load(path)
        result.costs, result.work = Costs(**costs), work(workload, len(found.x), found.edges)


def not_measured(workload: Workload, device: str, why: str, takes_part: Callable[[Entrant], bool]) -> Result:
    """A result that says so."""
    entrants = [ENTRANTS[name] for name in workload.contestants]
    rows = [
        Row(e.name, e.title, "not measured", why) for e in entrants if device in e.devices and takes_part(e)
    ]  # fmt: skip
    return Result(workload, device, "", rows)
