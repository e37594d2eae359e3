"""The lecture's general rule δ_i = σ'(a_i) ∂E/∂z_i, and that the canonical δ = z − y is a special case of it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import activations, likelihoods as lk


@dataclass(frozen=True)
class CrossEntropy(lk.Likelihood):
    """−Σ_k [y_k ln z_k + (1 − y_k) ln(1 − z_k)], or without the second part, as a function of the probabilities z."""

    several_classes: bool

    def nll(self, a, y, complete=False):
        other = 0 if self.several_classes else (1 - y) * jnp.log(1 - a)
        return -(y * jnp.log(a) + other).sum(-1)

    def delta(self, a, y):
        return -y / a if self.several_classes else (a - y) / (a * (1 - a))

    def mean(self, a):
        return a


@dataclass(frozen=True)
class Simplex(lk.OutputMap):
    """An output map of a user's own: z = a² / Σ a²."""

    def __call__(self, a):
        return a**2 / jnp.sum(a**2, axis=-1, keepdims=True)

    def vjp(self, a, g):
        z = self(a)
        return 2 * a * (g - jnp.sum(g * z, axis=-1, keepdims=True)) / jnp.sum(a**2, axis=-1, keepdims=True)


A = jnp.asarray(np.random.default_rng(0).normal(size=(20, 4)))
ONE_HOT = np.eye(4)[np.random.default_rng(1).integers(4, size=20)]


def test_softmax_with_cross_entropy_is_categorical():
    general = lk.GeneralRule("softmax", CrossEntropy(several_classes=True))
    np.testing.assert_allclose(general.delta(A, ONE_HOT), lk.Categorical().delta(A, ONE_HOT), rtol=1e-13)
    np.testing.assert_allclose(general.nll(A, ONE_HOT), lk.Categorical().nll(A, ONE_HOT), rtol=1e-13)


def test_logistic_with_cross_entropy_is_bernoulli():
    general = lk.GeneralRule("logistic", CrossEntropy(several_classes=False))
    np.testing.assert_allclose(general.delta(A, ONE_HOT), lk.Bernoulli().delta(A, ONE_HOT), rtol=1e-13)
    np.testing.assert_allclose(general.nll(A, ONE_HOT), lk.Bernoulli().nll(A, ONE_HOT), rtol=1e-13)


def test_identity_with_squared_error_is_gaussian():
    for s in (1.0, 0.4):
        general, gaussian = lk.SquaredError("identity", s), lk.Gaussian(s)
        np.testing.assert_array_equal(general.delta(A, ONE_HOT), gaussian.delta(A, ONE_HOT))
        np.testing.assert_array_equal(general.nll(A, ONE_HOT, complete=True), gaussian.nll(A, ONE_HOT, complete=True))
        np.testing.assert_array_equal(general.nll(A, ONE_HOT), gaussian.nll(A, ONE_HOT))


def test_exponential_outputs_with_a_poisson_error_in_the_rate():
    """E(z, y) = z − y ln z has ∂E/∂z = 1 − y/z; with z = exp(a) the general rule gives exp(a) − y."""

    @dataclass(frozen=True)
    class Rate(lk.Likelihood):
        def nll(self, a, y, complete=False):
            return (a - y * jnp.log(a)).sum(-1)

        def delta(self, a, y):
            return 1 - y / a

        def mean(self, a):
            return a

    exponential = activations.Activation("exp", jnp.exp, jnp.exp)
    counts = np.random.default_rng(2).poisson(3, size=A.shape)
    general = lk.GeneralRule(exponential, Rate())
    np.testing.assert_allclose(general.delta(A, counts), lk.Poisson().delta(A, counts), rtol=1e-12)


@pytest.mark.parametrize("output", ["logistic", "tanh", "relu", "softsign", "softmax", Simplex()], ids=str)
def test_output_maps_against_autodiff(output):
    likelihood = lk.SquaredError(output, s=0.7)
    gradient = jax.jit(jax.grad(lambda a: likelihood.nll(a, ONE_HOT).sum()))(A)
    np.testing.assert_allclose(likelihood.delta(A, ONE_HOT), gradient, rtol=1e-12, atol=1e-14)


def test_softmax_vjp_is_the_product_with_the_full_jacobian():
    a, g = np.asarray(A[0]), np.random.default_rng(3).normal(size=4)
    z = np.exp(a) / np.exp(a).sum()
    jacobian = np.diag(z) - np.outer(z, z)  # ∂z_j/∂a_i = z_j (𝟙{i = j} − z_i)
    np.testing.assert_allclose(lk.Softmax().vjp(A[0], jnp.asarray(g)), jacobian.T @ g, rtol=1e-13)


def test_step_outputs_pass_no_gradient():
    assert not lk.SquaredError("step").delta(A, ONE_HOT).any()


def test_squared_error_vanishes_where_outputs_saturate():
    """The reason to prefer cross-entropy: certain and wrong, the squared error has no slope, the cross-entropy 1."""
    a, y = jnp.asarray([-40.0]), np.array([1.0])
    assert abs(lk.SquaredError("logistic").delta(a, y)[0]) < 1e-17
    np.testing.assert_allclose(lk.Bernoulli().delta(a, y), [-1.0])


def test_specifications_of_the_output_map():
    logistic = lk.Elementwise(activations.logistic)
    for spec in ("logistic", activations.logistic, logistic):
        assert lk.SquaredError(spec).output == logistic
    assert lk.SquaredError().output == logistic
    assert lk.SquaredError("softmax").output == lk.Softmax()
    assert repr(lk.SquaredError("softmax", 2)) == "SquaredError(output=Softmax(), error=Gaussian(s=2.0))"
    with pytest.raises(ValueError, match="sofmax"):
        lk.SquaredError("sofmax")


def test_an_error_without_a_sampler_says_so():
    with pytest.raises(NotImplementedError, match="CrossEntropy does not define sample"):
        lk.GeneralRule("softmax", CrossEntropy(True)).sample(jax.random.key(0), A)


def test_targets_are_checked_by_the_error():
    general = lk.GeneralRule("softmax", lk.Poisson())
    with pytest.raises(ValueError, match="GeneralRule targets: expected counts"):
        general.check_targets([[-0.5, 1.0]], 2)
