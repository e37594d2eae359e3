"""A million elements: one wrong one is found, in seconds, and the report stays small."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jnn.gradcheck import check

from .rules import pulled


def root(a):
    """√a by Newton's iteration: no reverse mode."""
    return lax.while_loop(lambda s: jnp.any(jnp.abs(s * s - a) > 1e-6 * a), lambda s: (s + a / s) / 2, a)


N = 1_000_000
X = jnp.asarray(np.random.default_rng(0).normal(size=(1000, 1000)), jnp.float32)


def backward(g, x):
    return (g * (1 - jnp.tanh(x) ** 2),)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("right", lambda d: d),
        ("sign", lambda d: d.at[777, 123].multiply(-1)),
        ("a thousandth", lambda d: d.at[777, 123].multiply(1.001)),
    ],
)
def test_one_element_among_a_million(name, wrong):
    rule = pulled(jnp.tanh, lambda g, x: (wrong(*backward(g, x)),))
    started = time.process_time()
    report = check(rule, X)
    # Processor seconds, so that a busy machine does not fail the test; two cores give about half of that as time.
    assert time.process_time() - started < 20
    assert report.verdict == ("pass" if name == "right" else "fail")
    if name != "right":
        assert report.worst.index == (777, 123)
        assert report.leaves[0].pattern == "a single element"
        assert report.leaves[0].wrong_share == pytest.approx(1 / N)
    assert len(json.dumps(report.to_dict())) < 100_000
    assert report.leaves[0].errors.sampled


@pytest.mark.parametrize("callback", [False, True])
def test_a_large_function_without_reverse_mode(callback):
    def primal(a):
        if not callback:
            return root(a)
        shape = jax.ShapeDtypeStruct(a.shape, a.dtype)
        return jax.pure_callback(lambda v: np.sqrt(v), shape, a, vmap_method="sequential")

    a = jnp.asarray(np.random.default_rng(1).uniform(0.5, 2, 3000), jnp.float32)
    right = pulled(primal, lambda g, a: (g / (2 * jnp.sqrt(a)),))
    wrong = pulled(primal, lambda g, a: ((g / (2 * jnp.sqrt(a))).at[1234].multiply(-1),))
    good, bad = check(right, a, power=False), check(wrong, a, power=False)
    assert good.verdict == "pass", str(good)
    assert "random directions" in good.sampled[0]
    assert bad.verdict == "fail"
    assert bad.worst.index == (1234,)
