"""The benchmarks run; what they measure is no test."""

import jax

from experiments.benchmarks import bare_loop


def test_bare_loop_measures_both() -> None:
    with jax.enable_x64(False):
        seconds = bare_loop.measure(rounds=1, epochs=1)
    assert seconds.shape == (1, 2)
    assert (seconds > 0).all()
