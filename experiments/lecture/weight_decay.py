"""Weight decay: a noisy curve fitted at several γ, the size of the weights, and how smooth the curves become."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import jnn
from experiments import drawing, statistics
from experiments.experiment import Effort, Experiment, Outcome, Picture, Session, Table, Verdict, efforts
from jnn import objectives
from jnn.likelihoods import Gaussian
from jnn.networks import Params

NETWORK = jnn.mlp([1, 20, 1], hidden="tanh")
NOISE, EXAMPLES = 0.3, 25
GAMMAS = (0.0, *(float(f"{10 ** (k / 2):.1e}") for k in range(-8, 3)))
"""0, and half decades from 10⁻⁴ to 10."""

SPARED, ALL = "outputs spared", "all weights"
"""Which weights decay: all but those of the linear output neuron, as the lecture has it, or those too."""

GRID = np.linspace(-1, 1, 201, dtype=np.float32)


TOGETHER = 20
"""Samples that are fitted at once: Ctrl-C waits for so many."""


EFFORTS = efforts(seeds=(3, 60, 200), epochs=(30, 1000, 5000))
"""How many samples of the curve, each with initial weights of its own, and for how many epochs."""


@dataclass(frozen=True)
class Fits:
    """Figures of the fitted curves f by seed and γ, `(seeds, gammas)` each.

    Attributes:
        hidden: ‖w‖ of the hidden neurons' weights (the norm that the lecture penalizes).
        output: ‖w‖ of the output neuron's weights.
        roughness: the mean of f″(x)² over the interval.
        bent: how far f is from the straight line that is nearest to it: the mean squared distance.
        risk: the mean squared distance from the true curve.
        curves: f on the grid, `(seeds, gammas, grid)`.
    """

    hidden: np.ndarray
    output: np.ndarray
    roughness: np.ndarray
    bent: np.ndarray
    risk: np.ndarray
    curves: np.ndarray

    @property
    def best(self) -> int:
        """The γ with the lowest mean risk."""
        return int(np.argmin(self.risk.mean(axis=0)))


def truth(x: np.ndarray) -> np.ndarray:
    """The curve without noise."""
    return np.sin(2 * np.pi * x) * np.exp(-x)


def sample(seeds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy points of the curve, `(seeds, examples, 1)` each."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (seeds, EXAMPLES, 1))
    y = truth(x) + NOISE * rng.normal(size=x.shape)
    return x.astype(np.float32), y.astype(np.float32)


def roughness(params: Params, grid: jax.Array) -> jax.Array:
    """The mean of f″(x)² over the grid, by differentiating the network twice: no differences, no smoothing."""

    def f(x: jax.Array) -> jax.Array:
        return NETWORK.apply(params, x[None])[0]

    return jnp.mean(jax.vmap(jax.grad(jax.grad(f)))(grid) ** 2)


def bent(curve: jax.Array, grid: jax.Array) -> jax.Array:
    """The mean squared distance of a curve from its own regression line."""
    slope = jnp.mean(curve * (grid - grid.mean())) / jnp.var(grid)
    return jnp.mean((curve - curve.mean() - slope * (grid - grid.mean())) ** 2)


def fits(effort: Effort, session: Session) -> dict[str, Fits]:
    """Fit every sample at every γ, with and without the outputs' weights in the norm: one program for some samples."""
    x, y = sample(effort.seeds, session.seed)
    masks = {
        SPARED: objectives.decay_mask(NETWORK, Gaussian()),
        ALL: objectives.all_weights_mask(NETWORK),
    }

    def one(mask: Params, gamma: jax.Array, key: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, ...]:
        fitted = jnn.fit(
            NETWORK,
            Gaussian(),
            x,
            y,
            key=key,
            optimizer=jnn.rprop(variant="iRprop-"),
            epochs=effort.epochs,
            batch_size=None,
            weight_decay=gamma,
            mask=mask,
        )
        params, grid = fitted.params, jnp.asarray(GRID)
        curve = NETWORK.apply(params, grid[:, None])[:, 0]
        sizes = (jnp.linalg.norm(layer["W"]) for layer in params)
        risk = jnp.mean((curve - jnp.asarray(truth(GRID), curve.dtype)) ** 2)
        return *sizes, roughness(params, grid), bent(curve, grid), risk, curve

    by_gamma = jax.vmap(one, in_axes=(None, 0, None, None, None))
    by_seed = jax.vmap(by_gamma, in_axes=(None, None, 0, 0, 0))
    program = jax.jit(jax.vmap(by_seed, in_axes=(0, None, None, None, None)))
    keys = jax.random.split(jax.random.key(session.seed), effort.seeds)
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0))
    full = [jax.tree.map(lambda leaf, of: np.broadcast_to(leaf, of.shape), mask, shapes) for mask in masks.values()]
    both = jax.tree.map(lambda *leaves: np.stack(leaves), *full)
    some = [slice(start, start + TOGETHER) for start in range(0, effort.seeds, TOGETHER)]
    found = [
        jax.block_until_ready(program(both, np.array(GAMMAS, np.float32), keys[part], x[part], y[part]))
        for part in session.each(some, lambda part: f"Weight decay: {part.start} of {effort.seeds} samples are fitted")
    ]
    figures = [np.concatenate([np.asarray(v, float) for v in values], axis=1) for values in zip(*found, strict=True)]
    return {name: Fits(*(values[place] for values in figures)) for place, name in enumerate(masks)}


def run(session: Session) -> Outcome:
    """Fit the curves, and see what γ does to weights, smoothness and risk."""
    effort = EFFORTS[session.size]
    found = fits(effort, session)
    return Outcome(
        verdicts=[smoother(found[SPARED]), more_linear(found[SPARED]), helps(found[SPARED]), spare(found)],
        tables=[_table(name, fitted) for name, fitted in found.items()],
        pictures=[_curves(found[SPARED]), _against_gamma(found)],
        interrupted=session.interrupted,
    )


def trend(size: np.ndarray, figure: np.ndarray) -> statistics.Estimate:
    """The exponent p in figure ∝ sizeᵖ, a line through the logarithms for each seed; its mean over the seeds."""
    slopes = [
        float(np.polyfit(np.log(s), np.log(f), 1)[0]) for s, f in zip(size, np.maximum(figure, 1e-12), strict=True)
    ]
    return statistics.over_seeds(slopes)


def follows(size: np.ndarray, figure: np.ndarray) -> tuple[bool | None, str]:
    """Whether the figure grows with the size of the weights, and the exponent in words."""
    e = trend(size, figure)
    holds = statistics.above(e)
    return holds, f"∝ ‖w‖ to the power of {e.mean:.2f} (95%: {e.low:.2f} to {e.high:.2f}, over {len(size)} seeds)"


def smoother(found: Fits) -> Verdict:
    """Whether curves of smaller weights are smoother."""
    holds, words = follows(found.hidden, found.roughness)
    return Verdict(
        "Small ‖w‖ corresponds to smooth functions.",
        holds,
        f"The mean of f″² grows {words}. Without decay ‖w‖ is {np.median(found.hidden[:, 0]):.3g} and the mean of "
        f"f″² {np.median(found.roughness[:, 0]):.3g}; at γ = {GAMMAS[-1]:g} they are "
        f"{np.median(found.hidden[:, -1]):.3g} and {np.median(found.roughness[:, -1]):.3g} (medians).",
    )


def more_linear(found: Fits) -> Verdict:
    """Whether curves of smaller weights are nearer to a straight line."""
    holds, words = follows(found.hidden, found.bent)
    return Verdict(
        "The smaller the weights, the “more linear” is the function.",
        holds,
        f"The mean squared distance from the nearest straight line grows {words}.",
    )


def helps(found: Fits) -> Verdict:
    """Whether some γ > 0 has a lower risk than none; the γ is chosen on half of the seeds and tested on the others."""
    half = len(found.risk) // 2
    chosen = 1 + int(np.argmin(found.risk[:half, 1:].mean(axis=0)))
    e = statistics.over_seeds(np.log(found.risk[half:, chosen] / found.risk[half:, 0]))
    return Verdict(
        "Weight decay lowers the risk.",
        statistics.below(e),
        f"γ = {GAMMAS[chosen]:g}, chosen on half of the seeds, multiplies the risk of the other half by "
        f"{np.exp(e.mean):.2f} (95%: {np.exp(e.low):.2f} to {np.exp(e.high):.2f}).",
    )


def spare(found: dict[str, Fits]) -> Verdict:
    """Whether the risk is lower if the linear output's weights are spared, at the best γ of each."""
    ours, theirs = found[SPARED], found[ALL]
    half = len(ours.risk) // 2
    a, b = (int(np.argmin(f.risk[:half].mean(axis=0))) for f in (ours, theirs))
    e = statistics.over_seeds(np.log(ours.risk[half:, a] / theirs.risk[half:, b]))
    growth = statistics.over_seeds(np.log(ours.output[:, -1] / ours.output[:, 0]))
    return Verdict(
        "The weights of linear output neurons are better left out of the norm.",
        statistics.below(e),
        f"At the best γ of each, chosen on half of the seeds, the risk with spared outputs is {np.exp(e.mean):.2f} "
        f"times that with all weights decaying, on the other half (95%: {np.exp(e.low):.2f} to {np.exp(e.high):.2f}). "
        f"Spared outputs make up for small hidden weights: from γ = 0 to {GAMMAS[-1]:g} their norm changes by a factor "
        f"of {np.exp(growth.mean):.2g} ({np.exp(growth.low):.2g} to {np.exp(growth.high):.2g}).",
    )


def _table(name: str, found: Fits) -> Table:
    def median(values: np.ndarray) -> Callable[[int], str]:
        return lambda place: f"{np.median(values[:, place]):.2g}"

    return Table.of(
        f"Weights, smoothness and risk: {name}",
        (0, *range(1, len(GAMMAS), 2)),
        {
            "": lambda place: f"γ = {GAMMAS[place]:g}",
            "‖w‖ hidden": median(found.hidden),
            "‖w‖ output": median(found.output),
            "mean of f″²": median(found.roughness),
            "squared distance from a line": median(found.bent),
            "risk (95% interval)": lambda place: f"{statistics.over_seeds(found.risk[:, place]):.3f}",
        },
        f"Medians over {len(found.risk)} samples of {EXAMPLES} points; risk: mean squared distance from the true "
        "curve, mean over the samples.",
    )


def _curves(found: Fits) -> Picture:
    def draw(axes: Axes, place: int) -> None:
        axes.plot(GRID, found.curves[1:20, place].T, color=drawing.FAINT, linewidth=0.7)
        axes.plot(GRID, found.curves[0, place], color=drawing.FIRST, label="fitted")
        axes.plot(GRID, truth(GRID), color=drawing.SECOND, linestyle="--", label="true")
        axes.set_ylim(-3, 3.5)
        drawing.finish(axes, "input x", "target y", legend="lower right")

    return drawing.picture(
        "Fitted curves",
        "Networks fitted to samples of the same curve (faint: each another sample; bold: the first), and the true "
        "curve dashed. Without decay they follow the noise; with too much they are almost straight.",
        "curves fitted to noisy points, beside the true curve",
        draw,
        {"γ = 0": 0, f"γ = {GAMMAS[found.best]:g}, the best": found.best, f"γ = {GAMMAS[-1]:g}": len(GAMMAS) - 1},
    )


def _against_gamma(found: dict[str, Fits]) -> Picture:
    shown = np.array([GAMMAS[1] / 10**0.5, *GAMMAS[1:]])

    def draw(axes: Axes, figure: tuple[str, str]) -> None:
        values = {name: getattr(fits, figure[0]) for name, fits in found.items()}
        left = {name: np.quantile(v, 0.25, axis=0) > 1e-9 for name, v in values.items()}  # else no weights are left
        seen = {name: (shown, np.where(left[name], v, np.nan)) for name, v in values.items()}
        drawing.lines(axes, seen, drawing.LOOKS[1::-1], band=True)
        drawing.finish(axes, "weight decay γ", figure[1], log="xy", below=2)

    return drawing.picture(
        "What γ does",
        "Medians over the seeds, with quartiles, by γ (the leftmost points: γ = 0). The weights shrink and the curves "
        "become smoother; if the output's weights are spared, they grow instead and carry the curve. The risk is "
        "lowest in between.",
        "by γ, with the output's weights spared and with all weights decaying",
        draw,
        {
            "Size of the hidden weights": ("hidden", "‖w‖ of hidden neurons"),
            "Size of the output's weights": ("output", "‖w‖ of the output neuron"),
            "Roughness": ("roughness", "mean of f″(x)²"),
            "Risk": ("risk", "squared distance from the truth"),
        },
    )


EXPERIMENT = Experiment(
    name="weight_decay",
    title="Weight decay",
    question="Does weight decay make smooth functions, and which weights should decay?",
    claim="Minimize E + γ/2 ‖w‖²: the smaller the weights, the more linear the function, and small ‖w‖ corresponds to "
    "smooth functions; the weights of linear output neurons should be left out of the norm (slide “Weight-decay”).",
    run=run,
    full_minutes=4,
)
