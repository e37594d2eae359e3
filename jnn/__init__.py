"""Feed-forward neural networks as pure functions over parameter pytrees.

Losses are derived as negative log-likelihoods, gradients come from hand-written backpropagation and from autodiff, each
checked against the other, and training is one compiled program. See the README for a tour.
"""

from jnn import activations as activations
from jnn import backprop as backprop
from jnn import ensembles as ensembles
from jnn import gradcheck as gradcheck
from jnn import likelihoods as likelihoods
from jnn import model as model
from jnn import networks as networks
from jnn import objectives as objectives
from jnn import optimizers as optimizers
from jnn import persistence as persistence
from jnn import schedules as schedules
from jnn import training as training
from jnn import transforms as transforms
from jnn.compilation import enable_compilation_cache as enable_compilation_cache
from jnn.model import Model as Model
from jnn.networks import dag as dag
from jnn.networks import describe as describe
from jnn.networks import mlp as mlp
from jnn.optimizers import adam as adam
from jnn.optimizers import rprop as rprop
from jnn.optimizers import steepest_descent as steepest_descent
from jnn.training import fit as fit
from jnn.training import stopping as stopping
