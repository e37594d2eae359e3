"""Densities, draws and transforms of numpyro."""

# pyright: reportMissingImports=false

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints, transforms, util

from .target import Target, at, f32, normal, spd, uniform, vector

KEY = jax.random.key(0, impl="threefry2x32")
X, P, U = normal(1, 4), uniform(2, 4, low=0.5, high=2.0), uniform(3, 4, low=0.1, high=0.9)

CORRELATION = jnp.asarray([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [-0.48, 0.6, 0.64]], f32)


def density(name: str, make, *args, **points) -> Target:
    """log p(x) as a function of x and the parameters."""

    def fun(x, *parameters):
        return make(*parameters).log_prob(x)

    return Target(f"numpyro.distributions.{name}", fun, at(middle=args, **points))


def count(name: str, make, value, *args, **points) -> Target:
    """log p(n) of counts as a function of the parameters."""
    return Target(f"numpyro.distributions.{name}", lambda *p: make(*p).log_prob(value), at(middle=args, **points))


def draw(name: str, make, *args) -> Target:
    return Target(f"numpyro.distributions.{name}.rsample", lambda *p: make(*p).rsample(KEY), at(middle=args))


def transform(name: str, made, x) -> Target:
    return Target(
        f"numpyro.distributions.transforms.{name}",
        lambda x: (y := made(x), made.log_abs_det_jacobian(x, y)),
        at(normal=x),
    )


N = jnp.asarray([0, 1, 3, 2], jnp.int32)

TARGETS = [
    density("Normal", dist.Normal, X, normal(4, 4), P),
    density("Gamma", dist.Gamma, P, P + 0.2, P),
    density("InverseGamma", dist.InverseGamma, P, P + 0.2, P),
    density("Beta", dist.Beta, U, P, P + 1),
    density("BetaProportion", dist.BetaProportion, U, uniform(5, 4, low=0.2, high=0.8), 3 * P),
    density("StudentT", dist.StudentT, X, 2 * P, normal(6, 4), P),
    density("Cauchy", dist.Cauchy, X, normal(7, 4), P),
    density("Weibull", dist.Weibull, P, P, P + 0.5),
    density("Kumaraswamy", dist.Kumaraswamy, U, P, P + 0.5),
    density("Gompertz", dist.Gompertz, P, P, P),
    density("Levy", dist.Levy, P + 1, jnp.zeros(4, f32), P),
    density("VonMises", dist.VonMises, X, normal(8, 4), P, concentrated=(vector(0.1), vector(0.0), vector(300.0))),
    density("SoftLaplace", dist.SoftLaplace, X, normal(9, 4), P),
    density("AsymmetricLaplace", dist.AsymmetricLaplace, X, normal(10, 4), P, P + 0.3),
    density("LogUniform", dist.LogUniform, P, jnp.full(4, 0.1), jnp.full(4, 5.0)),
    density("Dagum", dist.Dagum, P, P, P + 0.4, P),
    density(
        "TruncatedNormal",
        lambda m, s: dist.TruncatedNormal(m, s, low=-1.0, high=2.0),
        U,
        normal(11, 4),
        P,
    ),
    density("TruncatedCauchy", lambda m, s: dist.TruncatedCauchy(m, s, low=-1.0), U, normal(12, 4), P),
    density(
        "DoublyTruncatedPowerLaw",
        lambda a: dist.DoublyTruncatedPowerLaw(a, 0.5, 3.0),
        P + 0.1,
        -P,
        minus_one=(vector(1.3), vector(-1.0)),
        near_minus_one=(vector(1.3), vector(-1.0001)),
    ),
    density("LowerTruncatedPowerLaw", lambda a: dist.LowerTruncatedPowerLaw(a, 0.3), P, -1.2 - P),
    density("Dirichlet", dist.Dirichlet, jax.nn.softmax(X), P),
    density(
        "MultivariateNormal",
        lambda m, c: dist.MultivariateNormal(m, 0.5 * (c + c.T)),
        normal(13, 3),
        normal(14, 3),
        spd(15, 3),
    ),
    density(
        "MultivariateStudentT",
        lambda n, m, c: dist.MultivariateStudentT(n, m, jnp.linalg.cholesky(0.5 * (c + c.T))),
        normal(16, 3),
        f32(4.0),
        normal(17, 3),
        spd(18, 3),
    ),
    density(
        "LowRankMultivariateNormal", dist.LowRankMultivariateNormal, normal(19, 4), normal(20, 4), normal(21, 4, 2), P
    ),
    density("LKJCholesky", lambda c: dist.LKJCholesky(3, c), CORRELATION, f32(1.5)),
    density("ProjectedNormal", dist.ProjectedNormal, normal(23, 3) / jnp.linalg.norm(normal(23, 3)), normal(24, 3)),
    density(
        "SineBivariateVonMises",
        lambda a, b, k: dist.SineBivariateVonMises(a, b, k, k, 0.3),
        normal(25, 2),
        f32(0.1),
        f32(0.2),
        f32(2.0),
    ),
    density("GaussianRandomWalk", lambda s: dist.GaussianRandomWalk(s, 4), X, f32(0.7)),
    density(
        "CAR",
        lambda a, t: dist.CAR(jnp.zeros(3, a.dtype), a, t, jnp.asarray([[0, 1, 0], [1, 0, 1], [0, 1, 0]])),
        normal(26, 3),
        f32(0.5),
        f32(1.2),
    ),
    count("Poisson", dist.Poisson, N, P),
    count("NegativeBinomial2", dist.NegativeBinomial2, N, P, P + 0.3),
    count("GammaPoisson", dist.GammaPoisson, N, P, P + 0.3),
    count("BetaBinomial", lambda a, b: dist.BetaBinomial(a, b, 5), N, P, P + 1),
    count("BinomialLogits", lambda z: dist.BinomialLogits(z, 5), N, X, large=(vector(90.0, -90.0, 40.0, 0.0),)),
    count("BernoulliProbs", dist.BernoulliProbs, jnp.asarray([0, 1, 1, 0]), U),
    count("DirichletMultinomial", lambda a: dist.DirichletMultinomial(a, 6), N, P),
    count("ZeroInflatedPoisson", dist.ZeroInflatedPoisson, N, U, P),
    count(
        "OrderedLogistic", lambda x, c: dist.OrderedLogistic(x, c), jnp.asarray([0, 2, 1, 3]), X, vector(-1.0, 0.0, 1.0)
    ),
    count("MultinomialLogits", lambda z: dist.MultinomialLogits(z, 6), N, X),
    draw("Gamma", dist.Gamma, P, P),
    draw("Beta", dist.Beta, P, P + 1),
    draw("Dirichlet", dist.Dirichlet, P),
    draw("StudentT", dist.StudentT, 2 * P, X, P),
    draw("TruncatedNormal", lambda m, s: dist.TruncatedNormal(m, s, low=-1.0, high=2.0), X, P),
    draw("DoublyTruncatedPowerLaw", lambda a: dist.DoublyTruncatedPowerLaw(a, 0.5, 3.0), -P),
    draw("InverseGamma", dist.InverseGamma, P + 1, P),
    draw("RelaxedBernoulliLogits", lambda t, z: dist.RelaxedBernoulliLogits(t, z), P, X),
    Target(
        "numpyro.distributions.DoublyTruncatedPowerLaw.cdf",
        lambda x, a: dist.DoublyTruncatedPowerLaw(a, 0.5, 3.0).cdf(x),
        at(middle=(P + 0.6, -P), minus_one=(vector(1.3), vector(-1.0))),
    ),
    Target(
        "numpyro.distributions.DoublyTruncatedPowerLaw.icdf",
        lambda q, a: dist.DoublyTruncatedPowerLaw(a, 0.5, 3.0).icdf(q),
        at(middle=(U, -P), minus_one=(vector(0.3), vector(-1.0))),
    ),
    transform("StickBreakingTransform", transforms.StickBreakingTransform(), normal(27, 3)),
    transform("CorrCholeskyTransform", transforms.CorrCholeskyTransform(), normal(28, 3)),
    transform("LowerCholeskyTransform", transforms.LowerCholeskyTransform(), normal(29, 6)),
    transform("OrderedTransform", transforms.OrderedTransform(), normal(30, 4)),
    transform("SimplexToOrderedTransform", transforms.SimplexToOrderedTransform(), jax.nn.softmax(normal(31, 4))),
    transform("SoftplusTransform", transforms.SoftplusTransform(), vector(-40.0, 0.1, 30.0)),
    transform("biject_to(interval)", transforms.biject_to(constraints.interval(-1.0, 2.0)), X),
    transform("SigmoidTransform", transforms.SigmoidTransform(), vector(-60.0, 0.3, 20.0)),
    Target(
        "numpyro.distributions.util.log1mexp", util.log1mexp, at(middle=-P, small=vector(-1e-6), large=vector(-50.0))
    ),
    Target("numpyro.distributions.util.logdiffexp", util.logdiffexp, at(middle=(P + 1, P))),
    Target("numpyro.distributions.util.clamp_probs", util.clamp_probs, at(middle=U)),
    Target("numpyro.distributions.util.safe_normalize", util.safe_normalize, at(normal=X, zero=jnp.zeros(3, f32))),
    Target(
        "numpyro.distributions.util.cholesky_update",
        lambda c, x: util.cholesky_update(c, x),
        at(normal=(jnp.linalg.cholesky(spd(33, 3)), normal(34, 3))),
    ),
    Target("numpyro.distributions.util.betainc", util.betainc, at(middle=(P, P + 1, U))),
]
