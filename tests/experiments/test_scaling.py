"""The formulas of the scaling study, and what it tells from measurements that were made up."""

import re

import jax
import numpy as np

from experiments.scaling import __main__ as scaling


def test_formulas():
    one, many = scaling.reduced(np.array([1, 1024]), weights=10**6)
    assert one == 0
    np.testing.assert_allclose(many, 20 * scaling.LATENCY + 2 * 1023 / 1024 * 4e6 / scaling.BANDWIDTH)


def test_a_reduction_is_measured():
    assert scaling.reduction(jax.devices(), 100, rounds=3) > 0


def test_what_it_tells(capsys):
    """Of made-up devices for which the formula holds."""
    each, reductions = 1e-6, {str(size): 1e-5 + size * 1e-9 for size in scaling.SIZES}
    batches = [(name, batch) for name, both in scaling.BATCHES.items() for batch in both]
    steps = {f"{name} {batch}": 1e-5 + batch * each for name, batch in batches}
    divided = {
        f"{name} {batch}": 3e-5 + (1e-5 + scaling.NETWORKS[name].weight_count * 1e-9) + batch * each
        for name, batch in batches
    }
    found = {"1 devices": {"reductions": {}, "steps": steps}, "2 devices": {"reductions": reductions, "steps": divided}}
    one = scaling.tell_here(found)
    np.testing.assert_allclose((one["64-100-10"].fixed, one["64-100-10"].divided), (1e-5, 3e-5), rtol=1e-9)
    assert np.isclose(one["64-100-10"].each, 1e-6)
    scaling.tell_many_hosts(one, np.random.default_rng(0))
    printed = capsys.readouterr().out
    assert "4.00 GB/s" in printed
    rows = re.findall(r"^[12] devices +(\d+) +(\d+) ", printed, re.MULTILINE)
    assert [measured for measured, _ in rows[1:]] == [formula for _, formula in rows[1:]]  # after the reductions' row
    assert len(rows) == 5
    (large,) = re.findall(r"64-100-10 65,536 +(.*)", printed)
    factors = [float(word) for word in large.split()[:6]]
    assert factors[0] == 1
    assert factors == sorted(factors)
    assert 100 < factors[-1] < 1024
