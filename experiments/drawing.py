"""Panels drawn by matplotlib as inline SVG whose colors are the page's: dark on light, light on dark, black in print.

matplotlib is given colors that stand for roles (the numbers mean nothing); in the SVG they become CSS variables, which
the page sets. The series differ in lightness and in marker or dash too, for readers who do not see the hues.
"""

import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, Literal, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from experiments.experiment import Picture
from experiments.statistics import Estimate

Drawn = TypeVar("Drawn")

INK, MUTED, GRID, PAPER = "#00fe01", "#00fe02", "#00fe03", "#00fe04"
FIRST, SECOND, THIRD, FAINT = "#00fe11", "#00fe12", "#00fe13", "#00fe14"
ROLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    FIRST: "first",
    SECOND: "second",
    THIRD: "third",
    FAINT: "faint",
}
LOOKS = ((SECOND, "--", "s"), (FIRST, "-", "o"), (THIRD, "-.", "^"), (INK, ":", "D"))
"""Colors, dashes and markers of lines that are drawn beside each other."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.use_mathtext": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
}


def panel(plot: Callable[[Axes], None], title: str, alt: str, width: float = 3.5, height: float = 2.8) -> str:
    """Draw one set of axes, `width` × `height` inches at 100 CSS pixels an inch, and return its SVG.

    Args:
        plot: draws on the axes.
        title: stands above them.
        alt: what the panel shows, for those who cannot see it.
        width: of the whole panel.
        height: of the whole panel.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": title + alt}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        plot(axes)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return _inline(text.getvalue(), alt)


def picture(
    title: str,
    caption: str,
    seen: str,
    plot: Callable[[Axes, Drawn], None],
    drawn: Mapping[str, Drawn],
    width: float = 3.5,
    height: float = 2.8,
) -> Picture:
    """A panel for each entry of `drawn`; its name is the panel's title, and `seen` says what the panel shows."""
    panels = [
        panel(lambda axes, one=one: plot(axes, one), name, f"{name}: {seen}", width, height)
        for name, one in drawn.items()
    ]
    return Picture(title, panels, caption)


def _inline(svg: str, alt: str) -> str:
    """The SVG element alone: no header, no links, no fixed size, the page's colors and fonts."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href")
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box is not None
    pixels = round(float(box[1].split()[2]) * 100 / 72)  # matplotlib counts 72 to the inch
    svg = re.sub(
        r"<svg[^>]*>",
        f'<svg viewBox="{box[1]}" style="max-width: {pixels}px" role="img" aria-label="{escape(alt)}">',
        svg,
        count=1,
    )
    for color, role in ROLES.items():
        svg = svg.replace(color, f"var(--{role})")
    return re.sub(r"\n\s*", "\n", svg).strip()


def power_of_ten(value: float, _: int = 0) -> str:
    """10⁻³ and the like, without TeX: labels stay text."""
    exponent = round(math.log10(value))
    if exponent == 0:
        return "1"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def logarithmic(axes: Axes, which: str, ticks: int = 6) -> None:
    """Make the x or y axis logarithmic; call it after plotting, as the labels depend on the range.

    Labels stand at powers of ten, and on axes shorter than a decade and a half, or with fewer than two such powers, at
    2 and 5 between them too.
    """
    getattr(axes, f"set_{which}scale")("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = getattr(axes, f"get_{which}lim")()
    powers = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low or powers < 2 else (1,), numticks=ticks))
    plain = low > 5e-4 and high < 5e4
    axis.set_major_formatter(FuncFormatter((lambda value, _: f"{value:g}") if plain else power_of_ten))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())


Corner = Literal["best", "lower right"]


def finish(axes: Axes, x: str = "", y: str = "", log: str = "", legend: Corner | None = None, below: int = 0) -> None:
    """What stands beside what was plotted.

    Args:
        axes: after plotting.
        x: the x axis' label.
        y: the y axis' label.
        log: which axes are logarithmic: "x", "y", "xy".
        legend: where in the axes the legend stands, if any.
        below: the columns of a legend below the axes.
    """
    for which in log:
        logarithmic(axes, which)
    if x:
        axes.set_xlabel(x)
    if y:
        axes.set_ylabel(y)
    if legend:
        axes.legend(loc=legend)
    if below:
        axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=below, columnspacing=1)


def lines(
    axes: Axes,
    drawn: Mapping[str, tuple[Any, Any]],
    looks: Iterable[tuple[str, str, str]] = LOOKS,
    band: bool = False,
    **options: Any,
) -> None:
    """A line for each label.

    Args:
        axes: where.
        drawn: x `(n,)` and y `(n,)` by label; or y `(samples, n)`, of which the median is drawn.
        looks: color, dash and marker of each.
        band: shade what lies between the samples' quartiles.
        options: of matplotlib's `plot`, for all lines; `marker=""` for none.
    """
    some = list(looks)[: len(drawn)]
    for (label, (x, y)), (color, dash, marker) in zip(drawn.items(), some, strict=True):
        low, middle, high = np.quantile(np.atleast_2d(y), (0.25, 0.5, 0.75), axis=0)
        if band:
            axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
        axes.plot(x, middle, label=label, **{"color": color, "linestyle": dash, "marker": marker, **options})


def intervals(axes: Axes, places: Any, found: Sequence[Estimate], across: bool = False, **options: Any) -> None:
    """A dot with its interval for each estimate at its place on the x axis, or `across` on the y axis."""
    middle = [e.mean for e in found]
    reach = np.array([[e.mean - e.low, e.high - e.mean] for e in found]).T
    options = {"fmt": "o", "color": FIRST, "elinewidth": 1.4, "capsize": 2.5, **options}
    if across:
        axes.errorbar(middle, places, xerr=reach, **options)
    else:
        axes.errorbar(places, middle, yerr=reach, **options)
