"""Trained members and what they say together."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from jnn.ensembles.widths import narrow
from jnn.likelihoods import Likelihood
from jnn.networks import Network, Params
from jnn.training import FitResult

Inputs = Num[Array | np.ndarray, "*batch d"]


class Moments(NamedTuple):
    """Mean and variance of the target under the mixture of the members."""

    mean: Float[Array, "*batch K"]
    variance: Float[Array, "*batch K"]


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

    @property
    def params(self) -> Params:
        """The members' best hypotheses, with a first axis over the members."""
        return self.result.params

    def member(self, number: int) -> tuple[Network, Params]:
        """A member's network and the parameters of its best hypothesis.

        Raises:
            IndexError: if there is no such member.
        """
        if not -len(self) <= number < len(self):
            raise IndexError(f"expected a member from 0 to {len(self) - 1}, got {number}")
        own = self.networks[number]
        return own, narrow(own, self.network, jax.tree.map(lambda leaf: leaf[number], self.params))

    def member_means(self, x: Inputs) -> Float[Array, "members *batch K"]:
        """E[y | x; w_m] of every member."""
        return jax.vmap(lambda params: self.likelihood.mean(self.network.apply(params, x)))(self.params)

    def mean(self, x: Inputs) -> Float[Array, "*batch K"]:
        """1/M Σ_m E[y | x; w_m]; for classes, the mean of the members' probabilities."""
        return mixture_mean(self.network, self.likelihood, self.params, x)

    def moments(self, x: Inputs) -> Moments:
        """Mean and variance of the mixture: the mean variance within members, plus the variance of their means.

            E[y] = 1/M Σ_m μ_m,   Var[y] = 1/M Σ_m σ_m² + 1/M Σ_m (μ_m − E[y])²

        Source: Lakshminarayanan, Pritzel, Blundell, "Simple and scalable predictive uncertainty estimation using deep
        ensembles", NeurIPS 2017, section 2.4.
        """
        return mixture_moments(self.network, self.likelihood, self.params, x)


# Members one after another: what all of them compute at once may not fit into memory.


@jax.jit(static_argnames=("network", "likelihood"))
def mixture_mean(network: Network, likelihood: Likelihood, params: Params, x: Any) -> Array:
    """See `Ensemble.mean`; of parameters with a first axis over the members."""
    first = jax.eval_shape(lambda p: likelihood.mean(network.apply(p, x)), jax.tree.map(lambda leaf: leaf[0], params))
    members = jax.tree.leaves(params)[0].shape[0]

    def add(total: Array, member: Params) -> tuple[Array, None]:
        return total + likelihood.mean(network.apply(member, x)), None

    return jax.lax.scan(add, jnp.zeros(first.shape, first.dtype), params)[0] / members


@jax.jit(static_argnames=("network", "likelihood"))
def mixture_moments(network: Network, likelihood: Likelihood, params: Params, x: Any) -> Moments:
    """See `Ensemble.moments`; of parameters with a first axis over the members."""
    mean = mixture_mean(network, likelihood, params, x)
    members = jax.tree.leaves(params)[0].shape[0]

    def add(total: Array, member: Params) -> tuple[Array, None]:
        a = network.apply(member, x)
        return total + likelihood.variance(a) + (likelihood.mean(a) - mean) ** 2, None

    return Moments(mean, jax.lax.scan(add, jnp.zeros_like(mean), params)[0] / members)
