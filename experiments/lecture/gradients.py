"""Hand-written gradients against autodiff, against float64 and against differences, on real data and on XOR."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import jnn
from experiments import drawing
from experiments.experiment import Experiment, Outcome, Picture, Session, Table, Verdict, efforts
from experiments.lecture import gradient_cases, recipe, xor
from experiments.lecture.gradient_cases import Leaf, compare_leaves
from jnn import backprop, objectives
from jnn.likelihoods import Bernoulli, Likelihood
from jnn.networks import Layered, Params

STEPS = tuple(2.0**-k for k in range(2, 33, 2))
"""h of the central differences: each a quarter of the one before."""

EFFORTS = efforts(weights_a_leaf=(2, 6, 30), networks=(1, 3, 10), random=(2, 20, 1000))
"""How many weights of each leaf have differences, how many trained networks, how many random ones."""


@dataclass(frozen=True)
class Problem:
    """A network and all training examples of some splits: parameters, x and y have a leading axis, all of float32."""

    title: str
    network: Layered
    likelihood: Likelihood
    params: Params
    x: np.ndarray
    y: np.ndarray


class Differences(NamedTuple):
    """Central differences of the objective by sampled weights, `(weights, steps)`, in float64.

    Attributes:
        error: |difference − hand-written|, over the largest entry of the leaf's gradient.
        bar: how wrong the difference may be, by its own estimate, in the same unit.
    """

    error: np.ndarray
    bar: np.ndarray

    @property
    def best(self) -> np.ndarray:
        """The step with the smallest bar, for each weight."""
        return np.argmin(self.bar, axis=1)

    def at_best(self, values: np.ndarray) -> np.ndarray:
        """`(weights,)`: the figures at those steps."""
        return np.take_along_axis(values, self.best[:, None], axis=1)[:, 0]


NO_DIFFERENCES = Differences(np.zeros((0, 1)), np.zeros((0, 1)))


@dataclass(frozen=True)
class Agreement:
    """All that was found on one data set, or with one kind of network on random data, without differences."""

    title: str
    leaves: list[Leaf]
    differences: Differences = NO_DIFFERENCES


def xor_problem(seed: int) -> Problem:
    """Networks with 4 hidden neurons at their initial weights, on the four points."""
    network = jnn.mlp([2, 4, 1])
    params = jax.jit(jax.vmap(network.init))(jax.random.split(jax.random.key(seed), 3))
    x, y = (np.broadcast_to(v, (3, *v.shape)) for v in (xor.X, xor.Y[:, None].astype(np.float32)))
    return Problem("XOR", network, Bernoulli(), params, x, y)


def real_problem(name: str, session: Session) -> Problem:
    """The networks of the experiment `real_data`: as initialized, and as trained."""
    trained = recipe.train(name, session)
    count = min(EFFORTS[session.size].networks, trained.splits)
    both = jax.tree.map(lambda a, b: np.concatenate([a[:count], b[:count]]), trained.initial, trained.result.params)
    x, y = (np.concatenate([v[:count]] * 2) for v in (trained.data.train.x, trained.data.targets(trained.data.train)))
    return Problem(trained.data.source.title, trained.network, trained.data.source.likelihood, both, x, y)


def gradients(problem: Problem) -> dict[str, Params]:
    """The gradient of the mean risk by both methods, for every network, in the precision of the parameters."""
    by_hand = backprop.value_and_grad(problem.network, problem.likelihood)
    risk = objectives.objective(problem.network, problem.likelihood)

    @jax.jit
    @jax.vmap
    def both(params: Params, x: jax.Array, y: jax.Array) -> dict[str, Params]:
        return {"hand-written": by_hand(params, x, y)[1], "autodiff": jax.grad(risk)(params, x, y)}

    return jax.tree.map(np.asarray, both(problem.params, problem.x, problem.y))


def widened(problem: Problem) -> Problem:
    """The same numbers in float64; to be used where x64 is enabled."""
    wide = functools.partial(jax.tree.map, lambda v: np.asarray(v, np.float64))
    y = problem.y if np.issubdtype(problem.y.dtype, np.integer) else wide(problem.y)
    return Problem(problem.title, problem.network, problem.likelihood, wide(problem.params), wide(problem.x), y)


def agreement(problem: Problem, weights_a_leaf: int, seed: int) -> Agreement:
    """Compare everything with everything. float64 is switched on for its part of the work only."""
    narrow = gradients(problem)
    with jax.enable_x64(True):
        wide_problem = widened(problem)
        wide = gradients(wide_problem)
        differences = central_differences(wide_problem, wide["hand-written"], weights_a_leaf, seed)
    names = [f"{kind}{number}" for number in range(1, 1 + len(problem.params)) for kind in ("W", "b")]
    return Agreement(problem.title, compare_leaves(names, narrow, wide), differences)


def central_differences(problem: Problem, gradient: Params, weights_a_leaf: int, seed: int) -> Differences:
    """D(h) = (J(w + h e_i) − J(w − h e_i)) / 2h for sampled weights w_i of the last network, at all steps h.

    D(h) misses by c h² and smaller terms, of which |D(h) − D(h/4)| shows 15/16; and each J carries a rounding error, a
    few of its last digits, which is divided by 2h. The bar is the sum of both.
    """
    risk = objectives.objective(problem.network, problem.likelihood)
    params, leaves = (jax.tree.map(lambda leaf: np.asarray(leaf[-1]), tree) for tree in (problem.params, gradient))
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    by_hand, _ = jax.flatten_util.ravel_pytree(leaves)
    rng = np.random.default_rng(seed)
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    starts = np.cumsum([0, *sizes[:-1]])
    chosen = [
        start + rng.choice(size, min(weights_a_leaf, size), replace=False)
        for start, size in zip(starts, sizes, strict=True)
    ]
    scale = np.concatenate(
        [
            np.full(len(rows), np.abs(by_hand[start : start + size]).max())
            for rows, start, size in zip(chosen, starts, sizes, strict=True)
        ]
    )
    rows, steps = np.concatenate(chosen), jnp.asarray(STEPS)
    x, y = jnp.asarray(problem.x[-1]), jnp.asarray(problem.y[-1])

    @jax.jit
    def by_steps(rows: jax.Array, flat: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = jax.vmap(lambda row, h: risk(unflatten(flat.at[row].add(h)), x, y), in_axes=(None, 0))
        up, down = (jax.lax.map(lambda row, sign=sign: value(row, sign * steps), rows) for sign in (1.0, -1.0))
        return (up - down) / (2 * steps)[None, :], jnp.maximum(jnp.abs(up), jnp.abs(down))

    found, size = (np.asarray(v) for v in by_steps(jnp.asarray(rows), flat, x, y))
    error = np.abs(found - np.asarray(by_hand)[rows][:, None])
    truncation = np.abs(np.diff(found, axis=1)) * 16 / 15
    rounding = ROUNDINGS * np.finfo(np.float64).eps * size / np.array(STEPS)[None, :]
    # The last step has none smaller to compare with.
    bar = truncation + rounding[:, :-1]
    return Differences(error[:, :-1] / scale[:, None], bar / scale[:, None])


ROUNDINGS = 8
"""How many rounding errors of J the bar of a difference allows for: J is a mean of many terms, each computed."""


def run(session: Session) -> Outcome:
    """Compare on XOR and on every data set."""
    found = []
    effort = EFFORTS[session.size]
    names = ["xor", *recipe.EFFORTS[session.size].names]
    for name in session.each(names, lambda name: f"Gradients: {name.replace('_', ' ')}"):
        problem = xor_problem(session.seed) if name == "xor" else real_problem(name, session)
        found.append(agreement(problem, effort.weights_a_leaf, session.seed))
    cases = [
        Agreement(title, gradient_cases.compare(gradient_cases.NETWORKS[title], effort.random, session.seed))
        for title in session.each(gradient_cases.NETWORKS, lambda title: f"Gradients: {title.lower()}")
    ]
    return Outcome(
        verdicts=[_exact([*found, *cases]), _as_accurate([*found, *cases]), _differences(found)],
        tables=[_leaf_table(found), _case_table(cases)],
        pictures=[_valleys(found)],
        interrupted=session.interrupted,
    )


def _exact(found: list[Agreement]) -> Verdict:
    worst, where = max((leaf.relative, f"{a.title}, {leaf.name}") for a in found for leaf in a.leaves)
    return Verdict(
        "In float64, hand-written gradients and autodiff agree to 10⁻¹² on every leaf.",
        worst <= 1e-12,
        f"The largest difference, relative to the leaf's largest entry, is {worst:.1e} ({where}).",
    )


def _as_accurate(found: list[Agreement]) -> Verdict:
    leaves = [(a.title, leaf) for a in found for leaf in a.leaves]
    title, leaf = max(leaves, key=lambda pair: pair[1].excess)
    better = sum(leaf.ulps["hand-written"] <= leaf.ulps["autodiff"] for _, leaf in leaves)
    return Verdict(
        "In float32, the error of a hand-written gradient is at most twice that of autodiff, plus 4 ulps.",
        leaf.excess <= 0,
        f"Nearest to that limit, or furthest beyond it: {title}, {leaf.name}, {leaf.ulps['hand-written']:.1f} ulps, "
        f"autodiff {leaf.ulps['autodiff']:.1f}. It is at least as accurate on {better} of {len(leaves)} leaves.",
    )


def _differences(found: list[Agreement]) -> Verdict:
    error = np.concatenate([a.differences.at_best(a.differences.error) for a in found])
    bar = np.concatenate([a.differences.at_best(a.differences.bar) for a in found])
    inside = int(np.sum(error <= bar))
    return Verdict(
        "Every sampled difference agrees with the hand-written gradient within its own error bar.",
        inside == len(error),
        f"{inside} of {len(error)} do. The median bar is {np.median(bar):.0e} of the leaf's largest entry: the "
        "smallest error of the gradient that this check can see.",
    )


def _leaf_table(found: list[Agreement]) -> Table:
    return Table.of(
        "Gradients leaf by leaf",
        [(a.title, leaf) for a in found for leaf in a.leaves],
        {
            "": lambda one: f"{one[0]}, {one[1].name}",
            "hand-written": lambda one: f"{one[1].ulps['hand-written']:.2f}",
            "autodiff": lambda one: f"{one[1].ulps['autodiff']:.2f}",
            "apart in float64": lambda one: f"{one[1].relative:.1e}",
        },
        "W1 and b1: weights and biases of the hidden layer; W2 and b2: of the output layer. The first two columns: "
        "largest float32 error against float64, in float32 ulps of the leaf's largest entry. The last: largest "
        "difference of the two in float64, over the largest entry. Over initial and trained weights (XOR: initial), "
        "with all training examples.",
    )


def _case_table(cases: list[Agreement]) -> Table:
    rows = [
        [same[0].name, *(f"{leaf.ulps['hand-written']:.2f} / {leaf.ulps['autodiff']:.2f}" for leaf in same)]
        for same in zip(*(case.leaves for case in cases), strict=True)
    ]
    return Table(
        "Every likelihood with every kind of network: hand-written / autodiff",
        ["", *(case.title for case in cases)],
        rows,
        "Largest float32 error in ulps of the leaf's largest entry, over random networks and targets; of the leaf that "
        "is nearest to the limit. `python -m experiments.crosscheck` does this for all activations, reductions and "
        "weights too.",
    )


def _valleys(found: list[Agreement]) -> Picture:
    return drawing.picture(
        "What a difference can see",
        "Distance of central differences from the hand-written gradient, by step h: one faint line for each sampled "
        "weight, the median bold; dashed, the median of the error bar that the differences claim for themselves. Long "
        "steps miss the curvature, short ones drown in rounding. If the gradient were wrong, the lines would level out "
        "above the dashed one.",
        "error of central differences, and its estimate, by step",
        _valley,
        {a.title: a.differences for a in found},
    )


def _valley(axes: Axes, found: Differences) -> None:
    steps = np.array(STEPS)[:-1]
    error = np.where(found.error > 0, found.error, np.nan)  # where a difference hits exactly, there is no line
    axes.plot(steps, error.T, color=drawing.FAINT, linewidth=0.6)
    medians = {"error": (steps, found.error), "its bar": (steps, found.bar)}
    drawing.lines(axes, medians, drawing.LOOKS[1::-1], marker="")
    drawing.logarithmic(axes, "x", ticks=5)
    drawing.finish(axes, "step h", "relative to the largest entry", log="y")
    axes.legend(loc="upper center", ncols=2)


EXPERIMENT = Experiment(
    name="gradients",
    title="Hand-written gradients",
    question="Are the hand-written gradients right, for every network and likelihood, and on the data that networks "
    "are trained on?",
    claim="∂E/∂w_ij = δ_i z_j with δ_i = h′(a_i) Σ_k w_ki δ_k, and δ_i = z_i − y_i at the outputs (slides "
    "“Backpropagation I” to “V”, “Other error functions”).",
    run=run,
)
