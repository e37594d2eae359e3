"""Likelihoods: how targets are distributed given the outputs' pre-activations, and what follows for learning."""

from jnn.likelihoods.base import Likelihood as Likelihood
from jnn.likelihoods.canonical import Bernoulli as Bernoulli
from jnn.likelihoods.canonical import Canonical as Canonical
from jnn.likelihoods.canonical import Categorical as Categorical
from jnn.likelihoods.canonical import Poisson as Poisson
from jnn.likelihoods.encodings import OneHot as OneHot
from jnn.likelihoods.gaussian import Gaussian as Gaussian
from jnn.likelihoods.gaussian import HeteroscedasticGaussian as HeteroscedasticGaussian
from jnn.likelihoods.general_rule import Elementwise as Elementwise
from jnn.likelihoods.general_rule import GeneralRule as GeneralRule
from jnn.likelihoods.general_rule import OutputMap as OutputMap
from jnn.likelihoods.general_rule import Softmax as Softmax
from jnn.likelihoods.general_rule import SquaredError as SquaredError
