"""Standardization on the host, in float64: a large mean loses nothing before the numbers become float32."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from sklearn.preprocessing import StandardScaler

from jnn.transforms import BEYOND, BOUND, Squash, Standardize, Transform


@dataclass(frozen=True, eq=False)
class Scaling:
    """z_j = (x_j − m_j) / s_j; a constant column becomes zero, with s_j = 1.

    With bounds c, columns with heavy tails are squashed, z_j / √(1 + (z_j / c_j)²), and c_j = ∞ for the others (see
    `jnn.transforms.Squash`).
    """

    mean: np.ndarray
    scale: np.ndarray
    bound: np.ndarray | None = None

    @classmethod
    def fit(cls, x: np.ndarray, weights: np.ndarray | None, squashes: bool = False) -> "Scaling":
        """Learn means and standard deviations, where an example counts as often as its weight says."""
        with np.errstate(over="ignore", invalid="ignore"):  # found when it is applied
            fitted: Any = StandardScaler().fit(x.astype(np.float64), sample_weight=weights)
        scaling = cls(fitted.mean_, fitted.scale_)
        if not squashes or not np.isfinite(z := scaling.apply(x)).all():
            return scaling
        heavy = np.abs(z).max(axis=0) > BEYOND  # as `Squash.fit`, but nothing is compiled for it
        return cls(scaling.mean, scaling.scale, np.where(heavy, BOUND, np.inf)) if heavy.any() else scaling

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Standardize, and squash."""
        with np.errstate(over="ignore", invalid="ignore"):  # the caller looks for what is not finite
            z = (x.astype(np.float64) - self.mean) / self.scale
            return z if self.bound is None else z / np.hypot(1, z / self.bound)

    def undo(self, z: np.ndarray) -> np.ndarray:
        """The original units, of what is not squashed: targets."""
        return z * self.scale + self.mean

    def as_transforms(self) -> tuple[Transform, ...]:
        """As transforms of jnn's, in float32."""
        standardize = Standardize(jnp.asarray(self.mean, jnp.float32), jnp.asarray(self.scale, jnp.float32))
        squash = () if self.bound is None else (Squash(jnp.asarray(self.bound, jnp.float32)),)
        return standardize, *squash
