"""One of several processes, run by test_hosts.py: the same script in each, as users have it on several hosts.

python -m tests.training.on_hosts NUMBER COUNT PORT FOLDER [EPOCHS]
"""

import functools
import os
import sys

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import jnn
from tests.training.on_devices import NETWORK, X, Y, hashed, train


def main(number: int, count: int, port: int, folder: str, epochs: int) -> None:
    if count > 1:
        jax.distributed.initialize(f"localhost:{port}", count, number, heartbeat_timeout_seconds=10)
    devices = jax.devices()
    assert len(devices) == 8
    x = X.astype(np.float32)
    settings = {"devices": devices, "shards": 16, "epochs": epochs}
    die_at = int(os.environ.get("DIE_AT", 0))

    def callback(seen):
        if seen.epoch == die_at and number == count - 1:
            os._exit(9)

    kept = jnn.Checkpoints(folder, seconds=0)
    print("kept", hashed(train(x, Y, checkpoint=kept, callback=callback if die_at else None, **settings)), flush=True)
    if die_at:
        return
    print("streamed", hashed(train(x, Y, rows_on_device=110, **settings)))
    if count > 1:  # rows of each process's own, as one array
        mesh = jax.make_mesh((8,), ("rows",))
        own = slice(number * 144 // count, (number + 1) * 144 // count)
        whole = functools.partial(jax.make_array_from_process_local_data, NamedSharding(mesh, PartitionSpec("rows")))
        given = whole(x[own]), whole(Y[own])
    else:
        given = x[:144], Y[:144]
    fit = functools.partial(jnn.fit, NETWORK, jnn.likelihoods.Categorical(), key=jax.random.key(0), batch_size=50)
    print("own", hashed(fit(*given, **settings)))
    stopped = fit(*given, callback=lambda seen: seen.epoch == 2 and number == count - 1, **settings)
    print("stopped", int(stopped.epochs))
    if count > 1:
        try:
            fit(x + number, Y, **settings)
        except ValueError as error:
            print("told", str(error).partition(" differ")[0].replace(" ", "_"))


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main(*map(int, sys.argv[1:4]), sys.argv[4], int(sys.argv[5]) if len(sys.argv) > 5 else 5)
