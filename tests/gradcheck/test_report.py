"""A report is data: it prints, saves, compares, raises, and is neither true nor false."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from jnn import gradcheck
from jnn.gradcheck import GradientError, check, check_rules

from .rules import numbers, right_product, wrong_product

X, Y = numbers(4, 3), numbers(4, 3, seed=1)


@pytest.fixture(scope="module")
def reports():
    nan = check(lambda x: jnp.where(x > 0, jnp.sqrt(x), 0), X, power=False)
    return {
        "pass": check(right_product, X, Y),
        "fail": check(wrong_product, X, Y),
        "nan": nan,
        "kink": check(jnp.abs, X.at[0, 0].set(0), power=False),
        "rules": check_rules(lambda x, y: jnp.sum(wrong_product(x, y)), X, Y),
    }


def test_a_report_has_no_truth_value(reports):
    with pytest.raises(TypeError, match="verdict"):
        bool(reports["pass"])


def test_raise_for_failure(reports):
    assert reports["pass"].raise_for_failure() is reports["pass"]
    assert reports["kink"].raise_for_failure(allow="kink") is reports["kink"]
    with pytest.raises(GradientError, match="KINK"):
        reports["kink"].raise_for_failure()
    with pytest.raises(GradientError, match="KINK"):
        reports["kink"].raise_for_failure(allow=["inconclusive"])
    with pytest.raises(ValueError, match="'fail'"):
        reports["pass"].raise_for_failure(allow="fail")
    with pytest.raises(AssertionError, match="sign flipped"):
        reports["fail"].raise_for_failure()


def plain(value):
    return value is None or type(value) in (bool, int, float, str)


def walk(value):
    if isinstance(value, dict):
        for v in value.values():
            yield from walk(v)
    elif isinstance(value, list):
        for v in value:
            yield from walk(v)
    else:
        yield value


@pytest.mark.parametrize("name", ["pass", "fail", "nan", "kink", "rules"])
def test_strict_json_of_plain_values(reports, name, tmp_path):
    text = reports[name].to_json(tmp_path / "report.json")
    saved = json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda c: pytest.fail(c))
    assert saved == json.loads(text)
    assert saved["verdict"] == reports[name].verdict
    assert all(plain(v) for v in walk(reports[name].to_dict()))


def test_fields_hold_python_numbers(reports):
    for leaf in reports["fail"].leaves:
        assert type(leaf.detectable) is float
        assert type(leaf.median_ulps) is float
        assert all(type(n) is int for n in (*leaf.shape, *leaf.worst.index))
        assert leaf.errors is not None
        assert len(leaf.errors.indices) == len(leaf.errors.ulps) == len(leaf.errors.allowed) == 12
        assert leaf.steps
        assert len(leaf.steps[0].steps) == len(leaf.steps[0].to_rule) == len(leaf.steps[0].to_reference)


def test_the_table(reports):
    text = str(reports["fail"])
    assert text.startswith("gradcheck FAIL: ")
    assert "y[" in text
    assert "reproduce:" in text
    assert "sign flipped" in text
    assert "reproduce:" not in str(reports["pass"])
    assert all(line == line.rstrip() for line in text.splitlines())


def test_equality_ignores_the_time(reports):
    other = dataclasses.replace(reports["pass"], seconds=0.0)
    assert other == reports["pass"]
    assert np.isfinite(reports["pass"].seconds)


def test_html_is_written(reports, tmp_path):
    text = reports["fail"].to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == text
    assert "sign flipped" in text


def test_exports():
    assert set(gradcheck.__all__) <= set(dir(gradcheck))
    for name in ("check", "compare", "check_rules", "Report", "GradientError"):
        assert name in gradcheck.__all__
