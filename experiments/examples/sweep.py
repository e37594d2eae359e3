"""A thousand networks in one program: which learning rate and weight decay predict wine best?

    python experiments/examples/sweep.py [--small]

A grid of 25 × 4 settings, each for ten random starts; every network stops early by examples of its own. Printed are the
three best settings, each by the mean validation risk of its ten networks, and what the best ten say together:

    rate 0.083, decay 0.01: validation risk 0.027
    rate 0.068, decay 1: validation risk 0.044
    rate 0.026, decay 1: validation risk 0.048
    test error of the best 10 together 0.0 %
"""

import sys

import jax
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

import jnn

RATES, STARTS, EPOCHS = (3, 2, 20) if "--small" in sys.argv else (25, 10, 200)

x, x_test, y, y_test = train_test_split(*load_wine(return_X_y=True), random_state=0, test_size=1 / 3)
standardize = jnn.transforms.Standardize.fit(x)
network, likelihood = jnn.mlp([13, 20, 3]), jnn.likelihoods.Categorical()

rates, decays = np.geomspace(1e-3, 1e-1, RATES), np.array([0.01, 0.1, 1.0, 10.0])
grid = np.array([(rate, decay) for rate in rates for decay in decays for _ in range(STARTS)])
ensemble = jnn.ensembles.fit(
    network, likelihood, standardize.apply(x), y, key=jax.random.key(0), members=len(grid), epochs=EPOCHS,
    optimizer=jnn.adam(grid[:, 0]), weight_decay=grid[:, 1], validation=0.2, stopping=jnn.stopping.Patience(20),
)  # fmt: skip

risk = np.asarray(ensemble.result.best_validation_error).reshape(-1, STARTS).mean(axis=1)
settings = grid[::STARTS]
for number in np.argsort(risk)[:3]:
    print("rate {:.2g}, decay {:g}: validation risk {:.3f}".format(*settings[number], risk[number]))

best = slice(STARTS * risk.argmin(), STARTS * (risk.argmin() + 1))
model = jnn.Model(network, likelihood, jax.tree.map(lambda leaf: leaf[best], ensemble.params), (standardize,))
print(f"test error of the best {STARTS} together {100 * (model.mean(x_test).argmax(axis=1) != y_test).mean():.1f} %")
