"""The floor: how long a step must take at least, if its parts cost what they cost alone on this machine.

    floor = FLOPs of the products / matrix rate + evaluations of tanh and exp × their costs + weights × Adam's cost

Each rate and cost is measured in the same run (`costs`). Gathering a batch, shuffling, additions, and whatever small
products lose against large ones, are not in it: a step at its floor does nothing but the arithmetic, at full rate.
"""

from typing import NamedTuple

import numpy as np

from experiments.benchmarks.workloads import Workload


class Work(NamedTuple):
    """What one network's step computes.

    Attributes:
        flops: of the matrix products: forward 2 B P; backward 2 B P for the weights, and for the deltas 2 B times the
            products with anything but inputs.
        tanh: evaluations; h' takes none, being 1 − z².
        exp: evaluations, of the softmax or the logistic function.
        weights: biases included.
    """

    flops: float
    tanh: float
    exp: float
    weights: int


class Costs(NamedTuple):
    """Floating-point operations a second, and seconds for each evaluation or updated weight."""

    matrix_rate: float
    tanh: float
    exp: float
    adam: float


def work(workload: Workload, examples: int, edges: np.ndarray) -> Work:
    """Count."""
    sizes, batch = workload.sizes, examples / workload.steps(examples)
    if workload.graph:
        products, of_inputs = len(edges), int(np.sum(edges[:, 0] <= sizes[0]))
    else:
        products = sum(reads * neurons for reads, neurons in workload.shapes)
        of_inputs = sizes[0] * (sum(sizes[1:]) if workload.shortcuts else sizes[1])
    hidden, outputs = sum(sizes[1:-1]), sizes[-1]
    return Work(
        flops=2 * batch * (3 * products - of_inputs),
        tanh=batch * hidden if workload.activation == "tanh" else 0,
        exp=0 if workload.loss == "squared" else batch * outputs,
        weights=products + hidden + outputs,
    )


def floor(work: Work, costs: Costs) -> float:
    """Seconds a step."""
    return work.flops / costs.matrix_rate + work.tanh * costs.tanh + work.exp * costs.exp + work.weights * costs.adam
