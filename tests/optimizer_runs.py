"""Running a learning rule over given gradients."""

import jax
import jax.numpy as jnp
import optax

from tests.compiling import optimized


def run(optimizer, params, gradients, values=None):
    """All updates for a sequence of gradients (leading axis: time), in one compiled scan."""
    values = jnp.zeros(jax.tree.leaves(gradients)[0].shape[0]) if values is None else values
    optimizer = optax.with_extra_args_support(optimizer)

    @optimized
    def scan(gradients, values):
        def step(state, inputs):
            updates, state = optimizer.update(inputs[0], state, params, value=inputs[1])
            return state, updates

        return jax.lax.scan(step, optimizer.init(params), (gradients, values))[1]

    return scan(gradients, values)
