"""Second derivatives by hand: no function here is differentiated by JAX.

With δ = ∂E/∂a of the outputs, and J the outputs' derivatives by all weights, the error's Hessian is

    ∇²E = Σ_n Jᵀ (∂δ/∂a) J + Σ_n Σ_k δ_k ∇²a_k,        G = Σ_n Jᵀ Λ J

and G is the Gauss-Newton matrix, in which δ, small for a good fit, does not occur. Λ is the Fisher information
E[∂δ/∂a | a] of the likelihood, so that G is never indefinite; for canonical likelihoods Λ and ∂δ/∂a are the same, and
for a network without hidden neurons G is then the Hessian itself. (Where the error itself were taken, ∂δ/∂a in the
place of Λ, the Gaussian with learned variance would make G indefinite.) Away from a minimum the Hessian is indefinite
as well: steps and posteriors take G, diagnoses the Hessian.

Products with a vector v cost two to three gradients: a forward and a backward pass carry along how everything in them
moves when w moves by v (Pearlmutter's R-operator; the networks' `moved_forward` and `moved_backward`). Matrices have
their rows and columns in the order of `jax.flatten_util.ravel_pytree(params)`.

References: Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6, 1994; Bishop, "Exact
calculation of the Hessian matrix for the multilayer perceptron", Neural Computation 4, 1992; Schraudolph, "Fast
curvature matrix-vector products for second-order gradient descent", Neural Computation 14, 2002; Martens, Grosse,
"Optimizing neural networks with Kronecker-factored approximate curvature", ICML 2015.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jnn import backprop, objectives
from jnn.checks import real_array
from jnn.likelihoods import Likelihood
from jnn.networks import Layered, Network, Params
from jnn.networks.base import laid_out, leading_axes

BLOCK = 2**24
"""The most numbers of J that are held at once; more examples are worked on one block after another."""

Matrix = Float[Array, "P P"]


class _Objective(NamedTuple):
    """What is to be differentiated twice: J of `jnn.objectives`, with the same arguments."""

    network: Network
    likelihood: Likelihood
    reduction: objectives.Reduction
    weight_decay: Any
    mask: Params

    @classmethod
    def of(cls, network: Network, likelihood: Likelihood, reduction: Any, weight_decay: Any, mask: Any) -> "_Objective":
        objectives.check_reduction(reduction)
        mask = objectives.decay_mask(network, likelihood) if mask is None else mask
        return cls(network, likelihood, reduction, weight_decay, mask)

    def shares(self, columns: Array, weights: Any) -> tuple[Array, Any]:
        """What each example counts, and γ or γ/N."""
        n = columns.shape[1]
        counts, gamma = objectives.shares(self.reduction, self.weight_decay, n, weights)
        return jnp.broadcast_to(jnp.asarray(1 if counts is None else counts, columns.dtype), (n,)), gamma

    def decayed(self, product: Params, direction: Params, gamma: Any) -> Params:
        """Add γ v for the weights that decay."""
        if objectives.is_zero(self.weight_decay):
            return product
        decay = objectives.penalty_gradient(direction, self.mask)
        return jax.tree.map(lambda p, v: p + jnp.asarray(gamma, p.dtype) * v, product, decay)

    def decays(self, params: Params, gamma: Any) -> Float[Array, "P"]:
        """γ for the weights that decay, 0 for others."""
        if objectives.is_zero(self.weight_decay):
            return jnp.zeros_like(ravel_pytree(params)[0])
        ones = jax.tree.map(jnp.ones_like, params)
        return gamma * ravel_pytree(objectives.penalty_gradient(ones, self.mask))[0]


# --- products


def hessian_vector_product(
    network: Network,
    likelihood: Likelihood,
    *,
    reduction: objectives.Reduction = "mean",
    weight_decay: Any = 0.0,
    mask: Params | None = None,
) -> Callable[..., Params]:
    """∇²J v by the R-operator.

        R{δ_j} = h''(a_j) R{a_j} Σ_k w_kj δ_k + h'(a_j) Σ_k (v_kj δ_k + w_kj R{δ_k})
        (∇²J v)_ij = Σ_n (R{δ_i} z_j + δ_i R{z_j})

    The arguments are those of `jnn.backprop.value_and_grad`. Returned is a function
    `(params, v, x, y, weights=None) -> product`, with `v` and the product in the form of the parameters. Raises
    ValueError as `value_and_grad` does, and, when called, for an activation without h''.

    Source: Pearlmutter, 1994.
    """
    of = _Objective.of(network, likelihood, reduction, weight_decay, mask)

    def evaluate(params: Params, v: Params, x: Array, y: Array, weights: Array | None = None) -> Params:
        leading_axes(network, v, lead=(), what="v")
        columns, y, weights = objectives.examples(network, params, x, y, weights)
        counts, gamma = of.shares(columns, weights)
        return of.decayed(_hessian_product(of, params, columns, y, counts)(v), v, gamma)

    return evaluate


def _hessian_product(of: _Objective, params: Params, columns: Array, y: Array, counts: Array) -> Callable[..., Params]:
    """∇²E v as a function of v, the examples counted."""
    network, likelihood = of.network, of.likelihood
    a, kept = network.forward(params, columns)
    rows, each = a.T, counts[:, None]
    delta = laid_out((each * likelihood.delta(rows, y)).T)

    def product(v: Params) -> Params:
        moved_a, moved = network.moved_forward(params, v, kept)
        moved_delta = laid_out((each * likelihood.hessian_product(rows, y, moved_a.T)).T)
        found = network.moved_backward(params, v, kept, moved, delta, moved_delta)
        return network.moved_gradients(kept, moved, *found)

    return product


def gauss_newton_vector_product(
    network: Network,
    likelihood: Likelihood,
    *,
    reduction: objectives.Reduction = "mean",
    weight_decay: Any = 0.0,
    mask: Params | None = None,
) -> Callable[..., Params]:
    """(G + γ) v, with G = Σ_n v_n Jᵀ Λ J (over N): the vector forward, by Λ, and backward.

    The arguments are those of `jnn.backprop.value_and_grad`. Returned is a function
    `(params, v, x, weights=None) -> product`; the targets do not occur in it.

    Source: Schraudolph, 2002.
    """
    of = _Objective.of(network, likelihood, reduction, weight_decay, mask)

    def evaluate(params: Params, v: Params, x: Array, weights: Array | None = None) -> Params:
        leading_axes(network, v, lead=(), what="v")
        columns, weights = _inputs(network, params, x, weights)
        counts, gamma = of.shares(columns, weights)
        a, kept = network.forward(params, columns)
        moved_a, _ = network.moved_forward(params, v, kept)
        moved_delta = counts[:, None] * likelihood.fisher_product(a.T, moved_a.T)
        found, _ = network.backward(params, kept, laid_out(moved_delta.T))
        return of.decayed(network.gradients(kept, found), v, gamma)

    return evaluate


def _inputs(network: Network, params: Params, x: Any, weights: Any) -> tuple[Array, Any]:
    """Examples without their targets, as columns."""
    x = real_array(x, "x")
    columns, _, weights = objectives.examples(network, params, x, jnp.zeros(x.shape[:-1]), weights)
    return columns, weights


# --- matrices


def jacobian(network: Network, params: Params, x: backprop.Inputs) -> Params:
    """J, ∂a_k/∂w for every example and output: the structure of `params`, each leaf `(*batch, K, *its shape)`."""
    leading_axes(network, params, lead=())
    columns, batch = network.columns(params, x)
    a, kept = network.forward(params, columns)
    unit = jnp.broadcast_to(jnp.eye(len(a), dtype=a.dtype), (a.shape[1], len(a), len(a)))
    found = _backward_each(network, params, kept, unit)
    return jax.tree.map(lambda g: jnp.moveaxis(g, 0, 1).reshape(*batch, len(a), *g.shape[2:]), found)


def _backward_each(network: Network, params: Params, kept: Any, deltas: Float[Array, "n K R"]) -> Params:
    """Per-example gradients for each of R choices of the outputs' δ, which come first, examples second."""

    def one(delta: Float[Array, "n K"]) -> Params:
        found, _ = network.backward(params, kept, delta.T)
        return network.per_example_gradients(kept, found)

    return jax.vmap(one, in_axes=2)(deltas)


def _root_rows(
    network: Network, likelihood: Likelihood, params: Params, columns: Array, counts: Array
) -> Float[Array, "nR P"]:
    """B with G = BᵀB: the rows √v_n Sᵀ J of all examples, where Λ = S Sᵀ."""
    a, kept = network.forward(params, columns)
    roots = jnp.sqrt(counts)[:, None, None] * likelihood.fisher_root(a.T)
    found = jax.tree.leaves(_backward_each(network, params, kept, roots))
    n = roots.shape[0] * roots.shape[2]
    return jnp.concatenate([g.reshape(n, -1) for g in found], axis=1)


def root_rows(
    network: Network, likelihood: Likelihood, params: Params, x: Array, weights: Array | None = None
) -> Float[Array, "nR P"]:
    """B with G = BᵀB, of sums over examples: R rows √v_n Sᵀ J for each of them, where Λ = S Sᵀ."""
    columns, weights = _inputs(network, params, x, weights)
    counts = jnp.ones(columns.shape[1], columns.dtype) if weights is None else weights
    return _root_rows(network, likelihood, params, columns, counts)


def _in_blocks(network: Network, columns: Array, counts: Array, of: Callable[[Array, Array], Any]) -> Any:
    """The sum of `of(columns, counts)` over blocks of examples small enough for their J to be held."""
    n = columns.shape[1]
    size = max(1, BLOCK // (network.weight_count * network.outputs))
    if n <= size:
        return of(columns, counts)
    blocks = -(-n // size)
    missing = blocks * size - n
    # What fills up the last block counts nothing.
    filled = jnp.pad(columns, ((0, 0), (0, missing)), mode="edge").reshape(len(columns), blocks, size)
    parts = jnp.moveaxis(filled, 1, 0), jnp.pad(counts, (0, missing)).reshape(blocks, size)
    shapes = jax.eval_shape(of, *jax.tree.map(lambda part: part[0], parts))
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(lambda sums, part: (jax.tree.map(jnp.add, sums, of(*part)), None), nothing, parts)[0]


def gauss_newton(
    network: Network,
    likelihood: Likelihood,
    *,
    reduction: objectives.Reduction = "mean",
    weight_decay: Any = 0.0,
    mask: Params | None = None,
) -> Callable[..., Matrix]:
    """G + γ, with G = Σ_n v_n Jᵀ Λ J (over N), as a function `(params, x, weights=None) -> matrix`.

    The arguments are those of `jnn.backprop.value_and_grad`.
    """
    of = _Objective.of(network, likelihood, reduction, weight_decay, mask)

    def evaluate(params: Params, x: Array, weights: Array | None = None) -> Matrix:
        columns, weights = _inputs(network, params, x, weights)
        counts, gamma = of.shares(columns, weights)

        def products(columns: Array, counts: Array) -> Matrix:
            rows = _root_rows(network, likelihood, params, columns, counts)
            return rows.T @ rows

        return _in_blocks(network, columns, counts, products) + jnp.diag(of.decays(params, gamma))

    return evaluate


def hessian(
    network: Network,
    likelihood: Likelihood,
    *,
    reduction: objectives.Reduction = "mean",
    weight_decay: Any = 0.0,
    mask: Params | None = None,
) -> Callable[..., Matrix]:
    """∇²J, exact, as a function `(params, x, y, weights=None) -> matrix`; one product with a unit vector a row.

    The arguments are those of `jnn.backprop.value_and_grad`. Symmetric to rounding. (Rows one after another: on a CPU
    that is several times faster than all at once, or than `jax.hessian`.)

    Source: Bishop, 1992.
    """
    of = _Objective.of(network, likelihood, reduction, weight_decay, mask)

    def evaluate(params: Params, x: Array, y: Array, weights: Array | None = None) -> Matrix:
        return _rows_of_hessian(of, params, x, y, weights, lambda _, row: row)

    return evaluate


def _rows_of_hessian(
    of: _Objective, params: Params, x: Array, y: Array, weights: Any, take: Callable[[Array, Array], Array]
) -> Array:
    """`take(number, row)` of every row."""
    columns, y, weights = objectives.examples(of.network, params, x, y, weights)
    counts, gamma = of.shares(columns, weights)
    flat, unravel = ravel_pytree(params)
    product = _hessian_product(of, params, columns, y, counts)

    def row(number: Array) -> Array:
        v = unravel(jnp.zeros_like(flat).at[number].set(1))
        return take(number, ravel_pytree(of.decayed(product(v), v, gamma))[0])

    return jax.lax.map(row, jnp.arange(len(flat)))


def diagonal(
    network: Network,
    likelihood: Likelihood,
    *,
    of: Literal["gauss_newton", "hessian"] = "gauss_newton",
    reduction: objectives.Reduction = "mean",
    weight_decay: Any = 0.0,
    mask: Params | None = None,
) -> Callable[..., Params]:
    """The diagonal of G + γ, or of ∇²J, in the form of the parameters: `(params, x, y=None, weights=None) -> diagonal`.

        G_ij,ij = Σ_n v_n Σ_r δ_i² z_j²,   δ the outputs' r-th column of S (Λ = S Sᵀ), propagated backward

    The first costs a backward pass for each output; the second as much as the whole Hessian, but its memory, and needs
    the targets y. The other arguments are those of `jnn.backprop.value_and_grad`.
    """
    if of not in ("gauss_newton", "hessian"):
        raise ValueError(f'expected of as "gauss_newton" or "hessian", got {of!r}')
    given = _Objective.of(network, likelihood, reduction, weight_decay, mask)

    def evaluate(params: Params, x: Array, y: Any = None, weights: Array | None = None) -> Params:
        if of == "hessian":
            flat = _rows_of_hessian(given, params, x, y, weights, lambda number, row: row[number])
            return ravel_pytree(params)[1](flat)
        columns, weights = _inputs(network, params, x, weights)
        counts, gamma = given.shares(columns, weights)
        a, kept = network.forward(params, columns)
        roots = jnp.sqrt(counts)[:, None, None] * likelihood.fisher_root(a.T)

        def squares(delta: Float[Array, "n K"]) -> Params:
            found, _ = network.backward(params, kept, delta.T)
            return network.gradients(*jax.tree.map(jnp.square, (kept, found)))

        total = jax.tree.map(lambda each: jnp.sum(each, axis=0), jax.vmap(squares, in_axes=2)(roots))
        return given.decayed(total, jax.tree.map(jnp.ones_like, params), gamma)

    return evaluate


class Kronecker(NamedTuple):
    """Factors of one layer's block of G, approximately A ⊗ B over its weights and biases, neuron after neuron read."""

    A: Float[Array, "fan_in_and_1 fan_in_and_1"]
    """Σ_n v_n z zᵀ / Σ_n v_n, with z the layer's inputs and, last, the bias unit's 1."""
    B: Float[Array, "size size"]
    """Σ_n v_n Σ_r δ δᵀ (over N)."""


def kronecker_factors(
    network: Network, likelihood: Likelihood, *, reduction: objectives.Reduction = "mean"
) -> Callable[..., tuple[Kronecker, ...]]:
    """The Kronecker factors of G for each layer: a function `(params, x, weights=None) -> (Kronecker, ...)`.

        G_l ≈ A_l ⊗ B_l,   A_l = E[z zᵀ],   B_l = Σ_n v_n Σ_r δ δᵀ

    as if what a neuron reads were independent of its δ; exact for one example, and for a network of one layer whose Λ
    is the same for all. Raises ValueError for a `dag`, whose missing edges leave no such form.

    Source: Martens, Grosse, 2015.
    """
    objectives.check_reduction(reduction)
    if not isinstance(network, Layered):
        raise ValueError("Kronecker factors need layers that are densely connected, as those of mlp; take the diagonal")

    def evaluate(params: Params, x: Array, weights: Array | None = None) -> tuple[Kronecker, ...]:
        columns, weights = _inputs(network, params, x, weights)
        n = columns.shape[1]
        once = jnp.ones(n, columns.dtype) if weights is None else weights
        counts = once / jnp.sum(once) if reduction == "mean" else once
        a, kept = network.forward(params, columns)
        roots = jnp.sqrt(counts)[:, None, None] * likelihood.fisher_root(a.T)
        found = jax.vmap(lambda delta: network.backward(params, kept, delta.T)[0], in_axes=2)(roots)
        factors = []
        for layer, deltas in zip(network.layers, found, strict=True):
            read = jnp.concatenate([*(kept.z[s] for s in layer.sources), jnp.ones((1, n), columns.dtype)])
            factors.append(
                Kronecker((read * once[None, :]) @ read.T / jnp.sum(once), jnp.einsum("rin,rjn->ij", deltas, deltas))
            )
        return tuple(factors)

    return evaluate


# --- for whoever differentiates


def differentiable(
    network: Network,
    likelihood: Likelihood,
    *,
    reduction: objectives.Reduction = "mean",
    weight_decay: Any = 0.0,
    mask: Params | None = None,
) -> Callable[..., Float[Array, ""]]:
    """J as a function `(params, x, y, weights=None)` whose first and second derivatives by `params` are those by hand.

    For optimizers that take `jax.grad` of it, and `jax.grad` or `jax.vjp` of that, as Newton's method with conjugate
    gradients does. The Hessian is symmetric, so that its product with a cotangent is `hessian_vector_product`.
    """
    settings: dict[str, Any] = {"reduction": reduction, "weight_decay": weight_decay, "mask": mask}
    by_hand = backprop.value_and_grad(network, likelihood, **settings)
    product = hessian_vector_product(network, likelihood, **settings)

    def evaluate(params: Params, x: Array, y: Array, weights: Array | None = None) -> Float[Array, ""]:
        @jax.custom_vjp
        def gradient(params: Params) -> Params:
            return by_hand(params, x, y, weights)[1]

        gradient.defvjp(
            lambda params: (gradient(params), params), lambda params, v: (product(params, v, x, y, weights),)
        )

        @jax.custom_vjp
        def value(params: Params) -> Float[Array, ""]:
            return by_hand(params, x, y, weights)[0]

        def backward(params: Params, cotangent: Array) -> tuple[Params]:
            return (jax.tree.map(lambda g: cotangent * g, gradient(params)),)

        value.defvjp(lambda params: (value(params), params), backward)
        leading_axes(network, params, lead=())
        return value(params)

    return evaluate
