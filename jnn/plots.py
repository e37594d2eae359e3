"""Looking at what was trained: learning curves, the network's graph, and how far probabilities can be believed.

Each function draws on the axes it is given, or on new ones, and returns them. They need matplotlib, as in
`pip install 'jnn[plots]'`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
        known = np.isfinite(curves).any(axis=0)
        if not known.any():
            continue
        epochs = np.arange(1, curves.shape[1] + 1)[known]
        for curve in curves if len(curves) > 1 else ():
            ax.plot(epochs, curve[known], color=color, alpha=0.25, linewidth=0.7)
        label = name if len(curves) == 1 else f"{name}, mean of {len(curves)}"
        ax.plot(epochs, np.nanmean(curves[:, known], axis=0), dash, color=color, linewidth=1.8, label=label)
    if np.isfinite(validation).any():
        for number, epoch in enumerate(np.atleast_1d(best)):
            label = ("best hypothesis" if np.size(best) == 1 else "best hypotheses") if number == 0 else None
            ax.axvline(float(epoch), color="0.5", linestyle=":", linewidth=0.8, label=label)
    ax.set(xlabel="epoch", ylabel="risk: mean negative log-likelihood")
    ax.legend()
    return ax


def _curves(result: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    """Risks of training and validation, `(members, epochs)`, and the best epochs."""
    result = result.result if isinstance(result, Ensemble) else result
    if isinstance(result, FitResult):
        run = int(np.max(np.asarray(result.epochs)))
        history = result.history
        train, validation, best = history.train_error[..., :run], history.validation_error[..., :run], result.best_epoch
    elif getattr(result, "loss_curve_", None) is not None:
        train, validation, best = result.loss_curve_, result.validation_curve_, result.best_iteration_
    else:
        raise TypeError(f"expected the result of a fit, or a fitted estimator; got {type(result).__name__}")
    train = np.atleast_2d(np.asarray(train, np.float64))
    validation = np.full_like(train, np.nan) if validation is None else np.atleast_2d(np.asarray(validation, float))
    return train, validation, np.asarray(best)


def plot_network(network: Network, ax: Axes | None = None) -> Axes:
    """The network as a graph (slide "Multi-layer perceptron network"): neurons in columns by depth, their connections.

    Connections that pass over a column are dashed. Large layers are drawn in part, with the number of their neurons
    below.
    """
    ax = _axes(ax)
    sizes, names, edges = _graph(network)
    place: dict[tuple[int, int], tuple[float, float]] = {}
    for depth, size in enumerate(sizes):
        shown, gap = np.flatnonzero(_shown(size)), size > MOST_NEURONS
        for row, neuron in enumerate(shown.tolist()):
            height = row + (gap and neuron >= MOST_NEURONS // 2)
            place[depth, neuron] = (float(depth), (len(shown) + gap - 1) / 2 - height)
        if gap:
            ax.text(depth, 0, "⋮", ha="center", va="center")
    for source, target in edges:
        (x0, y0), (x1, y1) = place[source], place[target]
        far = x1 - x0 > 1
        t = np.linspace(0, 1, 20 if far else 2)
        bend = (x1 - x0) * t * (1 - t) if far else 0
        ax.plot(
            x0 + (x1 - x0) * t, y0 + (y1 - y0) * t + bend, "--" if far else "-", color="0.6", linewidth=0.5, zorder=1
        )
    points = np.array(list(place.values()))
    ax.scatter(points[:, 0], points[:, 1], s=60, facecolor="white", edgecolor=TRAIN, zorder=2)
    bottom = points[:, 1].min() - 1
    for depth, (size, name) in enumerate(zip(sizes, names, strict=True)):
        ax.text(depth, bottom, f"{size}\n{name}", ha="center", va="top", fontsize="small")
    ax.set(ylim=(bottom - 2.2, max(points[:, 1].max() + 1, 1.5)), xlim=(-0.6, len(sizes) - 0.4))
    ax.axis("off")
    return ax


def _shown(size: int) -> np.ndarray:
    """Which neurons of a column are drawn: all, or the first and the last."""
    number = np.arange(size)
    return (number < MOST_NEURONS // 2) | (number >= size - MOST_NEURONS // 2)


def _graph(network: Network) -> tuple[list[int], list[str], list[tuple[tuple[int, int], tuple[int, int]]]]:
    """The columns' sizes and names, and the connections that are drawn, between (column, neuron)."""
    ones = jax.tree.map(lambda p: jnp.ones(p.shape, p.dtype), jax.eval_shape(lambda: network.init(jax.random.key(0))))
    layered, connected = network.as_layers(ones)
    assert isinstance(layered, Layered)
    column = [0]
    for layer in layered.layers:
        column.append(1 + max(column[s] for s in layer.sources))
    column[-1] = max([column[-1], *(c + 1 for c in column[:-1])])  # the outputs stand last
    sizes, names = [0] * (column[-1] + 1), [["inputs"], *([] for _ in range(column[-1]))]
    first = []  # the place of each layer in its column
    for c, size in zip(column, layered.sizes, strict=True):
        first.append(sizes[c])
        sizes[c] += size
    for c, activation in zip(column[1:-1], layered.hidden_activations, strict=True):
        names[c] += [activation.name] * (activation.name not in names[c])
    names[-1] = ["outputs"]
    edges = []
    for number, (layer, p) in enumerate(zip(layered.layers, connected, strict=True), start=1):
        to, at = column[number], first[number]
        for source, rows in layered.blocks(layer):
            of, begin = column[source], first[source]
            drawn = np.asarray(p["W"][rows]) != 0
            drawn &= np.outer(_shown(sizes[of])[begin:][: len(drawn)], _shown(sizes[to])[at:][: layer.size])
            edges += [((of, begin + i), (to, at + j)) for i, j in np.argwhere(drawn).tolist()]
    return sizes, [", ".join(name) for name in names], edges


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
    p = np.asarray(probabilities, np.float64)
    p = np.stack([1 - p, p], axis=1) if p.ndim == 1 else p
    labels = np.asarray(labels)
    if p.ndim != 2 or len(p) != len(labels) or len(p) == 0:
        raise ValueError(f"expected probabilities (n, classes) and labels (n,), got {p.shape} and {labels.shape}")
    if not ((p >= 0) & (p <= 1)).all() or labels.min() < 0 or labels.max() >= p.shape[1]:
        raise ValueError(f"expected probabilities from 0 to 1, and labels below {p.shape[1]}, the number of classes")
    said, true = p.ravel(), (labels[:, None] == np.arange(p.shape[1])).ravel()
    if p.shape[1] == 2:  # the other class says the same
        said, true = p[:, 1], labels == 1
    place = np.minimum((said * bins).astype(int), bins - 1)
    groups = [np.flatnonzero(place == b) for b in np.unique(place)]
    mean = np.array([said[g].mean() for g in groups])
    share = np.array([true[g].mean() for g in groups])
    intervals = [binomtest(int(true[g].sum()), len(g)).proportion_ci(method="wilson") for g in groups]
    reach = [share - [i.low for i in intervals], [i.high for i in intervals] - share]
    ax = _axes(ax)
    ax.plot([0, 1], [0, 1], ":", color="0.5", label="as said")
    ax.errorbar(mean, share, np.maximum(reach, 0), fmt="o-", color=TRAIN, capsize=2, label="found, 95%")
    ax.set(xlabel="probability that was said", ylabel="share that was true", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.legend()
    return ax


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax
