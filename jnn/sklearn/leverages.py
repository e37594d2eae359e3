r"""How much less is known of a prediction where few examples were: leverages, by products of the examples' gradients.

As in linear regression, what an example's noise σ² and the weights' uncertainty scatter is σ² (1 + h(x)), with

    h(x) = J(x) (G + γ)⁻¹ J(x)ᵀ = (k(x, x) − k(x, S) (k(S, S) + γ)⁻¹ k(S, x)) / γ,    k(x, x') = J(x) J(x')ᵀ

J being the derivatives of an output by all weights, S the examples that a member was trained on, and G = Σ_S JᵀJ. In a
layered network k is a sum over layers of (z·z' + 1)(δ·δ'), with z what the layer reads: matrices over the examples are
all it takes, however many weights there are. (`jnn.laplace.leverages` is the same for any ensemble, by eigenvectors.)

γ stands for what else is known of the weights: members that end early stay near their first weights, so that it may be
large. It is found by the likelihood of the residuals r of the examples that a member held out, N(0, σ² (1 + h)). Where
they say little of γ, the smallest is taken: they come from where there are examples, and gaps are where it matters.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jnn.model import SIZES
from jnn.networks import Layered, Params

DECAYS = np.logspace(-3, 4, 15)
"""γ is one of these: the smallest, so that h is the largest, against which examples held out do not speak."""
AGAINST = 1.0
"""They do when their log-likelihood is that much below that of the likeliest γ: a parameter's worth (Akaike, 1974)."""
KEPT = 2048
"""Of more examples, so many drawn at random stand for all; and so many of those held out."""
MOST = 512
"""Of those that a member has trained on so many, divided by the outputs, stand for all."""
TINY = np.finfo(np.float64).tiny


class Seen(NamedTuple):
    """What the members were trained on, in random order."""

    z: np.ndarray  # (n, d), as the network takes it
    y: np.ndarray  # (n, K)
    held_out: np.ndarray  # (members, n), which of them a member has not trained on
    counts: np.ndarray  # (members,), how many a member has trained on, whether they are here or not

    @classmethod
    def of(cls, z: np.ndarray, y: np.ndarray, held_out: np.ndarray | None, members: int) -> "Seen":
        """Of all examples, and the numbers of those that each member holds out (negative ones: of none)."""
        out = np.zeros((members, len(z)), bool)
        if held_out is not None:
            for own, rows in zip(out, held_out, strict=True):
                own[rows[rows >= 0]] = True
        order = np.random.default_rng(0).permutation(len(z))
        kept = np.zeros(len(z), bool)
        by_any = np.asarray(out.any(axis=0))
        kept[order[:KEPT]] = kept[order[by_any[order]][:KEPT]] = True
        rows = order[kept[order]]
        return cls(z[rows], y[rows], out[:, rows], np.sum(~out, axis=1))


class Leverages:
    """h of an ensemble, and which part of the variance of residuals of examples held out is noise.

    Everything is computed in float64 on the host: that k(S, S) is nearly singular is what it is about.
    """

    def __init__(self, network: Layered, params: Params, seen: Seen, dispersion: float) -> None:
        """`params` with a first axis over the members; `dispersion` is the likelihood's own variance.

        Raises ValueError if nothing was held out.
        """
        if not seen.held_out.any():
            raise ValueError("leverages need examples that were held out")
        self._network, self._members = network, []
        leverages, squares = [], []
        decays = DECAYS * dispersion
        for number, held_out in enumerate(seen.held_out):
            params_of_one = jax.tree.map(lambda leaf, number=number: np.asarray(leaf[number], np.float64), params)
            rows = np.flatnonzero(~held_out)[: max(1, MOST // seen.y.shape[1])]
            trained, others = (_gradients(network, params_of_one, seen.z[own]) for own in (rows, held_out))
            values, vectors = np.linalg.eigh(_products(trained, trained))
            share = len(rows) / seen.counts[number]
            member = _Member(params_of_one, share, trained, np.maximum(values, 0), vectors)
            self._members.append(member)
            leverages.append(self._of_member(member, others, decays))
            squares.append(np.square(others.a - seen.y[held_out].T))
        h, square = np.concatenate(leverages, axis=2), np.concatenate(squares, axis=1)  # (decays, K, n), (K, n)
        noises = np.mean(square / (1 + h), axis=2)  # the likeliest, σ² for each γ and output
        log_likelihoods = -0.5 * np.sum(np.log(np.maximum(noises, TINY)), axis=1) * square.shape[1]
        log_likelihoods -= 0.5 * np.sum(np.log1p(h), axis=(1, 2))
        chosen = np.argmax(log_likelihoods >= log_likelihoods.max() - AGAINST)
        self.weight_decay: float = float(decays[chosen])
        # How far targets that were held out are off, where what is off grows with √(1 + h).
        self.residuals: Float[np.ndarray, "n K"] = np.sqrt(square / (1 + h[chosen])).T
        # σ² over the mean of r²: a ratio hardly depends on which examples were kept.
        self.noise_share: Float[np.ndarray, "K"] = noises[chosen] / np.maximum(np.mean(square, axis=1), TINY)

    def __call__(self, z: np.ndarray) -> Float[np.ndarray, "n K"]:
        """h(x), the members' mean."""
        parts = []
        decay = np.array([self.weight_decay])
        for start in range(0, len(z), SIZES[-2]):
            rows = z[start : start + SIZES[-2]]
            each = [self._of_member(m, _gradients(self._network, m.params, rows), decay)[0] for m in self._members]
            parts.append(np.mean(each, axis=0).T)
        return np.concatenate(parts)

    def _of_member(self, member: "_Member", at: "Gradients", decays: np.ndarray) -> Float[np.ndarray, "decays K n"]:
        known = np.square(member.vectors.T @ _products(member.trained, at))
        known = 1 / (member.values + member.share * decays[:, None]) @ known
        left = at.squares - known.reshape(len(decays), *at.squares.shape)
        return np.maximum(left, 0) / decays[:, None, None]


class _Member(NamedTuple):
    params: Params
    share: float
    trained: "Gradients"
    values: np.ndarray  # eigenvalues and eigenvectors of k(S, S)
    vectors: np.ndarray


@dataclass(frozen=True, eq=False)
class Gradients:
    """Of examples: the outputs, and their derivatives as what each layer reads, times its δ."""

    a: np.ndarray  # (K, n)
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]  # (n, fan-in + 1), (K, n, size)

    @functools.cached_property
    def squares(self) -> Float[np.ndarray, "K n"]:
        """k(x, x)."""
        return sum(np.sum(z**2, axis=1) * np.sum(delta**2, axis=2) for z, delta in self.layers)  # type: ignore[return-value]


def _products(one: Gradients, other: Gradients) -> Float[np.ndarray, "Kn Km"]:
    """k of all pairs, those of the first output first."""
    total: Any = 0.0
    for (z, delta), (other_z, other_delta) in zip(one.layers, other.layers, strict=True):
        k, n, size = delta.shape
        m = len(other_z)
        by_delta = delta.reshape(k * n, size) @ other_delta.reshape(k * m, size).T
        total = total + (by_delta.reshape(k, n, k, m) * (z @ other_z.T)[None, :, None, :]).reshape(k * n, k * m)
    return total


def _gradients(network: Layered, params: Params, z: np.ndarray) -> Gradients:
    """By a program for one of a few numbers of rows."""
    size = next((size for size in SIZES if len(z) <= size), len(z))
    with jax.enable_x64(True):
        filled = np.zeros((size, z.shape[1]))
        filled[: len(z)] = z
        a, layers = jax.device_get(_compiled(network, params, filled))
    return Gradients(a[:, : len(z)], tuple((read[: len(z)], delta[:, : len(z)]) for read, delta in layers))


@functools.partial(jax.jit, static_argnames="network")
def _compiled(network: Layered, params: Params, z: Array) -> Any:
    a, kept = network.forward(params, z.T)
    unit = jnp.broadcast_to(jnp.eye(len(a))[:, :, None], (len(a), *a.shape))
    found = jax.vmap(lambda delta: network.backward(params, kept, delta)[0])(unit)
    layers = []
    for layer, delta in zip(network.layers, found, strict=True):
        read = jnp.concatenate([*(kept.z[s] for s in layer.sources), jnp.ones((1, len(z)))])
        layers.append((read.T, jnp.swapaxes(delta, 1, 2)))
    return a, layers
