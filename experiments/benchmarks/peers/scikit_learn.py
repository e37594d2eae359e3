"""scikit-learn's multi-layer perceptrons, without regularization, and with stopping by tolerance switched off."""

from typing import Any

import joblib
import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from experiments.benchmarks.workloads import ALONE, Data, Setting, Train, Trained, Workload

VARIANTS_WITH_THREADS = ("",)  # joblib sees to its processes itself
PACKAGES = ("scikit-learn", "numpy", "scipy")


def device(setting: Setting) -> str:
    """It has no other."""
    return "cpu"


def _estimator(workload: Workload, data: Data, seed: int) -> Any:
    kind: Any = MLPRegressor if workload.loss == "squared" else MLPClassifier
    return kind(
        hidden_layer_sizes=workload.sizes[1:-1],
        activation=workload.activation,
        solver=workload.optimizer,
        alpha=workload.weight_decay,
        batch_size=workload.batch_size or len(data.x),
        learning_rate_init=workload.learning_rate,
        max_iter=workload.epochs,
        tol=1e-6 if workload.optimizer == "lbfgs" else 0.0,
        n_iter_no_change=workload.epochs,
        random_state=seed,
    )


def _outputs(workload: Workload, model: Any, x: np.ndarray) -> np.ndarray:
    if workload.loss == "squared":
        return model.predict(x)
    logs = model.predict_log_proba(x)
    return logs[:, 1:] - logs[:, :1] if workload.loss == "bernoulli" else logs


def prepare(workload: Workload, data: Data, setting: Setting) -> Train:
    """Of several networks, a few one after another."""
    y = data.y[:, 0] if workload.loss == "bernoulli" else data.y
    count = min(ALONE, workload.members)

    def train(seed: int) -> Trained:
        models = [_estimator(workload, data, seed * count + n).fit(data.x, y) for n in range(count)]
        return _trained(workload, models)

    return train


def prepare_joblib(workload: Workload, data: Data, setting: Setting) -> Train:
    """As many on each core one after another, a core a process, as its guide advises for many fits."""
    count = min(ALONE * joblib.cpu_count(), workload.members)
    pool = joblib.Parallel(n_jobs=-1)

    def train(seed: int) -> Trained:
        fits = (joblib.delayed(_fit)(workload, data, seed * count + n) for n in range(count))
        return _trained(workload, list(pool(fits)))

    return train


def _fit(workload: Workload, data: Data, seed: int) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _estimator(workload, data, seed).fit(data.x, data.y)


def _trained(workload: Workload, models: list[Any]) -> Trained:
    def outputs(x: np.ndarray) -> np.ndarray:
        found = np.stack([_outputs(workload, model, x) for model in models])
        return found if workload.members > 1 else found[0]

    norm = sum(float(np.square(w).sum()) for w in models[0].coefs_)
    return Trained(outputs, norm, models[0].n_iter_ if workload.optimizer == "lbfgs" else None)
