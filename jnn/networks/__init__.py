"""Feed-forward networks: static descriptions of who reads whom, and pure functions over their parameters."""

from jnn.networks.base import Network as Network
from jnn.networks.base import Params as Params
from jnn.networks.base import Trace as Trace
from jnn.networks.base import describe as describe
from jnn.networks.connections import UselessNeuronWarning as UselessNeuronWarning
from jnn.networks.connections import as_dag as as_dag
from jnn.networks.connections import dag as dag
from jnn.networks.graph import Dag as Dag
from jnn.networks.initialization import Initializer as Initializer
from jnn.networks.initialization import fan_in_normal as fan_in_normal
from jnn.networks.initialization import fan_in_uniform as fan_in_uniform
from jnn.networks.initialization import normal as normal
from jnn.networks.initialization import uniform as uniform
from jnn.networks.layered import Layer as Layer
from jnn.networks.layered import Layered as Layered
from jnn.networks.layered import mlp as mlp
from jnn.networks.layered import with_shortcuts as with_shortcuts
