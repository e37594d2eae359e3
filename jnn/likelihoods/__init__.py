"""Likelihoods: how targets are distributed given the outputs' pre-activations, and what follows for learning."""

from jnn.likelihoods.base import Likelihood as Likelihood
from jnn.likelihoods.canonical import (
    Bernoulli as Bernoulli,
    Canonical as Canonical,
    Categorical as Categorical,
    Poisson as Poisson,
)
from jnn.likelihoods.encodings import OneHot as OneHot
from jnn.likelihoods.gaussian import Gaussian as Gaussian, HeteroscedasticGaussian as HeteroscedasticGaussian
from jnn.likelihoods.general_rule import (
    Elementwise as Elementwise,
    GeneralRule as GeneralRule,
    OutputMap as OutputMap,
    Softmax as Softmax,
    SquaredError as SquaredError,
)
