"""The formulas of the scaling study, and what it tells from measurements that were made up."""

import re

import jax
import numpy as np

from experiments.scaling import __main__ as scaling


def test_formulas():
    step = scaling.Step(fixed=1e-5, each=1e-6)
    assert np.isclose(step.on(100, devices=1, cores=2, reduction=0.0), 1e-5 + 100e-6)
    assert np.isclose(step.on(100, devices=8, cores=2, reduction=3e-6), 4e-5 + 100e-6 + 3e-6)  # eight share two cores
    one, many = scaling.reduced(np.array([1, 1024]), weights=10**6)
    assert one == 0
    np.testing.assert_allclose(many, 20 * scaling.LATENCY + 2 * 1023 / 1024 * 4e6 / scaling.BANDWIDTH)


def test_a_reduction_is_measured():
    assert scaling.reduction(jax.devices(), 100, rounds=3) > 0


def test_what_it_tells(capsys):
    steps = {f"{name} {batch}": 1e-5 + batch * 1e-6 for name, batches in scaling.BATCHES.items() for batch in batches}
    reductions = {str(size): 1e-5 + size * 1e-9 for size in scaling.SIZES}
    found = {"1 devices": {"reductions": {}, "steps": steps}, "2 devices": {"reductions": reductions, "steps": steps}}
    one = scaling.tell_here(found)
    assert np.isclose(one["64-100-10"].fixed, 1e-5)
    assert np.isclose(one["64-100-10"].each, 1e-6)
    scaling.tell_many_hosts(one, np.random.default_rng(0))
    printed = capsys.readouterr().out
    assert "4.00 GB/s" in printed
    (large,) = re.findall(r"64-100-10 65,536 +(.*)", printed)
    factors = [float(word) for word in large.split()[:6]]
    assert factors[0] == 1
    assert factors == sorted(factors)
    assert 100 < factors[-1] < 1024
