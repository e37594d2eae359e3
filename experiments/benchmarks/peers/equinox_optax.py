"""Equinox and optax, as Equinox's examples write the loop: `eqx.filter_jit` around a step."""

from collections.abc import Callable
from typing import Any

import equinox as eqx  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.peers.jaxes import ACTIVATIONS, device as device, mean_loss, optimizer
from experiments.benchmarks.workloads import Data, Setting, Train, Trained, Workload, minibatches

PACKAGES = ("equinox", "optax", "jax", "jaxlib")


class Perceptron(eqx.Module):
    """A chain of linear layers, or with shortcuts each reading all earlier ones."""

    layers: list[Any]
    h: Callable[[Any], Any] = eqx.field(static=True)
    shortcuts: bool = eqx.field(static=True)

    def __init__(self, workload: Workload, key: jax.Array) -> None:
        keys = jax.random.split(key, len(workload.shapes))
        self.layers = [eqx.nn.Linear(*shape, key=k) for shape, k in zip(workload.shapes, keys, strict=True)]
        self.h, self.shortcuts = ACTIVATIONS[workload.activation], workload.shortcuts

    def __call__(self, x: jax.Array) -> jax.Array:
        """The outputs' pre-activations for one example."""
        for layer in self.layers[:-1]:
            z = self.h(layer(x))
            x = jnp.concatenate([x, z]) if self.shortcuts else z
        return self.layers[-1](x)


def prepare(workload: Workload, data: Data, setting: Setting) -> Train:
    """One network."""

    def apply(model: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(model)(x)

    return loop(workload, data, eqx.filter_jit(lambda key: Perceptron(workload, key)), apply)


def loop(workload: Workload, data: Data, build: Callable[[jax.Array], Any], apply: Callable[[Any, Any], Any]) -> Train:
    """Train any Equinox module."""
    rule = optimizer(workload.optimizer, workload.learning_rate)
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)

    @eqx.filter_jit(donate="all-except-first")
    def step(examples: Any, model: Any, state: Any, rows: Any) -> Any:
        x, y = examples if rows is None else (examples[0][rows], examples[1][rows])
        gradients = eqx.filter_grad(lambda model: mean_loss(workload.loss, apply(model, x), y))(model)
        updates, state = rule.update(gradients, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state

    def train(seed: int) -> Trained:
        model = build(jax.random.key(seed))
        state = rule.init(eqx.filter(model, eqx.is_inexact_array))
        for rows in minibatches(workload, seed, len(x)):
            model, state = step((x, y), model, state, rows)
        jax.block_until_ready(eqx.filter(model, eqx.is_array))
        return Trained(lambda x: np.asarray(eqx.filter_jit(apply)(model, jnp.asarray(x))))

    return train
