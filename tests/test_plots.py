"""Plots: what is drawn is what was found."""

import jax
import matplotlib as mpl
import numpy as np
import pytest
from sklearn.datasets import load_iris

import jnn
from jnn import ensembles, likelihoods, stopping
from jnn.sklearn import MLPClassifier

mpl.use("Agg")

from jnn import plots

X, Y = load_iris(return_X_y=True)
X = X.astype(np.float32)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plots.plt.close("all")


def test_histories_of_one_network_and_of_many() -> None:
    network, categorical = jnn.mlp([4, 3, 3]), likelihoods.Categorical()
    settings = {"epochs": 8, "validation": 0.2, "stopping": stopping.Patience(2)}
    one = jnn.fit(network, categorical, X, Y, key=jax.random.key(0), **settings)
    ax = plots.plot_history(one)
    drawn = {line.get_label(): line for line in ax.get_lines()}
    run = int(one.epochs)
    np.testing.assert_allclose(drawn["validation"].get_ydata(), one.history.validation_error[:run])
    assert set(drawn["best hypothesis"].get_xdata()) == {int(one.best_epoch)}
    assert ax.get_xlabel() == "epoch"
    many = ensembles.fit(network, categorical, X, Y, key=jax.random.key(0), members=3, epochs=4)
    drawn = {line.get_label() for line in plots.plot_history(many).get_lines()}
    assert "training, mean of 3" in drawn
    assert not any("validation" in name for name in drawn)
    model = MLPClassifier(members=2, hidden_layer_sizes=3, random_state=0).fit(X, Y)
    assert {"training", "validation"} <= {line.get_label() for line in plots.plot_history(model).get_lines()}
    with pytest.raises(TypeError, match="expected the result of a fit"):
        plots.plot_history({"loss": [1.0]})


def test_every_connection_of_a_small_network_is_drawn() -> None:
    chain = plots.plot_network(jnn.mlp([3, 4, 2]))
    assert len(chain.get_lines()) == 3 * 4 + 4 * 2
    short = plots.plot_network(jnn.mlp([3, 4, 2], shortcuts=True))
    assert len(short.get_lines()) == 3 * 4 + (3 + 4) * 2
    general = jnn.dag(2, 1, [(0, 3), (1, 3), (2, 3), (3, 4), (1, 4), (0, 4)], "tanh")
    assert len(plots.plot_network(general).get_lines()) == 4  # without those from the bias neuron
    assert any("⋮" in text.get_text() for text in plots.plot_network(jnn.mlp([3, 500, 2])).texts)


def test_calibration_shows_shares_with_their_intervals() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=1000)
    y = (rng.uniform(size=1000) < p).astype(int)
    ax = plots.plot_calibration(p, y, bins=5)
    points = ax.containers[0].lines[0]
    np.testing.assert_allclose(points.get_xdata(), points.get_ydata(), atol=0.11)  # 200 each: ± 0.035 standard error
    _, _, (bars,) = plots.plot_calibration(np.full(40, 0.55), np.arange(40) // 30).containers[0].lines
    ends = bars.get_segments()[0][:, 1]
    z, share = 1.959963984540054, 0.25  # Wilson's interval, written out: 10 of 40
    middle = (share + z * z / 80) / (1 + z * z / 40)
    reach = z / (1 + z * z / 40) * np.sqrt(share * (1 - share) / 40 + z * z / 6400)
    np.testing.assert_allclose(ends, [middle - reach, middle + reach], rtol=1e-6)
    believed = np.clip(3 * (p - 0.5) + 0.5, 0, 1)  # too sure
    worse = plots.plot_calibration(believed, y, bins=5).containers[0].lines[0]
    assert np.abs(worse.get_xdata() - worse.get_ydata()).max() > 0.1
    for wrong in (p * 2, p[:-1]):
        with pytest.raises(ValueError, match="expected probabilities"):
            plots.plot_calibration(wrong, y)
