"""Training on several devices, with checkpoints: what was killed goes on, and the result is the same to the last bit.

    python experiments/examples/checkpoints_and_devices.py [--small]

On a machine with one CPU two devices are simulated; with several GPUs, drop that line. The first call ends after half
of the epochs, as a crash would end it; the second is the call that a script makes anyway. Printed is whether it learned
what an undisturbed run learns:

    2 devices
    went on: True; the same weights, bit for bit: True; training risk 0.120
"""

import os
import sys

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import jax
import numpy as np
from sklearn.datasets import load_digits

import jnn

EPOCHS = 4 if "--small" in sys.argv else 60

x, y = load_digits(return_X_y=True)
network, likelihood = jnn.mlp([64, 50, 10]), jnn.likelihoods.Categorical()
print(f"{len(jax.devices())} devices")


def train(epochs, folder):
    """One call of `jnn.fit`; `shards` are the parts that sums are made of, so that devices do not change a bit."""
    return jnn.fit(
        network, likelihood, x / 16, y, key=jax.random.key(0), epochs=epochs, batch_size=128,
        devices=jax.devices(), shards=4, checkpoint=jnn.Checkpoints(folder, seconds=60),
    )  # fmt: skip


train(EPOCHS // 2, "disturbed")
went_on, undisturbed = train(EPOCHS, "disturbed"), train(EPOCHS, "undisturbed")
same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), went_on.params, undisturbed.params)
risks = went_on.history.train_error
print(f"went on: {len(risks) == EPOCHS}; the same weights, bit for bit: {all(jax.tree.leaves(same))}; ", end="")
print(f"training risk {risks[-1]:.3f}")
