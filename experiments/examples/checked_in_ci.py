"""A custom_vjp that is checked wherever the tests run, by `jnn.gradcheck`'s fixture for pytest.

    python -m pytest -p jnn.gradcheck.plugin experiments/examples/checked_in_ci.py

In a project of your own, name the plugin once instead, in the topmost conftest.py: `pytest_plugins =
["jnn.gradcheck.plugin"]`. With `--gradcheck-html DIR` a failing test leaves a report that says which element is wrong.
Printed is:

    2 passed
"""

import jax
import jax.numpy as jnp
import pytest

from jnn.gradcheck import GradientError


@jax.custom_vjp
def layer_norm(x, gain):
    """Rows with mean 0 and variance 1, times a gain."""
    return _normal(x)[0] * gain[None]


def _normal(x):
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + 1e-5)
    return centred * scale, scale


def _backward(saved, g):
    x, gain = saved
    z, scale = _normal(x)
    by_z = g * gain[None]
    along = (by_z * z).mean(axis=-1, keepdims=True)
    return scale * (by_z - by_z.mean(axis=-1, keepdims=True) - z * along), (g * z).sum(axis=0)


layer_norm.defvjp(lambda x, gain: (layer_norm(x, gain), (x, gain)), _backward)


@pytest.fixture
def arguments():
    """As large as it takes to tell rows from columns."""
    return jax.random.normal(jax.random.key(0), (5, 8)), jnp.linspace(0.5, 1.5, 8)


def test_the_rule_is_right(gradcheck, arguments):
    gradcheck(layer_norm, *arguments)


def test_a_rule_without_the_mean_is_told(gradcheck, arguments):
    """That the check would notice: what is usually forgotten, forgotten."""
    wrong = jax.custom_vjp(lambda x, gain: layer_norm(x, gain))
    wrong.defvjp(
        lambda x, gain: (layer_norm(x, gain), (x, gain)),
        lambda saved, g: (_normal(saved[0])[1] * g * saved[1][None], _backward(saved, g)[1]),
    )
    with pytest.raises(GradientError):
        gradcheck(wrong, *arguments)
