"""One HTML page with everything in it: no scripts, no fonts, no links to anything outside."""

import inspect
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import jax
import sklearn

from experiments.experiment import Experiment, Outcome, Picture, Table, Verdict


@dataclass(frozen=True)
class Entry:
    """An experiment that was run, what came out, and how long it took."""

    experiment: Experiment
    outcome: Outcome
    seconds: float


VERDICTS = {True: ("yes", "Holds here."), False: ("no", "Does not hold here."), None: ("open", "Undecided here.")}
MARKS = {True: "✓", False: "✗", None: "?"}

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --muted: #6b6b70; --grid: #e3e3e6; --paper: #ffffff; --panel: #f6f6f7;
  --first: #0063a8; --second: #c2510a; --third: #00795a; --faint: #b9c3cc; --good: #00694e; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececee; --muted: #a0a0a6; --grid: #38383c; --paper: #161618;
  --panel: #202023; --first: #6cb8f6; --second: #f0a35e; --third: #4fc9a4; --faint: #5b6975; --good: #5fd0ae;
  --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem clamp(1rem, 4vw, 3rem) 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1rem 0 .3rem; } h2 { font-size: 1.35rem; margin: 3rem 0 .3rem; }
h3 { font-size: 1rem; margin: 1.8rem 0 .4rem; } p { max-width: 46rem; margin: .4rem 0; }
.small, figcaption, .note { color: var(--muted); font-size: .875rem; max-width: 46rem; }
.verdicts { list-style: none; padding: 0; max-width: 46rem; }
.verdicts li { background: var(--panel); border-left: .3rem solid var(--good); padding: .5rem .8rem; margin: .5rem 0;
  overflow-wrap: anywhere; } .verdicts li.no { border-color: var(--bad); }
.verdicts li.open { border-color: var(--muted); } .open .mark { color: var(--muted); }
.mark { font-weight: 700; color: var(--good); } .no .mark { color: var(--bad); }
figure { margin: 0; } .panels { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; }
.panels svg { width: 100%; height: auto; flex: 0 1 auto; } svg text { font-family: inherit !important; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }
th { vertical-align: bottom; font-weight: 600; } thead th { white-space: normal; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
details { margin-top: 1rem; } summary { cursor: pointer; } pre { overflow-x: auto; font-size: .8rem; line-height: 1.4;
  background: var(--panel); padding: 1rem; } a { color: var(--first); }
.contents { padding-left: 1.6rem; max-width: 46rem; } .contents li { margin: .35rem 0; break-inside: avoid; }
.contents .small { display: block; } .marks { white-space: nowrap; margin-left: .3rem; font-weight: 700; }
.marks .yes, .legend .yes { color: var(--good); } .marks .no, .legend .no { color: var(--bad); }
.marks .open, .legend .open { color: var(--muted); } .legend span { font-weight: 700; }
@media screen and (max-width: 30rem) { table { font-size: .8rem; }
  th, td { padding: .3rem .3rem; white-space: normal; } }
@media print { :root { --ink: #000; --muted: #444; --grid: #ddd; --paper: #fff; --panel: #fff; --first: #0063a8;
  --second: #c2510a; --third: #00795a; --faint: #b9c3cc; --good: #00694e; --bad: #b3261e; } body { font-size: 10pt;
  max-width: none; padding: 0; } details { display: none; } svg, tr, li { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .panels svg { width: calc(50% - .6rem); } .scroll { overflow: visible; } th, td { padding: .2rem .4rem; } }
"""


def write(page: Path, entries: Sequence[Entry], seed: int, size: str) -> None:
    """Write the page; one that was there is replaced at once, so that it can be read at any time."""
    page.parent.mkdir(parents=True, exist_ok=True)
    draft = page.with_suffix(".part")
    draft.write_text(render(entries, seed, size), encoding="utf-8")
    draft.replace(page)


def render(entries: Sequence[Entry], seed: int, size: str) -> str:
    """The page as HTML."""
    tiny = " Tiny size, to try out the code: the figures mean nothing." if size == "tiny" else ""
    where = (
        f"Seed {seed}, size “{size}”, {sum(e.seconds for e in entries):.0f} s. JAX {jax.__version__} on "
        f"{jax.default_backend()}, scikit-learn {sklearn.__version__}, Python {platform.python_version()}. Times are "
        f"those of one run on this machine, whatever else it was doing.{tiny}"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>The lecture, tried out</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>The lecture, tried out</h1>\n<p class="small">{escape(where)}</p>\n{_contents(entries)}\n'
        + "\n".join(_section(e) for e in entries)
        + "\n</body>\n</html>\n"
    )


def _contents(entries: Sequence[Entry]) -> str:
    """Every experiment with its question and a mark for each of its verdicts."""
    rows = "\n".join(
        f'<li><a href="#{e.experiment.name}">{escape(e.experiment.title)}</a> {_marks(e.outcome)}'
        f'<span class="small">{escape(e.experiment.question)}</span></li>'
        for e in entries
    )
    counts = [sum(v.holds is holds for e in entries for v in e.outcome.verdicts) for holds in MARKS]
    words = ("claims hold here", "do not", "are undecided")
    legend = ", ".join(
        f'<span class="{VERDICTS[holds][0]}">{mark}</span> {count} {word}'
        for (holds, mark), count, word in zip(MARKS.items(), counts, words, strict=True)
    )
    return f'<nav>\n<ol class="contents">\n{rows}\n</ol>\n<p class="small legend">{legend}.</p>\n</nav>'


def _marks(outcome: Outcome) -> str:
    words = ", ".join(VERDICTS[v.holds][1].rstrip(".").lower() for v in outcome.verdicts)
    marks = " ".join(f'<span class="{VERDICTS[v.holds][0]}">{MARKS[v.holds]}</span>' for v in outcome.verdicts)
    part = " (a part)" if outcome.interrupted else ""
    return f'<span class="marks" role="img" aria-label="{words}">{marks}</span>{part}'


def _section(entry: Entry) -> str:
    e, outcome = entry.experiment, entry.outcome
    part = "<p><strong>Interrupted: this is a part of it.</strong></p>\n" if outcome.interrupted else ""
    verdicts = "\n".join(_verdict(v) for v in outcome.verdicts)
    pictures = "\n".join(_picture(p) for p in outcome.pictures)
    tables = "\n".join(_table(t) for t in outcome.tables)
    module = sys.modules[e.run.__module__]
    code = escape(inspect.getsource(module))
    return (
        f'<section id="{e.name}">\n<h2>{escape(e.title)}</h2>\n<p>{escape(e.question)}</p>\n'
        f'<p class="small">The lecture: {escape(e.claim)}</p>\n{part}<ul class="verdicts">\n{verdicts}\n</ul>\n'
        f"{pictures}\n{tables}\n<details><summary>The code ({escape(module.__name__)}, {entry.seconds:.0f} s)</summary>"
        f"<pre>{code}</pre></details>\n</section>"
    )


def _verdict(verdict: Verdict) -> str:
    kind, word = VERDICTS[verdict.holds]
    return (
        f'<li class="{kind}"><span class="mark">{word}</span> {escape(verdict.claim)}<br>'
        f'<span class="small">{escape(verdict.evidence)}</span></li>'
    )


def _picture(picture: Picture) -> str:
    panels = "\n".join(picture.panels)
    return (
        f'<figure>\n<h3>{escape(picture.title)}</h3>\n<div class="panels">\n{panels}\n</div>\n'
        f"<figcaption>{escape(picture.caption)}</figcaption>\n</figure>"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in table.columns)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(c)}</td>" for c in row[1:]) + "</tr>"
        for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<h3>{escape(table.title)}</h3>\n<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>\n{note}"
    )
