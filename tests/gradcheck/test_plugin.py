"""The pytest plugin, run on small test files of its own."""

import importlib.metadata
import json
import sys

import pytest

import jnn.gradcheck  # noqa: F401  (before the inner runs: pytester forgets modules that come during one)

pytest_plugins = ["pytester"]

RULES = """
import jax
import jax.numpy as jnp
import numpy as np
import pytest

def rule(backward):
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (backward(g, x),))
    return f

right = rule(lambda g, x: g * jnp.cos(x))
wrong = rule(lambda g, x: -g * jnp.cos(x))
x = jnp.asarray([0.3, 1.2], jnp.float32)
quick = dict(power=False)
"""

TESTS = (
    RULES
    + """
from jnn.gradcheck import GradientError

def test_right(gradcheck):
    assert gradcheck(right, x, **quick).verdict == "pass"

@pytest.mark.parametrize("name", ["a/b", "a b"])
def test_wrong(gradcheck, name):
    gradcheck(wrong, x, **quick)

def test_kink(gradcheck):
    gradcheck(jax.nn.relu, 0 * x, **quick)

def test_kink_allowed(gradcheck):
    assert gradcheck(jax.nn.relu, 0 * x, allow="kink", **quick).verdict == "kink"

def test_caught(gradcheck):
    with pytest.raises(GradientError, match="gradcheck FAIL: sin"):
        gradcheck(wrong, x, **quick)

def test_other_failure(gradcheck):
    report = gradcheck(right, x, **quick)
    assert report.verdict == "fail"

def test_compare(gradcheck):
    gradcheck.compare(jnp.cos, jax.vmap(jax.grad(jnp.sin)), x)
    gradcheck.compare(jnp.sin, jax.vmap(jax.grad(jnp.sin)), x)

def test_rules(gradcheck):
    gradcheck.check_rules(lambda x: jnp.sum(wrong(x) ** 2), x)

def test_allow_fail(gradcheck):
    with pytest.raises(ValueError, match="declare a deliberate deviation with expected="):
        gradcheck(wrong, x, allow=("fail",))

def test_without():
    assert False
"""
)


def run(pytester, text, *options):
    pytester.makeconftest('pytest_plugins = ["jnn.gradcheck.plugin"]')
    pytester.makepyfile(test_it=text)
    # As users' pytest finds it: not imported yet. Other tests of this process may have.
    sys.modules.pop("jnn.gradcheck.plugin", None)
    return pytester.runpytest_inprocess("-W", "error", "-p", "no:cacheprovider", *options)


def test_verdicts_sections_and_files(pytester):
    result = run(pytester, TESTS, "--gradcheck-html=out", "--junit-xml=junit.xml")
    result.assert_outcomes(passed=4, failed=7)
    text = result.stdout.str()
    # The failure shows the user's line and a short message; the report stands once, in a section.
    result.stdout.fnmatch_lines(
        [
            ">       gradcheck(wrong, x, [*][*]quick)",
            "E       *GradientError: gradcheck FAIL: sin: wrong in x (sign flipped)",
            "E       x[[]?[]]: got *, expected * (* ulps; allowed *)",
            "*- gradcheck -*",
            "gradcheck FAIL: sin",
            "*reverse mode*",
            "*- gradcheck files -*",
            "*E *gradcheck KINK: relu*",
            "E *allow=('kink',) accepts it)",
            "*= gradcheck reports =*",
        ]
    )
    assert "plugin.py" not in text.split("short test summary")[0]
    failing = text.split("= FAILURES =")[1]
    assert failing.count("gradcheck KINK: relu\n") == 1
    sections = {part.split(" _", 1)[0]: part for part in failing.split("_ test_")[1:]}
    assert "gradcheck PASS: sin" in sections["other_failure"]
    assert "gradcheck FAIL" in sections["compare"]
    assert "custom_vjp sin" in sections["rules"]
    assert "- gradcheck" not in sections["without"]

    pages = sorted(p.name for p in (pytester.path / "out").glob("*.html"))
    # Names tell the tests apart, also where only replaced characters differ.
    assert len(pages) == 6
    assert sum(p.startswith("test_it.test_wrong-a-b") for p in pages) == 2
    assert len(list((pytester.path / "out").iterdir())) == 12
    (kink,) = (pytester.path / "out").glob("*kink*.json")
    assert json.loads(kink.read_text(encoding="utf-8"))["verdict"] == "kink"
    listed = text.split("= gradcheck reports =")[1]
    assert all(listed.count(p) == 1 for p in pages)
    assert (pytester.path / "junit.xml").read_text(encoding="utf-8").count('name="gradcheck report"') == 6


def test_every_report_on_request(pytester):
    text = RULES + "def test_two(gradcheck):\n    gradcheck(right, x, **quick)\n    gradcheck(jnp.cos, x, **quick)\n"
    result = run(pytester, text, "--gradcheck-html=out", "--gradcheck-every")
    result.assert_outcomes(passed=1)
    pages = sorted((pytester.path / "out").glob("*.json"))
    assert [json.loads(p.read_text(encoding="utf-8"))["function"] for p in pages] == ["sin", "cos"]
    result.stdout.fnmatch_lines(["*= gradcheck reports =*", "out*test_two*-0.html", "out*test_two*-1.html"])


def test_every_needs_a_folder(pytester):
    result = run(pytester, "def test_nothing(): pass", "--gradcheck-every")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--gradcheck-every needs --gradcheck-html DIR*"])


def test_under_hypothesis_the_smallest_failure_is_shown(pytester):
    text = (
        RULES
        + """
from hypothesis import given, settings, strategies as st

@settings(max_examples=5, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 4))
def test_sizes(gradcheck, n):
    gradcheck(wrong if n > 2 else right, jnp.ones(n, jnp.float32), **quick)
"""
    )
    result = run(pytester, text, "--gradcheck-html=out")
    result.assert_outcomes(failed=1)
    (page,) = (pytester.path / "out").glob("*.json")
    assert json.loads(page.read_text(encoding="utf-8"))["leaves"][0]["shape"] == [3]
    assert result.stdout.str().count("- gradcheck -") == 1


def test_installing_the_package_adds_nothing_to_other_test_suites():
    found = importlib.metadata.entry_points(group="pytest11")
    assert not [e for e in found if e.value.startswith("jnn")]
