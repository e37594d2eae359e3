"""What targets may be, and what is said about those that may not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import likelihoods as lk

NAN, INF = float("nan"), float("inf")
GAUSSIAN, BERNOULLI, CATEGORICAL, POISSON = lk.Gaussian(), lk.Bernoulli(), lk.Categorical(), lk.Poisson()
SQUARED = lk.SquaredError("softmax")

ACCEPTED = [
    (GAUSSIAN, [[1.5, -2.0]], 2),
    (GAUSSIAN, np.ones((2, 3, 4)), 4),
    (GAUSSIAN, [1.0, 2.0, 3.0], 3),  # one example
    (GAUSSIAN, np.arange(6).reshape(3, 2), 2),
    (lk.HeteroscedasticGaussian(), [[1.5, -2.0]], 4),
    (BERNOULLI, [[0], [1]], 1),
    (BERNOULLI, [[True, False]], 2),
    (BERNOULLI, np.array([[0.0, 1.0]], np.float32), 2),
    (CATEGORICAL, [0, 2, 1], 3),
    (CATEGORICAL, 2, 3),
    (CATEGORICAL, np.array([0, 1], np.uint8), 2),
    (CATEGORICAL, [True, False], 2),
    (CATEGORICAL, np.eye(3), 3),
    (CATEGORICAL, np.eye(3, dtype=int), 3),
    (CATEGORICAL, np.eye(3, dtype=bool), 3),
    (CATEGORICAL, [[0.2, 0.3, 0.5]], 3),
    (CATEGORICAL, [0.2, 0.3, 0.5], 3),
    (CATEGORICAL, jnp.asarray([[0.2, 0.3, 0.5]], jnp.bfloat16), 3),
    (POISSON, [[0, 7]], 2),
    (POISSON, [[0.0], [7.0]], 1),
    (POISSON, [[True]], 1),
    (SQUARED, np.eye(3), 3),
    (SQUARED, [[-0.1, 1.1]], 2),
]


@pytest.mark.parametrize(("likelihood", "y", "outputs"), ACCEPTED)
def test_accepted(likelihood, y, outputs):
    checked = likelihood.check_targets(y, pre_activations=outputs)
    assert isinstance(checked, jax.Array)
    np.testing.assert_array_equal(checked, np.asarray(y))
    assert checked.dtype == jnp.asarray(y).dtype


REJECTED = [
    # shapes
    (
        GAUSSIAN,
        [1.0, 2.0],
        1,
        ValueError,
        r"Gaussian targets: expected shape \(..., 1\) for 1 outputs, got \(2,\); use y",
    ),
    (GAUSSIAN, np.ones((4, 2)), 3, ValueError, r"expected shape \(..., 3\) for 3 outputs, got \(4, 2\); each row"),
    (GAUSSIAN, [1.0, 2.0], 3, ValueError, r"expected shape \(..., 3\) .* got \(2,\); .* needs 3 columns"),
    (GAUSSIAN, 1.0, 1, ValueError, r"expected shape \(..., 1\) .* got \(\)"),
    (BERNOULLI, [0, 1, 1], 1, ValueError, r"Bernoulli targets: .* got \(3,\); use y\[:, None\]: a column"),
    (lk.HeteroscedasticGaussian(), np.ones((4, 4)), 4, ValueError, r"expected shape \(..., 2\) .* got \(4, 4\)"),
    (lk.HeteroscedasticGaussian(), np.ones((4, 2)), 3, ValueError, r"expected an even number of outputs .* got 3"),
    (
        CATEGORICAL,
        [[0], [1]],
        3,
        ValueError,
        r"labels of shape \(n,\) or one-hot .* \(n, 3\), got \(2, 1\); use y\[:, 0\]",
    ),
    (CATEGORICAL, np.eye(4, dtype=int), 3, ValueError, r"expected shape \(..., 3\) for 3 outputs, got \(4, 4\)"),
    (CATEGORICAL, [0, 0], 1, ValueError, r"at least two outputs, one per class, got 1; .* use Bernoulli"),
    (GAUSSIAN, [[1.0], [1.0, 2.0]], 2, ValueError, "ragged or nested list; give every row equally many"),
    # no targets
    (GAUSSIAN, [], 1, ValueError, r"expected at least one example, got an empty array of shape \(0,\)"),
    (CATEGORICAL, np.zeros(0, int), 3, ValueError, "expected at least one example"),
    (BERNOULLI, np.zeros((0, 2)), 2, ValueError, r"empty array of shape \(0, 2\)"),
    # not numbers
    (CATEGORICAL, ["cat", "dog"], 2, TypeError, r"got dtype <U3 .*'cat'.*encode labels with OneHot.fit\(labels\)"),
    (BERNOULLI, np.array([["a"]], object), 1, TypeError, "Bernoulli targets of real numbers, got dtype object"),
    (GAUSSIAN, np.array([[1j]]), 1, TypeError, "of real numbers, got dtype complex128"),
    (POISSON, np.array([["2020-01-01"]], "datetime64[D]"), 1, TypeError, "of real numbers, got dtype datetime64"),
    # not finite
    (GAUSSIAN, [[1.0], [NAN]], 1, ValueError, r"expected finite numbers, got y\[1, 0\] = nan \(1 such of 2\); remove"),
    (GAUSSIAN, [[INF, -INF]], 2, ValueError, r"expected finite numbers, got y\[0, 0\] = inf \(2 such of 2\)"),
    (BERNOULLI, [[NAN]], 1, ValueError, "expected finite numbers, got .* = nan"),
    (POISSON, [[INF]], 1, ValueError, "expected finite numbers, got .* = inf"),
    (CATEGORICAL, [[NAN, 1.0]], 2, ValueError, "expected finite numbers, got .* = nan"),
    (SQUARED, [[NAN, 1.0]], 2, ValueError, "SquaredError targets: expected finite numbers"),
    # outside the support
    (BERNOULLI, [[0.5]], 1, ValueError, r"expected only 0 and 1, got y\[0, 0\] = 0.5 \(1 such of 1\); encode two"),
    (BERNOULLI, [[1], [2], [-1]], 1, ValueError, r"expected only 0 and 1, got y\[1, 0\] = 2 \(2 such of 3\)"),
    (
        CATEGORICAL,
        [0, 3],
        3,
        ValueError,
        r"expected labels 0, ..., 2 for 3 outputs, got y\[1\] = 3 .*; number the classes",
    ),
    (CATEGORICAL, [1, 2, -1], 3, ValueError, r"expected labels 0, ..., 2 for 3 outputs, got y\[2\] = -1"),
    (CATEGORICAL, [2**32], 3, ValueError, r"got y\[0\] = 4294967296"),
    (CATEGORICAL, 5, 3, ValueError, r"expected labels 0, ..., 2 for 3 outputs, got y = 5"),
    (
        CATEGORICAL,
        [0.0, 1.0],
        3,
        TypeError,
        r"got dtype float64 and shape \(2,\); use y.astype\(int\) if these are labels",
    ),
    (
        CATEGORICAL,
        [[0.5, 0.2]],
        2,
        ValueError,
        r"\(sums over each row\): expected 1, got y\[0\] = 0.7 .*; divide each row",
    ),
    (CATEGORICAL, [[1, 1, 0]], 3, ValueError, r"expected 1, got y\[0\] = 2.0 .* or use Bernoulli if the labels do not"),
    (CATEGORICAL, [[1.5, -0.5]], 2, ValueError, r"expected probabilities, got y\[0, 1\] = -0.5"),
    (POISSON, [[1], [-1]], 1, ValueError, r"expected counts or rates ≥ 0, got y\[1, 0\] = -1 .*; use Gaussian"),
]


@pytest.mark.parametrize(("likelihood", "y", "outputs", "error", "message"), REJECTED)
def test_rejected(likelihood, y, outputs, error, message):
    with pytest.raises(error, match=message):
        likelihood.check_targets(y, pre_activations=outputs)


def test_probabilities_sum_to_one_to_three_decimals():
    for total in (0.9991, 1.0009):
        CATEGORICAL.check_targets([[0.25, total - 0.25]], 2)
    for total in (0.9989, 1.0011):
        with pytest.raises(ValueError, match=r"sums over each row\): expected 1"):
            CATEGORICAL.check_targets([[0.25, total - 0.25]], 2)
    CATEGORICAL.check_targets([[0.0, 1.0], [1, 0]], 2)
    CATEGORICAL.check_targets([0.25, 0.75], 2)  # one example
    POISSON.check_targets([[0.0]], 1)


def test_traced_targets_are_checked_by_shape_and_dtype():
    """Their values are unknown: what is wrong with them passes, as the docstring says."""

    def check(likelihood, outputs):
        return jax.jit(lambda y: likelihood.check_targets(y, outputs))

    for likelihood in (GAUSSIAN, BERNOULLI, POISSON, SQUARED, CATEGORICAL):
        assert jnp.isnan(check(likelihood, 2)(jnp.full((3, 2), jnp.nan))).all()
        with pytest.raises(ValueError, match=r"got \(3, 2\)"):
            check(likelihood, 4)(jnp.ones((3, 2)))
        with pytest.raises(TypeError, match="of real numbers, got dtype complex128"):
            check(likelihood, 2)(jnp.ones((3, 2), complex))
    assert check(CATEGORICAL, 3)(jnp.asarray([7])).tolist() == [7]
    with pytest.raises(TypeError, match=r"use y.astype"):
        check(CATEGORICAL, 3)(jnp.ones(5))


def test_without_x64_targets_take_its_precision():
    try:
        jax.config.update("jax_enable_x64", False)
        assert GAUSSIAN.check_targets(np.ones((2, 1)), 1).dtype == jnp.float32
        assert CATEGORICAL.check_targets(np.array([0, 1]), 2).dtype == jnp.int32
        with pytest.raises(ValueError, match=r"expected numbers within float32, got y\[0, 0\] = 1e\+300"):
            GAUSSIAN.check_targets(np.array([[1e300]]), 1)
        with pytest.raises(ValueError, match=r"expected labels 0, ..., 1 .* got y\[0\] = 4294967296"):
            CATEGORICAL.check_targets(np.array([2**32]), 2)
    finally:
        jax.config.update("jax_enable_x64", True)
