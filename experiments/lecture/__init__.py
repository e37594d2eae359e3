"""The lecture's claims, one experiment a file: a question, the claim, the code, a picture, a verdict.

`EXPERIMENTS` lists them in the lecture's order; `python -m experiments` runs them.
"""

from experiments.experiment import Experiment
from experiments.lecture import (
    activations,
    adam_effects,
    batches,
    curvature,
    early_stopping,
    gradients,
    likelihoods,
    optimizers,
    preprocessing,
    real_data,
    secrets,
    shortcuts,
    vanishing_gradient,
    weight_decay,
    weights_against_neurons,
    xor,
)

EXPERIMENTS: dict[str, Experiment] = {
    e.name: e
    for e in (
        activations.EXPERIMENT,
        xor.EXPERIMENT,
        likelihoods.EXPERIMENT,
        gradients.EXPERIMENT,
        vanishing_gradient.EXPERIMENT,
        optimizers.EXPERIMENT,
        adam_effects.EXPERIMENT,
        batches.EXPERIMENT,
        curvature.EXPERIMENT,
        weight_decay.EXPERIMENT,
        early_stopping.EXPERIMENT,
        shortcuts.EXPERIMENT,
        preprocessing.EXPERIMENT,
        weights_against_neurons.EXPERIMENT,
        real_data.EXPERIMENT,
        secrets.EXPERIMENT,
    )
}
