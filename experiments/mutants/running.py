"""Tests against mutants, each in a fork of one process that has imported what takes long and nothing of jnn.

No JAX computation runs before a fork, so that there are no threads to lose; each child imports the mutated library
anew. Compiled programs are kept on disk, since a mutant changes few of them.
"""

import contextlib
import inspect
import itertools
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jaxtyping

ROOT = Path(__file__).parents[2]
PARTS = ("jnn", "tests", "experiments", "pyproject.toml", "README.md")
IMPORTS = ("hypothesis", "jax.numpy", "optax", "pytest", "scipy.stats", "sklearn.datasets", "sklearn.model_selection")


def prepare(cache: Path) -> None:
    """Import what every child needs."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    for name in IMPORTS:
        __import__(name)
    warnings.filterwarnings("ignore", message=".*fork")  # of threads, of which there are none yet


def copied(to: Path) -> Path:
    """A copy of what the tests need."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, to / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / part, to / part)
    return to


_TIMES = itertools.count(1)
"""When mutants were made, as byte code is told: no two at the same second, however quickly they follow."""


@contextlib.contextmanager
def mutated(path: Path, text: str) -> Iterator[None]:
    """The file with another text, for a while."""
    before, times = path.read_text(), path.stat()
    path.write_text(text)
    os.utime(path, (time.time(), next(_TIMES)))
    try:
        yield
    finally:
        path.write_text(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@dataclass
class Child:
    """A process that tests the tree: when it began, when it has to end."""

    pid: int
    began: float
    until: float

    def ended(self) -> str | None:
        """How: "passed", "failed", "hung" (and was killed); None while it runs."""
        done, status = os.waitpid(self.pid, os.WNOHANG)
        if not done and time.monotonic() < self.until:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # and what it may have started
        if not done:
            os.waitpid(self.pid, 0)
            return "hung"
        return "passed" if status == 0 else "failed"


class NearestFirst:
    """A plugin of pytest: first files with tests that have killed mutants of the module, then as the files were given.

    Within a file, likewise, and then the tests that name the function.
    """

    def __init__(self, where: str, killers: Collection[str]) -> None:
        self.words = [word.strip("_").lower() for word in where.split(".") if word.strip("_")]
        self.killers = killers

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Sort; as they were, else. And run-time type checks off: it is values that are to tell, and sooner."""
        jaxtyping.config.update("jaxtyping_disable", True)
        rank = {item: self._named(item) for item in items}
        kills = {item.path for item in items if item.nodeid in self.killers}
        place = {path: number for number, path in enumerate(dict.fromkeys(item.path for item in items))}
        items.sort(key=lambda item: (item.path not in kills, place[item.path], -rank[item]))

    def _named(self, item: Any) -> int:
        text = (item.name + inspect.getsource(item.function)).lower()
        return sum(word in text for word in self.words) + 10 * (item.nodeid in self.killers)


def start(
    tree: Path, arguments: Sequence[str], seconds: float, where: str = "", killers: Collection[str] = ()
) -> Child:
    """Run pytest in a fork; `killers` come first, then tests that name the function `where`."""
    began = time.monotonic()
    pid = os.fork()
    if pid:
        return Child(pid, began, began + seconds)
    code = 1
    try:
        os.setsid()
        code = _test(tree, arguments, NearestFirst(where, killers))
    finally:
        os._exit(code)


def _test(tree: Path, arguments: Sequence[str], plugin: NearestFirst) -> int:
    import pytest

    os.chdir(tree)
    sys.path[:] = [str(tree), *[place for place in sys.path if Path(place or ".").resolve() != ROOT]]
    sys.dont_write_bytecode = False
    log = os.open(tree / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    ignored = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
    options = ["-q", "-p", "no:cacheprovider", "-W", ignored, *arguments]
    return int(pytest.main(options, plugins=[plugin]))


def failures(tree: Path) -> list[str]:
    """The tests that have failed in the last run."""
    lines = (tree / "log").read_text(errors="replace").splitlines()
    return [line.split(" ", 1)[1].split(" - ")[0] for line in lines if line.startswith(("FAILED tests", "ERROR tests"))]


def together(
    trees: list[Path], tasks: Iterator[Any], begin: Callable[[Path, Any], tuple[Child, contextlib.ExitStack]]
) -> Iterator[tuple[Any, str, float, list[str]]]:
    """Work on tasks, one a tree at a time; yields each with how it ended, its seconds, and what failed."""
    free: list[Path] = list(trees)
    running: dict[Path, tuple[Any, Child, contextlib.ExitStack]] = {}
    try:
        while True:
            while free and (task := next(tasks, None)) is not None:
                tree = free.pop()
                running[tree] = (task, *begin(tree, task))
            if not running:
                return
            for tree, (task, child, kept) in list(running.items()):
                if (how := child.ended()) is not None:
                    kept.close()
                    del running[tree]
                    free.append(tree)
                    yield task, how, time.monotonic() - child.began, failures(tree)
            time.sleep(0.02)
    finally:
        for _, child, kept in running.values():
            child.until = 0
            child.ended()
            kept.close()
