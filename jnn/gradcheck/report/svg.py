"""Markup that escapes by itself, and the three plots of a report, drawn as inline SVG.

- `by_element`: error of each element in ulps, on a log scale, with the allowance.
- `by_step`: deviation of the differences from a derivative by step size: truncation on the right, rounding on the left.
- `opinions`: the one-sided differences, their extrapolation with its bar, the reference and the rule on one line.

Colors are classes, so that the page's style sheet decides them in its light and dark version. What cannot stand on a
log scale has a lane of its own: exact zeros below the axis, NaN and infinity above it.
"""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 350, 24, 180
ZERO_LANE, INFINITE_LANE = BOTTOM - 6, TOP + 6
# The log scale leaves room for the two lanes.
HIGH, LOW = TOP + 20, BOTTOM - 22

_UNPRINTABLE = {k: "\ufffd" for k in [*range(32), *range(0xD800, 0xE000)] if chr(k) not in "\n\t"}


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """Any value as text of a page: markup stays, all else is escaped."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(str(value).translate(_UNPRINTABLE), quote=True))


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element; `class_` stands for class, `_` for `-`; attributes that are None or False are left out."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{shown}>{join(children)}</{name}>")


def join(parts: Iterable[object], separator: str = "") -> Markup:
    """Parts, escaped, one after the other."""
    return Markup(separator.join(escape(part) for part in parts))


def number(value: Any) -> float:
    """A number of a report's dictionary, where 'nan', 'inf' and '-inf' are strings; NaN for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def brief(value: Any, digits: int = 3) -> str:
    """A number in a few characters."""
    x = number(value)
    if math.isnan(x) and value != "nan" and value is not None and not isinstance(value, float):
        return str(value)
    return f"{x:.{digits}g}"


def by_element(errors: dict[str, Any]) -> Markup:
    """The plot of `ErrorByElement`: points within the allowance, points beyond it, and the allowance itself."""
    points = list(
        zip(errors["indices"], map(number, errors["ulps"]), map(number, errors["allowed"]), strict=True),
    )
    if not points:
        return Markup("")
    positive = [u for _, u, _ in points if 0 < u < math.inf]
    allowed = sorted(a for *_, a in points if 0 < a < math.inf)
    # An allowance can be astronomic where the calibration saw a cancellation; it must not flatten the plot.
    usual = [a for a in allowed if a <= 1e3 * allowed[len(allowed) // 2]]
    axis = _Log([*positive, *usual], floor=1e-3)
    first, last = points[0][0], points[-1][0]

    def across(index: float) -> float:
        return LEFT + 8 + (RIGHT - LEFT - 16) * ((index - first) / (last - first) if last > first else 0.5)

    half = 0.5 * (RIGHT - LEFT - 16) / max(len(points), 2)
    line = " ".join(
        f"M{max(across(k) - half, LEFT):.1f} {axis(a):.1f}H{min(across(k) + half, RIGHT):.1f}"
        for k, _, a in points
        if not math.isnan(a)
    )
    fine = [(k, u) for k, u, a in points if u <= a]
    beyond = [(k, u) for k, u, a in points if not u <= a]
    drawn = [
        *_frame(axis, "ulps", [u for _, u, _ in points]),
        _text(LEFT + 8, BOTTOM + 14, first, "start"),
        _text(RIGHT - 8, BOTTOM + 14, last, "end") if last > first else "",
        _text((LEFT + RIGHT) / 2, BOTTOM + 28, "flat index of the element"),
        tag("path", d=line, class_="allowed"),
        tag("path", d=" ".join(f"M{across(k):.1f} {axis(u):.1f}h0" for k, u in fine), class_="dot fine"),
        tag("path", d=" ".join(_cross(across(k), axis(u)) for k, u in beyond), class_="cross"),
    ]
    said = f"error by element in ulps: {len(beyond)} of {len(points)} plotted elements beyond the allowance"
    return _svg(drawn, HEIGHT, said)


def by_step(curve: dict[str, Any]) -> Markup:
    """The V curve of `StepCurve`: |difference − derivative| / |derivative| by step, for the rule and the reference."""
    steps = [number(h) for h in curve["steps"]]
    rule, reference = ([number(v) for v in curve[name]] for name in ("to_rule", "to_reference"))
    estimate, bar = number(curve["estimate"]), number(curve["bar"])
    relative = bar / abs(estimate) if estimate else math.nan
    axis = _Log([v for v in (*rule, *reference, relative) if 0 < v < math.inf])
    exponents = [math.log10(h) if h > 0 else math.nan for h in steps]
    known = [e for e in exponents if not math.isnan(e)] or [0.0]
    low, high = min(known), max(known)

    def across(e: float) -> float:
        return LEFT + 8 + (RIGHT - LEFT - 16) * ((e - low) / (high - low) if high > low else 0.5)

    drawn = _frame(axis, "relative deviation", [*rule, *reference])
    for e in range(math.ceil(low), math.floor(high) + 1, max(1, math.ceil((high - low) / 4))):
        drawn += [_line(across(e), TOP, across(e), BOTTOM, "grid"), _power(across(e), BOTTOM + 14, e, "middle")]
    drawn.append(_text((LEFT + RIGHT) / 2, BOTTOM + 28, "step of the differences"))
    if 0 < relative < math.inf:
        drawn.append(_line(LEFT, axis(relative), RIGHT, axis(relative), "bar"))
    for name, values in (("rule", rule), ("reference", reference)):
        spots = [(across(e), axis(v)) for e, v in zip(exponents, values, strict=True) if not math.isnan(e + v)]
        track = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        drawn += [
            tag("polyline", points=track, class_=f"curve {name}"),
            tag("path", d=" ".join(_mark(name, x, y) for x, y in spots), class_=f"mark {name}"),
        ]
    return _svg(drawn, HEIGHT, f"deviation of the differences by step size, {curve['direction']}")


def opinions(curve: dict[str, Any]) -> Markup:
    """What the differences, the reference and the rule say of one derivative, on one linear scale."""
    rows = [(label, number(curve[name]), name) for label, name in _OPINIONS]
    estimate, bar = number(curve["estimate"]), number(curve["bar"])
    ends = [estimate - bar, estimate + bar] if math.isfinite(bar) else []
    known = [v for v in (*(v for _, v, _ in rows), *ends) if math.isfinite(v)] or [0.0]
    size = max(map(abs, known)) or 1.0
    middle, spread = (min(known) + max(known)) / 2, max(max(known) - min(known), 1e-3 * size)
    left, right, step = 104, 238, 19

    def across(v: float) -> float:
        return (left + right) / 2 + (v - middle) / spread * (right - left - 16)

    drawn: list[object] = []
    reference = number(curve["reference"])
    if math.isfinite(reference):
        drawn.append(_line(across(reference), 6, across(reference), 6 + step * len(rows), "grid"))
    for k, (label, value, name) in enumerate(rows):
        y = 6 + step * (k + 0.5)
        drawn += [
            _text(0, y + 4, label, "start"),
            _text(WIDTH, y + 4, f"{value:.8g}", "end", "value"),
            _line(left, y, right, y, "rail"),
        ]
        if not math.isfinite(value):
            continue
        if name == "estimate" and math.isfinite(bar):
            drawn.append(_line(across(value - bar), y, across(value + bar), y, "whisker"))
        drawn.append(tag("path", d=_mark(name, across(value), y), class_=f"mark {name}"))
    return _svg(drawn, 12 + step * len(rows), f"one-sided derivatives and the rule, {curve['direction']}")


_OPINIONS = (
    ("from the left", "left"),
    ("from the right", "right"),
    ("differences", "estimate"),
    ("reference", "reference"),
    ("rule", "rule"),
)


class _Log:
    """A vertical log scale over whole decades; zeros and non-finite numbers have lanes of their own."""

    def __init__(self, values: Sequence[float], floor: float = 0.0) -> None:
        kept = [max(v, floor) for v in values] or [1.0]
        self.low, self.high = math.floor(math.log10(min(kept))), math.ceil(math.log10(max(kept)))
        if self.high - self.low < 2:
            self.low, self.high = self.low - 1, self.high + 1

    def __call__(self, value: float) -> float:
        if value == 0:
            return ZERO_LANE
        if not math.isfinite(value):
            return INFINITE_LANE
        place = (math.log10(abs(value)) - self.low) / (self.high - self.low)
        return LOW + (HIGH - LOW) * min(max(place, 0.0), 1.0)


def _frame(axis: _Log, title: str, values: Sequence[float]) -> list[object]:
    """Axis, grid and title; the lanes are named where one of the values stands in them."""
    drawn: list[object] = [_text(2, 12, title, "start"), _line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis")]
    if any(v == 0 for v in values):
        drawn.append(_text(LEFT - 6, ZERO_LANE + 4, "exact", "end"))
    if not all(map(math.isfinite, values)):
        drawn.append(_text(LEFT - 6, INFINITE_LANE + 4, "nan, inf", "end"))
    for e in range(axis.low, axis.high + 1, max(1, math.ceil((axis.high - axis.low) / 5))):
        y = axis(10.0**e)
        drawn += [_line(LEFT, y, RIGHT, y, "grid"), _power(LEFT - 6, y + 4, e, "end")]
    return drawn


def _power(x: float, y: float, exponent: int, anchor: str) -> Markup:
    if -3 <= exponent <= 3:
        return _text(x, y, f"{10.0**exponent:g}", anchor)
    up = tag("tspan", str(exponent).replace("-", "−"), dy="-4", class_="up")
    return tag("text", "10", up, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _text(x: float, y: float, text: object, anchor: str = "middle", class_: str | None = None) -> Markup:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=class_)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=class_)


def _cross(x: float, y: float) -> str:
    return f"M{x - 2.5:.1f} {y - 2.5:.1f}l5 5m-5 0l5 -5"


def _mark(name: str, x: float, y: float) -> str:
    """Shapes differ as well as colors: rule square, reference diamond, one-sided triangles, differences upright."""
    return {
        "rule": f"M{x - 3.5:.1f} {y - 3.5:.1f}h7v7h-7z",
        "reference": f"M{x:.1f} {y - 4.5:.1f}l4.5 4.5l-4.5 4.5l-4.5 -4.5z",
        "left": f"M{x:.1f} {y:.1f}l-7 -4v8z",
        "right": f"M{x:.1f} {y:.1f}l7 -4v8z",
        "estimate": f"M{x - 1.25:.2f} {y - 5:.1f}h2.5v10h-2.5z",
    }[name]


def _svg(drawn: Sequence[object], height: float, said: str) -> Markup:
    return tag("svg", tag("title", said), *drawn, viewBox=f"0 0 {WIDTH} {height:g}", role="img")
