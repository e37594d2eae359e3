"""A likelihood of one's own: counts that scatter more than Poisson's, the negative binomial.

    python experiments/examples/own_likelihood.py [--small]

All that jnn needs is −ln p(y | a), its derivative δ by hand, and the mean; `gradcheck` tells whether δ is right.
Printed are that verdict, and what new counts cost beside Poisson's, which believes that it is surer:

    the derivative by hand: pass
    negative log-likelihood of a new count: negative binomial 2.56, Poisson 3.18
"""

import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

import jnn
from jnn import gradcheck

N = 100 if "--small" in sys.argv else 2000


@dataclass(frozen=True)
class NegativeBinomial(jnn.likelihoods.Likelihood):
    """Counts of mean μ = exp a and variance μ + μ²/r."""

    r: float = 2.0

    def nll(self, a, y, complete=False):
        """−ln p = (y + r) ln(1 + μ/r) − y (a − ln r) − ln Γ(y + r) + ln Γ(r) + ln y!"""
        y = jnp.asarray(y, a.dtype)
        value = (y + self.r) * jax.nn.softplus(a - np.log(self.r)) - y * (a - np.log(self.r))
        if complete:
            value = value - gammaln(y + self.r) + gammaln(self.r) + gammaln(y + 1)
        return value.sum(axis=-1)

    def delta(self, a, y):
        """δ = (y + r) μ/(μ + r) − y"""
        return (y + self.r) * jax.nn.sigmoid(a - np.log(self.r)) - y

    def mean(self, a):
        """μ"""
        return jnp.exp(a)


rng = np.random.default_rng(0)
x = rng.uniform(-2, 2, (2 * N, 1))
y = rng.poisson(np.exp(1.5 + np.sin(2 * x)) * rng.gamma(2.0, 1 / 2.0, x.shape))

likelihood = NegativeBinomial()
by_hand = jax.custom_vjp(lambda a, y: likelihood.nll(a, y).sum())
by_hand.defvjp(lambda a, y: (by_hand(a, y), (a, y)), lambda kept, g: (g * likelihood.delta(*kept), None))
counts = jnp.asarray(y[:20], jnp.float32)
print("the derivative by hand:", gradcheck.check(by_hand, jnp.linspace(-2, 2, 20)[:, None], counts, argnums=0).verdict)

risks = []
for each in (likelihood, jnn.likelihoods.Poisson()):
    network = jnn.mlp([1, 10, 1])
    result = jnn.fit(network, each, x[:N], y[:N], key=jax.random.key(0), epochs=200, batch_size=50)
    risks.append(float(each.nll(network.apply(result.params, x[N:]), y[N:], complete=True).mean()))
print("negative log-likelihood of a new count: negative binomial {:.2f}, Poisson {:.2f}".format(*risks))
