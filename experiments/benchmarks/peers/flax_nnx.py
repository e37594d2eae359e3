"""Flax NNX and optax: the functional loop of its performance guide, the fastest of those that it shows.

(`nnx.jit`, as in its tutorial, walks the module in Python at every step; `nnx.cached_partial` halves that.)
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx  # pyright: ignore[reportMissingImports]

from experiments.benchmarks.peers.jaxes import ACTIVATIONS, device as device, mean_loss, optimizer
from experiments.benchmarks.workloads import Data, Setting, Train, Trained, Workload, minibatches

PACKAGES = ("flax", "optax", "jax", "jaxlib")


class Perceptron(nnx.Module):
    """A chain of linear layers, or with shortcuts each reading all earlier ones."""

    def __init__(self, workload: Workload, rngs: Any) -> None:
        self.layers = nnx.List([nnx.Linear(*shape, rngs=rngs) for shape in workload.shapes])
        self.h, self.shortcuts = ACTIVATIONS[workload.activation], workload.shortcuts

    def __call__(self, x: jax.Array) -> jax.Array:
        """The outputs' pre-activations."""
        for layer in self.layers[:-1]:
            z = self.h(layer(x))
            x = jnp.concatenate([x, z], axis=-1) if self.shortcuts else z
        return self.layers[-1](x)


def prepare(workload: Workload, data: Data, setting: Setting) -> Train:
    """One network."""
    rule = optimizer(workload.optimizer, workload.learning_rate)
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def step(graph: Any, state: Any, x: jax.Array, y: jax.Array, rows: Any) -> Any:
        model, optimizer = nnx.merge(graph, state)
        if rows is not None:
            x, y = x[rows], y[rows]
        gradients = nnx.grad(lambda model: mean_loss(workload.loss, model(x), y))(model)
        optimizer.update(model, gradients)
        return nnx.state((model, optimizer))

    @functools.partial(jax.jit, static_argnums=0)
    def apply(graph: Any, state: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, state)[0](x)

    def train(seed: int) -> Trained:
        model = Perceptron(workload, nnx.Rngs(seed))
        graph, state = nnx.split((model, nnx.Optimizer(model, rule, wrt=nnx.Param)))
        for rows in minibatches(workload, seed, len(x)):
            state = step(graph, state, x, y, rows)
        jax.block_until_ready(state)
        return Trained(lambda x: np.asarray(apply(graph, state, jnp.asarray(x))))

    return train
