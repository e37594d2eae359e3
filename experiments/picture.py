"""The README's picture: `python -m experiments.picture` draws `experiments/picture.png` (under a minute on 2 cores).

A network with shortcuts, the early stopping of an ensemble's members, and what they predict together.
"""

from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import jnn
from jnn import ensembles, laplace, likelihoods, plots, stopping

PLACE = Path(__file__).with_name("picture.png")


def main() -> None:
    """Train, draw, write."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-1, -0.4, 40), rng.uniform(0.3, 1, 40)])[:, None]
    y = np.sin(4 * x) + 0.1 * rng.normal(size=x.shape)
    network = jnn.mlp([1, 8, 4, 1], "tanh", shortcuts=True)
    ensemble = ensembles.fit(
        network,
        likelihoods.Gaussian(0.1),
        x,
        y,
        key=jax.random.key(0),
        members=20,
        optimizer=jnn.adam(0.01),
        epochs=1000,
        validation=0.25,
        stopping=stopping.Patience(100),
        weight_decay=0.1,
    )
    grid = np.linspace(-1.3, 1.3, 261)
    mean, variance = (np.ravel(value) for value in laplace.leverages(ensemble, x, y).moments(grid[:, None]))
    band = 2 * np.sqrt(variance)

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, (graph, risks, prediction) = plt.subplots(1, 3, figsize=(10, 2.9), layout="constrained")
    plots.plot_network(network, graph)
    graph.set_title("a network with shortcuts")
    plots.plot_history(ensemble, risks)
    risks.set(title="20 members, each stops by itself", ylim=(0, 4), ylabel="risk")
    prediction.fill_between(grid, mean - band, mean + band, alpha=0.2, lw=0, color=plots.TRAIN)
    prediction.plot(grid, mean, color=plots.TRAIN, label="mean ± 2 standard deviations")
    prediction.plot(grid, np.sin(4 * grid), color="black", lw=0.8, dashes=(4, 3), label="truth")
    prediction.plot(x, y, ".", color="0.35", ms=4, label="examples")
    prediction.set(title="what they predict together", ylim=(-2.2, 4), xlabel="x")
    prediction.legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(PLACE, dpi=110, metadata={"Software": None}, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
