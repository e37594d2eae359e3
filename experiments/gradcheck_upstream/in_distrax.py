"""Distributions and bijectors of distrax, and its functions with rules."""

# pyright: reportMissingImports=false

import distrax
import jax
import jax.numpy as jnp

from .target import Target, at, f32, normal, spd, uniform, vector

X, P = normal(1, 4), uniform(2, 4, low=0.5, high=2.0)
U = uniform(3, 4, low=0.1, high=0.9)

DENSITIES = {
    "Normal": (lambda x, m, s: distrax.Normal(m, s).log_prob(x), at(normal=(X, normal(4, 4), P))),
    "Beta": (lambda x, a, b: distrax.Beta(a, b).log_prob(x), at(middle=(U, P, 1 + P))),
    "Gamma": (lambda x, a, b: distrax.Gamma(a, b).log_prob(x), at(middle=(P, P + 0.3, P))),
    "Dirichlet": (lambda a: distrax.Dirichlet(a).log_prob(jax.nn.softmax(X)), at(middle=P)),
    "Laplace": (
        lambda x, m, s: distrax.Laplace(m, s).log_prob(x),
        at(normal=(X, normal(5, 4), P), centre=(vector(1.0), vector(1.0), vector(2.0))),
    ),
    "Logistic": (lambda x, m, s: distrax.Logistic(m, s).log_prob(x), at(normal=(X, normal(6, 4), P))),
    "Gumbel": (lambda x, m, s: distrax.Gumbel(m, s).log_prob(x), at(normal=(X, normal(7, 4), P))),
    "VonMises": (lambda x, m, k: distrax.VonMises(m, k).log_prob(x), at(middle=(X, normal(8, 4), P))),
    "VonMises.log_cdf": (
        lambda x, k: distrax.VonMises(jnp.zeros_like(k), k).log_cdf(x),
        at(middle=(0.5 * X, P), large=(vector(0.1), vector(40.0))),
    ),
    "VonMises.sample": (
        lambda m, k: distrax.VonMises(m, k).sample(seed=jax.random.key(0, impl="threefry2x32")),
        at(middle=(normal(9, 3), uniform(10, 3, low=0.5, high=4.0))),
    ),
    "Categorical(probs)": (
        lambda p: distrax.Categorical(probs=p / jnp.sum(p)).log_prob(1),
        at(middle=P, zero=vector(0.5, 0.5, 0.0)),
    ),
    "Categorical.entropy": (lambda z: distrax.Categorical(z).entropy(), at(normal=X, hard=vector(80.0, 0.0, -80.0))),
    "Categorical.kl_divergence": (
        lambda a, b: distrax.Categorical(a).kl_divergence(distrax.Categorical(b)),
        at(normal=(X, normal(11, 4)), hard=(vector(80.0, 0.0), vector(0.0, 1.0))),
    ),
    "Bernoulli(probs)": (lambda p: distrax.Bernoulli(probs=p).log_prob(jnp.ones_like(p)), at(middle=U)),
    "Multinomial": (
        lambda z: distrax.Multinomial(5, z).log_prob(vector(2.0, 1.0, 2.0, 0.0).astype(z.dtype)),
        at(normal=X),
    ),
    "MultivariateNormalFullCovariance": (
        lambda x, m, c: distrax.MultivariateNormalFullCovariance(m, 0.5 * (c + c.T)).log_prob(x),
        at(normal=(normal(12, 3), normal(13, 3), spd(14, 3))),
    ),
    "MultivariateNormalDiagPlusLowRank": (
        lambda x, d, u: distrax.MultivariateNormalDiagPlusLowRank(scale_diag=d, scale_u_matrix=u).log_prob(x),
        at(normal=(normal(15, 4), P + 1, normal(16, 4, 2, scale=0.3))),
    ),
    "ClippedNormal": (lambda x: distrax.ClippedNormal(0.0, 1.0, -1.0, 1.0).log_prob(x), at(inside=vector(0.3, -0.6))),
    "MixtureSameFamily": (
        lambda x, z, m: distrax.MixtureSameFamily(distrax.Categorical(z), distrax.Normal(m, jnp.ones_like(m))).log_prob(
            x
        ),
        at(normal=(f32(0.3), normal(17, 3), normal(18, 3))),
    ),
}

SPLINE = normal(19, 3 * 4 + 1)

BIJECTORS = {
    "RationalQuadraticSpline": (
        lambda x, p: distrax.RationalQuadraticSpline(p, -2.0, 2.0).forward_and_log_det(x),
        at(inside=(f32(0.3), SPLINE), outside=(f32(2.5), SPLINE)),
    ),
    "Tanh": (lambda x: distrax.Tanh().forward_and_log_det(x), at(normal=X, far=vector(12.0, -30.0))),
    "Sigmoid": (lambda x: distrax.Sigmoid().forward_and_log_det(x), at(normal=X, far=vector(40.0, -90.0))),
    "GumbelCDF": (lambda x: distrax.GumbelCDF().forward_and_log_det(x), at(normal=X)),
    "LowerUpperTriangularAffine": (
        lambda x, a: distrax.LowerUpperTriangularAffine(a, jnp.zeros_like(x)).forward_and_log_det(x),
        at(normal=(normal(20, 3), normal(21, 3, 3) + jnp.eye(3))),
    ),
}

TARGETS = [
    *(Target("distrax." + name, fun, inputs) for name, (fun, inputs) in DENSITIES.items()),
    *(Target("distrax." + name, fun, inputs) for name, (fun, inputs) in BIJECTORS.items()),
]
