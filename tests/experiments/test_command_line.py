"""The command line and the report, without running what takes long."""

import html.parser
import os
import re
import signal
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from rich.console import Console

from experiments import __main__ as entry, command_line, drawing, report
from experiments.experiment import Experiment, Outcome, Picture, Session, Table, Verdict, efforts
from experiments.statistics import Estimate


def draw(axes: Axes) -> None:
    axes.plot([1, 2, 3], [1e-5, 1e-3, 10.0], "o-", color=drawing.FIRST, label="a & b")
    drawing.logarithmic(axes, "y")
    axes.set_xlabel("x < 3")
    axes.legend()


def answer(session: Session) -> Outcome:
    done = list(session.each(["one", "two"]))
    return Outcome(
        [Verdict("1 < 2", True, "yes & yes"), Verdict("2 < 1", False, "no"), Verdict("x < y", None, "who knows")],
        [Table("T", ["", "value"], [[d, f"{len(d)}"] for d in done], "note")],
        [Picture("P", [drawing.panel(draw, "title", "what is seen")], "caption")],
        session.interrupted,
    )


SMALL = Experiment("small", "A small one", "Is it?", "It is (slide “One”).", answer)


class Structure(html.parser.HTMLParser):
    """Checks that every element that is opened is closed, in order."""

    VOID = ("meta", "br", "use", "path", "rect", "line", "circle")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page() -> str:
    return report.render([report.Entry(SMALL, answer(Session()), 1.0)], seed=0, size="quick")


def test_the_report_is_well_formed(page: str) -> None:
    structure = Structure()
    structure.feed(page)
    structure.close()
    assert structure.open == []
    tags = {tag for tag, _ in structure.seen}
    assert {"svg", "table", "figure", "figcaption", "details"} <= tags
    for words in ("Holds here.", "Does not hold here.", "Undecided here.", "1 &lt; 2", "yes &amp; yes", "caption"):
        assert words in page


def test_the_contents_list_every_experiment_with_its_marks() -> None:
    other = Experiment("other", "Another & one", "Or is it?", "It is.", answer)
    entries = [report.Entry(e, answer(Session()), 1.0) for e in (SMALL, other)]
    contents = report.render(entries, seed=0, size="quick").split("<nav>")[1].split("</nav>")[0]
    for words in ('<a href="#small">A small one</a>', '<a href="#other">Another &amp; one</a>', "Or is it?"):
        assert words in contents
    assert re.findall(r">([✓✗?])</span>", contents) == ["✓", "✗", "?"] * 2 + ["✓", "✗", "?"]  # the last: the legend
    assert 'aria-label="holds here, does not hold here, undecided here"' in contents
    assert '</span> 2 claims hold here, <span class="no">✗</span> 2 do not' in contents


def test_the_report_is_self_contained(page: str) -> None:
    outside = re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)
    assert "http" not in outside
    assert "@import" not in outside
    structure = Structure()
    structure.feed(page)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in structure.seen}
    for _, attributes in structure.seen:
        assert "src" not in attributes
        assert str(attributes.get("href") or "#").startswith("#")
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", outside))


def test_links_inside_the_report_lead_somewhere_and_ids_are_unique(page: str) -> None:
    structure = Structure()
    structure.feed(page)
    ids = [a["id"] for _, a in structure.seen if "id" in a]
    for _, attributes in structure.seen:
        if "href" in attributes:
            assert str(attributes["href"])[1:] in ids
    for target in re.findall(r"url\(#([^)]*)\)", re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)):
        assert target in ids


def test_panels_take_their_colors_and_their_size_from_the_page() -> None:
    svg = drawing.panel(draw, "title", "what is seen")
    assert "var(--first)" in svg
    assert "var(--ink)" in svg
    assert not re.search(r"#00fe\d\d", svg)
    assert re.match(r'<svg viewBox="[^"]+" style="max-width: \d+px" role="img" aria-label="what is seen">', svg)
    assert ">x &lt; 3<" in svg
    for role in drawing.ROLES.values():
        assert report.STYLE.count(f"--{role}:") == 3, f"{role} needs a color for light, dark and print"


def test_panels_are_the_same_each_time() -> None:
    assert drawing.panel(draw, "title", "alt") == drawing.panel(draw, "title", "alt")


@pytest.mark.parametrize(("value", "text"), [(1e-3, "10⁻³"), (1.0, "1"), (10.0, "10¹"), (1e12, "10¹²")])
def test_powers_of_ten(value: float, text: str) -> None:
    assert drawing.power_of_ten(value) == text


@pytest.mark.parametrize("limits", [(0.017, 0.55), (0.2, 0.6), (2e-5, 3e-5), (1e-8, 1e3)])
def test_logarithmic_axes_have_labels_to_read_by(limits: tuple[float, float]) -> None:
    labels: list[str] = []

    def draw(axes: Axes) -> None:
        axes.plot([1, 2], limits)
        drawing.logarithmic(axes, "y")
        low, high = axes.get_ylim()
        labels.extend(str(place) for place in axes.get_yticks() if low <= place <= high)

    drawing.panel(draw, "title", "alt")
    assert len(labels) >= 2


def test_tables_from_columns_and_efforts_by_size() -> None:
    table = Table.of("T", [1, 2], {"": lambda n: n, "square": lambda n: f"{n * n:.1f}"}, "note")
    assert table == Table("T", ["", "square"], [["1", "1.0"], ["2", "4.0"]], "note")
    found = efforts(seeds=(1, 2, 3), names=(("a",), ("b",), ("c",)))
    assert [(found[size].seeds, found[size].names) for size in ("tiny", "quick", "full")] == [
        (1, ("a",)),
        (2, ("b",)),
        (3, ("c",)),
    ]


def test_a_picture_has_a_panel_for_each_entry_with_medians_and_intervals() -> None:
    seen: dict[str, list[float]] = {}

    def draw(axes: Axes, samples: list[list[float]]) -> None:
        drawing.lines(axes, {"line": ([1, 2], samples)}, band=True, marker="")
        drawing.intervals(axes, [1, 2], [Estimate(2.0, 1.0, 1.0, 4.0)] * 2)
        (line, dots, *_) = axes.get_lines()
        seen[axes.get_title(loc="left")] = [*line.get_ydata(), *dots.get_ydata()]

    drawn = {"one": [[0.0, 1.0], [2.0, 3.0], [9.0, 5.0]], "two": [[7.0, 8.0]]}
    picture = drawing.picture("P", "caption", "what is seen", draw, drawn)
    assert ['aria-label="one: what is seen"' in svg for svg in picture.panels] == [True, False]
    assert seen == {"one": [2, 3, 2, 2], "two": [7, 8, 2, 2]}
    with pytest.raises(ValueError, match="zip"):  # no look for a second line
        drawing.panel(lambda axes: drawing.lines(axes, dict.fromkeys("ab", ([1], [1])), drawing.LOOKS[:1]), "t", "a")


def test_help_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        command_line.main(["--help"])
    assert leaving.value.code == 0
    text = capsys.readouterr().out
    for name in command_line.EXPERIMENTS:
        assert name in text
    for word in ("--seed", "--out", "--full", "--verbose", "report/", "Ctrl-C"):
        assert word in text


@pytest.mark.parametrize("name", command_line.EXPERIMENTS)
def test_help_of_one_experiment_says_what_it_asks(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        command_line.main([name, "--help"])
    assert leaving.value.code == 0
    assert command_line.EXPERIMENTS[name].question in capsys.readouterr().out


def test_an_unknown_name_is_named_with_its_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["real-data"]) == 2
    said = capsys.readouterr().err
    assert "'real-data'" in said
    assert "did you mean 'real_data'?" in said
    assert "gradients" in said


def test_a_negative_seed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["xor", "--seed", "-1"]) == 2
    assert "at least 0" in capsys.readouterr().err


def test_a_run_writes_the_report_and_prints_a_line_a_claim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run([SMALL], 0, "quick", tmp_path / "new", Console()) == 0
    page = tmp_path / "new" / "index.html"
    assert [p.name for p in page.parent.iterdir()] == ["index.html"]
    assert "A small one" in page.read_text(encoding="utf-8")
    said = capsys.readouterr().out
    said = [line for line in said.splitlines() if line not in ("", "one", "two")]  # what is being done
    assert said[:-1] == ["Holds: small: 1 < 2", "Does not hold: small: 2 < 1", "Undecided: small: x < y"]
    assert str(page) in said[-1]


def test_verbose_prints_tables_and_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run([SMALL], 0, "quick", tmp_path, Console(), verbose=True) == 0
    said = capsys.readouterr().out
    for word in ("Is it?", "value", "note", "Holds: 1 < 2 yes & yes", "Undecided: x < y who knows", "index.html"):
        assert word in said


def test_the_full_size_says_how_long_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = Experiment("long", "Long", "?", "!", answer, full_minutes=100.0)
    assert command_line.run([SMALL, long], 0, "full", tmp_path, Console(width=200)) == 0
    assert "roughly 1.7 hours" in capsys.readouterr().out
    assert command_line.run([SMALL], 0, "full", tmp_path, Console(width=200)) == 0
    assert "roughly 3 minutes" in capsys.readouterr().out
    assert command_line.run([SMALL], 0, "quick", tmp_path, Console(width=200)) == 0
    assert "roughly" not in capsys.readouterr().out


def test_ctrl_c_keeps_what_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(session: Session) -> Outcome:
        os.kill(os.getpid(), signal.SIGINT)
        return answer(session)

    before = signal.getsignal(signal.SIGINT)
    others = Experiment("two", "Interrupted", "?", "!", interrupted), Experiment("three", "Never", "?", "!", answer)
    chosen = [SMALL, *others]
    assert command_line.run(chosen, 0, "quick", tmp_path, Console()) == command_line.INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is before
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "A small one" in page
    assert "Interrupted: this is a part of it." in page
    assert '<section id="two">' in page
    assert '<section id="three">' not in page
    assert "Ctrl-C again" in capsys.readouterr().out


def test_a_second_ctrl_c_breaks_off(tmp_path: Path) -> None:
    def impatient(session: Session) -> Outcome:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("was not broken off")

    chosen = [SMALL, Experiment("two", "Impatient", "?", "!", impatient)]
    assert command_line.run(chosen, 0, "quick", tmp_path, Console()) == command_line.INTERRUPTED
    assert "A small one" in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["experiments.command_line", "experiments.proben1.command_line"])
def test_without_the_extra_it_says_what_to_install(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(entry.NEEDED, "surely_not_installed", "surely-not-installed")
    assert entry.main(command) == 2
    said = capsys.readouterr().err
    assert "surely-not-installed" in said
    assert "pip install -e '.[experiments]'" in said
