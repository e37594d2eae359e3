"""Models of every kind, and what it means that two are the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jnn
from jnn import likelihoods, networks, transforms
from jnn.persistence import Model

KEY = jax.random.key(0)
X = 5 + 3 * np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)

EDGES = [(1, 5), (2, 5), (3, 6), (5, 6), (4, 7), (6, 7), (5, 8), (7, 8), (1, 9), (7, 9)]
NETWORKS = {
    "linear": jnn.mlp([4, 2]),
    "chain": jnn.mlp([4, 5, 3, 2], ["relu", "logistic"]),
    "shortcuts": jnn.mlp([4, 5, 3, 2], shortcuts=True),
    "blocks": jnn.dag(4, 2, EDGES, ["tanh", "softsign", "tanh"], evaluation="blocks"),
    "sweep": jnn.dag(4, 2, [*EDGES, (0, 5), (0, 9)], ["tanh", "softsign", "step"], evaluation="sweep"),
}
LIKELIHOODS = [
    likelihoods.Gaussian(),
    likelihoods.Gaussian(0.1),
    likelihoods.HeteroscedasticGaussian(),
    likelihoods.Bernoulli(),
    likelihoods.Categorical(),
    likelihoods.Poisson(),
    likelihoods.SquaredError(),
    likelihoods.SquaredError("softmax", 1 / 3),
    likelihoods.GeneralRule("tanh", likelihoods.Poisson()),
]


@functools.cache
def params_of(network, *members, dtype=jnp.float32, seed=0):
    """Random ones, made by NumPy: nothing has to be compiled."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, KEY)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=(*members, *s.shape)).astype(dtype)), shapes)


def standardize(columns=4, *members, seed=0):
    rng = np.random.default_rng(seed)
    mean, scale = 5 + rng.normal(size=(*members, columns)), rng.uniform(0.3, 3, size=(*members, columns))
    return transforms.Standardize(jnp.float32(mean), jnp.float32(scale))


def whiten(columns=4, kept=4):
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.normal(size=(columns, columns)))[0][:, :kept]
    return transforms.Whiten(jnp.float32(rng.normal(size=columns)), jnp.float32(axes), jnp.ones(kept, jnp.float32))


@functools.cache
def around():
    """Transforms before the network, by name."""
    return {
        "none": (),
        "standardize": (standardize(),),
        "whiten": (whiten(),),
        "both": (standardize(), whiten()),
        "clip": (standardize(), transforms.Clip(jnp.float32([-1, -2, 0, 0.5]), jnp.float32([1, 3, 0, 0.75]))),
        "squash": (standardize(), transforms.Squash(jnp.float32([3, np.inf, 3, 0.5]))),
    }


def model(network="chain", likelihood=LIKELIHOODS[4], before="both", dtype=jnp.float32, **more):
    built = NETWORKS.get(network, network)
    return Model(built, likelihood, params_of(built, dtype=dtype), around()[before], **more)


def ensemble(network="chain", likelihood=LIKELIHOODS[4], count=3):
    """Its members' transforms are their own."""
    built = NETWORKS[network]
    params = params_of(built, count)
    return Model(built, likelihood, params, (standardize(4, count),), standardize(2, count, seed=1))


def assert_same(got, expected):
    """In every bit and type."""
    assert type(got) is type(expected) or isinstance(expected, jax.Array)
    if isinstance(expected, Model):
        for name in Model.__dataclass_fields__:
            assert_same(getattr(got, name), getattr(expected, name))
    elif isinstance(expected, jax.Array) and jnp.issubdtype(expected.dtype, jax.dtypes.prng_key):
        assert got.dtype == expected.dtype
        assert_same(jax.random.key_data(got), jax.random.key_data(expected))
    elif isinstance(expected, jax.Array | np.ndarray | np.generic):
        assert isinstance(got, jax.Array) == isinstance(expected, jax.Array)
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        if expected.dtype == object:
            assert_same(got.tolist(), expected.tolist())
        else:
            assert np.asarray(got).tobytes() == np.asarray(expected).tobytes()
    elif isinstance(expected, transforms.Transform):
        assert_same(vars(got), vars(expected))
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        for key, value in expected.items():
            assert_same(got[key], value)
    elif isinstance(expected, tuple | list):
        assert len(got) == len(expected)
        for g, e in zip(got, expected, strict=True):
            assert_same(g, e)
    elif isinstance(expected, float):
        assert got.hex() == expected.hex()  # tells -0.0 from 0.0
    else:
        assert got == expected
        if isinstance(expected, networks.Network):
            assert hash(got) == hash(expected)
