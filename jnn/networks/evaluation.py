"""Two ways to evaluate a general network, equal up to summation order; each has its forward and its backward pass.

- **blocks**: neurons of equal depth form a layer, and the network runs as a `Layered` one, a few dense matrix
  products, with the weights of absent edges zero. Right for few, well filled levels.
- **sweep**: one `scan` over the levels, each step gathering what its neurons read (`jnn.networks.sweep`). Right for
  deep networks (a cascade of 300 neurons is 300 levels) and for sparse ones (10,000 neurons, 100,000 edges).

Both take one weight for each edge and one bias for each neuron from d+1 on, and keep examples as columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jnn.networks import sweep
from jnn.networks.base import Trace
from jnn.networks.layered import Layered

Evaluation = Literal["blocks", "sweep"]


@dataclass(frozen=True, eq=False)
class Blocks:
    """As layers."""

    layered: Layered
    tables: tuple[np.ndarray, ...]  # for each place of each layer's `W`, the edge; the number of edges where none is
    groups: tuple[np.ndarray, ...]  # each layer's neurons, numbered from d+1 on as 0, 1, ...
    hidden: int
    edges: int

    def matrices(self, w: Array, b: Array) -> Any:
        """The parameters as the layered network takes them."""
        weights = jnp.append(w, jnp.zeros((), w.dtype))
        return tuple(
            {"W": weights[table], "b": b[neurons]} for table, neurons in zip(self.tables, self.groups, strict=True)
        )

    def forward(self, w: Array, b: Array, x: Array) -> tuple[Array, Trace]:
        """a_i = Σ_j w_ij z_j + w_i0 of the outputs `(K, n)`, and what the backward pass needs of the rest."""
        return self.layered.forward(self.matrices(w, b), x)

    def backward(self, w: Array, b: Array, kept: Trace, delta: Array) -> tuple[Any, Array]:
        """δ_j = h'(a_j) Σ_k w_kj δ_k of all neurons, and ∂E/∂x `(d, n)`."""
        return self.layered.backward(self.matrices(w, b), kept, delta)

    def gradients(self, kept: Trace, deltas: Any) -> tuple[Array, Array]:
        """∂E/∂w_ij = Σ_n δ_i z_j for each edge, ∂E/∂w_i0 = Σ_n δ_i for each neuron."""
        dense = self.layered.gradients(kept, deltas)
        flat = jnp.concatenate([layer["W"].reshape(-1) for layer in dense])
        return flat[self._places], self._by_neuron([layer["b"][:, None] for layer in dense])[:, 0]

    def traced(self, kept: Trace) -> tuple[Array, Array]:
        """`a` of the neurons from d+1 on, and `z` of the inputs and the hidden neurons, examples as columns."""
        z = self._by_neuron([*kept.z[1:], kept.a[-1]])[: self.hidden]
        return self._by_neuron(kept.a), jnp.concatenate([kept.z[0], z])

    def deltas(self, deltas: Any) -> Array:
        """δ of the neurons from d+1 on, by their numbers, examples as columns."""
        return self._by_neuron(deltas)

    def _by_neuron(self, layers: Sequence[Float[Array, "_ n"]]) -> Float[Array, "neurons n"]:
        """One array in the order of the neurons from one array for each layer."""
        return jnp.concatenate(layers)[np.argsort(np.concatenate(self.groups))]

    @property
    def _places(self) -> np.ndarray:
        """Where each edge's weight stands in all the matrices, one after another."""
        flat = np.concatenate([table.reshape(-1) for table in self.tables])
        places = np.empty(self.edges, int)
        filled = flat < self.edges
        places[flat[filled]] = np.flatnonzero(filled)
        return places


@dataclass(frozen=True, eq=False)
class Sweep:
    """As one scan, forward over the neurons and backward over the neurons that read them."""

    plan: sweep.Plan

    def forward(self, w: Array, b: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
        """a_i = Σ_j w_ij z_j + w_i0 of the outputs `(K, n)`, and what the backward pass needs of the rest."""
        a, z = sweep.forward(self.plan, w, b, x)
        return a[self.plan.hidden :], (a, z)

    def backward(self, w: Array, b: Array, kept: tuple[Array, Array], delta: Array) -> tuple[Array, Array]:
        """δ_j = h'(a_j) Σ_k w_kj δ_k of all neurons, and ∂E/∂x `(d, n)`."""
        del b
        found = sweep.backward(self.plan, w, kept[0], delta)
        source, reader = self.plan.source, self.plan.reader
        of_input = np.flatnonzero(source < self.plan.inputs)
        weighted = w[of_input][:, None] * found[reader[of_input]]
        by_inputs = jnp.zeros((self.plan.inputs, delta.shape[1]), found.dtype).at[source[of_input]].add(weighted)
        return found, by_inputs

    def gradients(self, kept: tuple[Array, Array], deltas: Array) -> tuple[Array, Array]:
        """∂E/∂w_ij = Σ_n δ_i z_j for each edge, ∂E/∂w_i0 = Σ_n δ_i for each neuron."""
        source, reader = self.plan.source, self.plan.reader
        return jnp.einsum("en,en->e", kept[1][source], deltas[reader]), jnp.sum(deltas, axis=1)

    def traced(self, kept: tuple[Array, Array]) -> tuple[Array, Array]:
        """`a` of the neurons from d+1 on, and `z` of the inputs and the hidden neurons, examples as columns."""
        return kept

    def deltas(self, deltas: Array) -> Array:
        """δ of the neurons from d+1 on, by their numbers, examples as columns."""
        return deltas
