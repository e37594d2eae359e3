"""Standardization on the host, in float64: a large mean loses nothing before the numbers become float32."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from sklearn.preprocessing import StandardScaler

from jnn.transforms import Standardize


@dataclass(frozen=True, eq=False)
class Scaling:
    """z_j = (x_j − m_j) / s_j; a constant column becomes zero, with s_j = 1."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, weights: np.ndarray | None) -> "Scaling":
        """Learn means and standard deviations, where an example counts as often as its weight says."""
        with np.errstate(over="ignore", invalid="ignore"):  # found when it is applied
            fitted: Any = StandardScaler().fit(x.astype(np.float64), sample_weight=weights)
        return cls(fitted.mean_, fitted.scale_)

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Standardize."""
        with np.errstate(over="ignore", invalid="ignore"):  # the caller looks for what is not finite
            return (x.astype(np.float64) - self.mean) / self.scale

    def undo(self, z: np.ndarray) -> np.ndarray:
        """The original units."""
        return z * self.scale + self.mean

    def as_transform(self) -> Standardize:
        """As a transform of jnn's, in float32."""
        return Standardize(jnp.asarray(self.mean, jnp.float32), jnp.asarray(self.scale, jnp.float32))
