"""A small network trained to the very minimum by Levenberg–Marquardt, with the posterior's band around it.

    python experiments/examples/posterior_band.py [--small]

Forty noisy values of a sine with a gap in the middle. Around a minimum the posterior of the weights is nearly
Gaussian; gradient descent would need thousands of steps to come so close to it. Printed are the steps, and 95 % bands
for a new value beside the data and in the gap, where the function is 0; `band.png` shows them:

    FitResult(50 epochs, since no element of the gradient exceeds 1e-05)
    at 0.75: 0.13 ± 0.13, at 0.00: -0.12 ± 0.46
"""

import sys

import jax
import matplotlib
import numpy as np

import jnn

matplotlib.use("Agg")
import matplotlib.pyplot as plt

N = 15 if "--small" in sys.argv else 20

rng = np.random.default_rng(1)
x = np.concatenate([rng.uniform(-1, -0.4, N), rng.uniform(0.4, 1, N)])[:, None]
y = np.sin(4 * x) + 0.1 * rng.normal(size=x.shape)
network, likelihood, decay = jnn.mlp([1, 8, 1], hidden="tanh"), jnn.likelihoods.Gaussian(), 0.01

result = jnn.fit(
    network, likelihood, x, y, key=jax.random.key(0), optimizer=jnn.levenberg_marquardt(), epochs=500,
    weight_decay=decay, mask=jnn.objectives.every_weight_mask(network), stopping=jnn.stopping.SmallGradient(1e-5),
)  # fmt: skip
posterior = jnn.laplace.fit(network, likelihood, result.params, x, y, weight_decay=decay)
model = jnn.Model(network, likelihood, result.params, posterior=posterior)
print(result)

ends = [model.interval(np.array([[place]]), coverage=0.95) for place in (0.75, 0.0)]
(a, b), (c, d) = ((float((low + high)[0, 0] / 2), float((high - low)[0, 0] / 2)) for low, high in ends)
print(f"at 0.75: {a:.2f} ± {b:.2f}, at 0.00: {c:.2f} ± {d:.2f}")

line = np.linspace(-1.2, 1.2, 200)[:, None]
low, high = model.interval(line, coverage=0.95)
plt.fill_between(line[:, 0], low[:, 0], high[:, 0], alpha=0.3)
plt.plot(line[:, 0], model.mean(line)[:, 0])
plt.plot(x[:, 0], y[:, 0], ".")
plt.savefig("band.png")
