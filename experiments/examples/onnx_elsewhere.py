"""A trained ensemble as an ONNX graph, run by onnxruntime, which knows nothing of jnn or JAX.

    python experiments/examples/onnx_elsewhere.py [--small]

The graph takes raw inputs: the standardization is in it, and the mean over the members. Printed are the nodes it
consists of, and how far its probabilities are from jnn's own:

    graph of 10 nodes: Add, Div, Identity, MatMul, ReduceMean, Softmax, Sub, Tanh
    largest difference of a probability below 1e-05: True; test error 2.5 %
"""

import sys

import jax
import numpy as np
import onnx
import onnxruntime
from sklearn.datasets import load_breast_cancer

import jnn

EPOCHS = 10 if "--small" in sys.argv else 200

x, y = load_breast_cancer(return_X_y=True)
standardize = jnn.transforms.Standardize.fit(x[:450])
network, likelihood = jnn.mlp([30, 10, 2], hidden="tanh"), jnn.likelihoods.Categorical()
ensemble = jnn.ensembles.fit(
    network, likelihood, standardize.apply(x[:450]).astype("float32"), y[:450], key=jax.random.key(0), members=8,
    epochs=EPOCHS, validation=0.2, stopping=jnn.stopping.Patience(10),
)  # fmt: skip
model = jnn.Model(network, likelihood, ensemble.params, (standardize,))
jnn.persistence.export_onnx("cancer.onnx", model)

nodes = onnx.load("cancer.onnx").graph.node
print(f"graph of {len(nodes)} nodes:", ", ".join(sorted({node.op_type for node in nodes})))
session = onnxruntime.InferenceSession("cancer.onnx")
taken = np.float64 if "double" in session.get_inputs()[0].type else np.float32
(there,) = session.run(None, {"x": x[450:].astype(taken)})
close = bool(np.abs(there - model.mean(x[450:])).max() < 1e-5)
error = 100 * (there.argmax(axis=1) != y[450:]).mean()
print(f"largest difference of a probability below 1e-05: {close}; test error {error:.1f} %")
