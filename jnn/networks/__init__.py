"""Feed-forward networks: static descriptions of who reads whom, and pure functions over their parameters."""

from jnn.networks.base import Network as Network, Params as Params, Trace as Trace, describe as describe
from jnn.networks.connections import UselessNeuronWarning as UselessNeuronWarning, as_dag as as_dag, dag as dag
from jnn.networks.graph import Dag as Dag
from jnn.networks.initialization import (
    Initializer as Initializer,
    fan_in_normal as fan_in_normal,
    fan_in_uniform as fan_in_uniform,
    nguyen_widrow as nguyen_widrow,
    normal as normal,
    uniform as uniform,
)
from jnn.networks.layered import Layer as Layer, Layered as Layered, mlp as mlp, with_shortcuts as with_shortcuts
