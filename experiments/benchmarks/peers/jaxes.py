"""What the contestants that run on JAX share: where they compute, and losses as optax has them."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.benchmarks.workloads import Loss, Setting

PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}


def device(setting: Setting) -> str:
    """Where JAX computes, with the precision of its matrix products set; fails if there is no such device."""
    if setting.device == "gpu":
        jax.config.update("jax_default_matmul_precision", PRECISIONS[setting.precision])
    return jax.devices()[0].device_kind


def mean_loss(loss: Loss, a: Any, y: Any) -> Any:
    """The mean error of a batch."""
    if loss == "categorical":
        return optax.softmax_cross_entropy_with_integer_labels(a, y).mean()
    if loss == "bernoulli":
        return optax.sigmoid_binary_cross_entropy(a, y).sum(axis=-1).mean()
    return 0.5 * jnp.square(a - y).sum(axis=-1).mean()


def optimizer(name: str, learning_rate: float) -> optax.GradientTransformation:
    """Adam or iRprop-."""
    return {"adam": optax.adam, "rprop": optax.rprop}[name](learning_rate)


ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}
