"""One problem of Proben1 (Prechelt 1994), from its own file, with its own split: train, stop early, test.

    python experiments/examples/proben1_problem.py cancer1.dt [--small]

The archive's files end in `.dt`: seven header lines, then an example a line, inputs first. Thirty networks with
shortcuts are trained by Rprop, and stopped when the validation risk has risen by 5 % ("GL5"). Printed is the test error
of classification (`python -m experiments.proben1` repeats the study itself, with its networks and many repetitions):

    cancer1: 9 inputs, 2 classes; 350, 175, 174 examples
    test error 2.72 ± 0.43 % over 30 networks
"""

import sys
from pathlib import Path

import jax
import numpy as np

import jnn

MEMBERS, EPOCHS = (3, 20) if "--small" in sys.argv else (30, 1000)

path = Path(sys.argv[1])
lines = path.read_text().splitlines()
size = {name: int(value) for name, value in (line.split("=") for line in lines[:7])}
values = np.array([line.split() for line in lines[7:] if line.strip()], np.float32)
inputs = size["bool_in"] + size["real_in"]
x, y = values[:, :inputs], values[:, inputs:].argmax(axis=1)
ends = np.cumsum([size["training_examples"], size["validation_examples"]])
(x, x_stop, x_test), (y, y_stop, y_test) = np.split(x, ends), np.split(y, ends)
print(f"{path.stem}: {inputs} inputs, {size['bool_out']} classes; {len(x)}, {len(x_stop)}, {len(x_test)} examples")

network, likelihood = jnn.mlp([inputs, 8, 4, size["bool_out"]], shortcuts=True), jnn.likelihoods.Categorical()
ensemble = jnn.ensembles.fit(
    network, likelihood, x, y, key=jax.random.key(0), members=MEMBERS, optimizer=jnn.rprop(), epochs=EPOCHS,
    validation=(x_stop, y_stop), stopping=jnn.stopping.GeneralizationLoss(5.0),
)  # fmt: skip
wrong = 100 * (np.asarray(ensemble.member_means(x_test)).argmax(axis=-1) != y_test).mean(axis=1)
print(f"test error {wrong.mean():.2f} ± {wrong.std(ddof=1):.2f} % over {MEMBERS} networks")
