"""The errors that Proben1 reports, in percent."""

import jax.numpy as jnp
from jaxtyping import Array, Float

LOWEST, HIGHEST = 0.0, 1.0
"""o_min and o_max, the range of the outputs' coding in all of Proben1's problems."""


def squared_error_percentage(
    outputs: Float[Array, "P N"], targets: Float[Array, "P N"], lowest: float = LOWEST, highest: float = HIGHEST
) -> Float[Array, ""]:
    """E = 100 (o_max − o_min) / (N P) · Σ_p Σ_i (o_pi − t_pi)², over P examples and N outputs (Prechelt 1994)."""
    return 100 * (highest - lowest) * jnp.mean(jnp.square(outputs - targets))


def classification_error_percentage(outputs: Float[Array, "P N"], targets: Float[Array, "P N"]) -> Float[Array, ""]:
    """How many of 100 examples are put into a wrong class: the largest output wins; a single one must exceed ½."""
    if outputs.shape[-1] == 1:
        return 100 * jnp.mean((outputs > 0.5) != (targets > 0.5))
    return 100 * jnp.mean(jnp.argmax(outputs, axis=-1) != jnp.argmax(targets, axis=-1))
