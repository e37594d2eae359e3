"""The linear model beside each member of an ensemble, in shares that the examples held out decide on.

    a = α a_network + β a_linear,   a_linear = Aᵀ z + c

Where nothing bends, a linear model is hard to beat, and networks come near it only from above. Networks that are too
sure of themselves, or not sure enough, are put right by α. Each member's linear model has learned from the member's own
examples, so that those it holds out tell about both. In the end all is one network, whose outputs read the inputs, too:
shortcuts (slide "Multi-layer perceptron network with shortcuts").

The shares minimize the error of the examples held out (Wolpert, "Stacked generalization", 1992, with shares ≥ 0 as in
Breiman, "Stacked regressions", 1996): α, β ≥ 0 for classes; α + β = 1 for Gaussian noise, whose scale asks for no
correction.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV

from jnn.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood
from jnn.model import Model
from jnn.networks import Layered, Params

PENALTIES = np.logspace(-2, 3, 11)
"""Of ridge regression on standardized inputs, among which its own cross-validation chooses."""
DOUBT = 5.0
"""That α + β is not 1 has to be shown by this many nats for each square of the difference: where all examples held out
are classified, their error alone would ask for ever larger weights."""


class Linear(NamedTuple):
    """a = Aᵀ z + c."""

    A: np.ndarray  # (d, K)
    c: np.ndarray  # (K,)


def beside(
    network: Layered,
    likelihood: Likelihood,
    params: Sequence[Params],
    *,
    z: np.ndarray,
    columns: int,
    y: np.ndarray,
    weights: np.ndarray | None,
    rows: np.ndarray,
    held_out: np.ndarray,
) -> tuple[Layered, list[Params]]:
    """The network whose outputs read the inputs, too, and parameters with the linear models' shares in them.

    Args:
        network: of all members.
        likelihood: others than Gaussian noise of one variance, Bernoulli and Categorical are left as they are.
        params: of the members, with an axis for them; several, as all get the same linear models in the same shares,
            which are found for the first.
        z: what the network has seen, `(n, d)`.
        columns: of which the linear models see the first so many.
        y: targets as the likelihood takes them.
        weights: of the examples, `(n,)`.
        rows: the examples of each member, `(members, ...)`, −1 for none.
        held_out: those that it has held out.
    """
    if type(likelihood) not in (Gaussian, Bernoulli, Categorical) or len(network.layers) < 2 or len(np.unique(y)) < 2:
        return network, list(params)
    network, params = _reading_inputs(network, params)
    v = np.ones(len(z)) if weights is None else weights / weights.mean(dtype=float)  # their scale is no matter
    x = z[:, :columns].astype(np.float64)
    linear = [_fitted(likelihood, network.outputs, x[own], y[own], v[own]) for own in (r[r >= 0] for r in rows)]
    # With Gaussian noise the mean is the pre-activation.
    said = Model(network, likelihood if isinstance(likelihood, Gaussian) else Gaussian(), params[0]).member_means(z)
    out = [r[r >= 0] for r in held_out]
    a = np.concatenate([each[own] for each, own in zip(np.asarray(said, float), out, strict=True)])
    others = np.concatenate([x[own] @ one.A + one.c for one, own in zip(linear, out, strict=True)])
    order = np.concatenate(out)
    alpha, beta = _shares(likelihood, a, others, y[order], v[order])
    return network, [_mixed(each, linear, alpha, beta) for each in params]


def _reading_inputs(network: Layered, params: Sequence[Params]) -> tuple[Layered, list[Params]]:
    *hidden, last = network.layers
    if 0 in last.sources:
        return network, list(params)

    def widened(params: Params) -> Params:
        *before, p = params
        new = np.zeros((len(p["W"]), network.inputs, last.size), p["W"].dtype)
        return (*before, {**p, "W": np.concatenate([new, p["W"]], axis=1)})

    return replace(network, layers=(*hidden, replace(last, sources=(0, *last.sources)))), [*map(widened, params)]


def _mixed(params: Params, linear: Sequence[Linear], alpha: float, beta: float) -> Params:
    *before, p = params
    weights, bias = alpha * p["W"], alpha * p["b"]
    weights[:, : len(linear[0].A)] += beta * np.stack([one.A for one in linear])  # the inputs' come first
    bias += beta * np.stack([one.c for one in linear])
    return (*before, {"W": weights.astype(p["W"].dtype), "b": bias.astype(p["b"].dtype)})


def _fitted(likelihood: Likelihood, outputs: int, x: np.ndarray, y: np.ndarray, v: np.ndarray) -> Linear:
    """Ridge regression; soft-max regression; for each column of `y` logistic regression."""
    if isinstance(likelihood, Gaussian):
        ridge: Any = RidgeCV(PENALTIES).fit(x, y, v)
        return Linear(np.reshape(ridge.coef_, (outputs, -1)).T, np.reshape(ridge.intercept_, -1))
    if isinstance(likelihood, Categorical):
        return _softmax(x, y, v, outputs)
    columns = [_softmax(x, labels, v, 2) for labels in y.astype(int).T]
    of_two = [np.stack([each[..., 1] - each[..., 0] for each in part], -1) for part in zip(*columns, strict=True)]
    return Linear(*of_two)


def _softmax(x: np.ndarray, labels: np.ndarray, v: np.ndarray, classes: int) -> Linear:
    """With scikit-learn's own penalty; classes that are missing are taken for as rare as 1 in n."""
    there = np.unique(labels)
    A, c = np.zeros((x.shape[1], classes)), np.full(classes, -np.log(len(x)))
    c[there] = 0.0
    if len(there) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # what it is worth is measured in any case
            model = LogisticRegression(tol=1e-3).fit(x, labels, v)
        sides = np.array([-0.5, 0.5]) if len(there) == 2 else 1.0  # of two classes it says the difference
        A[:, there], c[there] = model.coef_.T * sides, model.intercept_ * sides
    return Linear(A, c)


def _shares(likelihood: Likelihood, a: np.ndarray, b: np.ndarray, y: np.ndarray, v: np.ndarray) -> tuple[float, float]:
    """α and β for pre-activations of the networks and of the linear models, `(n, K)`."""
    if isinstance(likelihood, Gaussian):
        square = np.sum(v[:, None] * (b - a) ** 2)
        share = float(np.clip(np.sum(v[:, None] * (b - a) * (y - a)) / square, 0, 1)) if square > 0 else 0.0
        return 1 - share, share
    target = np.eye(a.shape[1])[y] if isinstance(likelihood, Categorical) else y

    def error(shares: np.ndarray) -> tuple[float, np.ndarray]:
        z = shares[0] * a + shares[1] * b
        if isinstance(likelihood, Categorical):
            losses, p = special.logsumexp(z, axis=1) - np.sum(target * z, axis=1), special.softmax(z, axis=1)
        else:
            losses, p = np.sum(np.logaddexp(0, z) - target * z, axis=1), special.expit(z)
        slopes = v[:, None] * (p - target)
        away = shares.sum() - 1
        gradient = np.array([np.sum(slopes * a), np.sum(slopes * b)])
        return float(v @ losses + DOUBT * away**2), gradient + 2 * DOUBT * away

    found = optimize.minimize(error, (1.0, 0.0), jac=True, method="L-BFGS-B", bounds=[(0, None)] * 2)
    alpha, beta = found.x if np.isfinite(found.x).all() else (1.0, 0.0)
    return float(alpha), float(beta)
