"""Gaussian processes with tinygp."""

# pyright: reportMissingImports=false

import jax.numpy as jnp
import tinygp

from .target import Target, at, f32, normal, uniform

X = jnp.sort(uniform(1, 5, high=3.0))


def likelihood(make):
    def fun(scale, y):
        return tinygp.GaussianProcess(make(scale), X.astype(y.dtype), diag=0.1).log_probability(y)

    return fun


QUASI = tinygp.kernels.quasisep
KERNELS = {
    "kernels.ExpSquared": lambda s: tinygp.kernels.ExpSquared(s),
    "kernels.Matern52": lambda s: tinygp.kernels.Matern52(s),
    "kernels.Matern32": lambda s: tinygp.kernels.Matern32(s),
    "kernels.RationalQuadratic": lambda s: tinygp.kernels.RationalQuadratic(scale=s, alpha=1.5),
    "kernels.ExpSineSquared": lambda s: tinygp.kernels.ExpSineSquared(scale=s, gamma=0.7),
    "kernels.quasisep.Matern32": lambda s: QUASI.Matern32(s),
    "kernels.quasisep.Matern52": lambda s: QUASI.Matern52(s),
    "kernels.quasisep.SHO": lambda s: QUASI.SHO(omega=s, quality=1.3),
    "kernels.quasisep.Celerite": lambda s: QUASI.Celerite(s, 0.1, 0.5, 0.2),
}

TARGETS = [
    Target("tinygp." + name, likelihood(make), at(normal=(f32(0.9), normal(2, 5)))) for name, make in KERNELS.items()
]
