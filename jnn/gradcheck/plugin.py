"""A pytest plugin: the fixture `gradcheck`, and its reports attached to the tests that fail.

Switch it on per project, in the topmost conftest.py::

    pytest_plugins = ["jnn.gradcheck.plugin"]

or for one run, with `pytest -p jnn.gradcheck.plugin`. A test then reads::

    def test_my_kernel(gradcheck):
        gradcheck(my_kernel, x, w)

- `gradcheck(fun, *args, **options)` is `jnn.gradcheck.check` followed by `Report.raise_for_failure`; it returns the
  report. `gradcheck.compare` and `gradcheck.check_rules` do the same for the two other functions.
- A kink or an inconclusive verdict fails the test as well, unless it is allowed: `gradcheck(..., allow=("kink",))`.
- `--gradcheck-html DIR` writes the report of each failing test there, as HTML and JSON, and names the files at the end
  of the run; with `--gradcheck-every` those of passing tests as well.

The plugin is deliberately no entry point of the installed package. pytest imports all entry points when it starts, in
every project of the environment, and importing a module of jnn imports JAX: about 0.9 s of CPU time (measured on a
plain CPU machine) for test suites that never heard of gradients. An entry point would also import JAX before a
project's conftest.py could set JAX_PLATFORMS or XLA_FLAGS, or install an import hook; so does `-p`, while
`pytest_plugins` in a conftest.py is read after the lines of that file.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Collection, Generator
from pathlib import Path
from typing import Any

import pytest

from jnn.gradcheck import check as _check, check_rules as _check_rules, compare as _compare
from jnn.gradcheck.report import ALLOWABLE, GradientError, Report

# Long enough for most test names, short enough for every file system.
_LONGEST_NAME = 120
_PROPERTY = "gradcheck report"


@dataclasses.dataclass
class _Journal:
    """The reports of the test that runs now, each with whether it was accepted."""

    entries: list[tuple[Report, bool]] = dataclasses.field(default_factory=list)

    def telling(self) -> Report | None:
        """The report to show when the test fails: the last that was refused, else the last.

        Hypothesis runs its smallest failing example last, so it is that one which is shown.
        """
        refused = [report for report, accepted in self.entries if not accepted]
        every = [report for report, _ in self.entries]
        return refused[-1] if refused else every[-1] if every else None


_JOURNAL = pytest.StashKey[_Journal]()


class Gradcheck:
    """What the fixture `gradcheck` is: three checks that fail the test unless the verdict is `pass` or allowed."""

    def __init__(self, journal: _Journal) -> None:
        self._journal = journal

    def __call__(
        self, fun: Callable[..., Any], *args: Any, allow: str | Collection[str] = (), **options: Any
    ) -> Report:
        """`jnn.gradcheck.check`.

        Args:
            fun: the function whose derivatives are checked.
            args: where.
            allow: verdicts other than `pass` that do not fail the test: `kink`, `inconclusive`, or both.
            options: those of `jnn.gradcheck.check`.

        Returns:
            The report, when it was accepted.

        Raises:
            GradientError: the verdict is neither `pass` nor allowed.
            ValueError: `allow` names another verdict.
        """
        __tracebackhide__ = True
        return self._accepted(_check, allow, fun, *args, **options)

    def compare(
        self,
        gradient: Callable[..., Any],
        other: Callable[..., Any],
        *args: Any,
        allow: str | Collection[str] = (),
        **options: Any,
    ) -> Report:
        """`jnn.gradcheck.compare`, with `allow` as above."""
        __tracebackhide__ = True
        return self._accepted(_compare, allow, gradient, other, *args, **options)

    def check_rules(
        self, fun: Callable[..., Any], *args: Any, allow: str | Collection[str] = (), **options: Any
    ) -> Report:
        """`jnn.gradcheck.check_rules`, with `allow` as above."""
        __tracebackhide__ = True
        return self._accepted(_check_rules, allow, fun, *args, **options)

    def _accepted(self, run: Callable[..., Report], allow: str | Collection[str], *args: Any, **options: Any) -> Report:
        __tracebackhide__ = True
        Report("", "pass", "").accepted(allow)  # a mistake in it is told before the check is run
        report = run(*args, **options)
        accepted = report.accepted(allow)
        self._journal.entries.append((report, accepted))
        if not accepted:
            # The whole report stands in the section of the failure, so the message is short.
            raise GradientError(_message(report))
        return report


@pytest.fixture(scope="session")
def gradcheck(pytestconfig: pytest.Config) -> Gradcheck:
    """Check derivatives and fail unless they are right: `gradcheck(fun, *args)`; see `jnn.gradcheck.check`."""
    # Session-wide, because Hypothesis warns of function-scoped fixtures under @given, and nothing here is per test.
    return Gradcheck(pytestconfig.stash[_JOURNAL])


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options that write reports to files."""
    group = parser.getgroup("gradcheck", "derivatives (jnn.gradcheck)")
    group.addoption(
        "--gradcheck-html",
        metavar="DIR",
        help="write the gradcheck report of each failing test to DIR, as HTML and JSON",
    )
    group.addoption(
        "--gradcheck-every",
        action="store_true",
        help="with --gradcheck-html: write every report, of passing tests too",
    )


def pytest_configure(config: pytest.Config) -> None:
    """A journal for the run; refuses --gradcheck-every on its own."""
    config.stash[_JOURNAL] = _Journal()
    if config.getoption("gradcheck_every") and not config.getoption("gradcheck_html"):
        raise pytest.UsageError("--gradcheck-every needs --gradcheck-html DIR, the folder to write the reports to")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the report to the failure, and write the files."""
    outcome = yield
    journal = item.config.stash[_JOURNAL]
    folder = item.config.getoption("gradcheck_html")
    telling = journal.telling() if outcome.failed else None
    if telling is not None:
        outcome.sections.append(("gradcheck", str(telling)))
    every = item.config.getoption("gradcheck_every")
    kept = [report for report, _ in journal.entries if every or report is telling] if folder else []
    for k, report in enumerate(kept):
        page = _write(report, Path(str(folder)), item.nodeid, k if len(kept) > 1 else None)
        # The report's properties reach the controlling process of pytest-xdist, the item's JUnit's XML.
        outcome.user_properties.append((_PROPERTY, str(page)))
        item.user_properties.append((_PROPERTY, str(page)))
        if report is telling:
            outcome.sections.append(("gradcheck files", f"{page}\n{page.with_suffix('.json')}"))
    # What happened in one phase of a test (setup, call, teardown) is told once.
    journal.entries.clear()
    return outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the pages that were written."""
    reports = [r for group in terminalreporter.stats.values() for r in group if isinstance(r, pytest.TestReport)]
    # A test's properties are repeated in the reports of its later phases.
    pages = dict.fromkeys(value for r in reports for name, value in r.user_properties if name == _PROPERTY)
    if pages:
        terminalreporter.section("gradcheck reports")
        for page in pages:
            terminalreporter.line(str(page))


def _message(report: Report) -> str:
    lines = [f"gradcheck {report.verdict.upper()}: {report.function}: {report.summary}"]
    if report.worst is not None and report.worst.wrong:
        lines.append(str(report.worst))
    if report.verdict in ALLOWABLE:
        lines.append(f"(a look at the report is needed; allow=({report.verdict!r},) accepts it)")
    return "\n".join(lines)


def _write(report: Report, folder: Path, nodeid: str, count: int | None) -> Path:
    """Write a report under the test's name; the hash keeps tests apart whose names differ in other characters."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = re.sub(r"[^\w.=-]+", "-", nodeid.replace(".py::", "."))[:_LONGEST_NAME].strip("-.")
    name = f"{plain}-{hashlib.sha256(nodeid.encode()).hexdigest()[:6]}" + ("" if count is None else f"-{count}")
    page = folder / f"{name}.html"
    report.to_html(page)
    report.to_json(folder / f"{name}.json")
    return page
