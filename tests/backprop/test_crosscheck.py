"""Hand-written gradients against autodiff, over networks × activations × likelihoods × reductions.

The quick part of the cases; `python -m experiments.crosscheck` runs them all.
"""

import re
import statistics

import pytest

from experiments import crosscheck
from jnn.activations import ACTIVATIONS

CASES = list(crosscheck.cases(quick=True))


# General networks take longest to compile, and one pair of likelihoods shows the blocks' own part.
WAITING = re.compile(r"general, blocks / (?!heteroscedastic|Categorical, one-hot)")
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if WAITING.match(name) else ())
    for name in sorted({case.name for case in CASES})
]


@pytest.mark.parametrize("name", NAMES)
def test_by_hand_equals_autodiff(name):
    for case in CASES:
        if case.name == name:
            errors = crosscheck.measure(case)
            # The bounds are the project's: sums of a few dozen terms differ by some ulps, and an ulp is 2e-16.
            assert errors.float64 <= 1e-12, case
            # The worst element of one draw may have lost digits by cancelling (of hard_silu in one draw of fourteen); a
            # wrong rule exceeds the bound in all of them.
            excess = errors.excess
            if excess > 1:
                excess = statistics.median(crosscheck.measure(case, seed).excess for seed in range(1, 6))
            assert excess <= 1, (case, errors)


def test_every_network_meets_every_likelihood_and_in_layers_every_activation():
    general = [(*case.name.split(" / "), case.activation) for case in CASES if not case.name.startswith("linear")]
    assert len({case[:2] for case in general}) == 5 * len(crosscheck.LIKELIHOODS)
    assert len({(case[0], case[2]) for case in general if "sweep" not in case[0]}) == 4 * len(ACTIVATIONS)
