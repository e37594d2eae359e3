"""Small functions with right and wrong rules, shared by the tests of gradcheck."""

import jax
import jax.numpy as jnp
import numpy as np


def pulled(primal, backward):
    """`primal` with the pullback `backward(g, *args)`."""
    rule = jax.custom_vjp(primal)
    rule.defvjp(lambda *args: (primal(*args), args), lambda args, g: backward(g, *args))
    return rule


def pushed(primal, forward):
    """`primal` with the pushforward `forward(args, tangents)`."""
    rule = jax.custom_jvp(primal)
    rule.defjvp(lambda args, tangents: (primal(*args), forward(args, tangents)))
    return rule


def product(x, y):
    return jnp.sin(x) * y


right_product = pulled(product, lambda g, x, y: (g * jnp.cos(x) * y, g * jnp.sin(x)))
wrong_product = pulled(product, lambda g, x, y: (g * jnp.cos(x) * y, -g * jnp.sin(x)))


def dense(x, w, b):
    return jnp.tanh(x @ w + jnp.broadcast_to(b, (x.shape[0], b.shape[0])))


def dense_backward(g, x, w, b):
    d = g * (1 - dense(x, w, b) ** 2)
    return d @ w.T, x.T @ d, d.sum(0)


right_dense = pulled(dense, dense_backward)


def numbers(*shape, seed=0, dtype=jnp.float32, scale=1.0):
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape), dtype)
