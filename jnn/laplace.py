r"""Laplace's approximation: how sure a trained network is, and how much its weights should decay.

Around a minimum w* of E + γ/2 ‖w‖², the posterior of the weights is nearly Gaussian (`jnn.posterior`). Its evidence,

    ln p(S) ≈ ln p(S | w*) − γ/(2σ²) ‖w*‖² − ½ Σ_i ln(1 + λ_i/γ),

compares decays and networks without validation examples (and minima: see `train`); where it is largest,

    γ_eff = Σ_i λ_i/(λ_i + γ),   γ/σ² = γ_eff / ‖w‖²,   σ² = Σ_n r_n² / (N − γ_eff).

`fit` finds the posterior of a network that is trained; `train` trains, and finds the decay as well. All weights must
decay, those of linear outputs and biases too: a prior that spares some is improper, and its evidence is no number.

Posteriors are computed in float64, whatever the parameters' dtype, on the host.

Source: MacKay, "Bayesian interpolation" and "A practical Bayesian framework for backpropagation networks", Neural
Computation 4, 1992; Foresee, Hagan, "Gauss-Newton approximation to Bayesian learning", ICNN 1997.
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, Num

from jnn import backprop, checks, curvature, ensembles
from jnn.likelihoods import Gaussian, Likelihood
from jnn.model import Model
from jnn.networks import Layered, Network, Params, nguyen_widrow
from jnn.networks.base import leading_axes
from jnn.optimizers import levenberg_marquardt
from jnn.posterior import Basis, Diagonal, Full, Kronecker, Pair, Posterior
from jnn.training.problem import Examples, check_problem

Structure = Literal["full", "kronecker", "diagonal", "last_layer"]
Inputs = Num[Array | np.ndarray, "n d"]
Targets = Num[Array | np.ndarray, "n ..."]


class NotConvergedWarning(UserWarning):
    """The parameters are no minimum, and a Gaussian about them is not the posterior."""


def fit(
    network: Network,
    likelihood: Likelihood,
    params: Params,
    x: Inputs,
    y: Targets,
    *,
    weight_decay: Any,
    structure: Structure = "full",
    noise: Any = None,
    weights: Any = None,
) -> Posterior:
    """The posterior about trained parameters, of one network or of each of an ensemble.

    Give it to a `Model`, whose moments and intervals are then the posterior's:
    `Model(network, likelihood, params, posterior=posterior)`.

    Args:
        network: f(x; w).
        likelihood: p(y | x; w).
        params: where E + γ/2 ‖w‖² is smallest; a first axis over members, if any.
        x: inputs the network was trained on, as it was given them: one row an example.
        y: their targets.
        weight_decay: γ > 0, of the sum, of all weights and biases; one number, or one for each member.
        structure: "full" takes all of G; "kronecker" a product for each layer, for networks of many weights: as it
            takes δ to be independent of what a layer reads, which it is not where examples come in clusters, intervals
            widen less between them than by all of G (`python -m experiments curvature`); "diagonal" and "last_layer"
            are there to compare with: their intervals hardly widen where there are no data.
        noise: σ², in units of the likelihood's variance; by default Σ r²/(N − γ_eff) for `Gaussian`, else 1.
        weights: v_n, how often each example counts.

    Raises:
        ValueError: for a weight decay that is not positive, and for what does not fit.

    Warns:
        NotConvergedWarning: if the gradient is not small: if the minimum is, by G, more than a posterior standard
            deviation away.
    """
    if structure not in get_args(Structure):
        raise ValueError(f"expected structure as one of {', '.join(get_args(Structure))}, got {structure!r}")
    if structure in ("kronecker", "last_layer") and not isinstance(network, Layered):
        raise ValueError(f'{structure} needs a network of layers, as those of mlp; take "full" or "diagonal"')
    lead = leading_axes(network, params)
    if len(lead) > 1:
        raise ValueError(f"expected params of one network, or of members along one axis; got {lead} of them")
    members = int(np.prod(lead, dtype=int))
    gammas = _positive("weight_decay", weight_decay, lead, ", as without it the prior is improper")
    noises = None if noise is None else _positive("noise", noise, lead)
    with jax.enable_x64(True), np.errstate(over="ignore", invalid="ignore"):
        problem = _Problem.of(network, likelihood, params, x, y, weights)
        found = []
        for m in range(members):
            own = jax.tree.map(lambda leaf, m=m: np.asarray(leaf if not lead else leaf[m], np.float64), params)
            posterior, distance = _posterior(problem, own, structure, gammas[m], None if noises is None else noises[m])
            found.append(posterior)
            if distance > 1:
                warnings.warn(
                    f"the minimum is {distance:.1f} posterior standard deviations from these parameters: train them "
                    "to the end, by jnn.levenberg_marquardt, with this weight_decay of all weights and biases (mask="
                    "jnn.objectives.every_weight_mask(network)) and without early stopping",
                    NotConvergedWarning,
                    stacklevel=2,
                )
    return _finished(_stacked(found) if lead else found[0], params)


TOO_LARGE = "second derivatives or the noise are not finite: x, y or params are too large; standardize x and y"


def _finished(posterior: Posterior, params: Params) -> Posterior:
    """In the parameters' dtype; ValueError if that cannot hold it."""
    dtype = jax.dtypes.canonicalize_dtype(jax.tree.leaves(params)[0].dtype)
    with np.errstate(over="ignore"):
        found = jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), posterior)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((found.basis, found.noise))):
        raise ValueError(TOO_LARGE)
    return jax.tree.map(jnp.asarray, found)


def _positive(name: str, value: Any, lead: tuple[int, ...], why: str = "") -> np.ndarray:
    """A number for each member."""
    found = np.asarray(checks.number(name, value, f"finite and > 0{why}", lambda v: v > 0), np.float64)
    if found.shape not in ((), lead):
        raise ValueError(f"expected {name} as one number, or one for each member, {lead}; got shape {found.shape}")
    return np.broadcast_to(found.reshape(-1), (int(np.prod(lead, dtype=int)),))


def _stacked(posteriors: list[Posterior]) -> Posterior:
    """Those of all members, with a first axis over them."""
    if isinstance(posteriors[0].basis, Full):
        # Members of fewer eigenvectors have others of eigenvalue 0, which say nothing.
        most = max(len(p.basis.values) for p in posteriors)

        def filled(posterior: Posterior) -> Posterior:
            basis, missing = posterior.basis, (0, most - len(posterior.basis.values))
            full = Full(np.pad(basis.vectors, ((0, 0), missing)), np.pad(basis.values, missing), basis.start)
            return dataclasses.replace(posterior, basis=full)

        posteriors = [filled(posterior) for posterior in posteriors]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *posteriors)


class _Problem(NamedTuple):
    """What a posterior is of, in float64."""

    network: Network
    likelihood: Likelihood
    x: Any
    y: Any
    weights: Any

    @classmethod
    def of(cls, network: Network, likelihood: Likelihood, params: Params, x: Any, y: Any, weights: Any) -> "_Problem":
        """Checked as by `jnn.fit`; of one network or of several."""
        checked = check_problem(network, likelihood, Examples(x, y, weights), None, params).examples
        x, y = np.asarray(checks.real_array(x, "x"), np.float64), np.asarray(checked.y)
        weights = np.ones(len(x)) if weights is None else np.asarray(checks.real_array(weights, "weights"), np.float64)
        return cls(network, likelihood, x, y, weights)

    @property
    def targets(self) -> float:
        """How many numbers were observed, of targets in rows: N K."""
        return float(self.weights.sum()) * self.network.outputs


def _posterior(problem: _Problem, params: Params, structure: Structure, gamma: float, noise: Any) -> tuple[Any, float]:
    """Of one network; and how many posterior standard deviations the minimum is away."""
    basis = _basis(problem, params, structure)
    values = np.asarray(basis.eigenvalues)
    effective = float(np.sum(values / (values + gamma)))
    errors, flat = _errors(problem, params), np.asarray(ravel_pytree(params)[0])
    gaussian = isinstance(problem.likelihood, Gaussian)
    if noise is None:
        noise = 1.0
        if gaussian:
            if problem.targets - effective <= 1e-6 * problem.targets:
                raise ValueError(
                    f"{problem.targets:g} targets and {effective:.1f} effective weights leave no residuals to tell the "
                    "noise from: give noise, or a larger weight_decay"
                )
            noise = 2 * errors.sum_of_errors / (problem.targets - effective)
            noise = max(noise, float(np.finfo(np.float64).tiny))
    fit = -errors.complete
    if gaussian:  # with the variance σ² s² in the place of s²
        fit = -errors.sum_of_errors / noise - (errors.complete - errors.sum_of_errors)
        fit -= 0.5 * problem.targets * math.log(noise)
    evidence = fit - 0.5 * gamma / noise * float(flat @ flat) - 0.5 * float(np.sum(np.log1p(values / gamma)))
    posterior = Posterior(basis, np.float64(gamma), np.float64(noise), np.float64(evidence))
    slope = np.asarray(errors.gradient) + gamma * flat
    distance = float(jnp.sqrt(posterior.covariance(slope[None, :])[0, 0])) / noise
    return posterior, distance


class _Errors(NamedTuple):
    sum_of_errors: float  # Σ v_n E^n
    complete: float  # with the terms that are free of w
    gradient: Any


def _errors(problem: _Problem, params: Params) -> _Errors:
    found = _compiled_errors(problem.network, problem.likelihood, params, *problem[2:])
    return _Errors(float(found[0]), float(found[1]), found[2])


@functools.partial(jax.jit, static_argnames=("network", "likelihood"))
def _compiled_errors(network: Network, likelihood: Likelihood, params: Params, x: Any, y: Any, weights: Any) -> Any:
    value, gradient = backprop.value_and_grad(network, likelihood, reduction="sum")(params, x, y, weights)
    complete = likelihood.nll(network.apply(params, x), y, complete=True)
    return value, jnp.sum(weights * complete), ravel_pytree(gradient)[0]


# --- forms of G


def _basis(problem: _Problem, params: Params, structure: Structure) -> Basis:
    network, likelihood, x, _, weights = problem
    if structure == "diagonal":
        return Diagonal(np.asarray(_compiled_diagonal(network, likelihood, params, x, weights)))
    if structure == "kronecker":
        factors = _compiled_factors(network, likelihood, params, x, weights)
        return Kronecker(tuple(Pair(*_eigen(factor.A)[::-1], *_eigen(factor.B)[::-1]) for factor in factors))
    start = 0
    if structure == "last_layer":
        start = network.weight_count - (network.fan_in(network.layers[-1]) + 1) * network.outputs  # type: ignore[attr-defined]
    count = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))
    if len(x) * network.outputs < count - start:
        rows = np.asarray(_compiled_rows(network, likelihood, params, x, weights))
        return _basis_of_rows(rows[:, start:], start)
    matrix = np.asarray(_compiled_matrix(network, likelihood, params, x, weights))[start:, start:]
    values, vectors = _eigen(matrix)
    return Full(vectors, values, start)


def _basis_of_rows(rows: np.ndarray, start: int = 0) -> Full:
    """Of G = BᵀB, by the smaller of BᵀB and BBᵀ."""
    if len(rows) >= rows.shape[1]:
        values, vectors = _eigen(rows.T @ rows)
        return Full(vectors, values, start)
    values, left = _eigen(rows @ rows.T)
    there = values > values.max(initial=0) * len(values) * np.finfo(np.float64).eps
    values, left = values[there], left[:, there]
    return Full(rows.T @ left / np.sqrt(values), values, start)


def _eigen(matrix: Any) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, none negative, and eigenvectors."""
    if not np.isfinite(matrix).all():
        raise ValueError(TOO_LARGE)
    values, vectors = np.linalg.eigh(np.asarray(matrix))
    return np.maximum(values, 0), vectors


def _compiled(make: Callable[..., Any]) -> Callable[..., Any]:
    def compute(network: Network, likelihood: Likelihood, params: Params, x: Any, weights: Any) -> Any:
        return make(network, likelihood, params, x, weights)

    return jax.jit(compute, static_argnums=(0, 1))


_compiled_rows = _compiled(curvature.root_rows)
_compiled_matrix = _compiled(lambda n, of, *rest: curvature.gauss_newton(n, of, reduction="sum")(*rest))
_compiled_factors = _compiled(lambda n, of, *rest: curvature.kronecker_factors(n, of, reduction="sum")(*rest))
_compiled_diagonal = _compiled(
    lambda n, of, params, x, w: ravel_pytree(curvature.diagonal(n, of, reduction="sum")(params, x, None, w))[0]
)


# --- training by evidence


def train(
    network: Network,
    likelihood: Likelihood,
    x: Inputs,
    y: Targets,
    *,
    key: Key[Array, ""],
    restarts: int = 8,
    keep: int = 1,
    rounds: int = 20,
    epochs: int = 50,
    structure: Structure = "full",
    tolerance: float = 1e-3,
) -> Model:
    """Train by Levenberg-Marquardt, and find weight decay and noise by evidence, in turn; no validation examples.

    Several networks start from different weights and decays, since the evidence has several maxima; those of the
    highest evidence are kept. What MATLAB's `trainbr` and R's `brnn` do, for every likelihood. Standardize inputs and
    targets first: one decay holds for all weights.

    A minimum has others like it: hidden neurons may trade places, and change signs if h is odd. Minima with many
    neurons that each do something of their own have more of them than those in which most neurons do the same, and so
    more of p(S), which is an integral over all: the number of like minima, H!/(H − k)! · 2^k of k such neurons in a
    layer of H, counts in choosing (not in `log_evidence`, which is that of one).

    Args:
        network: f(x; w); first weights are drawn by `nguyen_widrow`, those of a `dag` as by default.
        likelihood: p(y | x; w); `Gaussian()` for regression, whose noise is found as well.
        x: inputs, one row an example.
        y: targets.
        key: a typed key.
        restarts: how many to train.
        keep: how many of them to keep, as one model that averages.
        rounds: the most times that the decay is found anew; ended when none changes by more than `tolerance`.
        epochs: the most steps a round.
        structure: of the posterior returned, as in `fit`.
        tolerance: relative, of the decay.

    Returns a `Model` with a posterior: `model.moments`, `model.interval`, `model.posterior.log_evidence`,
    `.effective_weights`, `.weight_decay` and `.noise`. Raises ValueError as `jnn.fit` does.

    Warns:
        NotConvergedWarning: if the decay of a network that is kept still changed in the last round.
    """
    keep, restarts, rounds = (
        checks.count(name, value) for name, value in (("keep", keep), ("restarts", restarts), ("rounds", rounds))
    )
    if keep > restarts:
        raise ValueError(f"expected keep from 1 to the {restarts} restarts, got {keep}")
    tolerance = checks.one_number("tolerance", tolerance, "finite and ≥ 0", lambda v: v >= 0)
    key = checks.one_key(key)
    initializer: dict[str, Any] = {"initializer": nguyen_widrow} if isinstance(network, Layered) else {}
    gammas = np.logspace(-3, 1, restarts) if restarts > 1 else np.array([0.1])
    params: Any = None
    settled = np.zeros(restarts, bool)
    each: list[Any] = []
    posteriors: list[Posterior] = []
    for number in range(rounds):
        trained = ensembles.fit(
            network,
            likelihood,
            x,
            y,
            key=jax.random.split(key, restarts),
            params=params,
            weight_decay=gammas,
            optimizer=levenberg_marquardt(),
            epochs=epochs,
            **initializer,
        )
        params = trained.params
        with jax.enable_x64(True), np.errstate(over="ignore", invalid="ignore"):
            problem = _Problem.of(network, likelihood, params, x, y, None)
            each = [
                jax.tree.map(lambda leaf: np.array(leaf, np.float64), trained.member(m)[1]) for m in range(restarts)
            ]
            posteriors = [_posterior(problem, own, "full", g, None)[0] for own, g in zip(each, gammas, strict=True)]
        better = np.array([_better_decay(*pair) for pair in zip(posteriors, each, strict=True)])
        better = np.minimum(better, float(jnp.finfo(jax.tree.leaves(params)[0].dtype).max))
        settled = np.abs(better - gammas) <= tolerance * gammas
        if settled.all() or number == rounds - 1:
            break
        gammas = np.where(settled, gammas, better)
    evidence = [float(p.log_evidence) + _log_count(network, w, p) for p, w in zip(posteriors, each, strict=True)]
    order = np.argsort(np.negative(evidence), kind="stable")[:keep]
    if not settled[order].all():
        warnings.warn(
            f"the weight decay still changes after {rounds} rounds: pass more of them, or fewer neurons",
            NotConvergedWarning,
            stacklevel=2,
        )
    kept = jax.tree.map(lambda leaf: leaf[order] if keep > 1 else leaf[order[0]], params)
    decay = gammas[order] if keep > 1 else gammas[order[0]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        posterior = fit(network, likelihood, kept, x, y, weight_decay=decay, structure=structure)
    return Model(network, likelihood, kept, posterior=posterior)


def _better_decay(posterior: Posterior, params: Params) -> float:
    """MacKay's fixed point, γ = σ² γ_eff / ‖w‖²."""
    flat = np.asarray(ravel_pytree(params)[0])
    better = float(posterior.noise * posterior.effective_weights / max(float(flat @ flat), 1e-300))
    return float(np.clip(better, 1e-10, 1e10))


def _log_count(network: Network, params: Params, posterior: Posterior) -> float:
    """ln of how many minima are this one with neurons in other places, or of other signs; 0 if it is not known.

    Neurons with a twin do not count: if trading places moves the weights by less than a posterior standard deviation,
    it leads to no other minimum.
    """
    if not isinstance(network, Layered):
        return 0.0
    total, probe = 0.0, jnp.array([0.3, 1.0, 2.5])
    for number, layer in enumerate(network.layers[:-1]):
        readers = [(n, rows) for n, reader in enumerate(network.layers) for s, rows in network.blocks(reader)
                   if s == number + 1]  # fmt: skip
        own = [params[number]["W"].T, params[number]["b"][:, None], *(params[n]["W"][rows] for n, rows in readers)]
        neurons = np.concatenate(own, axis=1)
        moved = 2 * np.sum(np.square(neurons[:, None] - neurons[None]), axis=2)  # ‖Δw‖² of trading places
        twins = np.zeros(layer.size, bool)
        for i, j in np.argwhere(np.triu(posterior.weight_decay * moved <= posterior.noise, 1)):
            if not (twins[i] and twins[j]):
                swap = _swap(params, number, readers, int(i), int(j))
                determined = np.square(posterior.basis.coordinates(swap)) @ posterior.basis.eigenvalues
                if determined + posterior.weight_decay * moved[i, j] <= posterior.noise:
                    twins[[i, j]] = True
        alone = int(layer.size - twins.sum())
        h = layer.activation.h
        signs = 2 if np.allclose(h(probe), -h(-probe)) else 1
        total += math.lgamma(layer.size + 1) - math.lgamma(layer.size - alone + 1) + alone * math.log(signs)
    return total


def _swap(params: Params, layer: int, readers: list[tuple[int, slice]], i: int, j: int) -> np.ndarray:
    """How all weights change if two neurons of a layer trade places."""
    order = np.arange(len(params[layer]["b"]))
    order[[i, j]] = j, i
    changed = jax.tree.map(np.zeros_like, params)
    own = params[layer]
    changed[layer].update(W=own["W"][:, order] - own["W"], b=own["b"][order] - own["b"])
    for number, rows in readers:
        w = params[number]["W"][rows]
        changed[number]["W"][rows] = w[order] - w
    return np.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(changed)])


# --- leverages


def leverages(ensemble: ensembles.Ensemble, x: Inputs, y: Targets, *, weight_decay: float = 0.01) -> Model:
    """An ensemble whose variance grows where its members saw no examples, by their leverages.

        Var[y | x] = 1/M Σ_m σ² (1 + h_m(x)) + spread of the means,   h_m(x) = J_m(x) (G_m + γ)⁻¹ J_m(x)ᵀ

    as in linear regression, with G_m over the examples that member m was trained on; σ² is the mean of r²/(1 + h) over
    those that it held out. Members need not have converged, and means stay as they are.

    Args:
        ensemble: from `jnn.ensembles.fit`, with a `Gaussian` likelihood, and examples held out of each member's.
        x: all the inputs it was given.
        y: their targets.
        weight_decay: γ > 0: what is assumed of weights that the examples do not determine. The smaller, the wider in
            gaps; where there are examples it hardly matters.

    Raises:
        ValueError: for another likelihood, for an ensemble of several widths, or if nothing was held out.
    """
    network, likelihood, state = ensemble.network, ensemble.likelihood, ensemble.result.state
    if not isinstance(likelihood, Gaussian):
        raise ValueError(f"leverages need Gaussian noise of one variance, got {likelihood}")
    if any(own != network for own in ensemble.networks):
        raise ValueError("leverages need members of one width")
    if state.held_out is None:
        raise ValueError(
            "leverages need examples that were held out: pass validation=0.2, or held_out, to ensembles.fit"
        )
    weight_decay = checks.one_number("weight_decay", weight_decay, "finite and > 0", lambda v: v > 0)
    found, squares = [], []
    with jax.enable_x64(True), np.errstate(over="ignore", invalid="ignore"):
        problem = _Problem.of(network, likelihood, ensemble.params, x, y, None)
        for m in range(len(ensemble)):
            params = jax.tree.map(lambda leaf, m=m: np.asarray(leaf[m], np.float64), ensemble.params)
            rows = np.asarray(_compiled_rows(network, likelihood, params, problem.x, problem.weights))
            residuals = (np.asarray(network.apply(params, problem.x)) - problem.y) / likelihood.s
            by_output = rows.reshape(network.outputs, len(problem.x), -1)
            held_out = _rows_of(state.held_out, m)
            trained = np.arange(len(problem.x)) if state.rows is None else _rows_of(state.rows, m)
            basis = _basis_of_rows(by_output[:, trained].reshape(-1, rows.shape[1]))
            one = Posterior(basis, np.float64(weight_decay))
            for k in range(network.outputs):
                h = np.asarray(one.variances(by_output[k, held_out]))
                squares.append(np.square(residuals[held_out, k]) / (1 + h))
            found.append(one)
        noise = np.float64(np.mean(np.concatenate(squares)))
    posterior = _stacked([dataclasses.replace(one, noise=noise, log_evidence=np.float64(np.nan)) for one in found])
    return Model(network, likelihood, ensemble.params, posterior=_finished(posterior, ensemble.params))


def _rows_of(rows: Any, member: int) -> np.ndarray:
    return np.asarray(rows.index[member])[: int(rows.count[member])]


# --- standard errors


def sampling_covariance(
    network: Network,
    likelihood: Likelihood,
    params: Params,
    x: Inputs,
    y: Targets,
    *,
    weight_decay: Any,
    kind: Literal["observed", "hc3"] = "observed",
    of: Callable[[Params], Array] | None = None,
) -> Float[np.ndarray, "..."]:
    """The covariance matrix of the weights, or of any function of them, over other samples of the same size.

        observed   H⁻¹ (σ² H⁻¹ for `Gaussian`),   H = ∇²(E + γ/2 ‖w‖²)
        hc3        H⁻¹ (Σ_n g_n g_nᵀ / (1 − h_n)²) H⁻¹,   g_n = ∇E^n,  h_n = the example's leverage

    The first trusts the likelihood; the second holds where its variance is wrong, as where noise differs from place to
    place, and lets an example that fits because it was bent to count for more (MacKinnon, White, 1985).

    Args:
        network: f(x; w).
        likelihood: p(y | x; w).
        params: the minimum.
        x: inputs it was trained on.
        y: their targets.
        weight_decay: γ ≥ 0, of the sum, of all weights and biases.
        kind: as above.
        of: a function of the parameters, for the covariance of its values, by its derivatives; None: of the weights.

    Raises:
        ValueError: if H is not positive definite: no minimum, or weights that the examples do not determine.
    """
    if kind not in ("observed", "hc3"):
        raise ValueError(f'expected kind "observed" or "hc3", got {kind!r}')
    leading_axes(network, params, lead=())
    with jax.enable_x64(True), np.errstate(over="ignore", invalid="ignore"):
        problem = _Problem.of(network, likelihood, params, x, y, None)
        own = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        flat, unravel = ravel_pytree(own)
        gamma = checks.one_number("weight_decay", weight_decay, "finite and ≥ 0", lambda v: v >= 0) * np.eye(len(flat))
        hessian = np.asarray(_compiled_hessian(network, likelihood, own, problem.x, problem.y)) + gamma
        if not np.isfinite(hessian).all():
            raise ValueError(TOO_LARGE)
        values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
        if values[0] <= values[-1] * len(values) * np.finfo(np.float64).eps:
            raise ValueError(
                f"the Hessian is not positive definite (eigenvalues from {values[0]:.1e} to {values[-1]:.1e}): train "
                "to a minimum, let all weights decay, or take fewer of them"
            )
        inverse = (vectors / values) @ vectors.T
        matrix = np.asarray(_compiled_matrix(network, likelihood, own, problem.x, problem.weights))
        effective = float(np.trace(np.linalg.solve(matrix + gamma, matrix))) if gamma[0, 0] > 0 else len(flat)
        if kind == "observed":
            found = _errors(problem, own)
            noise = 2 * found.sum_of_errors / (problem.targets - effective) if isinstance(likelihood, Gaussian) else 1.0
            covariance = noise * inverse
        else:
            gradients, rows = _compiled_gradients(network, likelihood, own, problem.x, problem.y)
            # The root's R rows of an example belong together: its leverage is the sum of theirs, over its targets.
            rows = np.asarray(rows).reshape(-1, len(problem.x), len(flat))
            leverage = np.einsum("rnp,pq,rnq->n", rows, inverse, rows) / len(rows)
            scaled = np.asarray(gradients) / np.maximum(1 - leverage, 1e-3)[:, None]
            half = scaled @ inverse
            covariance = half.T @ half
        if not np.isfinite(covariance).all():
            raise ValueError(TOO_LARGE)
        if of is None:
            return covariance
        jacobian = np.asarray(jax.jacrev(lambda w: of(unravel(w)).reshape(-1))(flat))
        return jacobian @ covariance @ jacobian.T


_compiled_hessian = _compiled(lambda n, of, params, x, y: curvature.hessian(n, of, reduction="sum")(params, x, y))


@functools.partial(jax.jit, static_argnames=("network", "likelihood"))
def _compiled_gradients(network: Network, likelihood: Likelihood, params: Params, x: Any, y: Any) -> Any:
    each = jax.tree.leaves(backprop.per_example_gradients(network, likelihood, params, x, y))
    gradients = jnp.concatenate([leaf.reshape(len(x), -1) for leaf in each], axis=1)
    return gradients, curvature.root_rows(network, likelihood, params, x)
