"""Likelihoods: how targets are distributed given the outputs' pre-activations, and what follows for learning."""

from jnn.likelihoods.base import Likelihood
from jnn.likelihoods.bernoulli import Bernoulli
from jnn.likelihoods.canonical import Canonical
from jnn.likelihoods.categorical import Categorical
from jnn.likelihoods.encodings import OneHot
from jnn.likelihoods.gaussian import Gaussian, HeteroscedasticGaussian
from jnn.likelihoods.general_rule import Elementwise, GeneralRule, OutputMap, Softmax, SquaredError
from jnn.likelihoods.poisson import Poisson

__all__ = [
    "Bernoulli",
    "Canonical",
    "Categorical",
    "Elementwise",
    "Gaussian",
    "GeneralRule",
    "HeteroscedasticGaussian",
    "Likelihood",
    "OneHot",
    "OutputMap",
    "Poisson",
    "Softmax",
    "SquaredError",
]
