"""The page of a report: well formed, self-contained, escaped, and its plots where the numbers say."""

import dataclasses
import itertools
import json
import re
from html.parser import HTMLParser

import pytest

from jnn.gradcheck import Check, Element, LeafEvidence, Mutation, Report, RuleReport, check, check_rules
from jnn.gradcheck.report import ErrorByElement, StepCurve, html, svg as _svg

from .rules import numbers, right_product, wrong_product

HOSTILE = "<script>alert('1')</script> & \"quoted\" \x00 \ud800"
ESCAPED = "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt; &amp; &quot;quoted&quot; \ufffd \ufffd"
NAN, INF = float("nan"), float("inf")

STEPS = StepCurve(
    direction="random direction in w",
    steps=(1e-1, 1e-3, 1e-5, 1e-7),
    to_rule=(0.5, 0.5, 0.5, 0.5),
    to_reference=(1e-2, 1e-6, 0.0, NAN),
    estimate=2.0,
    bar=1e-6,
    left=1.0,
    right=3.0,
    rule=1.0,
    reference=2.0,
)
LEAF = LeafEvidence(
    path="params['w']",
    shape=(2, 3),
    dtype="float32",
    verdict="fail",
    comparisons=24,
    wrong_share=0.5,
    worst=Element("params['w']", (1, 2), -1.5, 1.5, 3e7, 8.0, "random 2"),
    median_ulps=0.5,
    pattern="sign flipped",
    detectable=1e-6,
    detectable_element=INF,
    errors=ErrorByElement((0, 1, 2, 3, 4, 5), (0.0, 1.0, 100.0, 1e4, NAN, INF), (10.0,) * 6, False),
    steps=(STEPS,),
)
REPORT = Report(
    function="norm",
    verdict="fail",
    summary="wrong in params['w']",
    leaves=(LEAF,),
    checks=(Check("reverse mode", "pass", "2 cotangents"), Check("forward mode", "skipped", "has no forward mode")),
    mutations=(
        Mutation("factor 1.001", "params['w']", False),
        Mutation("sign flipped", "params['w']", True),
        Mutation("transposed", "params['w']", None),
    ),
    reference="autodiff of its primal",
    removed=("custom_vjp norm",),
    sampled=("2000 of 1000000 elements",),
    snippet="print(got)",
    environment={"jax": "0.10.2", "backend": "cpu"},
    seconds=1.25,
)


class Page(HTMLParser):
    """Refuses tags that are not closed in order; collects the tags, texts and classes."""

    VOID = ("meta",)

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts, self.classes = [], [], [], set()
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.classes |= set((dict(attrs).get("class") or "").split())
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    def said(self):
        return " ".join(" ".join(self.texts).split())


@pytest.mark.parametrize(
    "report",
    [
        Report("f", "pass", "nothing"),
        dataclasses.replace(REPORT, verdict="kink"),
        dataclasses.replace(REPORT, verdict="inconclusive", leaves=(dataclasses.replace(LEAF, errors=None, steps=()),)),
        dataclasses.replace(REPORT, leaves=(dataclasses.replace(LEAF, worst=None),)),
        Report(
            "loss", "fail", "wrong: norm", rules=(RuleReport("norm", "custom_vjp", "model.py:3", "call 1", REPORT),)
        ),
    ],
    ids=["bare", "kink", "no plots", "no worst element", "rules"],
)
def test_pages_are_well_formed_and_load_nothing(report):
    text = report.to_html()
    page = Page(text)
    assert report.verdict in page.said()
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(tag for tag, _ in page.tags)
    assert not re.search(r"https?:|url\(|@import", text)
    targets = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert all(attrs["href"][1:] in targets for tag, attrs in page.tags if tag == "a")
    style = text[text.index("<style>") : text.index("</style>")]
    for name in page.classes:
        assert f".{name}" in style, name


def test_the_page_says_what_the_report_says():
    said = Page(REPORT.to_html()).said()
    for text in (
        "params['w'] float32[2, 3] ✗ fail",
        "params['w'][1, 2] got -1.5 expected 1.5 seen with random 2",
        "3.0e+07 ulps allowed 8 median 0.5",
        "50.0% of 24 compared sign flipped leaf 1e-06 element nothing",
        "reverse mode ✓ pass 2 cotangents forward mode – skipped has no forward mode",
        "1 of 2 deliberate faults",
        "params['w'] factor 1.001 sign flipped transposed",
        "print(got)",
        "2000 of 1000000 elements",
        "jax 0.10.2",
        "differences: 2 ± 1e-06",
        "order 1 · seed 0 · 1.2 s",
    ):
        assert text in said, text


def test_everything_is_escaped():
    def hostile(value):
        if isinstance(value, str) and value not in ("fail", "pass", "skipped"):
            return HOSTILE
        if isinstance(value, tuple):
            return tuple(map(hostile, value))
        if isinstance(value, dict):
            return {HOSTILE: HOSTILE}
        if dataclasses.is_dataclass(value):
            return type(value)(**{f.name: hostile(getattr(value, f.name)) for f in dataclasses.fields(value)})
        return value

    inner = hostile(REPORT)
    rule = RuleReport(HOSTILE, HOSTILE, HOSTILE, HOSTILE, inner)
    text = dataclasses.replace(inner, rules=(rule,), verdict=HOSTILE).to_html()
    page = Page(text)
    assert "<script" not in text
    # Verdict, function and summary twice, leaf, element, probe, pattern, checks, faults, directions, ..., at least.
    assert text.count(ESCAPED) > 30
    assert "script" not in {tag for tag, _ in page.tags}
    text.encode("utf-8")


def test_saved_json_renders_the_same_page():
    assert html.render(json.loads(REPORT.to_json())) == REPORT.to_html()


def positions(path):
    return [(float(x), float(y)) for x, y in re.findall(r"M(-?[\d.]+) (-?[\d.]+)", path)]


def drawn(svg, class_):
    (found,) = [attrs for tag, attrs in Page(svg).tags if attrs.get("class") == class_]
    return found


def test_errors_stand_on_a_log_scale_with_the_allowance():
    svg = _svg.by_element(REPORT.to_dict()["leaves"][0]["errors"])
    fine, beyond = positions(drawn(svg, "dot fine")["d"]), positions(drawn(svg, "cross")["d"])
    # The cross starts 2.5 above and to the left of its point.
    points = fine + [(x + 2.5, y + 2.5) for x, y in beyond]
    assert len(fine) == 2
    assert len(beyond) == 4
    across, down = zip(*points, strict=True)
    gaps = [b - a for a, b in itertools.pairwise(across)]
    assert gaps == pytest.approx([gaps[0]] * 5, abs=0.11)
    zero, one, hundred, myriad, nan, infinite = down
    # Two decades each; coordinates are printed with one decimal.
    assert one - hundred == pytest.approx(hundred - myriad, abs=0.21)
    assert zero == _svg.ZERO_LANE > one > hundred > myriad > nan == infinite == _svg.INFINITE_LANE
    (_, line), *_ = positions(drawn(svg, "allowed")["d"])
    assert line == pytest.approx((one + hundred) / 2, abs=0.11)


def test_an_astronomic_allowance_does_not_flatten_the_plot():
    plain = {"indices": [0, 1, 2, 3], "ulps": [1.0, 2.0, 50.0, 90.0], "allowed": [10.0] * 4}
    wild = plain | {"allowed": [10.0, 10.0, 10.0, 1e39]}
    heights = [positions(drawn(_svg.by_element(e), "cross")["d"])[0][1] for e in (plain, wild)]
    assert heights[0] == heights[1]


def test_the_curve_by_step_and_the_opinions():
    curve = REPORT.to_dict()["leaves"][0]["steps"][0]
    svg = _svg.by_step(curve)
    track = [tuple(map(float, p.split(","))) for p in drawn(svg, "curve reference")["points"].split()]
    # Three points: the NaN is left out; the step grows to the right, the exact zero has its lane.
    assert [y for _, y in track][2] == _svg.ZERO_LANE
    assert track[0][0] > track[1][0] > track[2][0]
    assert track[0][0] - track[1][0] == pytest.approx(track[1][0] - track[2][0], abs=0.11)
    (rule,) = {y for _, y in (p.split(",") for p in drawn(svg, "curve rule")["points"].split())}
    assert float(rule) < track[0][1] < track[1][1]
    line = _svg.opinions(curve)
    (left, _), (right, _) = (positions(drawn(line, f"mark {side}")["d"])[0] for side in ("left", "right"))
    (reference, _), (square, _) = (positions(drawn(line, f"mark {name}")["d"])[0] for name in ("reference", "rule"))
    assert (left + right) / 2 == pytest.approx(reference, abs=0.11)
    assert square + 3.5 == pytest.approx(left, abs=0.11)


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_plots_of_nothing_finite(bad):
    Page(_svg.by_element({"indices": [3], "ulps": [bad], "allowed": [bad]}))
    names = ("estimate", "bar", "left", "right", "rule", "reference")
    curve = {"direction": "x", "steps": [0.1, 0.01], "to_rule": [bad, 0.0], "to_reference": [bad, bad]}
    curve |= dict.fromkeys(names, bad)
    Page(_svg.by_step(curve))
    Page(_svg.opinions(curve))
    assert _svg.by_element({"indices": [], "ulps": [], "allowed": []}) == ""


def test_pages_of_real_reports():
    x, y = numbers(4, 3), numbers(4, 3, seed=1)
    report = check(wrong_product, x, y)
    page = Page(report.to_html())
    worst = report.worst
    assert f"y[{', '.join(map(str, worst.index))}] got {worst.value:.9g} expected {worst.expected:.9g}" in page.said()
    # One plot of errors a leaf, and two a curve of differences.
    assert sum(tag == "svg" for tag, _ in page.tags) == sum(1 + 2 * len(v.steps) for v in report.leaves)
    folded = [attrs for tag, attrs in page.tags if tag == "details"]
    assert ["open" in attrs for attrs in folded] == [False, True]

    inside = check_rules(lambda x, y: right_product(x, y).sum() + wrong_product(x, y).sum(), x, y)
    sections = [attrs for tag, attrs in Page(inside.to_html()).tags if attrs.get("class") == "inner"]
    assert [s["id"] for s in sections] == ["rule-1", "rule-2"]
    assert ["open" in s for s in sections] == [r.report.verdict != "pass" for r in inside.rules]
    assert sorted(r.report.verdict for r in inside.rules) == ["fail", "pass"]
