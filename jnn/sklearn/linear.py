"""The linear model beside each member of an ensemble, in shares that the examples held out decide on.

    a = α a_network + β a_linear,   a_linear = Aᵀ z + c

Where nothing bends, a linear model is hard to beat, and networks come near it only from above. Networks that are too
sure of themselves, or not sure enough, are put right by α. Each member's linear model has learned from the member's own
examples, so that those it holds out tell about both. In the end all is one network, whose outputs read the inputs, too:
shortcuts (slide "Multi-layer perceptron network with shortcuts").

The shares are those with the lowest error on the examples held out (Wolpert, "Stacked generalization", 1992, with
shares ≥ 0 as in Breiman, "Stacked regressions", 1996): α, β ≥ 0 for classes; α + β = 1 for Gaussian noise, whose scale
asks for no correction. From these they go back towards the linear model alone, as far as what they add is uncertain: so
much as the noise of the examples held out lets them vary (`_certain`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from jnn.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood
from jnn.model import Model
from jnn.networks import Layered, Params

PENALTIES = np.logspace(-5, 3, 17)
"""Of ridge regression on standardized inputs, among which what the members hold out chooses. The smallest is none, for
targets that are a linear function: then whoever has fewer examples, as a member has, is further off by any penalty."""
DOUBT = 5.0
"""That α + β is not 1 has to be shown by this many nats for each square of the difference: where all examples held out
are classified, their error alone would ask for ever larger weights."""
TOLERANCE = 1e-3
"""Of logistic regression: the mean error's largest slope at its end."""
CAUTION = 8.0
"""c, of what the network adds to the linear model: a half is left where it is √c standard errors large."""


class Linear(NamedTuple):
    """a = Aᵀ z + c, for each member."""

    A: np.ndarray  # (members, d, K)
    c: np.ndarray  # (members, K)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Pre-activations `(n, members, K)`."""
        members, d, k = self.A.shape
        return (z @ np.moveaxis(self.A, 0, 1).reshape(d, -1)).reshape(-1, members, k) + self.c


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
    own, out = (_counts(each, len(x)) * v for each in (rows, held_out))
    if isinstance(likelihood, Gaussian):
        linear = _ridge(x, y.astype(np.float64), own, out)
    else:
        linear = _logistic(x, y if isinstance(likelihood, Bernoulli) else np.eye(network.outputs)[y], own, likelihood)
    # With Gaussian noise the mean is the pre-activation.
    said = Model(network, likelihood if isinstance(likelihood, Gaussian) else Gaussian(), params[0]).member_means(z)
    member, row = np.nonzero(out)
    a, others = np.asarray(said, float)[member, row], np.moveaxis(linear(x), 1, 0)[member, row]
    alpha, beta = _shares(likelihood, a, others, y[row], v[row])
    return network, [_mixed(each, linear, alpha, beta) for each in params]


def _counts(rows: np.ndarray, n: int) -> np.ndarray:
    """How often each of n examples is among each member's rows, `(members, n)`; negative ones are of none."""
    return np.stack([np.bincount(own[own >= 0], minlength=n) for own in rows])


def _reading_inputs(network: Layered, params: Sequence[Params]) -> tuple[Layered, list[Params]]:
    *hidden, last = network.layers
    if 0 in last.sources:
        return network, list(params)

    def widened(params: Params) -> Params:
        *before, p = params
        new = np.zeros((len(p["W"]), network.inputs, last.size), p["W"].dtype)
        return (*before, {**p, "W": np.concatenate([new, p["W"]], axis=1)})

    return replace(network, layers=(*hidden, replace(last, sources=(0, *last.sources)))), [*map(widened, params)]


def _mixed(params: Params, linear: Linear, alpha: float, beta: float) -> Params:
    *before, p = params
    weights, bias = alpha * p["W"], alpha * p["b"]
    weights[:, : linear.A.shape[1]] += beta * linear.A  # the inputs' come first
    bias += beta * linear.c
    return (*before, {"W": weights.astype(p["W"].dtype), "b": bias.astype(p["b"].dtype)})


def _ridge(x: np.ndarray, y: np.ndarray, own: np.ndarray, out: np.ndarray) -> Linear:
    """Ridge regression of each member, with that penalty whose error on what the members hold out is the lowest.

    A = (Xᵀ V X + λ)⁻¹ Xᵀ V Y = Q diag(s / (s² + λ)) Uᵀ V^½ Y,   V^½ X = U diag(s) Qᵀ,   X centered
    """
    centers, found, errors = [], [], np.zeros(len(PENALTIES))
    for v, held_out in zip(own, out, strict=True):
        mean_x, mean_y, root = np.average(x, 0, v), np.average(y, 0, v), np.sqrt(v)[:, None]
        u, s, q = np.linalg.svd(root * (x - mean_x), full_matrices=False)
        # (penalties, d, K)
        A = q.T @ ((s / (s**2 + PENALTIES[:, None]))[:, :, None] * (u.T @ (root * y)))
        away = (x[held_out > 0] - mean_x) @ A + mean_y - y[held_out > 0]
        errors += np.sum(held_out[held_out > 0][:, None] * away**2, axis=(1, 2))
        centers.append((mean_x, mean_y))
        found.append(A)
    A = np.stack(found)[:, np.argmin(errors)]
    return Linear(A, np.stack([mean_y - mean_x @ one for one, (mean_x, mean_y) in zip(A, centers, strict=True)]))


def _logistic(x: np.ndarray, target: np.ndarray, own: np.ndarray, likelihood: Likelihood) -> Linear:
    """Soft-max regression, or for each column of the target logistic regression, with scikit-learn's own penalty.

    All members' at once, whose errors are added up: one minimization, with large products in place of many small ones.
    """
    (n, d), (members, k) = x.shape, (len(own), target.shape[1])
    v = (own / own.sum(axis=1, keepdims=True)).T[:, :, None]  # (n, members, 1)
    decay = 1 / own.sum(axis=1)[:, None]
    t = target[:, None, :]

    def error(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(d + 1, members, k)  # biases last
        losses, slopes = _losses(likelihood, (x @ w[:-1].reshape(d, -1)).reshape(n, members, k) + w[-1], t)
        slopes *= v
        gradient = np.empty_like(w)
        gradient[:-1] = (x.T @ slopes.reshape(n, -1)).reshape(d, members, k) + decay * w[:-1]
        gradient[-1] = slopes.sum(axis=0)
        return float(np.sum(v[:, :, 0] * losses) + np.sum(decay * w[:-1] ** 2) / 2), gradient.ravel()

    options = {"gtol": TOLERANCE, "maxiter": 100}
    found = optimize.minimize(error, np.zeros((d + 1) * members * k), jac=True, method="L-BFGS-B", options=options)
    w = np.moveaxis(found.x.reshape(d + 1, members, k), 1, 0)
    return Linear(w[:, :-1], w[:, -1])


def _losses(likelihood: Likelihood, z: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """−ln p of classes `(..., K)`, and its derivatives by the pre-activations z, mean − target."""
    if isinstance(likelihood, Bernoulli):
        return np.sum(np.logaddexp(0, z) - target * z, axis=-1), special.expit(z) - target
    z = z - z.max(axis=-1, keepdims=True)
    p = np.exp(z)
    total = p.sum(axis=-1, keepdims=True)
    return np.log(total[..., 0]) - np.sum(target * z, axis=-1), p / total - target


def _shares(likelihood: Likelihood, a: np.ndarray, b: np.ndarray, y: np.ndarray, v: np.ndarray) -> tuple[float, float]:
    """α and β for pre-activations of the networks and of the linear models, `(n, K)`."""
    target = np.eye(a.shape[1])[y] if isinstance(likelihood, Categorical) else y

    def error(shares: np.ndarray) -> tuple[float, np.ndarray]:
        losses, slopes = _losses(likelihood, shares[0] * a + shares[1] * b, target)
        away = shares.sum() - 1
        gradient = np.array([v @ np.sum(slopes * a, axis=1), v @ np.sum(slopes * b, axis=1)])
        return float(v @ losses + DOUBT * away**2), gradient + 2 * DOUBT * away

    if isinstance(likelihood, Gaussian):
        square = np.sum(v[:, None] * (b - a) ** 2)
        beta = float(np.clip(np.sum(v[:, None] * (b - a) * (target - a)) / square, 0, 1)) if square > 0 else 0.0
        alpha = 1 - beta
    else:
        found = optimize.minimize(error, (1.0, 0.0), jac=True, method="L-BFGS-B", bounds=[(0, None)] * 2)
        alpha, beta = found.x.tolist() if np.isfinite(found.x).all() else (1.0, 0.0)
    return _certain(likelihood, alpha, beta, a, b, target, v)


def _certain(
    likelihood: Likelihood, alpha: float, beta: float, a: np.ndarray, b: np.ndarray, target: np.ndarray, v: np.ndarray
) -> tuple[float, float]:
    """The shares on the way from the linear model alone, (0, 1), to those found, as far as is certain.

        t = 1 / (1 + c V),   V = Σ g² / h²,   g and h: an example's first and second derivative of the error by t, at 1

    V is the sampling variance of t, whatever the noise is (the sandwich estimator).
    """
    z = alpha * a + beta * b
    to = z - b
    slopes = z - target if isinstance(likelihood, Gaussian) else _losses(likelihood, z, target)[1]
    g, mean = v * np.sum(slopes * to, axis=1), slopes + target
    if isinstance(likelihood, Gaussian):
        square = to**2
    elif isinstance(likelihood, Bernoulli):
        square = mean * (1 - mean) * to**2
    else:
        square = mean * (to - np.sum(mean * to, axis=1, keepdims=True)) ** 2
    h = float(np.sum(v[:, None] * square))
    part = 1 / (1 + CAUTION * float(g @ g) / h**2) if h > 0 else 1.0
    return part * alpha, 1 - part + part * beta
