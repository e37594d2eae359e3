"""The vanishing gradient: |δ| layer by layer in networks of 64 hidden layers, with and without shortcuts."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import jnn
from experiments import drawing, statistics
from experiments.experiment import Experiment, Outcome, Picture, Session, Table, Verdict, efforts
from experiments.statistics import Estimate
from jnn.activations import Activation, logistic, relu, softsign, tanh
from jnn.networks import Dag, Initializer, fan_in_normal

STEEPEST = {logistic: 0.25, tanh: 1.0, relu: 1.0, softsign: 1.0}
"""The bound of h' for each activation."""
SCALES = (0.5, 1.0, math.sqrt(2), 2.0, 4.0)
"""c: weights into a neuron have standard deviation c / √fan-in. Each activation's own gain in jnn is one of these."""
WIDTH = 16
EXAMPLES = 4
AT_ONCE = 20
"""Seeds that are computed together."""
MARGIN = 0.05
"""Decades per layer that count as no change."""


EFFORTS = efforts(seeds=(3, 20, 400), depth=(6, 64, 64), depth_with_shortcuts=(4, 16, 16))
"""How many networks of each kind, how deep, and how deep with shortcuts to every later layer."""


@dataclass(frozen=True)
class Deltas:
    """What was found for an activation; axes are scales, seeds and hidden layers, the first layer first.

    Attributes:
        activation: h.
        chain: root mean square of δ over examples and the layer's neurons, `(scales, seeds, layers)`.
        use: the largest |δ_l| / (max h' ‖W‖₂ |δ_{l+1}|) of any example and layer: at most 1, if the bound is right.
        shortcuts: as `chain`, in networks with shortcuts, `(seeds, layers)`, at the activation's own gain.
    """

    activation: Activation
    chain: np.ndarray
    use: float
    shortcuts: np.ndarray

    def pace(self, place: int) -> Estimate:
        """Decades by which |δ| changes from one layer to the next towards the input, at a scale."""
        return pace(self.chain[place])

    @property
    def own(self) -> int:
        """The place of the activation's own gain in SCALES."""
        return int(np.argmin(np.abs(np.array(SCALES) - self.activation.gain)))


def towers(depth: int, shortcuts: bool) -> Dag:
    """A tower of `depth` hidden layers of WIDTH neurons and an output for each activation, all on the same inputs.

    No tower reads another. Each is the network that `jnn.mlp` makes; but in one general network, evaluated by a `scan`
    over the layers, all of them compile in seconds instead of minutes. Neurons are ordered by layer, then by tower.
    """
    first = 1 + WIDTH + WIDTH * np.arange(depth * len(STEEPEST)).reshape(depth, len(STEEPEST))
    edges = []
    for tower in range(len(STEEPEST)):
        starts = [1, *first[:, tower].tolist()]
        readers = [*(range(start, start + WIDTH) for start in starts[1:]), [1 + WIDTH + WIDTH * first.size + tower]]
        for layer, neurons in enumerate(readers):
            sources = starts[: layer + 1] if shortcuts else starts[layer : layer + 1]
            edges += [(j, i) for i in neurons for start in sources for j in range(start, start + WIDTH)]
    activations = [h for h in STEEPEST for _ in range(WIDTH)] * depth
    return jnn.dag(WIDTH, len(STEEPEST), edges, activations, evaluation="sweep")


def unscaled(key: jax.Array, shape: tuple[int, ...], fan_in: Any, gain: Any, dtype: Any) -> jax.Array:
    """Initial weights of standard deviation 1 / √fan-in, whatever the activation."""
    del gain
    return fan_in_normal(key, shape, fan_in, 1.0, dtype)


@functools.lru_cache(maxsize=4)
def program(network: Dag, depth: int, initializer: Initializer) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The compiled function that `deltas` calls; of scales `(scales,)` and keys `(seeds,)`."""

    def one(scale: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        draw, inputs, targets = jax.random.split(key, 3)
        params = network.init(draw, weights=initializer, dtype=jnp.float64)
        params = {"w": scale * params["w"], "b": params["b"]}
        x = jax.random.normal(inputs, (EXAMPLES, WIDTH), jnp.float64)
        y = jax.random.normal(targets, (EXAMPLES, network.outputs), jnp.float64)
        found = jnn.backprop.deltas(network, jnn.likelihoods.Gaussian(), params, x, y)
        hidden = found[:, : -network.outputs].reshape(EXAMPLES, depth, network.outputs, WIDTH)
        return hidden, params["w"]

    return jax.jit(jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None)))


def deltas(
    network: Dag, depth: int, scales: Sequence[float], initializer: Initializer, keys: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """δ by layer at initial weights, and the weights, in float64: 0.25⁶⁴ is no number in float32.

    Returns:
        δ `(scales, seeds, examples, layers, activations, WIDTH)`; w `(scales, seeds, edges)`.
    """
    with jax.enable_x64(True):
        found, w = program(network, depth, initializer)(jnp.asarray(scales, jnp.float64), keys)
        return np.asarray(found), np.asarray(w)


def root_mean_square(found: np.ndarray) -> np.ndarray:
    """Over examples and the neurons of a layer; activations first: `(activations, scales, seeds, layers)`."""
    return np.moveaxis(np.sqrt(np.mean(found**2, axis=(2, 5))), -1, 0)


def use_of_bound(found: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The largest |δ_l| / (max h' ‖W_{l+1}‖₂ |δ_{l+1}|) in chains, as δ_l = h'(a_l) Wᵀ δ_{l+1}, for each activation."""
    depth, towers = found.shape[3:5]
    matrices = w[..., : depth * towers * WIDTH**2].reshape(*w.shape[:2], 1, depth, towers, WIDTH, WIDTH)
    norms = np.linalg.norm(matrices[:, :, :, 1:], ord=2, axis=(-2, -1))
    size = np.linalg.norm(found, axis=-1)
    allowed = np.array(list(STEEPEST.values())) * norms * size[:, :, :, 1:]
    used = np.divide(size[:, :, :, :-1], allowed, out=np.zeros_like(allowed), where=allowed > 0)
    return used.max(axis=(0, 1, 2, 3))


def pace(sizes: np.ndarray) -> Estimate:
    """Decades a layer from the last layer to the first: the mean over seeds; `sizes` is `(seeds, layers)`."""
    first, last = np.log10(np.maximum(sizes[:, [0, -1]], 1e-300)).T
    return statistics.over_seeds((first - last) / (sizes.shape[1] - 1))


def examine(session: Session) -> dict[str, Deltas]:
    """All activations, at all scales and with shortcuts, a few seeds at a time."""
    effort = EFFORTS[session.size]
    plain, short = effort.depth, effort.depth_with_shortcuts
    chains, uses, shortcuts = [], [], []
    for first in session.each(range(0, effort.seeds, AT_ONCE), lambda first: f"Vanishing gradient: from seed {first}"):
        keys = jax.random.split(jax.random.key(session.seed), effort.seeds)[first : first + AT_ONCE]
        found, w = deltas(towers(plain, False), plain, SCALES, unscaled, keys)
        chains.append(root_mean_square(found))
        uses.append(use_of_bound(found, w))
        shortcuts.append(root_mean_square(deltas(towers(short, True), short, [1.0], fan_in_normal, keys)[0])[:, 0])
    chain, use, with_shortcuts = np.concatenate(chains, axis=2), np.max(uses, axis=0), np.concatenate(shortcuts, axis=1)
    return {h.name: Deltas(h, chain[p], float(use[p]), with_shortcuts[p]) for p, h in enumerate(STEEPEST)}


def run(session: Session) -> Outcome:
    """Examine the activations."""
    found = examine(session)
    return Outcome(
        verdicts=[
            bounded(found),
            vanishes(found["logistic"]),
            passes(found["relu"]),
            shortcuts_help(found),
        ],
        tables=[_table(found)],
        pictures=[_chains(found), _shortcuts(found)],
        interrupted=session.interrupted,
    )


def bounded(found: Mapping[str, Deltas]) -> Verdict:
    """The bound of one layer's step."""
    words = [f"{name} {100 * d.use:.0f}%" for name, d in found.items()]
    return Verdict(
        "From layer to layer |δ| grows at most by max h′ · ‖W‖: for the logistic function 0.25 ‖W‖.",
        all(d.use <= 1 + 1e-9 for d in found.values()),
        f"‖W‖ is the largest singular value. The most that was used of the bound, by any example in any layer: "
        f"{', '.join(words)}.",
    )


def vanishes(found: Deltas) -> Verdict:
    """Whether |δ| shrinks at every scale."""
    paces = [found.pace(place) for place in range(len(SCALES))]
    words = [f"{10**e.mean:.3f} at c = {c:.2g}" for c, e in zip(SCALES, paces, strict=True)]
    return Verdict(
        "With logistic neurons |δ| vanishes exponentially with the layers, at every size of the weights tried.",
        statistics.below(*paces),
        f"|δ| is multiplied in each layer by {', '.join(words)} (weights of standard deviation c/√fan-in).",
    )


def passes(found: Deltas) -> Verdict:
    """Whether |δ| stays the same at √2, and only there."""
    paces = {c: found.pace(place) for place, c in enumerate(SCALES)}
    words = [f"{10**e.mean:.2f} at c = {c:.2g}" for c, e in paces.items()]
    unchanged = {c: statistics.inside(e, -MARGIN, MARGIN) for c, e in paces.items()}
    changes = (None if same is None else not same for c, same in unchanged.items() if c != math.sqrt(2))
    return Verdict(
        "Rectified linear units, of slope 0 or 1, pass |δ| on unchanged if the weights are of the right size, c = √2; "
        "with others it vanishes or explodes too.",
        statistics.every([unchanged[math.sqrt(2)], *changes]),
        f"|δ| is multiplied in each layer by {', '.join(words)}; unchanged means a factor from {10**-MARGIN:.2f} to "
        f"{10**MARGIN:.2f}.",
    )


def shortcuts_help(found: Mapping[str, Deltas]) -> Verdict:
    """|δ| in the first layer over that in the last, with shortcuts against without, seed by seed."""
    gained = {}
    for name, d in found.items():
        layers = d.shortcuts.shape[1]
        plain = np.maximum(d.chain[d.own][:, [-layers, -1]], 1e-300)
        logs = np.log10(np.maximum(d.shortcuts[:, [0, -1]], 1e-300)) - np.log10(plain)
        gained[name] = statistics.over_seeds(logs[:, 0] - logs[:, 1])
    layers = next(iter(found.values())).shortcuts.shape[1]
    return Verdict(
        "Shortcuts let δ reach the first layers, whatever the activation.",
        statistics.above(*gained.values()),
        f"Over {layers} layers, |δ| in the first relative to the last is larger with shortcuts by this many decades "
        f"(95% intervals): {', '.join(f'{name} {e:.1f}' for name, e in gained.items())}.",
    )


def _table(found: Mapping[str, Deltas]) -> Table:
    rows = [
        [name, *(_factor(d.pace(place)) for place in range(len(SCALES))), _factor(pace(d.shortcuts))]
        for name, d in found.items()
    ]
    depth, seeds = (next(iter(found.values())).chain.shape[axis] for axis in (2, 1))
    layers = next(iter(found.values())).shortcuts.shape[1]
    return Table(
        "By what |δ| is multiplied in each layer",
        ["", *(f"c = {c:.2g}" for c in SCALES), "shortcuts"],
        rows,
        f"Geometric mean over {depth} layers and {seeds} networks at their initial weights, ± half its 95% interval. "
        f"{WIDTH} neurons a layer; weights of standard deviation c/√fan-in. With shortcuts: over {layers} layers, at "
        "the activation's own gain (logistic 2, rectified linear units √2, else 1).",
    )


def _factor(e: Estimate) -> str:
    return f"{10**e.mean:.3f} ± {(10**e.high - 10**e.low) / 2:.3f}"


def _chains(found: Mapping[str, Deltas]) -> Picture:
    def draw(axes: Axes, d: Deltas) -> None:
        layers = np.arange(d.chain.shape[2])
        chosen = (0.5, math.sqrt(2), 4.0)
        sizes = {f"c = {c:.2g}": (layers, _relative(d.chain[SCALES.index(c)])) for c in chosen}
        drawing.lines(axes, sizes, markevery=8)
        axes.plot(layers, STEEPEST[d.activation] ** layers.astype(float), ":", color=drawing.INK, label="bound")
        drawing.finish(axes, "layers from the last hidden one", "|δ|, relative", log="y", below=2)

    return drawing.picture(
        "|δ| on its way to the input",
        "Geometric mean over networks of |δ|, relative to that in the last hidden layer; the input is on the right. "
        "Dotted: max h′ to the power of the number of layers, the bound for ‖W‖ = 1. Note that the panels' scales "
        "differ.",
        "size of δ by layers from the last hidden one, for weights of three sizes, and the bound",
        draw,
        found,
        height=3.1,
    )


def _relative(sizes: np.ndarray) -> np.ndarray:
    """Geometric mean over seeds, from the last layer to the first, with 1 for the last."""
    logs = np.log10(np.maximum(sizes[:, ::-1], 1e-300))
    return 10 ** np.mean(logs - logs[:, :1], axis=0)


def _shortcuts(found: Mapping[str, Deltas]) -> Picture:
    def draw(axes: Axes, d: Deltas) -> None:
        layers = np.arange(d.shortcuts.shape[1])
        without, with_them = _relative(d.chain[d.own])[: len(layers)], _relative(d.shortcuts)
        drawing.lines(axes, {"without": (layers, without), "with": (layers, with_them)}, marker="")
        drawing.logarithmic(axes, "y", ticks=5)
        drawing.finish(axes, "layers from the last", "|δ|, relative", below=2)

    return drawing.picture(
        "What shortcuts change",
        "The same at the activation's own gain, with shortcuts from every layer to all later ones (solid), and without "
        "(dashed). With shortcuts every layer is one step away from the output.",
        "size of δ by layers from the last hidden one, with and without shortcuts",
        draw,
        found,
        width=2.6,
        height=2.6,
    )


EXPERIMENT = Experiment(
    name="vanishing_gradient",
    title="Vanishing gradient",
    question="What becomes of |δ| on its way through many layers, and what do weights and shortcuts change?",
    claim="The logistic function's slope is at most 0.25; what happens to δ_i = h′(a_i) Σ_k w_ki δ_k with more layers "
    "between neuron i and the output? (slide “Vanishing gradient”). Try shortcuts (slide “The secrets of successful "
    "shallow NN training”).",
    run=run,
    full_minutes=0.8,
)
