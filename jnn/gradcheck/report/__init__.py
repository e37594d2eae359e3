"""What a check found: plain frozen dataclasses, without arrays, so that they print, compare and save as they are.

- `Report`: one checked function. `verdict` is one of `VERDICTS`; `leaves` holds the evidence by argument leaf, `checks`
  every check by name, run or not, and why; `mutations` what this very check would have missed; `rules` the reports of
  the custom rules inside the function (`check_rules` only).
- `LeafEvidence`: one leaf of the arguments: the worst element by path and index, both values, the error in ulps of the
  leaf's dtype and the error that would have been allowed there, the share of wrong elements, a guess at the pattern,
  the smallest relative errors that would have been noticed, and the data of two plots: `errors` (error by element,
  sampled when the leaf is large) and `steps` (error of the differences by step size, where differences were taken).
- `Check`: one named check; `outcome` is one of `OUTCOMES`, and `why` says what was seen, or why it did not run.
- `Mutation`: one deliberate fault in the rule's result, and whether this check would have noticed it.
"""

import dataclasses
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jnn.gradcheck.report import html

VERDICTS = ("pass", "fail", "kink", "inconclusive")
ALLOWABLE = ("kink", "inconclusive")
OUTCOMES = ("pass", "fail", "kink", "inconclusive", "skipped")


@dataclasses.dataclass(frozen=True)
class Element:
    """One element of a gradient: `path` and `index` say which, `probe` which cotangent or tangent showed it.

    The ulps are those of the expected value; with `of_largest`, where that is zero (or too small to be resolved), those
    of the largest value in the leaf.
    """

    path: str
    index: tuple[int, ...]
    value: float | complex
    expected: float | complex
    error_ulps: float
    allowed_ulps: float
    probe: str
    of_largest: bool = False

    @property
    def wrong(self) -> bool:
        """Whether it is off by more than it may be: a leaf may fail by what no single element shows."""
        return not self.error_ulps <= self.allowed_ulps

    def __str__(self) -> str:
        where = self.path + ("[" + ", ".join(map(str, self.index)) + "]" if self.index else "")
        unit = "ulps" + " of the leaf's largest" * self.of_largest
        return (
            f"{where}: got {self.value:.9g}, expected {self.expected:.9g} "
            f"({_count(self.error_ulps)} {unit}; allowed {_count(self.allowed_ulps)})"
        )


@dataclasses.dataclass(frozen=True)
class ErrorByElement:
    """Points of a plot: the flat index of an element in its leaf, its error and its allowance, both in ulps."""

    indices: tuple[int, ...]
    ulps: tuple[float, ...]
    allowed: tuple[float, ...]
    sampled: bool


@dataclasses.dataclass(frozen=True)
class StepCurve:
    """Differences along one direction: their relative deviation from the derivative under test and from the reference.

    `steps[i]` is a step; `to_rule[i]` and `to_reference[i]` are |difference − derivative| / |derivative|;
    `estimate ± bar` is what extrapolation made of them, `left` and `right` its one-sided versions.
    """

    direction: str
    steps: tuple[float, ...]
    to_rule: tuple[float, ...]
    to_reference: tuple[float, ...]
    estimate: float
    bar: float
    left: float
    right: float
    rule: float
    reference: float


@dataclasses.dataclass(frozen=True)
class LeafEvidence:
    """What was seen in one leaf of the arguments (of the outputs, for a forward rule whose gradient cannot be taken).

    `comparisons` counts elements times probes; `detectable` is the smallest relative error of the whole leaf that would
    have failed, `detectable_element` the smallest of a typical (median) single element; `detectable_rounding` the
    smallest typical error of the arithmetic alone (lost precision, coarse accumulation) where the formula is right, by
    the leaf as a whole where it is judged as one, and `detectable_rounding_element` that of a single element; both are
    for the first cotangent and the dtypes that the rule uses now. Infinite where none would have failed, NaN where that
    was not measured. `expected` says that the user declared a deviation here.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    verdict: str
    comparisons: int
    wrong_share: float
    worst: Element | None
    median_ulps: float
    pattern: str = ""
    note: str = ""
    expected: bool = False
    detectable: float = math.nan
    detectable_element: float = math.nan
    detectable_rounding: float = math.nan
    detectable_rounding_element: float = math.nan
    errors: ErrorByElement | None = None
    steps: tuple[StepCurve, ...] = ()


@dataclasses.dataclass(frozen=True)
class Check:
    """One named check: its outcome, and what was seen or why it was skipped."""

    name: str
    outcome: str
    why: str = ""

    @property
    def ran(self) -> bool:
        """Whether the check was run at all."""
        return self.outcome != "skipped"


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One deliberate fault: `noticed` is None where the fault changes nothing (the sign of a zero, say)."""

    name: str
    path: str
    noticed: bool | None


@dataclasses.dataclass(frozen=True)
class RuleReport:
    """One custom rule inside a function: its name, kind (custom_vjp or custom_jvp), call site, and its own report."""

    name: str
    kind: str
    site: str
    visit: str
    report: "Report"


class GradientError(AssertionError):
    """The report said something else than `pass`, and it was not allowed."""

    __module__ = "jnn.gradcheck"  # pytest and tracebacks print where users import it from


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of a check; look at `verdict`, print it, save it, or call `raise_for_failure`.

    `reference` says what the derivative was compared with; `removed` names the custom rules (and stop_gradients) that
    were replaced by their primals, `not_rewritten` what could not be; `sampled` says what was sampled and how;
    `environment` has the versions, the backend and whether x64 was on; `seconds` is not part of equality.
    """

    function: str
    verdict: str
    summary: str
    leaves: tuple[LeafEvidence, ...] = ()
    checks: tuple[Check, ...] = ()
    mutations: tuple[Mutation, ...] = ()
    rules: tuple[RuleReport, ...] = ()
    reference: str = ""
    removed: tuple[str, ...] = ()
    not_rewritten: tuple[str, ...] = ()
    sampled: tuple[str, ...] = ()
    seed: int = 0
    order: int = 1
    snippet: str = ""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = dataclasses.field(default=math.nan, compare=False)

    def __bool__(self) -> bool:
        raise TypeError(
            "a Report is neither true nor false, because a kink or an inconclusive check must be looked at; "
            "compare report.verdict with 'pass', or call report.raise_for_failure()"
        )

    @property
    def worst(self) -> Element | None:
        """The element that is furthest beyond its allowance, over all leaves."""
        found = [leaf.worst for leaf in self.leaves if leaf.worst is not None]
        return max(found, key=_excess, default=None)

    def raise_for_failure(self, *, allow: str | Collection[str] = ()) -> "Report":
        """Return the report itself when its verdict is `pass`, or one that is allowed.

        Args:
            allow: verdicts to accept beside `pass`: `kink`, `inconclusive`, or both.

        Raises:
            GradientError: the verdict is another; the message is the whole report.
            ValueError: `allow` names another verdict.
        """
        if not self.accepted(allow):
            raise GradientError("\n" + str(self))
        return self

    def accepted(self, allow: str | Collection[str] = ()) -> bool:
        """Whether the verdict is `pass`, or one of those allowed (`kink`, `inconclusive`).

        Raises:
            ValueError: `allow` names another verdict.
        """
        allowed = {allow} if isinstance(allow, str) else set(allow)
        if not allowed <= set(ALLOWABLE):
            wrong = ", ".join(sorted(map(repr, allowed - set(ALLOWABLE))))
            raise ValueError(
                f"expected allow to hold only {' and '.join(map(repr, ALLOWABLE))}, got {wrong}; "
                "declare a deliberate deviation with expected=, the names of its leaves"
            )
        return self.verdict == "pass" or self.verdict in allowed

    def to_dict(self) -> dict[str, Any]:
        """The report as nested dictionaries and lists; non-finite numbers become the strings 'nan', 'inf', '-inf'."""
        return _plain(self)

    def to_json(self, path: str | Path | None = None) -> str:
        """The report as strict JSON, also written to `path` when one is given."""
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def to_html(self, path: str | Path | None = None) -> str:
        """The report as one self-contained HTML page with plots, also written to `path` when one is given."""
        text = html.render(self.to_dict())
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _lines(report: Report) -> list[str]:
    lines = [f"gradcheck {report.verdict.upper()}: {report.function}", f"  {report.summary}"]
    if report.reference:
        lines.append(f"  reference: {report.reference}")
    if report.leaves:
        rows = [("leaf", "shape", "dtype", "verdict", "wrong", "max ulps", "median", "would notice", "pattern")]
        rows += [_row(leaf) for leaf in report.leaves]
        lines += ["", *_table(rows)]
        bad = [leaf for leaf in report.leaves if leaf.verdict != "pass"]
        lines += [f"    {leaf.worst}" for leaf in bad if leaf.worst is not None and leaf.worst.wrong]
        lines += [f"    {leaf.path}: {leaf.note}" for leaf in report.leaves if leaf.note]
    if report.checks:
        lines += [
            "",
            *_table([("check", "outcome", "what was seen, or why it did not run"), *map(_check, report.checks)]),
        ]
    missed = [f"{m.name} in {m.path}" for m in report.mutations if m.noticed is False]
    tried = sum(m.noticed is not None for m in report.mutations)
    if tried:
        lines += ["", f"  power: {tried - len(missed)} of {tried} mutations of the rule would have been noticed"]
        lines += [f"    missed: {name}" for name in missed]
    for title, items in (
        ("removed", report.removed),
        ("not rewritten", report.not_rewritten),
        ("sampled", report.sampled),
    ):
        lines += [f"  {title}: {item}" for item in items]
    for rule in report.rules:
        lines += [f"  {rule.kind} {rule.name} ({rule.site}; {rule.visit}): {rule.report.verdict}"]
        if rule.report.verdict != "pass":
            lines += ["    " + line for line in _lines(rule.report)]
    if report.snippet and report.verdict != "pass":
        lines += ["", "  reproduce:", *("    " + line for line in report.snippet.splitlines())]
    return lines


def _row(leaf: LeafEvidence) -> tuple[str, ...]:
    return (
        leaf.path,
        str(list(leaf.shape)),
        leaf.dtype,
        leaf.verdict + (" (declared)" if leaf.expected else ""),
        f"{leaf.wrong_share:.1%}" if leaf.wrong_share else "0",
        _count(leaf.worst.error_ulps) if leaf.worst is not None else "-",
        _count(leaf.median_ulps),
        _noticed(leaf),
        leaf.pattern,
    )


def _noticed(leaf: LeafEvidence) -> str:
    """The smallest error of the formula that would have failed; of the rounding, and of that of one element, where
    these are coarser.
    """
    if not math.isfinite(leaf.detectable):
        return "-"
    text, before = f"{leaf.detectable:.1g}", leaf.detectable
    for name, size in (("rounding", leaf.detectable_rounding), ("of one element", leaf.detectable_rounding_element)):
        if math.isfinite(size) and size > 1.5 * before:
            text, before = f"{text}, {name} {size:.1g}", size
    return text


def _check(check: Check) -> tuple[str, ...]:
    return check.name, check.outcome, check.why


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _count(ulps: float) -> str:
    if math.isnan(ulps):
        return "-"
    return "0" if ulps == 0 else f"{ulps:.2g}" if ulps < 10 else f"{ulps:.0f}" if ulps < 1e6 else f"{ulps:.1e}"


def _excess(element: Element) -> float:
    if not math.isfinite(element.error_ulps):
        return math.inf
    return element.error_ulps / max(element.allowed_ulps, 1e-300)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, complex):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
