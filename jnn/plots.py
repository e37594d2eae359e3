"""Looking at what was trained: learning curves, the network's graph, and how far probabilities can be believed.

Each function draws on the axes it is given, or on new ones, and returns them. They need matplotlib, as in
`pip install 'jnn[plots]'`.
"""

from typing import Any

import numpy as np
from scipy.stats import binomtest

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
except ImportError as error:
    raise ImportError("jnn.plots draws with matplotlib: pip install 'jnn[plots]'") from error

from jnn.ensembles import Ensemble
from jnn.networks import Dag, Network
from jnn.networks.layered import Layered
from jnn.training import FitResult

MOST_NEURONS = 16
"""Layers with more neurons are drawn with a gap in the middle."""

TRAIN, VALIDATION = "#0063a8", "#c2510a"
"""Two colors that also differ in lightness, for readers who do not see the hues."""


def plot_history(result: Any, ax: Axes | None = None) -> Axes:
    """Training and validation risk by epoch, and the epoch of the best hypothesis (slide "Early stopping example").

    Of several members: each as a thin line, and their mean over those still training.

    Args:
        result: of `jnn.fit` or `ensembles.fit`, or an estimator of `jnn.sklearn`.
        ax: where to draw.

    Raises:
        TypeError: if the result has no history.
    """
    ax = _axes(ax)
    train, validation, best = _curves(result)
    for curves, name, color, dash in ((train, "training", TRAIN, "-"), (validation, "validation", VALIDATION, "--")):
        known = np.isfinite(curves).any(axis=0)
        if not known.any():
            continue
        epochs = np.arange(1, curves.shape[1] + 1)
        for curve in curves if len(curves) > 1 else ():
            ax.plot(epochs[known], curve[known], color=color, alpha=0.25, linewidth=0.7)
        mean = np.nanmean(curves[:, known], axis=0)
        label = name if len(curves) == 1 else f"{name}, mean of {len(curves)}"
        ax.plot(epochs[known], mean, dash, color=color, linewidth=1.8, label=label)
    if np.isfinite(validation).any():
        for number, epoch in enumerate(np.atleast_1d(best)):
            label = ("best hypothesis" if np.size(best) == 1 else "best hypotheses") if number == 0 else None
            ax.axvline(float(epoch), color="0.5", linestyle=":", linewidth=0.8, label=label)
    ax.set_xlabel("epoch")
    ax.set_ylabel("risk: mean negative log-likelihood")
    ax.legend()
    return ax


def _curves(result: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    if isinstance(result, Ensemble):
        result = result.result
    if isinstance(result, FitResult):
        history = result.history
        train, validation = (np.atleast_2d(np.asarray(c, np.float64)) for c in _pair(history))
        run = int(np.max(np.asarray(result.epochs)))
        return train[:, :run], validation[:, :run], np.asarray(result.best_epoch)
    if getattr(result, "loss_curve_", None) is not None:
        train = np.atleast_2d(np.asarray(result.loss_curve_, np.float64))
        seen = result.validation_curve_
        validation = np.full_like(train, np.nan) if seen is None else np.atleast_2d(np.asarray(seen, np.float64))
        return train, validation, result.best_iteration_
    raise TypeError(f"expected the result of a fit, or a fitted estimator; got {type(result).__name__}")


def _pair(history: Any) -> tuple[Any, Any]:
    return history.train_error, history.validation_error


def plot_network(network: Network, ax: Axes | None = None) -> Axes:
    """The network as a graph (slide "Multi-layer perceptron network"): neurons in columns by depth, their connections.

    Connections that pass over a column are dashed. Large layers are drawn in part, with the number of their neurons
    below.

    Args:
        network: from `jnn.mlp` or `jnn.dag`.
        ax: where to draw.
    """
    ax = _axes(ax)
    columns, edges, names = _graph(network)
    place: dict[tuple[int, int], tuple[float, float]] = {}
    for depth, size in enumerate(columns):
        shown = _shown(size)
        gap = 1 if size > MOST_NEURONS else 0
        for row, neuron in enumerate(shown):
            height = row + (gap if neuron >= size - MOST_NEURONS // 2 and gap else 0)
            place[depth, neuron] = (float(depth), (len(shown) + gap - 1) / 2 - height)
        if gap:
            ax.text(depth, 0, "⋮", ha="center", va="center")
    for source, target in edges:
        if source in place and target in place:
            (x0, y0), (x1, y1) = place[source], place[target]
            far = x1 - x0 > 1
            bend = 0.25 * (x1 - x0) if far else 0.0
            xs = np.linspace(x0, x1, 20 if far else 2)
            ys = y0 + (y1 - y0) * (xs - x0) / (x1 - x0) + 4 * bend * (xs - x0) * (x1 - xs) / (x1 - x0) ** 2
            ax.plot(xs, ys, "--" if far else "-", color="0.6", linewidth=0.5, zorder=1)
    points = np.array(list(place.values()))
    ax.scatter(points[:, 0], points[:, 1], s=60, facecolor="white", edgecolor=TRAIN, zorder=2)
    bottom = points[:, 1].min() - 1
    for depth, (size, name) in enumerate(zip(columns, names, strict=True)):
        ax.text(depth, bottom, f"{size}\n{name}", ha="center", va="top", fontsize="small")
    ax.set_ylim(bottom - 2.2, max(points[:, 1].max() + 1, 1.5))
    ax.set_xlim(-0.6, len(columns) - 0.4)
    ax.axis("off")
    return ax


def _shown(size: int) -> list[int]:
    if size <= MOST_NEURONS:
        return list(range(size))
    return [*range(MOST_NEURONS // 2), *range(size - MOST_NEURONS // 2, size)]


Node = tuple[int, int]


def _graph(network: Network) -> tuple[list[int], list[tuple[Node, Node]], list[str]]:
    """How many neurons stand in each column, the connections between (column, neuron), and the columns' names."""
    if isinstance(network, Layered):
        columns = [network.inputs, *(layer.size for layer in network.layers)]
        edges = [
            ((source, i), (depth, j))
            for depth, layer in enumerate(network.layers, start=1)
            for source in layer.sources
            for i in _shown(columns[source])
            for j in _shown(layer.size)
        ]
        hidden = [layer.activation.name for layer in network.layers[:-1]]
        return columns, edges, ["inputs", *hidden, "outputs"]
    assert isinstance(network, Dag)
    d = network.inputs
    depth = np.zeros(1 + d + network.hidden + network.outputs, int)
    for source, target in network.edges:  # in the order of their targets
        depth[target] = max(depth[target], depth[source] + 1)
    depth[d + 1 :] = np.maximum(depth[d + 1 :], 1)
    depth[d + network.hidden + 1 :] = depth.max()  # outputs stand last
    seen: dict[int, int] = {}
    node: dict[int, Node] = {}
    for neuron in range(1, len(depth)):
        column = int(depth[neuron])
        node[neuron] = (column, seen.get(column, 0))
        seen[column] = node[neuron][1] + 1
    edges = [(node[int(s)], node[int(t)]) for s, t in network.edges if s > 0]
    columns = [seen[column] for column in sorted(seen)]
    return columns, edges, ["inputs", *["hidden"] * (len(columns) - 2), "outputs"]


def plot_calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10, ax: Axes | None = None) -> Axes:
    """How often it is true what is said with some probability; on the diagonal if probabilities can be believed.

    Every class's probability for every example is put into one of `bins` bins of equal width; drawn is the share of
    them whose class was the right one, with Wilson's 95% interval, against their mean.

    Args:
        probabilities: `(n, classes)`, or `(n,)` that of class 1.
        labels: the classes' numbers, from 0.
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
    ax.set_xlabel("probability that was said")
    ax.set_ylabel("share that was true")
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.legend()
    return ax


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax
