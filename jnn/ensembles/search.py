"""Cross-validation of a grid of settings: every fold of every setting is a member of one ensemble."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from jnn.checks import one_key, real_array
from jnn.ensembles.fitting import fit
from jnn.ensembles.resampling import k_fold
from jnn.likelihoods import Likelihood
from jnn.networks import Network, Params
from jnn.optimizers import Optimizer, adam

Score = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Search:
    """What cross-validation found; `print(search)` shows it as a table.

    Attributes:
        settings: the settings in the grid's order.
        scores: each setting's score on each fold, the lower the better.
        epochs: how long each was trained, the best epoch of every fold.
    """

    settings: tuple[dict[str, Any], ...]
    scores: Float[np.ndarray, "settings folds"]
    epochs: Num[np.ndarray, "settings folds"]

    @property
    def mean(self) -> Float[np.ndarray, "settings"]:
        """The mean score over the folds."""
        return self.scores.mean(axis=1)

    @property
    def standard_error(self) -> Float[np.ndarray, "settings"]:
        """The standard error of that mean, from the spread over the folds; NaN if one of them diverged."""
        with np.errstate(invalid="ignore"):
            return self.scores.std(axis=1, ddof=1) / np.sqrt(self.scores.shape[1])

    @property
    def best(self) -> dict[str, Any]:
        """The setting with the lowest mean score."""
        return self.settings[self._lowest]

    @property
    def simplest(self) -> dict[str, Any]:
        """The first setting in the grid's order whose mean score is within one standard error of the best.

        So list what is simplest first: few neurons, strong decay (Breiman et al. 1984; Hastie, Tibshirani, Friedman,
        "The elements of statistical learning", section 7.10).
        """
        return self.settings[self._simplest]

    @property
    def _lowest(self) -> int:
        if not np.isfinite(self.mean).any():
            raise ValueError("every setting diverged on some fold; lower the learning rates, or standardize the data")
        return int(np.nanargmin(np.where(np.isfinite(self.mean), self.mean, np.nan)))

    @property
    def _simplest(self) -> int:
        bound = self.mean[self._lowest] + self.standard_error[self._lowest]
        return int(np.flatnonzero(self.mean <= bound)[0])

    def __str__(self) -> str:
        """The table: settings, mean score, its standard error, epochs, and which were chosen."""
        names = list(self.settings[0])
        marks = {self._lowest: "best"}
        marks[self._simplest] = " ".join(filter(None, ["within one standard error", marks.get(self._simplest)]))
        lines = [[*names, "score", "± s.e.", "epochs", ""]]
        for number, setting in enumerate(self.settings):
            figures = [f"{self.mean[number]:.4f}", f"{self.standard_error[number]:.4f}"]
            shown = [_shown(setting[name]) for name in names]
            lines.append([*shown, *figures, f"{self.epochs[number].mean():.0f}", marks.get(number, "")])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _shown(value: Any) -> str:
    if hasattr(value, "sizes"):
        return "-".join(map(str, value.sizes))
    return f"{value:g}" if np.isscalar(value) else str(value)


def cross_validate(
    network: Network | None,
    likelihood: Likelihood,
    x: Num[Array, "n d"] | np.ndarray,
    y: Num[Array, "n ..."] | np.ndarray,
    *,
    key: Key[Array, ""],
    grid: Mapping[str, Sequence[Any]],
    folds: int = 5,
    score: Score | None = None,
    **arguments: Any,
) -> Search:
    """Train every setting of a grid on every fold, all as one ensemble, and score it on what was held out.

    The folds and the keys are the same for all settings, so that their scores can be compared fold by fold. The
    examples held out serve for the score alone: early stopping takes its own (`validation=0.2`) from the others.

        >>> import jax, jnn, numpy as np
        >>> x = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
        >>> search = jnn.ensembles.cross_validate(
        ...     jnn.mlp([1, 5, 1]), jnn.likelihoods.Gaussian(), x, np.sin(3 * x), key=jax.random.key(0), epochs=50,
        ...     optimizer=jnn.adam(), grid={"weight_decay": [1.0, 0.01], "learning_rate": [0.001, 0.03]})
        >>> search.best
        {'weight_decay': 0.01, 'learning_rate': 0.03}

    Args:
        network: f(x; w); None if the grid has networks.
        likelihood: p(y | x; w).
        x: inputs.
        y: targets.
        key: decides the folds, the initial weights and the shuffling.
        grid: values by name: "network" and "weight_decay"; any other is a number of the `optimizer`, as
            "learning_rate". All combinations are tried, the last name varying fastest.
        folds: k.
        score: a function of pre-activations `(n, P)` and targets that returns one number an example, the lower the
            better; by default −ln p without its w-independent terms.
        arguments: what else `ensembles.fit` takes; what it refuses, and an empty grid, is a ValueError.
    """
    settings = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if not grid or not settings:
        raise ValueError(f"expected a grid with at least one value for each name, got {dict(grid)}")
    if (network is None) == ("network" not in grid):
        raise ValueError("expected network either as the first argument or in the grid (then pass None)")
    fold_key, member_key = jax.random.split(one_key(key))
    x, y = real_array(x, "x"), real_array(y, "y")
    labels = np.asarray(y)
    if labels.ndim == 0:
        raise ValueError("expected a target for each example, got a single number")
    classes = labels if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer) else None
    rows, held_out = k_fold(fold_key, len(labels), folds, classes)
    each = [setting for setting in settings for _ in range(folds)]
    fold = np.tile(np.arange(folds), len(settings))
    tuned = [name for name in grid if name not in ("network", "weight_decay")]
    if tuned:
        optimizer = arguments.get("optimizer") or adam()
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"expected an optimizer that has numbers, as jnn.adam(), to try {', '.join(tuned)}; got {optimizer!r}. "
                "jnn.optimizers.parametrized(optax.sgd, learning_rate=0.1) makes one of optax's such"
            )
        numbers = {name: np.array([setting[name] for setting in each], float) for name in tuned}
        arguments["optimizer"] = optimizer.replace(**numbers)
    if "weight_decay" in grid:
        arguments["weight_decay"] = np.array([setting["weight_decay"] for setting in each])
    networks = [setting["network"] for setting in each] if network is None else network
    keys = jax.random.split(member_key, folds)[fold]
    ensemble = fit(networks, likelihood, x, y, key=keys, rows=rows[fold], **arguments)
    score, x, y = score or likelihood.nll, jnp.asarray(x), jnp.asarray(y)
    scores = np.asarray(_scores(ensemble.network, score, ensemble.params, x, y, held_out[fold]), np.float64)
    scores = np.where(np.asarray(ensemble.result.diverged), np.inf, scores)
    shape = (len(settings), folds)
    return Search(tuple(settings), scores.reshape(shape), np.asarray(ensemble.result.best_epoch).reshape(shape))


@functools.partial(jax.jit, static_argnames=("network", "score"))
def _scores(network: Network, score: Score, params: Params, x: Array, y: Array, held_out: Array) -> Array:
    """Each member's mean score over its held-out rows."""

    def one(member: tuple[Params, Array]) -> Array:
        params, rows = member
        values = score(network.apply(params, x[rows]), y[rows])
        return jnp.sum(jnp.where(rows >= 0, values, jnp.zeros((), values.dtype))) / jnp.sum(rows >= 0)

    return jax.lax.map(one, (params, held_out))
