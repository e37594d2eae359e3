"""A report as one self-contained HTML page: inline style and plots, no script, nothing loaded from elsewhere.

The page is made from `Report.to_dict()` alone, so that a saved JSON can be rendered as well:
`render(json.loads(text))`. It follows the reader's light or dark preference, stacks its tables on narrow screens and
opens everything when printed.
"""

import math
from collections.abc import Sequence
from typing import Any

from jnn.gradcheck.report.svg import Markup, brief, by_element, by_step, join, number, opinions, tag

_SIGNS = {"pass": "✓", "fail": "✗", "kink": "∧", "inconclusive": "?", "skipped": "–"}
# A head too long to stand beside its cell on a narrow screen, and what stands there instead.
_SEEN = "what was seen, or why it did not run"
_SHORT = {_SEEN: "seen", "changes nothing": "no change"}


def render(report: dict[str, Any]) -> str:
    """The page of a report.

    Args:
        report: what `Report.to_dict()` returns, or the parsed text of `Report.to_json()`.

    Returns:
        A complete HTML document.
    """
    title = f"{report['verdict']}: {report['function']} · gradcheck"
    head = tag(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        tag("style", Markup(_STYLE)),
    )
    seconds = number(report["seconds"])
    facts = [f"order {report['order']}", f"seed {report['seed']}"]
    facts += [] if math.isnan(seconds) else [f"{seconds:.1f} s"]
    header = tag(
        "header",
        tag("p", "gradcheck", class_="kicker"),
        tag("h1", _badge(report["verdict"]), " ", tag("code", report["function"])),
        tag("p", report["summary"], class_="summary"),
        tag("p", _compared(report), class_="dim"),
        tag("p", " · ".join(facts), class_="dim"),
    )
    body = tag("main", header, *_sections(report, 2), _environment(report))
    return f"<!doctype html>\n{tag('html', head, tag('body', body), lang='en')}\n"


def _compared(report: dict[str, Any]) -> str:
    return f"Compared with {report['reference']}." if report["reference"] else ""


def _sections(report: dict[str, Any], level: int) -> list[Markup]:
    """The parts of a report that the report of a rule inside another has too."""
    parts = [
        _rules(report["rules"], level),
        _section("Leaves", level, _leaves(report["leaves"])) if report["leaves"] else "",
        _section("Checks", level, _checks(report["checks"])) if report["checks"] else "",
        _plots(report["leaves"], level),
        _power(report["mutations"], level),
        _section("Reproduce", level, tag("pre", report["snippet"])) if report["snippet"] else "",
        _scope(report, level),
    ]
    return [Markup(part) for part in parts if part]


def _leaves(leaves: Sequence[dict[str, Any]]) -> Markup:
    rows = []
    for leaf in leaves:
        worst = leaf["worst"]
        remarks = [r for r in (leaf["pattern"], leaf["note"], leaf["expected"] and "declared as expected") if r]
        element = error = Markup("–")
        if worst is not None:
            where = worst["path"] + (f"[{', '.join(map(str, worst['index']))}]" if worst["index"] else "")
            element = join(
                [
                    tag("code", where),
                    _pair("got", brief(worst["value"], 9)),
                    _pair("expected", brief(worst["expected"], 9)),
                    _pair("seen with", worst["probe"]),
                ]
            )
            error = join(
                [
                    tag("div", _ulps(worst["error_ulps"]), " ulps", class_="pair"),
                    *([tag("div", "of the leaf's largest", class_="pair")] if worst["of_largest"] else []),
                    _pair("allowed", _ulps(worst["allowed_ulps"])),
                    _pair("median", _ulps(leaf["median_ulps"])),
                ]
            )
        kind = f"{leaf['dtype']}{leaf['shape']}"
        notice = [
            _pair("leaf", _relative(leaf["detectable"])),
            _pair("element", _relative(leaf["detectable_element"])),
            _pair("rounding", _relative(leaf["detectable_rounding"])),
            _pair("rounding of an element", _relative(leaf["detectable_rounding_element"])),
        ]
        rows.append(
            [
                join([tag("code", leaf["path"]), tag("small", kind)]),
                _badge(leaf["verdict"]),
                element,
                error,
                join([_share(leaf["wrong_share"]), _pair("of", f"{leaf['comparisons']} compared")]),
                "; ".join(remarks) or "–",
                join(notice),
            ]
        )
    heads = ("leaf", "verdict", "worst element", "error", "wrong", "pattern", "would notice")
    note = (
        "An ulp is one unit in the last place of the leaf's dtype. The allowance is calibrated: what autodiff of the "
        "same function commits in the same dtype, plus a floor. “Would notice” is the smallest relative error that "
        "would have failed here, of the whole leaf, of a typical single element, and of the arithmetic alone."
    )
    return join([_table(heads, rows), tag("p", note, class_="note")])


def _checks(checks: Sequence[dict[str, Any]]) -> Markup:
    rows = [[tag("span", c["name"], class_="name"), _badge(c["outcome"]), c["why"] or "–"] for c in checks]
    return _table(("check", "outcome", _SEEN), rows)


def _plots(leaves: Sequence[dict[str, Any]], level: int) -> Markup:
    shown = []
    for leaf in leaves:
        figures = []
        if leaf["errors"]:
            sampled = " (a sample of the elements)" if leaf["errors"]["sampled"] else ""
            legend = _legend(fine="within the allowance", beyond="beyond it", allowed="the allowance")
            title = tag("figcaption", tag("strong", f"Error by element{sampled}"))
            figures.append(tag("figure", title, by_element(leaf["errors"]), legend))
        for curve in leaf["steps"]:
            title = tag("figcaption", tag("strong", f"Differences: {curve['direction']}"))
            legend = _legend(rule="from the rule", reference="from the reference", bar="error bar")
            text = f"differences: {brief(curve['estimate'], 9)} ± {brief(curve['bar'], 2)}"
            below = (legend, opinions(curve), tag("figcaption", text))
            figures.append(tag("figure", title, by_step(curve), *below))
        if figures:
            head = tag("summary", tag("code", leaf["path"]), " ", _badge(leaf["verdict"]))
            opened = "open" if leaf["verdict"] != "pass" or len(leaves) == 1 else None
            shown.append(tag("details", head, tag("div", *figures, class_="plots"), open=opened))
    return _section("Plots", level, *shown) if shown else Markup("")


def _power(mutations: Sequence[dict[str, Any]], level: int) -> Markup:
    if not mutations:
        return Markup("")
    tried = [m for m in mutations if m["noticed"] is not None]
    noticed = sum(bool(m["noticed"]) for m in tried)
    score = tag(
        "p",
        tag("strong", f"{noticed} of {len(tried)}"),
        " deliberate faults in the rule's result would have been noticed by this very check.",
    )
    rows = []
    for path in dict.fromkeys(m["path"] for m in mutations):
        found = [
            [m["name"] for m in mutations if m["path"] == path and m["noticed"] is kind] for kind in (False, True, None)
        ]
        rows.append([tag("code", path), *(", ".join(names) or "–" for names in found)])
    rows.sort(key=lambda row: row[1] == "–")
    return _section("Power", level, score, _table(("leaf", "missed", "noticed", "changes nothing"), rows))


def _rules(rules: Sequence[dict[str, Any]], level: int) -> Markup:
    if not rules:
        return Markup("")
    rows, sections = [], []
    for k, rule in enumerate(rules):
        inner, name = rule["report"], f"rule-{k + 1}"
        link = tag("a", tag("code", rule["name"]), href=f"#{name}")
        rows.append([link, rule["kind"], tag("code", rule["site"]), rule["visit"], _badge(inner["verdict"])])
        head = tag("summary", tag(f"h{level}", tag("code", rule["name"]), " ", _badge(inner["verdict"])))
        where = tag("p", f"{rule['kind']}, called at ", tag("code", rule["site"]), f" ({rule['visit']})")
        said = tag("p", inner["summary"], class_="summary")
        reference = tag("p", _compared(inner), class_="dim")
        deeper = _sections(inner, min(level + 1, 6))
        opened = None if inner["verdict"] == "pass" else "open"
        sections.append(
            tag("details", head, where, said, reference, *deeper, id=name, class_="inner", open=opened),
        )
    table = _table(("rule", "kind", "call site", "visit", "verdict"), rows)
    return join([_section("Rules inside the function", level, table), *sections])


def _scope(report: dict[str, Any], level: int) -> Markup:
    listed = [
        ("replaced by its primal in the reference", report["removed"]),
        ("not rewritten", report["not_rewritten"]),
        ("sampled", report["sampled"]),
    ]
    rows = [[title, join([tag("div", item) for item in items])] for title, items in listed if items]
    return _section("What was compared", level, _definitions(rows)) if rows else Markup("")


def _environment(report: dict[str, Any]) -> Markup:
    rows = list(report["environment"].items())
    return _section("Environment", 2, _definitions(rows)) if rows else Markup("")


def _section(title: str, level: int, *content: object) -> Markup:
    return tag("section", tag(f"h{level}", title), *content)


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    """A table whose cells know their column's head, which a narrow screen shows in the stacked cells."""
    head = tag("thead", tag("tr", *(tag("th", h, scope="col") for h in heads)))
    # The cell's content is one element, so that it stays together beside the head.
    body = [
        tag("tr", *(tag("td", tag("div", c), data_head=_SHORT.get(h, h)) for h, c in zip(heads, row, strict=True)))
        for row in rows
    ]
    return tag("div", tag("table", head, tag("tbody", *body)), class_="scroll")


def _definitions(rows: Sequence[Sequence[object]]) -> Markup:
    return tag("dl", *(join([tag("dt", term), tag("dd", meaning)]) for term, meaning in rows))


def _badge(verdict: str) -> Markup:
    """A verdict, told by sign and word as well as by color."""
    kind = verdict if verdict in _SIGNS else "skipped"
    return tag("span", f"{_SIGNS[kind]} {verdict}", class_=f"badge {kind}")


def _legend(**meanings: str) -> Markup:
    entries = [tag("span", tag("i", class_=f"key {kind}"), meaning) for kind, meaning in meanings.items()]
    return tag("figcaption", *entries, class_="legends")


def _pair(name: str, value: object) -> Markup:
    return tag("div", tag("span", name, class_="dim"), " ", value, class_="pair")


def _ulps(value: Any) -> str:
    x = number(value)
    return "–" if math.isnan(x) else f"{x:.2g}" if x < 10 else f"{x:.0f}" if x < 1e5 else f"{x:.1e}"


def _relative(value: Any) -> str:
    x = number(value)
    return "–" if math.isnan(x) else "nothing" if math.isinf(x) else f"{x:.1g}"


def _share(value: Any) -> str:
    x = number(value)
    return "0" if x == 0 else f"{x:.1%}" if x >= 1e-3 else f"{x:.1e}"


_STYLE = """
:root{color-scheme:light dark;--page:#fff;--raised:#f5f6f8;--ink:#1b1f24;--dim:#5b6470;--line:#d8dde3;--link:#0b57d0;
--pass:#17692e;--pass-bg:#dff3e4;--fail:#a3131f;--fail-bg:#fde3e4;--kink:#7a4b00;--kink-bg:#fdeec9;
--inconclusive:#5b3a9e;--inconclusive-bg:#ece5fb;--skipped:#5b6470;--skipped-bg:#eceff2;
--rule:#1f5fd0;--reference:#c2570c;--cross:#c81e2b;--fine:#5f7186}
@media (prefers-color-scheme:dark){:root{--page:#14171b;--raised:#1d2127;--ink:#e6e9ed;--dim:#9aa5b1;--line:#363d46;
--link:#8ab4f8;--pass:#7ddb95;--pass-bg:#16361f;--fail:#ff9a9f;--fail-bg:#4a171c;--kink:#f3c566;--kink-bg:#41300b;
--inconclusive:#c9b2ff;--inconclusive-bg:#33254f;--skipped:#9aa5b1;--skipped-bg:#2a3038;
--rule:#7fb0ff;--reference:#f59a4c;--cross:#ff6b74;--fine:#8fa1b5}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:1120px;margin:0 auto;padding:24px 20px 48px}
header{border-bottom:1px solid var(--line);padding-bottom:8px}
p{margin:6px 0}.kicker{color:var(--dim);margin:0}.summary{font-size:17px}
h1,h2,h3,h4,h5,h6{line-height:1.3;margin:0 0 10px}h1{font-size:26px;font-weight:600}h2{font-size:19px}
h3,h4,h5,h6{font-size:16px}summary>*{display:inline;margin:0}
section{margin-top:28px}a{color:var(--link)}.dim,small,.note,figcaption,dt{color:var(--dim)}.note{font-size:13px}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.92em}
pre{background:var(--raised);border:1px solid var(--line);border-radius:6px;padding:12px;white-space:pre-wrap;margin:0}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px}small{display:block;font-size:12.5px}
th{color:var(--dim);font-weight:600;text-align:left;white-space:nowrap}
th,td{padding:7px 14px 7px 0;border-bottom:1px solid var(--line);vertical-align:top}
td .dim{font-size:12.5px}td .badge,td small,.name,.pair{white-space:nowrap}
.badge{border-radius:5px;padding:1px 8px;font-size:.82em;font-weight:600;white-space:nowrap}
.badge.pass{color:var(--pass);background:var(--pass-bg)}.badge.fail{color:var(--fail);background:var(--fail-bg)}
.badge.kink{color:var(--kink);background:var(--kink-bg)}.badge.skipped{color:var(--skipped);background:var(--skipped-bg)}
.badge.inconclusive{color:var(--inconclusive);background:var(--inconclusive-bg)}
dl{display:grid;grid-template-columns:minmax(110px,max-content) 1fr;gap:4px 18px;margin:0;font-size:14px}dd{margin:0}
details{border:1px solid var(--line);border-radius:6px;padding:8px 12px;margin-top:10px}summary{cursor:pointer}
.inner{margin-top:24px}.inner section{margin-top:20px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(300px,100%),1fr));gap:20px 28px;margin-top:12px}
figure{margin:0;max-width:480px;break-inside:avoid}figcaption{font-size:13px}
figcaption strong{color:var(--ink);font-weight:600}
svg{display:block;width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:var(--dim)}
svg .up{font-size:8px}svg .value{fill:var(--ink);font-family:ui-monospace,Menlo,Consolas,monospace}
.grid,.rail{stroke:var(--line);stroke-width:1}.axis{stroke:var(--dim);stroke-width:1}
.allowed{stroke:var(--reference);stroke-width:1.5;fill:none}
.dot{fill:none;stroke-width:4.5;stroke-linecap:round}.dot.fine{stroke:var(--fine)}
.cross{stroke:var(--cross);stroke-width:1.6;fill:none}.bar{stroke:var(--dim);stroke-width:1.2;stroke-dasharray:5 4}
.curve{fill:none;stroke-width:1.5}.curve.rule{stroke:var(--rule)}.curve.reference{stroke:var(--reference)}
.mark.rule{fill:var(--rule)}.mark.reference{fill:var(--reference)}.mark.left,.mark.right,.mark.estimate{fill:var(--ink)}
.whisker{stroke:var(--ink);stroke-width:2}
.legends{display:flex;flex-wrap:wrap;gap:0 14px}.key{display:inline-block;width:9px;height:9px;margin-right:5px}
.key.rule{background:var(--rule)}.key.reference{background:var(--reference);transform:rotate(45deg)}
.key.fine{background:var(--fine);border-radius:50%}.key.beyond::before{content:"×";color:var(--cross);
font:700 15px/9px sans-serif;display:block}.key.allowed{border-top:2px solid var(--reference);height:4px;width:14px}
.key.bar{border-top:2px dashed var(--dim);height:4px;width:16px}
@media (max-width:700px){main{padding:16px 14px 32px}h1{font-size:21px}thead{display:none}
table,tbody,tr,td{display:block}tr{border:1px solid var(--line);border-radius:6px;padding:6px 12px;margin-bottom:10px}
td{display:flex;gap:12px;border:0;padding:3px 0}td>div{min-width:0}.name,.pair,td small{white-space:normal}
td::before{content:attr(data-head);color:var(--dim);font-size:12.5px;flex:0 0 84px}details{padding:8px 10px}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:8px}}
@media print{main{max-width:none;padding:0}body{font-size:12px}tr{break-inside:avoid}.scroll{overflow:visible}
details::details-content{content-visibility:visible;block-size:auto}}
"""
