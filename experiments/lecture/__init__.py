"""The lecture's claims, one experiment a file: a question, the claim, the code, a picture, a verdict.

`EXPERIMENTS` lists them in the lecture's order; `python -m experiments` runs them.
"""

from experiments.experiment import Experiment
from experiments.lecture import activations, adam_effects, batches, gradients, optimizers, real_data, weight_decay, xor

EXPERIMENTS: dict[str, Experiment] = {
    e.name: e
    for e in (
        activations.EXPERIMENT,
        xor.EXPERIMENT,
        gradients.EXPERIMENT,
        optimizers.EXPERIMENT,
        adam_effects.EXPERIMENT,
        batches.EXPERIMENT,
        weight_decay.EXPERIMENT,
        real_data.EXPERIMENT,
    )
}
