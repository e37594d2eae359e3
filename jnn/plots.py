"""Looking at what was trained: learning curves, the network's graph, and how far probabilities can be believed.

Each function draws on the axes it is given, or on new ones, and returns them. They need matplotlib, as in
`pip install 'jnn[plots]'`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnn.checks import real_array
from jnn.ensembles import Ensemble
from jnn.networks import Layered, Network
from jnn.optional import needed
from jnn.training import FitResult

needed("matplotlib", extra="plots", what="jnn.plots draws with matplotlib")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from scipy.stats import binomtest  # noqa: E402

MOST_NEURONS = 16
"""Layers with more neurons are drawn with a gap in the middle."""

TRAIN, VALIDATION = "#0063a8", "#c2510a"
"""Two colors that also differ in lightness, for readers who do not see the hues."""


def plot_history(result: Any, ax: Axes | None = None) -> Axes:
    """Training and validation risk by epoch, and the epoch of the best hypothesis (slide "Early stopping example").

    Of several members: each as a thin line, and their mean over those still training.

    `result` is that of `jnn.fit` or `ensembles.fit`, or an estimator of `jnn.sklearn`; anything else is a TypeError.
    """
    ax = _axes(ax)
    train, validation, best = _curves(result)
    for curves, name, color, dash in ((train, "training", TRAIN, "-"), (validation, "validation", VALIDATION, "--")):
        known = np.flatnonzero(np.isfinite(curves).any(axis=0))
        if not known.size:
            continue
        if len(curves) > 1:
            ax.plot(known + 1, curves[:, known].T, color=color, alpha=0.25, linewidth=0.7)
            name = f"{name}, mean of {len(curves)}"
        ax.plot(known + 1, np.nanmean(curves[:, known], axis=0), dash, color=color, linewidth=1.8, label=name)
    if np.isfinite(validation).any():
        for number, epoch in enumerate(best):
            label = ("best hypothesis" if len(best) == 1 else "best hypotheses") if number == 0 else None
            ax.axvline(float(epoch), color="0.5", linestyle=":", linewidth=0.8, label=label)
    ax.set(xlabel="epoch", ylabel="risk: mean negative log-likelihood")
    ax.legend()
    return ax


def _curves(result: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Risks of training and validation, `(members, epochs)`, and the best epochs."""
    result = result.result if isinstance(result, Ensemble) else result
    if isinstance(result, FitResult):
        found = result.history.train_error, result.history.validation_error, result.best_epoch
    elif getattr(result, "loss_curve_", None) is not None:
        found = result.loss_curve_, result.validation_curve_, result.best_iteration_
    else:
        raise TypeError(f"expected the result of a fit, or a fitted estimator; got {type(result).__name__}")
    train, validation = (np.atleast_2d(np.asarray(np.nan if risks is None else risks, float)) for risks in found[:2])
    return train, validation, np.atleast_1d(found[2])


def plot_network(network: Network, ax: Axes | None = None) -> Axes:
    """The network as a graph (slide "Multi-layer perceptron network"): neurons in columns by depth, their connections.

    Connections that pass over a column are dashed. Large layers are drawn in part, with the number of their neurons
    below.
    """
    ax = _axes(ax)
    ones = jax.tree.map(lambda p: jnp.ones(p.shape, p.dtype), jax.eval_shape(lambda: network.init(jax.random.key(0))))
    layered, connected = network.as_layers(ones)
    assert isinstance(layered, Layered)
    depths = [0]  # of the inputs and of each layer
    for layer in layered.layers:
        depths.append(1 + max(depths[s] for s in layer.sources))
    depths[-1] = max([depths[-1], *(depth + 1 for depth in depths[:-1])])  # the outputs stand last
    x = np.repeat(depths, layered.sizes)
    y = _heights(x)
    first = np.cumsum([0, *layered.sizes])  # each layer's first neuron
    for number, (layer, p) in enumerate(zip(layered.layers, connected, strict=True), start=1):
        for source, rows in layered.blocks(layer):
            ends = np.argwhere(np.asarray(p["W"][rows])) + first[[source, number]]
            for i, j in ends[np.isfinite(y[ends]).all(axis=1)]:
                far = x[j] - x[i] > 1
                t = np.linspace(0, 1, 20 if far else 2)
                bend = (x[j] - x[i]) * t * (1 - t) if far else 0
                line = x[i] + (x[j] - x[i]) * t, y[i] + (y[j] - y[i]) * t + bend
                ax.plot(*line, "--" if far else "-", color="0.6", linewidth=0.5, zorder=1)
    ax.scatter(x, y, s=60, facecolor="white", edgecolor=TRAIN, zorder=2)
    bottom = np.nanmin(y) - 1
    hidden = list(zip(depths[1:-1], layered.hidden_activations, strict=True))
    for depth in range(depths[-1] + 1):
        names = {0: "inputs", depths[-1]: "outputs"}
        name = names.get(depth, ", ".join(dict.fromkeys(h.name for d, h in hidden if d == depth)))
        ax.text(depth, bottom, f"{np.sum(x == depth)}\n{name}", ha="center", va="top", fontsize="small")
        if np.isnan(y[x == depth]).any():
            ax.text(depth, 0, "⋮", ha="center", va="center")
    ax.set(ylim=(bottom - 2.2, max(np.nanmax(y) + 1, 1.5)), xlim=(-0.6, depths[-1] + 0.6))
    ax.axis("off")
    return ax


def _heights(columns: np.ndarray) -> np.ndarray:
    """Where each neuron stands in its column; NaN for those in the middle of a large one, which are not drawn."""
    heights = np.full(len(columns), np.nan)
    for column in np.unique(columns):
        (neurons,) = np.nonzero(columns == column)
        rows = np.arange(len(neurons))
        if len(neurons) > MOST_NEURONS:
            neurons = neurons[np.r_[: MOST_NEURONS // 2, -MOST_NEURONS // 2 : 0]]
            rows = np.delete(np.arange(MOST_NEURONS + 1), MOST_NEURONS // 2)
        heights[neurons] = rows[-1] / 2 - rows
    return heights


def plot_calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10, ax: Axes | None = None) -> Axes:
    """How often it is true what is said with some probability; on the diagonal if probabilities can be believed.

    Every class's probability for every example is put into one of `bins` bins of equal width; drawn is the share of
    them whose class was the right one, with Wilson's 95% interval, against their mean.

    Args:
        probabilities: `(n, classes)`, or `(n,)` that of class 1.
        labels: the classes' numbers, from 0, `(n,)`.
        bins: how many.
        ax: where to draw.

    Raises:
        ValueError: if shapes do not fit, or probabilities are not between 0 and 1.
    """
    p = np.asarray(real_array(probabilities, "probabilities"), np.float64)
    p = np.stack([1 - p, p], axis=1) if p.ndim == 1 else p
    labels = np.asarray(real_array(labels, "labels", "number the classes"))
    if p.ndim != 2 or labels.shape != p.shape[:1] or len(p) == 0:
        raise ValueError(f"expected probabilities (n, classes) and labels (n,), got {p.shape} and {labels.shape}")
    if not ((p >= 0) & (p <= 1)).all() or labels.min() < 0 or labels.max() >= p.shape[1]:
        raise ValueError(f"expected probabilities from 0 to 1, and labels below {p.shape[1]}, the number of classes")
    classes = np.array([1]) if p.shape[1] == 2 else np.arange(p.shape[1])  # of two classes the other says the same
    said, true = p[:, classes].ravel(), (labels[:, None] == classes).ravel()
    place = np.minimum((said * bins).astype(int), bins - 1)
    used = np.unique(place)
    number, hits, total = (np.bincount(place, weights)[used] for weights in (None, true, said))
    mean, share = total / number, hits / number
    intervals = [binomtest(int(k), n).proportion_ci(method="wilson") for k, n in zip(hits, number, strict=True)]
    reach = np.abs(np.array(intervals) - share[:, None]).T
    ax = _axes(ax)
    ax.plot([0, 1], [0, 1], ":", color="0.5", label="as said")
    ax.errorbar(mean, share, reach, fmt="o-", color=TRAIN, capsize=2, label="found, 95%")
    ax.set(xlabel="probability that was said", ylabel="share that was true", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.legend()
    return ax


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax
