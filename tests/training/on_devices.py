"""Run by test_dividing.py in a process of its own, which has eight devices: prints a line for each thing to compare."""

import functools
import hashlib

import jax
import numpy as np

from jnn import adam, fit, mlp, stopping
from jnn.likelihoods import Categorical

RNG = np.random.default_rng(8)
X = RNG.normal(size=(150, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)
NETWORK = mlp([4, 5, 3], shortcuts=True)


def train(x, y, **more):
    """Not a partial: a key, and so JAX, is made when it is called."""
    settings = {"epochs": 5, "batch_size": 50, "validation": 0.2, "weight_decay": 0.1, "optimizer": adam(0.02)}
    settings |= {"stopping": stopping.Patience(4), "weights": np.linspace(0.5, 2, 150), "key": jax.random.key(0)}
    return fit(NETWORK, Categorical(), x, y, **settings | more)


def hashed(result) -> str:
    """Of all bits of the result."""
    sums = hashlib.sha256()
    for leaf in jax.tree.leaves(result.state._replace(key=jax.random.key_data(result.state.key))):
        sums.update(np.asarray(leaf).tobytes())
    return sums.hexdigest()


def farthest(a, b) -> float:
    """The largest difference of parameters and risks, relative to the largest number of each array."""
    pairs = zip(*(jax.tree.leaves((r.params, r.last_params, r.history)) for r in (a, b)), strict=True)
    return max(float(np.max(np.abs(np.asarray(p) - q)) / np.max(np.abs(q))) for p, q in pairs)


def main() -> None:
    devices = jax.devices()
    for dtype in (np.float32, np.float64):
        x = X.astype(dtype)
        print(np.dtype(dtype).name, farthest(train(x, Y, devices=devices), train(x, Y)))
    x = X.astype(np.float32)
    whole = {count: train(x, Y, devices=devices[:count], shards=16) for count in (1, 2, 4, 8)}
    print("shards", *map(hashed, whole.values()))
    begun = train(x, Y, devices=devices, shards=16, callback=lambda seen: seen.epoch == 2)
    print("resumed", *(hashed(train(x, Y, devices=devices[:n], shards=16, resume=begun)) for n in (1, 2, 4)))
    streamed = functools.partial(train, x, Y, rows_on_device=110, shards=16)
    print("streamed", *(hashed(streamed(devices=devices[:count])) for count in (1, 8)))


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
