"""Plain NumPy readings of what training does, and an optimizer that records what it is given."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def recorder(steps, rate=0.0):
    """Steepest descent whose state holds the weights and the gradient of every step."""

    def init(params):
        empty = jax.tree.map(lambda w: jnp.zeros((steps, *w.shape), w.dtype), params)
        return jnp.zeros((), int), empty, empty

    def update(grads, state, params=None):
        count, weights, gradients = state
        put = lambda all, now: jax.tree.map(lambda a, w: a.at[count].set(w), all, now)  # noqa: E731
        return jax.tree.map(lambda g: -rate * g, grads), (count + 1, put(weights, params), put(gradients, grads))

    return optax.GradientTransformation(init, update)


def recorded(result):
    """`(steps, n)` weights and gradients of a network with one output, whose inputs are the n unit vectors."""
    _, weights, gradients = result.state.optimizer
    return np.asarray(weights[0]["W"][..., 0]), np.asarray(gradients[0]["W"][..., 0])


def tanh_network(params, x):
    """Every z of a chain of tanh layers with linear outputs."""
    z = [x]
    for number, p in enumerate(params):
        a = z[-1] @ p["W"] + p["b"]
        z.append(a if number == len(params) - 1 else np.tanh(a))
    return z


def squares(params, x, y, v, decay):
    """E, ½ ‖w‖² of the hidden layers, and the gradient of E + decay/2 ‖w‖², by the slides' equations."""
    z = tanh_network(params, x)
    error = 0.5 * np.sum(v[:, None] * (z[-1] - y) ** 2)
    delta = v[:, None] * (z[-1] - y)
    gradients = []
    for number in range(len(params) - 1, -1, -1):
        hidden = number < len(params) - 1
        w = params[number]["W"]
        gradients.insert(0, {"W": z[number].T @ delta + (decay * w if hidden else 0), "b": delta.sum(0)})
        if number:
            delta = (1 - z[number] ** 2) * (delta @ w.T)
    return error, 0.5 * sum(np.sum(p["W"] ** 2) for p in params[:-1]), gradients


def as_numpy(params):
    return [{name: np.asarray(w, np.float64) for name, w in layer.items()} for layer in params]


def categorical_risk(params, x, labels, v):
    """Σ v (−ln softmax) / Σ v of a tanh network."""
    a = tanh_network(as_numpy(params), x)[-1]
    shifted = a - a.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return -np.sum(v * log_p[np.arange(len(x)), labels]) / np.sum(v)


def assert_close(got, expected, rtol=1e-10):
    """Relative to the largest entry of each leaf: entries that cancel have no relative precision of their own."""
    for g, e in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(g, e, rtol=0, atol=rtol * np.max(np.abs(e), initial=1e-300))
