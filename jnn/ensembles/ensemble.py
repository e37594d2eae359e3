"""Trained members and what they say together."""

import functools
from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Array, Float

from jnn.checks import count
from jnn.ensembles.widths import places
from jnn.likelihoods import Likelihood
from jnn.model import Inputs, Model, Moments, Outputs
from jnn.networks import Network, Params
from jnn.training import FitResult


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ensemble:
    """Members of one shape, trained together, and the mixture p(y | x) = 1/M Σ_m p(y | x; w_m) of their predictions.

    Attributes:
        result: as `jnn.fit` returns it, with a first axis over the members in every array.
        network: the network, or where members differ in width, the widest.
        likelihood: p(y | a).
        networks: each member's own network.
    """

    result: FitResult
    network: Network = field(metadata={"static": True})
    likelihood: Likelihood = field(metadata={"static": True})
    networks: tuple[Network, ...] = field(metadata={"static": True})

    def __len__(self) -> int:
        """The number of members."""
        return len(self.networks)

    def __repr__(self) -> str:
        """What became of the members, without their numbers."""
        return f"Ensemble({self.likelihood}, {self.result})"

    @property
    def params(self) -> Params:
        """The members' best hypotheses, with a first axis over the members."""
        return self.result.params

    @functools.cached_property
    def model(self) -> Model:
        """All members as one model."""
        return Model(self.network, self.likelihood, self.params)

    def member(self, number: int) -> tuple[Network, Params]:
        """A member's network and the parameters of its best hypothesis; IndexError if there is no such member."""
        number = count("number", number, least=-len(self))
        if number >= len(self):
            raise IndexError(f"expected a member from 0 to {len(self) - 1}, got {number}")
        own, params = self.networks[number], jax.tree.map(lambda leaf: leaf[number], self.params)
        if own != self.network:
            params = jax.tree.map(lambda leaf, place: leaf[np.ix_(*place)], params, places(own, self.network))
        return own, params

    def member_means(self, x: Inputs) -> Float[Array | np.ndarray, "members *batch K"]:
        """E[y | x; w_m] of every member, `(members, ..., K)`."""
        return self.model.member_means(x)

    def mean(self, x: Inputs) -> Outputs:
        """1/M Σ_m E[y | x; w_m]; for classes, the mean of the members' probabilities."""
        return self.model.mean(x)

    def moments(self, x: Inputs) -> Moments:
        """Mean and variance of the mixture; see `jnn.model.Model.moments`."""
        return self.model.moments(x)
