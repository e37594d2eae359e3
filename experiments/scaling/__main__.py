"""What bounds training on many devices and hosts: `python -m experiments.scaling [--quick]`; see README.md beside it.

Measures on this machine what a reduction takes over 1 to 8 simulated devices and 1 to 4 processes, and a step of `fit`
beside the formula; then lets the formula, and a simulation of unequal hosts, go on to a thousand of them.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

import jnn
from experiments.benchmarks.machine import cores, processor

NETWORKS = {"64-100-10": jnn.mlp([64, 100, 10]), "784-512-512-10": jnn.mlp([784, 512, 512, 10])}
BATCHES = {"64-100-10": (8, 1024), "784-512-512-10": (8, 256)}
"""The first is a row for each device: what a step takes beside the products."""
SIZES = (1_000, 30_000, 1_000_000)
"""Numbers in the vectors that are added up."""
BYTES = 4
LATENCY, BANDWIDTH = 10e-6, 12.5e9
"""Assumed of a network of hosts: seconds a message, bytes a second (100 Gb/s)."""


@dataclass(frozen=True)
class Step:
    """Seconds of a step: fixed + rows × each; among several, `divided` + rows × each + the reduction."""

    fixed: float
    each: float
    divided: float


def reduced(hosts: Any, weights: int) -> Any:
    """Seconds of the reduction of one vector between hosts, by a ring's bytes and a tree's messages."""
    return np.where(hosts > 1, 2 * np.log2(hosts) * LATENCY + 2 * (hosts - 1) / hosts * BYTES * weights / BANDWIDTH, 0)


# --- measured, by one of some processes


def shortest(run: Callable[[], Any], times: int = 5) -> float:
    """The least disturbed of some runs, in seconds; the first, which compiles, does not count."""
    run()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def reduction(devices: list[Any], size: int, rounds: int) -> float:
    """Seconds to add up a vector that each device has."""
    mesh = Mesh(np.array(devices), ("d",), axis_types=(AxisType.Auto,))

    def repeated(v: Any) -> Any:
        return jax.lax.fori_loop(0, rounds, lambda i, v: jax.lax.psum(v, "d") / len(devices), v)

    spec = PartitionSpec()
    compiled = jax.jit(jax.shard_map(repeated, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))
    vector = np.ones(size, np.float32)
    return shortest(lambda: jax.block_until_ready(compiled(vector)), 3) / rounds


def step(name: str, batch: int, devices: list[Any], steps: int) -> float:
    """Seconds a step of `fit`: of some epochs, less those of one."""
    network, rng = NETWORKS[name], np.random.default_rng(0)
    rows = max(2048, 2 * batch)
    x = rng.standard_normal((rows, network.inputs), np.float32)
    y = rng.integers(10, size=rows)
    likelihood, epochs = jnn.likelihoods.Categorical(), max(1, steps * batch // rows)

    def run(epochs: int) -> None:
        jnn.fit(network, likelihood, x, y, key=jax.random.key(0), epochs=epochs, batch_size=batch, devices=devices)

    return (shortest(lambda: run(1 + epochs), 3) - shortest(lambda: run(1), 3)) / (epochs * -(-rows // batch))


def measured(quick: bool) -> dict[str, Any]:
    """For each number of devices: seconds of reductions by size, and of a step by network and mini-batch."""
    everyone, found = jax.devices(), {}
    alone = jax.process_count() == 1
    for count in [1, 2, 4, 8] if alone else [len(everyone)]:
        devices = everyone[:count]
        rounds = 20 if quick else 100
        sizes = {} if count == 1 else {size: reduction(devices, size, rounds if size < 10**6 else 5) for size in SIZES}
        steps = {
            f"{name} {batch}": step(name, batch, devices, 20 if quick else 200 if name == "64-100-10" else 40)
            for name, batches in BATCHES.items()
            for batch in batches
        }
        found[str(count)] = {"reductions": sizes, "steps": steps}
    return found


def processes(count: int, devices: int, quick: bool) -> dict[str, Any]:
    """What so many processes measure together."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-m", "experiments.scaling", *["--quick"][: int(quick)], "--worker"]
    started = [
        subprocess.Popen(
            [*command, str(number), str(count), str(port)], stdout=subprocess.PIPE, text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        )
        for number in range(count)
    ]  # fmt: skip
    printed = [process.communicate()[0] for process in started]
    return json.loads(printed[0].splitlines()[-1])


# --- told


def tell_here(found: dict[str, dict[str, Any]]) -> dict[str, Step]:
    """The constants, and steps beside the formula; the steps of one device."""
    print(f"\nA reduction, µs, by size of the vector\n{'':26}" + "".join(f"{size:>12,}" for size in SIZES))
    for where, values in found.items():
        if values["reductions"]:
            times = [values["reductions"][str(size)] for size in SIZES]
            bandwidth = BYTES * (SIZES[-1] - SIZES[0]) / (times[-1] - times[0]) / 1e9
            print(f"{where:26}" + "".join(f"{1e6 * t:12.0f}" for t in times) + f"   {bandwidth:.2f} GB/s")
    alone, two, steps = found["1 devices"], found["2 devices"], {}
    one = alone["steps"]
    for name, (few, many) in BATCHES.items():
        weights = NETWORKS[name].weight_count

        def adding(values: dict[str, Any], weights: int = weights) -> float:
            times = [values["reductions"].get(str(size), 0.0) for size in SIZES]  # none of one device
            return float(np.interp(weights, [float(size) for size in SIZES], times))

        each = (one[f"{name} {many}"] - one[f"{name} {few}"]) / (many - few)
        fixed, divided = (values["steps"][f"{name} {few}"] - few * each - adding(values) for values in (alone, two))
        steps[name] = Step(max(0.0, fixed), each, max(0.0, fixed, divided))
        print(f"\nA step of {name} on one device: {1e6 * fixed:.0f} µs + {1e6 * each:.2f} µs a row: "
              f"{6e-9 * weights / each:.1f} GFLOP/s")  # fmt: skip
        print(f"{'mini-batch of ' + str(many):26}{'measured':>12}{'formula':>12}   µs a step: {few} rows, the "
              "others, as on one device; and of it the reduction")  # fmt: skip
        for where, values in found.items():
            own, took = (values["steps"][f"{name} {batch}"] for batch in (few, many))
            print(f"{where:26}{1e6 * took:12.0f}{1e6 * (own + (many - few) * each):12.0f}   {1e6 * own:.0f} + "
                  f"{1e6 * (many - few) * each:.0f}; {1e6 * adding(values):.0f}")  # fmt: skip
    return steps


def tell_many_hosts(steps: dict[str, Step], rng: np.random.Generator) -> None:
    """Mini-batches divided among hosts as this one: how many times faster than one."""
    hosts = np.array([1, 4, 16, 64, 256, 1024])
    print("\nMany hosts, each as this machine: times faster than one, by mini-batch; ½: hosts that lose half")
    print(f"{'':26}" + "".join(f"{h:>8}" for h in hosts) + f"{'½':>8}")
    for name, one in steps.items():
        weights = NETWORKS[name].weight_count
        for batch in (1024, 65_536):
            for spread in (0.0, 0.1):
                # Everyone waits for the slowest: σ of the logarithm of the time that the same work takes.
                slowest = np.array([np.exp(rng.normal(0, spread, (200, h))).max(axis=1).mean() for h in hosts])
                fixed = np.where(hosts > 1, one.divided, one.fixed)
                took = (fixed + batch * one.each / np.minimum(hosts, batch)) * slowest + reduced(hosts, weights)
                many = np.arange(1, batch + 1)
                plain = np.where(many > 1, one.divided, one.fixed) + batch * one.each / many + reduced(many, weights)
                lost = np.flatnonzero(plain[0] / plain < many / 2)
                half = f"{many[lost[0]]:,}" if len(lost) else "-"
                label = f"{name} {batch:,}" if spread == 0 else "   10 % spread"
                print(
                    f"{label:26}" + "".join(f"{took[0] / t:8.1f}" for t in took) + (f"{half:>8}" if not spread else "")
                )


def tell_ensembles(rng: np.random.Generator) -> None:
    """Members that end at different epochs, each host its own."""
    from sklearn.datasets import load_wine

    x, y = map(np.asarray, load_wine(return_X_y=True))
    x = jnn.transforms.Standardize.fit(x).apply(x)
    ensemble = jnn.ensembles.fit(
        jnn.mlp([13, 20, 3]), jnn.likelihoods.Categorical(), x, y, key=jax.random.key(0), members=100, epochs=200,
        validation=0.2, stopping=jnn.stopping.Patience(10),
    )  # fmt: skip
    epochs = np.asarray(ensemble.result.epochs)
    hosts = [1, 4, 16, 64, 256, 1024]
    print(f"\nEnsembles: hosts' share of the time at work, members of {epochs.min()} to {epochs.max()} epochs (wine)")
    print(f"{'members':26}" + "".join(f"{h:>8}" for h in hosts))
    for members in (100, 1000, 10_000, 100_000):
        shares = []
        for host in hosts:
            drawn = rng.choice(epochs, size=(20, -(-members // host) * host))
            drawn[:, members:] = 0  # places without a member
            sums = drawn.reshape(20, -1, host).sum(axis=1)
            shares.append(float(np.mean(sums.mean(axis=1) / sums.max(axis=1))))
        print(f"{members:<26,}" + "".join(f"{100 * share:7.0f}%" for share in shares))


def main() -> None:
    """Measure, then tell."""
    parser = argparse.ArgumentParser(prog="python -m experiments.scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repetitions, to see that it runs")
    parser.add_argument("--worker", nargs=3, type=int, metavar=("NUMBER", "COUNT", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        number, count, port = options.worker
        if count > 1:
            jax.distributed.initialize(f"localhost:{port}", count, number)
        found = measured(options.quick)
        print(json.dumps(found))
        return
    print(f"{processor()}, {cores()} cores, JAX {jax.__version__}, load {os.getloadavg()[0]:.1f}", flush=True)
    found = {f"{count} devices": values for count, values in processes(1, 8, options.quick).items()}
    for count in (2, 4):
        (values,) = processes(count, 1, options.quick).values()
        found[f"{count} processes"] = values
    rng = np.random.default_rng(0)
    tell_many_hosts(tell_here(found), rng)
    tell_ensembles(rng)


if __name__ == "__main__":
    main()
