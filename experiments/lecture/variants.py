"""Networks of one hidden layer that differ in width and in shortcuts, on many splits, trained as one program.

A network without shortcuts is one with shortcuts that are zero and stay so; one with 2 hidden neurons is one with 32 of
which 30 are connected to nothing. So all of them are one network, the largest, with other initial weights and a mask.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jnn
from experiments.datasets import Data
from jnn.networks import Layered, Params, with_shortcuts
from jnn.training import FitResult


@dataclass(frozen=True)
class Variant:
    """One way to train on a split.

    Attributes:
        name: in tables.
        network: with one hidden layer.
        scale: of the initial weights, as a multiple of the usual ones (biases start at zero).
        inputs: which of the given inputs it sees.
    """

    name: str
    network: Layered
    scale: float = 1.0
    inputs: str = "standardized"


@dataclass(frozen=True)
class Settings:
    """What all variants have in common: Adam, mini-batches, and the hypothesis of lowest validation risk."""

    epochs: int
    learning_rate: float = 0.01
    batch_size: int = 32
    validation: float = 0.2


def embed(network: Layered, params: Params, wide: Layered) -> Params:
    """The parameters of a network of one hidden layer in those of a wider one with shortcuts; zeros elsewhere."""
    if network.layers[-1].sources != wide.layers[-1].sources:
        _, params = with_shortcuts(network, params)
    to = jax.eval_shape(wide.init, jax.random.key(0))

    def pad(w: jax.Array, shape: jax.ShapeDtypeStruct) -> jax.Array:
        # The output's weights are those of the inputs and then those of the hidden neurons: new ones are at the end.
        return jnp.pad(w, [(0, b - a) for a, b in zip(w.shape, shape.shape, strict=True)])

    return jax.tree.map(pad, params, to)


def masked(optimizer: optax.GradientTransformation, mask: Params) -> optax.GradientTransformation:
    """The optimizer, but weights where the mask is 0 are left as they are."""
    return optax.chain(optimizer, optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, mask)))


@dataclass(frozen=True)
class Trained:
    """Variants trained on splits: everything has first axes over variants and splits."""

    data: Data
    network: Layered
    result: FitResult

    def risks(self, params: Params, test_inputs: np.ndarray) -> np.ndarray:
        """The mean −ln p of the test targets, `(variants, splits)`, for inputs `(variants, splits, n, d)`."""

        def one(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
            return jnp.mean(self.data.source.likelihood.nll(self.network.apply(params, x), y))

        program = jax.jit(jax.vmap(jax.vmap(one), in_axes=(0, 0, None)))
        return np.asarray(program(params, test_inputs, self.data.targets(self.data.test)), float)


def train(
    variants: Sequence[Variant], data: Data, inputs: dict[str, np.ndarray], settings: Settings, seed: int
) -> Trained:
    """Train every variant on every split; a split's validation examples are the same for all variants.

    Args:
        variants: networks with one hidden layer.
        data: the splits, with targets.
        inputs: kinds of training inputs, `(splits, n, d)` each.
        settings: common to all.
        seed: decides about initial weights and validation examples.

    Returns:
        What came out: `result.params` are the hypotheses with the lowest validation risk, `result.last_params` those
        after the last epoch.
    """
    hidden = max(v.network.layers[0].size for v in variants)
    wide = jnn.mlp([data.inputs, hidden, data.outputs], hidden="tanh", shortcuts=True)

    def initial(variant: Variant, key: jax.Array) -> Params:
        drawn = variant.network.init(key, dtype=jnp.float32)
        scaled = tuple({"W": variant.scale * layer["W"], "b": layer["b"]} for layer in drawn)
        return embed(variant.network, scaled, wide)

    def mask(variant: Variant) -> Params:
        shapes = jax.eval_shape(variant.network.init, jax.random.key(0))
        return embed(variant.network, jax.tree.map(lambda s: jnp.ones(s.shape, jnp.float32), shapes), wide)

    def one(key: jax.Array, params: Params, mask: Params, x: jax.Array, y: jax.Array) -> FitResult:
        return jnn.fit(
            wide,
            data.source.likelihood,
            x,
            y,
            key=key,
            optimizer=masked(jnn.adam(settings.learning_rate), mask),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            validation=settings.validation,
            params=params,
        )

    @jax.jit
    def program(keys: jax.Array, x: jax.Array, y: jax.Array) -> FitResult:
        params = _stacked([jax.vmap(functools.partial(initial, v))(keys) for v in variants])
        by_split = jax.vmap(one, in_axes=(0, 0, None, 0, 0))
        return jax.vmap(by_split, in_axes=(None, 0, 0, 0, None))(keys, params, _stacked(map(mask, variants)), x, y)

    keys = jax.random.split(jax.random.key(seed), len(data.train.x))
    x = np.stack([inputs[v.inputs] for v in variants])
    return Trained(data, wide, program(keys, x, data.targets(data.train)))


def _stacked(trees: Iterable[Params]) -> Params:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
