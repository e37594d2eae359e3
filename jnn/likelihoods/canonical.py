"""The canonical exponential families: one equation behind three of the lecture's error functions.

If the natural parameter of an exponential family is the network's output pre-activation itself,

    −ln p(y | a) = (A(a) − a·t(y)) / φ − ln h(y),

with log-normalizer A, statistic t, base measure h and dispersion φ. Since A'(a) = E[t | a] = z is the output map σ(a),

    δ = ∂(−ln p)/∂a = (A'(a) − t) / φ = (z − t) / φ.

So sum of squares with linear outputs (`jnn.likelihoods.gaussian`) and cross-entropy with logistic or softmax outputs
all start backpropagation with δ = z − y (slides "Backpropagation III" and "Other error functions"). And since δ then
has t free of a, its derivative ∂δ/∂a = A''(a)/φ is free of y: the Fisher information Λ = Var[t | a]/φ² itself.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import gammaln
from jaxtyping import ArrayLike, Bool, Float, Int, Key

from jnn.likelihoods.base import Components, Likelihood, PerExample, Targets, at_least_float32, diagonal, paired
from jnn.likelihoods.targets import as_targets, converted, is_real_float, reject


class Canonical(Likelihood):
    """The equations above. A family of your own defines `log_normalizer` (A), `mean` (A'), and, where they are not
    trivial, `statistic` (t), `log_base_measure` (ln h), `dispersion` (φ):

        >>> import jax, jax.numpy as jnp
        >>> from dataclasses import dataclass
        >>> from jnn.likelihoods import Canonical
        >>> @dataclass(frozen=True)
        ... class Exponential(Canonical):
        ...     '''p(y | a) = −a exp(a·y) for y ≥ 0 and a < 0.'''
        ...     def log_normalizer(self, a):
        ...         return -jnp.log(-a).sum(-1)
        ...     def mean(self, a):
        ...         return -1 / a
        >>> a, y = jnp.array([[-2.0], [-0.5]]), jnp.array([[1.0], [1.0]])
        >>> Exponential().delta(a, y).tolist() == (-1 / a - y).tolist()
        True

    `cross_term` (A − a·t) and `residual` (z − t) cancel for an example that is fitted well; a family may replace them
    by forms that do not. Second derivatives come from `variance`, if the components are independent and t(y) = y;
    other families replace `fisher_product` and `fisher_root`.
    """

    @abc.abstractmethod
    def log_normalizer(self, a: Components) -> PerExample:
        """Return A(a), summed over the components of an example."""

    def statistic(self, a: Components, y: Targets) -> Components:
        """Return t(y) in the shape and dtype of a; here y itself."""
        return paired(a, y)[1]

    def log_base_measure(self, t: Components) -> PerExample:
        """Return ln h(y) as a function of t, summed over the components of an example; here 0."""
        return jnp.zeros(t.shape[:-1], t.dtype)

    @property
    def dispersion(self) -> ArrayLike:
        """φ, here 1."""
        return 1.0

    def cross_term(self, a: Components, t: Components) -> PerExample:
        """Return A(a) − a·t."""
        return self.log_normalizer(a) - jnp.sum(a * t, axis=-1)

    def residual(self, a: Components, t: Components) -> Components:
        """Return A'(a) − t = z − t."""
        return self.mean(a) - t

    def nll(self, a: Components, y: Targets, complete: bool = False) -> PerExample:
        """Return (A(a) − a·t(y))/φ of each example, less ln h(y) if complete; see `Likelihood.nll`."""
        t = self.statistic(a, y)
        value = self.cross_term(a, t) / jnp.asarray(self.dispersion, a.dtype)
        return value - self.log_base_measure(t) if complete else value

    def delta(self, a: Components, y: Targets) -> Components:
        """Return δ = (A'(a) − t)/φ = (z − y)/φ (slide "Other error functions")."""
        return self.residual(a, self.statistic(a, y)) / jnp.asarray(self.dispersion, a.dtype)

    def hessian_product(self, a: Components, y: Targets, v: Components) -> Components:
        """Return A''(a) v / φ = Λ v, whatever the target."""
        del y
        return self.fisher_product(a, v)

    def fisher_product(self, a: Components, v: Components) -> Components:
        """Return Λ v = Var[y | a] v / φ², for independent components."""
        return self._information(a) * v

    def fisher_root(self, a: Components) -> Float[Array, "*batch P R"]:
        """Return √Λ, a diagonal matrix, for independent components."""
        return diagonal(jnp.sqrt(self._information(a)))

    def _information(self, a: Components) -> Components:
        return self.variance(a) / jnp.square(jnp.asarray(self.dispersion, a.dtype))


@dataclass(frozen=True)
class Bernoulli(Canonical):
    """Targets in {0, 1} given logistic outputs z = 1/(1 + exp(−a)): the cross-entropy error.

        −ln p(y | a) = −Σ_k [y_k ln z_k + (1 − y_k) ln(1 − z_k)]        δ = z − y

    K = 1 is binary classification; K > 1 are K independent labels (multi-label), not K classes. The targets are
    `(..., K)`, also with K = 1. `nll` and `delta` also accept probabilities y in [0, 1]; `check_targets` does not.
    (Slides "Binary classification" and "Other error functions".)
    """

    def log_normalizer(self, a: Components) -> PerExample:
        """Return A(a) = Σ_k ln(1 + exp(a_k))."""
        return jnp.sum(jax.nn.softplus(a), axis=-1)

    def cross_term(self, a: Components, t: Components) -> PerExample:
        """Return A(a) − a·t, as Σ_k [(1 − t_k) ln(1 + exp(a_k)) + t_k ln(1 + exp(−a_k))], where nothing cancels."""
        return jnp.sum((1 - t) * jax.nn.softplus(a) + t * jax.nn.softplus(-a), axis=-1)

    def residual(self, a: Components, t: Components) -> Components:
        """Return z − t, as (1 − t) σ(a) − t σ(−a): z − 1 has no correct digit left once z rounds to 1."""
        return (1 - t) * jax.nn.sigmoid(a) - t * jax.nn.sigmoid(-a)

    def mean(self, a: Components) -> Components:
        """Return the probabilities z = σ(a) of ones."""
        return jax.nn.sigmoid(a)

    def log_probabilities(self, a: Components) -> Float[Array, "*batch C"]:
        """Return ln(1 − z_k) = −ln(1 + exp(a_k)) for each label, then ln z_k = −ln(1 + exp(−a_k))."""
        return -jax.nn.softplus(jnp.concatenate([a, -a], axis=-1))

    def variance(self, a: Components) -> Components:
        """Return z(1 − z)."""
        return jax.nn.sigmoid(a) * jax.nn.sigmoid(-a)

    def decide(self, a: Components) -> Bool[Array, "*batch K"]:
        """Return the more probable label: whether a > 0, that is z > ½."""
        return a > 0

    def sample(self, key: Key[Array, ""], a: Components) -> Int[Array, "*batch K"]:
        """Draw zeros and ones."""
        a = at_least_float32(a)
        # P(logistic noise < a) = σ(a), accurate in both tails where comparing a uniform number with σ(a) is not.
        return (jax.random.logistic(key, a.shape, a.dtype) < a).astype(int)

    def check_values(self, y: np.ndarray, name: str) -> None:
        """Raise ValueError unless all targets are 0 or 1."""
        reject(y, (y != 0) & (y != 1), name, "only 0 and 1", "encode two classes as 0 and 1, more with Categorical")


@dataclass(frozen=True)
class Categorical(Canonical):
    """One of K classes given softmax outputs z_j = exp(a_j) / Σ_k exp(a_k): the multi-class cross-entropy error.

        −ln p(y | a) = −Σ_k y_k ln z_k        δ = z − y

    The targets are integer labels 0, ..., K − 1 of shape `(...)`, or one-hot rows (or probabilities that sum to 1) of
    shape `(..., K)`. (Slides "Multi-class classification: One-hot", "Soft-max", "Other error functions".)
    """

    def log_normalizer(self, a: Components) -> PerExample:
        """Return A(a) = ln Σ_k exp(a_k)."""
        return jax.nn.logsumexp(a, axis=-1)

    def statistic(self, a: Components, y: Targets) -> Components:
        """Return the one-hot rows in the dtype of a; a label outside 0, ..., K − 1 would give a row of zeros."""
        if jnp.shape(y) == a.shape:
            return paired(a, y)[1]
        y = jnp.asarray(y)
        if y.shape != a.shape[:-1]:
            raise ValueError(
                f"Categorical: expected integer labels of shape {a.shape[:-1]} or one-hot rows of shape {a.shape}, "
                f"got {y.shape}; give one label or row per example"
            )
        if is_real_float(y):
            raise TypeError(
                f"Categorical: expected integer labels of shape {y.shape}, got dtype {y.dtype}; use y.astype(int)"
            )
        return jax.nn.one_hot(y.astype(jnp.int32), a.shape[-1], dtype=a.dtype)

    def cross_term(self, a: Components, t: Components) -> PerExample:
        """Return A(a) − a·t for Σ_k t_k = 1, as ln Σ_k exp(a_k − m) + Σ_k t_k (m − a_k) with m = max a.

        Both terms are sums of non-negative numbers: nothing cancels, however sure the network is.
        """
        d, log_sum = _relative(a)
        return log_sum - jnp.sum(t * d, axis=-1)

    def residual(self, a: Components, t: Components) -> Components:
        """Return z − t, as −Σ_{j≠k} z_j where t_k = 1: z_k − 1 has no correct digit left once z_k rounds to 1."""
        z = self.mean(a)
        others = jnp.sum(z * (1 - t), axis=-1, keepdims=True)
        return jnp.where(t == 1, -others, z - t)

    def mean(self, a: Components) -> Components:
        """Return the probabilities z of the classes."""
        return jax.nn.softmax(a, axis=-1)

    def log_probabilities(self, a: Components) -> Components:
        """Return ln z_k = (a_k − m) − ln Σ_j exp(a_j − m) with m = max a."""
        d, log_sum = _relative(a)
        return d - log_sum[..., None]

    def variance(self, a: Components) -> Components:
        """Return z_k (1 − z_k), the variance of each component of the one-hot target."""
        z = self.mean(a)
        return z * (1 - z)

    def fisher_product(self, a: Components, v: Components) -> Components:
        """Return Λ v = z ⊙ (v − ⟨z, v⟩), since Λ = diag(z) − zzᵀ."""
        z = self.mean(a)
        return z * (v - jnp.sum(z * v, axis=-1, keepdims=True))

    def fisher_root(self, a: Components) -> Float[Array, "*batch P R"]:
        """Return S = diag(√z) − z √zᵀ: with Σ_k z_k = 1, S Sᵀ = diag(z) − zzᵀ."""
        z = self.mean(a)
        root = jnp.sqrt(z)
        return diagonal(root) - z[..., :, None] * root[..., None, :]

    def decide(self, a: Components) -> Int[Array, "*batch"]:
        """Return the most probable label (of equally probable ones the first)."""
        return jnp.argmax(a, axis=-1)

    def sample(self, key: Key[Array, ""], a: Components) -> Int[Array, "*batch"]:
        """Draw integer labels."""
        return jax.random.categorical(key, at_least_float32(a), axis=-1)

    def check_targets(self, y: ArrayLike | Sequence, pre_activations: int) -> Array:
        """Check integer labels `(n,)` or one-hot rows `(..., K)`; see `Likelihood.check_targets`."""
        name, classes = f"{type(self).__name__} targets", pre_activations
        y = as_targets(y, name)
        if classes < 2:
            raise ValueError(
                f"{name}: expected a network with at least two outputs, one per class, got {classes}; "
                "for two classes with one output use Bernoulli"
            )
        forms = f"labels of shape (n,) or one-hot rows of shape (n, {classes})"
        if y.ndim >= 2 and y.shape[-1] == 1:
            raise ValueError(f"{name}: expected {forms}, got {y.shape}; use y[:, 0]")
        if is_real_float(y) and y.ndim < 2 and y.shape != (classes,):
            raise TypeError(
                f"{name}: expected integer {forms}, got dtype {y.dtype} and shape {y.shape}; "
                "use y.astype(int) if these are labels"
            )
        if y.ndim >= 2 or is_real_float(y):
            return super().check_targets(y, classes)
        if isinstance(y, np.ndarray):  # else a tracer
            expected = f"labels 0, ..., {classes - 1} for {classes} outputs"
            remedy = "number the classes from 0, as OneHot.fit(labels).indices does, or give each class an output"
            labels = y.astype(np.int64)
            reject(labels, (labels < 0) | (labels >= classes), name, expected, remedy)
        return converted(y, name)

    def check_values(self, y: np.ndarray, name: str) -> None:
        """Raise ValueError unless the rows are probabilities, whose sum is 1 to three decimals (half precision's)."""
        y = np.asarray(y, np.float64)
        reject(y, y < 0, name, "probabilities", "give each class a non-negative share")
        total = y.sum(axis=-1)
        remedy = "divide each row by its sum, or use Bernoulli if the labels do not exclude each other"
        reject(total, np.abs(total - 1) > 1e-3, f"{name} (sums over each row)", "1", remedy)


def _relative(a: Components) -> tuple[Components, PerExample]:
    """d = a − m with m = max a, and ln Σ_k exp(d_k)."""
    d = a - lax.stop_gradient(jnp.max(a, axis=-1, keepdims=True))
    # The sum without its largest term, 1, keeps the digits that 1 + 1e-20 would lose. With m held constant,
    # derivatives of all orders come out right, also where several a are the largest.
    top = (d == 0).astype(a.dtype)
    rest = jnp.sum(jnp.exp(d) - top, axis=-1) + (jnp.sum(top, axis=-1) - 1)
    return d, jnp.log1p(rest)


@dataclass(frozen=True)
class Poisson(Canonical):
    """Counts with rate z = exp(a) (log link), independent for each component.

        −ln p(y | a) = Σ_k [exp(a_k) − a_k y_k + ln y_k!]        δ = z − y

    The last term is dropped unless `complete`. Observed rates, counts per exposure, are targets as well, each weighted
    with its exposure v: v (exp(a) − a y) = v exp(a) − a (v y) is the error of the count v y.

    Rates beyond the floating-point range (a > 88 in float32) are infinite, and so is the error then.
    """

    def log_normalizer(self, a: Components) -> PerExample:
        """Return A(a) = Σ_k exp(a_k)."""
        return jnp.sum(jnp.exp(a), axis=-1)

    def log_base_measure(self, t: Components) -> PerExample:
        """Return ln h(y) = −Σ_k ln y_k!."""
        return -jnp.sum(gammaln(t + 1), axis=-1)

    def mean(self, a: Components) -> Components:
        """Return the rates z = exp(a)."""
        return jnp.exp(a)

    def variance(self, a: Components) -> Components:
        """Return z: mean and variance are the same."""
        return jnp.exp(a)

    def sample(self, key: Key[Array, ""], a: Components) -> Int[Array, "*batch K"]:
        """Draw counts (needs JAX's default random number generator, threefry)."""
        if jax.random.key_impl(key) != jax.random.key_impl(jax.random.key(0, impl="threefry2x32")):
            raise ValueError("Poisson.sample: expected a key of JAX's default kind, threefry; make one for it")
        return jax.random.poisson(key, jnp.exp(at_least_float32(a)))

    def check_values(self, y: np.ndarray, name: str) -> None:
        """Raise ValueError if a target is negative."""
        reject(y, y < 0, name, "counts or rates ≥ 0", "use Gaussian for other numbers")
