"""Are the hand-written derivatives right, for every network, activation, likelihood and reduction?

    python -m experiments.crosscheck [--quick] [--order 1]

Of the first order, the gradient; of the second, products with the Hessian and with the Gauss-Newton matrix, the
outputs' Jacobian, and the Hessian's diagonal. (Autodiff takes the likelihood's Fisher information as it is; that one
the tests compare with the expectation of δδᵀ.) For each combination, on a few random examples, with and without example
weights and weight decay:

- in float64, the largest difference between the hand-written derivative and autodiff's, relative to the largest
  element of the leaf: the bound is 1e-12;
- in float32, the largest error of both against the float64 derivative at the same (float32) parameters, in ulps of the
  leaf's largest element: the hand-written one may have at most twice autodiff's error, plus 4 ulps.
"""

import argparse
import concurrent.futures
import functools
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import jnn
from jnn import likelihoods
from jnn.activations import ACTIVATIONS, Activation
from jnn.networks import Network

EXAMPLES = 16
FLOAT64_BOUND = 1e-12
FLOAT32_ULPS = 4.0
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Each program runs a few times for a millisecond: XLA is to take no trouble over it."""


@dataclass(frozen=True)
class Case:
    """One combination; `targets` are drawn from the likelihood itself."""

    name: str
    activation: str
    likelihood: likelihoods.Likelihood
    network: Network


@dataclass(frozen=True)
class Errors:
    """The worst leaf of one case: relative in float64, in ulps in float32."""

    float64: float
    by_hand: float
    autodiff: float

    @property
    def excess(self) -> float:
        """How much of the float32 bound, 2 × autodiff's error + 4 ulps, is used up: at most 1 is right."""
        return self.by_hand / (2 * self.autodiff + FLOAT32_ULPS)


LIKELIHOODS: dict[str, likelihoods.Likelihood] = {
    "Gaussian": likelihoods.Gaussian(0.7),
    "heteroscedastic Gaussian": likelihoods.HeteroscedasticGaussian(),
    "Bernoulli": likelihoods.Bernoulli(),
    "Categorical, integer": likelihoods.Categorical(),
    "Categorical, one-hot": likelihoods.Categorical(),
    "Poisson": likelihoods.Poisson(),
    "logistic + squared error": likelihoods.SquaredError("logistic"),
    "softmax + squared error": likelihoods.SquaredError("softmax"),
}


def general_edges(inputs: int, hidden: int, outputs: int, seed: int = 0) -> list[tuple[int, int]]:
    """A random acyclic network in which every neuron reads something and is read."""
    rng = np.random.default_rng(seed)
    first_output = 1 + inputs + hidden
    edges = {(int(rng.integers(1, i)), i) for i in range(inputs + 1, first_output)}
    edges |= {(j, int(rng.integers(j + 1, first_output + outputs))) for j in range(inputs + 1, first_output)}
    edges |= {(int(rng.integers(1, first_output)), i) for i in range(first_output, first_output + outputs)}
    edges |= {(1, first_output - 1), (2, first_output), (inputs + 1, first_output)}
    return sorted(edges)


NETWORKS = ("linear", "one layer", "two layers", "shortcuts", "general, blocks", "general, sweep")
INPUTS, HIDDEN, OUTPUTS = 3, 5, 4
"""The same for all: what is not compiled as a whole is compiled once for each operation and shape."""


def build(name: str, activation: str | Activation) -> Network:
    """The network of the given name, with the given activation."""
    if name == "linear":
        return jnn.mlp([INPUTS, OUTPUTS])
    if name == "one layer":
        return jnn.mlp([INPUTS, HIDDEN, OUTPUTS], activation)
    if name == "two layers":
        return jnn.mlp([INPUTS, HIDDEN, HIDDEN, OUTPUTS], [activation, "tanh"])
    if name == "shortcuts":
        return jnn.mlp([INPUTS, HIDDEN, HIDDEN, OUTPUTS], ["logistic", activation], shortcuts=True)
    edges = general_edges(INPUTS, HIDDEN, OUTPUTS)
    hidden = [activation, "tanh", activation, activation, "tanh"]
    return jnn.dag(INPUTS, OUTPUTS, edges, hidden, evaluation="blocks" if name == "general, blocks" else "sweep")


def cases(quick: bool = False) -> Iterator[Case]:
    """Every combination; `quick` a part, in which each network meets every likelihood, and in layers every activation.

    A sweep is slow to check, since it has to be compiled for each combination, and calls the same h and h'.
    """
    count = len(LIKELIHOODS)
    factors = itertools.product(NETWORKS, enumerate(ACTIVATIONS), enumerate(LIKELIHOODS.items()))
    for name, (h, activation), (p, (title, likelihood)) in factors:
        if name == "linear" and h:
            continue  # it has no hidden neurons
        if quick and name != "linear" and (h % count != p or (name.endswith("sweep") and h >= count)):
            continue
        yield Case(f"{name} / {title}", activation, likelihood, build(name, activation))


def measure(case: Case, seed: int = 0, order: int = 1) -> Errors:
    """The errors of one case's hand-written derivatives; runs in float64 and float32 whatever the configuration."""
    evaluate = functools.partial(EVALUATE[order], case.network, case.likelihood)
    compiles = order == 2 or case.name.startswith("general, sweep")
    with jax.enable_x64(True):
        return _measured(jax.jit(evaluate) if compiles else evaluate, case, seed)


def measure_together(cases: list[Case], order: int) -> list[Errors]:
    """Those of cases that differ in the activation alone, by one program for them all: what takes time is compiling."""
    found = []

    def evaluate(number: jax.Array, *data: Any) -> Any:
        def choose(rules: list[Any]) -> Any:
            return lambda a: jax.lax.switch(number, rules, a)

        activations = [ACTIVATIONS[case.activation] for case in cases]
        rules = ([getattr(h, rule) for h in activations] for rule in ("h", "derivative", "second_derivative"))
        h, first, second = map(choose, rules)
        network = build(cases[0].name.split(" / ")[0], Activation("any", h, first, second=second))
        return EVALUATE[order](network, cases[0].likelihood, *data)

    with jax.enable_x64(True):
        compiled = jax.jit(evaluate, compiler_options=QUICKLY)
        for number, case in enumerate(cases):
            found.append(_measured(functools.partial(compiled, number), case, 0))
    return found


def _measured(evaluate: Callable[..., Any], case: Case, seed: int) -> Errors:
    keys = jax.random.split(jax.random.key(seed), 4)
    # Values that float32 holds, so that both precisions see the same problem.
    params = case.network.init(keys[0], bias=0.1, dtype=jnp.float32)
    x = jax.random.normal(keys[1], (EXAMPLES, case.network.inputs), jnp.float32)
    spread = jax.random.normal(keys[2], (EXAMPLES, case.network.outputs), jnp.float32)
    y = case.likelihood.sample(keys[3], spread)
    if case.name.endswith("one-hot"):
        y = jax.nn.one_hot(y, case.network.outputs, dtype=jnp.float32)
    weights = jnp.linspace(0.5, 2, EXAMPLES, dtype=jnp.float32)
    single = evaluate(params, x, y, weights)
    double = evaluate(*jax.tree.map(_widen, (params, x, y, weights)))
    return _compare(jax.device_get(single), jax.device_get(double))


def _widen(array: jax.Array) -> jax.Array:
    return array.astype(jnp.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _gradients(network: Network, likelihood: Any, params: Any, x: Any, y: Any, weights: Any) -> Any:
    """[(by hand, autodiff)]: the mean with example weights and weight decay, the sum without."""
    found = []
    settings: list[tuple[Any, float, Any]] = [("mean", 0.3, weights), ("sum", 0.0, None)]
    for reduction, decay, v in settings:
        arguments: dict[str, Any] = {"reduction": reduction, "weight_decay": decay}
        by_hand = jnn.backprop.value_and_grad(network, likelihood, **arguments)(params, x, y, v)
        objective = jnn.objectives.objective(network, likelihood, **arguments)
        found.append((by_hand, jax.value_and_grad(objective)(params, x, y, v)))
    return found


def _second_derivatives(network: Network, likelihood: Any, params: Any, x: Any, y: Any, weights: Any) -> Any:
    """[(by hand, autodiff)] under a mean with example weights and weight decay."""
    arguments: dict[str, Any] = {"reduction": "mean", "weight_decay": 0.3}
    v = jax.tree.map(lambda w: jnp.cos(jnp.arange(w.size, dtype=w.dtype)).reshape(w.shape), params)
    objective = jnn.objectives.objective(network, likelihood, **arguments)
    curvature = jnn.curvature

    def moved(v: Any) -> Any:
        return jax.jvp(jax.grad(lambda params: objective(params, x, y, weights)), (params,), (v,))[1]

    def outputs(params: Any) -> Any:
        return network.apply(params, x)

    a, moved_a = jax.jvp(outputs, (params,), (v,))
    counts = (weights / jnp.sum(weights))[:, None]
    (product,) = jax.vjp(outputs, params)[1](counts * likelihood.fisher_product(a, moved_a))
    mask = jnn.objectives.decay_mask(network, likelihood)
    decay = jnn.objectives.penalty_gradient(v, mask)
    product = jax.tree.map(lambda p, d: p + 0.3 / jnp.sum(weights) * d, product, decay)
    flat, unravel = ravel_pytree(params)
    diagonal = jax.vmap(lambda e: jnp.vdot(e, ravel_pytree(moved(unravel(e)))[0]))(jnp.eye(len(flat), dtype=flat.dtype))
    return [
        (curvature.hessian_vector_product(network, likelihood, **arguments)(params, v, x, y, weights), moved(v)),
        (curvature.gauss_newton_vector_product(network, likelihood, **arguments)(params, v, x, weights), product),
        (curvature.jacobian(network, params, x), jax.jacrev(outputs)(params)),
        (
            ravel_pytree(curvature.diagonal(network, likelihood, of="hessian", **arguments)(params, x, y, weights))[0],
            diagonal,
        ),
    ]


EVALUATE = {1: _gradients, 2: _second_derivatives}


def _compare(single: Any, double: Any) -> Errors:
    """The worst leaf, the loss value counted as one; a leaf's float32 error is its largest in all pairs of one form."""
    worst64 = 0.0
    ulps: dict[tuple[Any, str], float] = {}
    for (hand32, auto32), (hand64, auto64) in zip(single, double, strict=True):
        leaves = (jax.tree.leaves(tree) for tree in (hand32, auto32, hand64, auto64))
        for place, (h32, a32, h64, a64) in enumerate(zip(*leaves, strict=True)):
            number = place, h32.shape
            if (h32.dtype, h32.shape) != (a32.dtype, a32.shape):
                raise AssertionError(
                    f"expected a leaf like autodiff's, {a32.dtype}{a32.shape}; got {h32.dtype}{h32.shape}"
                )
            largest = np.max(np.abs(a64))
            worst64 = max(worst64, _ratio(np.max(np.abs(h64 - a64)), largest))
            for which, g in (("hand", h32), ("auto", a32)):
                error = float(np.max(np.abs(g.astype(np.float64) - a64))) / float(np.spacing(np.float32(largest)))
                ulps[number, which] = max(ulps.get((number, which), 0.0), error)
    numbers = {number for number, _ in ulps}
    found = (Errors(worst64, ulps[number, "hand"], ulps[number, "auto"]) for number in numbers)
    return max(found, key=lambda e: e.excess)


def _ratio(error: float, largest: float) -> float:
    return 0.0 if error == 0 else float(error / largest) if largest > 0 else float("inf")


def main() -> None:
    """Measure all cases, and print the worst of each network and likelihood over the activations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a part of the combinations, the one that the tests run")
    parser.add_argument("--order", type=int, choices=(1, 2), help="derivatives of this order only; both by default")
    arguments = parser.parse_args()
    for order in (1, 2) if arguments.order is None else (arguments.order,):
        report(sorted(cases(arguments.quick), key=lambda case: case.name), order)


def report(every: list[Case], order: int) -> None:
    """The table of one order."""
    title = f"order {order}: network / likelihood"
    print(f"{title:44}{'float64':>10}  {'float32 by hand':>15}  {'autodiff':>8}  of bound  worst for")
    everything: list[Errors] = []
    groups = [list(group) for _, group in itertools.groupby(every, key=lambda case: case.name)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for group, results in zip(groups, pool.map(lambda group: measure_together(group, order), groups), strict=True):
            case, errors = max(zip(group, results, strict=True), key=lambda pair: pair[1].excess)
            everything += results
            print(
                f"{case.name:44}{max(e.float64 for e in results):10.1e}  {errors.by_hand:10.2f} ulps  "
                f"{errors.autodiff:8.2f}  {errors.excess:8.0%}  {case.activation}",
                flush=True,
            )
    right = sum(e.float64 <= FLOAT64_BOUND and e.excess <= 1 for e in everything)
    print(
        f"{len(everything)} cases, {right} within bounds; worst: {max(e.float64 for e in everything):.1e} relative in "
        f"float64 (bound {FLOAT64_BOUND:.0e}), {max(e.excess for e in everything):.0%} of the float32 bound"
    )


if __name__ == "__main__":
    main()
