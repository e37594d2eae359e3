"""The derivative of an implicit function, from its residual alone.

Of y(x) with F(y, x) = 0 the implicit function theorem says

    dy/dx = −(∂F/∂y)⁻¹ ∂F/∂x,   so   gᵀ = −λᵀ ∂F/∂x   with   (∂F/∂y)ᵀ λ = w

for a cotangent w. Everything is evaluated in float64, at the root that Newton's method finds from what the function
returned; how far that is away is what the solver left undone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnn.gradcheck.oracle import jaxprs
from jnn.gradcheck.oracle.derivatives import Derivatives, plain_knobs
from jnn.gradcheck.oracle.float64 import Oracle, Program
from jnn.gradcheck.oracle.numbers import reals
from jnn.gradcheck.oracle.reference import variation
from jnn.gradcheck.oracle.rewrite import without_rules

LARGEST = 1024
NEWTON = 20


class Implicit:
    """The implicit function theorem in float64, of F(y, *args) = 0.

    Args:
        derivatives: of the function y(*args).
        seed: of the variations.
        residual: F, which returns as many numbers as y has.

    Raises:
        ValueError: F returns another number of numbers than y has, y is too large for a dense Jacobian or complex.
    """

    kind = "the implicit function theorem"

    def __init__(self, derivatives: Derivatives, seed: int, residual: Callable[..., Any]) -> None:
        self._derivatives, self._seed = derivatives, seed
        problem = derivatives.problem
        n, sizes = len(problem.outputs), [o.size for o in problem.outputs]
        if any(np.issubdtype(np.dtype(leaf.dtype), np.complexfloating) for leaf in (*problem.outputs, *problem.inputs)):
            raise ValueError("expected real arguments and results with a residual, got complex ones")
        if sum(sizes) > LARGEST:
            raise ValueError(f"expected a result of at most {LARGEST} numbers with a residual, got {sum(sizes)}")

        def flat(*values: Any) -> list[Any]:
            y = problem.unflattened(values[:n])
            out = residual(y, *problem.arguments(values[n:]))
            return [v for v in jax.tree_util.tree_leaves(out) if jaxprs.is_inexact(jax.typeof(v).dtype)]

        y = [jax.ShapeDtypeStruct(o.shape, o.dtype) for o in problem.outputs]
        jaxpr, shapes = jaxprs.trace(flat, *y, *derivatives.lows)
        found = sum(int(np.prod(s.shape, dtype=np.int64)) for s in shapes)
        if found != sum(sizes):
            raise ValueError(f"expected a residual of as many numbers as the result has, {sum(sizes)}, got {found}")
        self._run = Oracle(without_rules(jaxpr)[0], own=True)
        cuts, forms = np.cumsum(sizes)[:-1], [o.shape for o in problem.outputs]

        def equations(flat_y: Any, x: Sequence[Any], high: list[Any]) -> Any:
            parts = [p.reshape(s) for p, s in zip(jnp.split(flat_y, cuts), forms, strict=True)]
            lows = [*parts, *derivatives.lows]
            out = self._run(lows, [*parts, *problem.merged(high, x)], plain_knobs())
            return jnp.concatenate([v.ravel() for v in out])

        def linearized(flat_y: Any, high: list[Any]) -> tuple[Any, Any]:
            x = problem.differentiable(high)
            return equations(flat_y, x, high), jax.jacfwd(lambda v: equations(v, x, high))(flat_y)

        def pulled(flat_y: Any, high: list[Any], weights: Any) -> list[Any]:
            x = problem.differentiable(high)
            try:
                return list(jax.vjp(lambda *x: equations(flat_y, x, high), *x)[1](weights))
            except ValueError:  # JAX's, of a residual without reverse mode (a while loop)
                jacobian = jax.jacfwd(lambda x: equations(flat_y, x, high))(x)
                return [jnp.tensordot(weights, j, 1) for j in jacobian]

        self._linearized, self._pulled = Program(linearized), Program(pulled)
        low, _ = derivatives.rule(derivatives.lows, [np.zeros(o.shape, np.dtype(o.dtype)) for o in problem.outputs])
        self._start = np.concatenate([np.asarray(v, np.float64).ravel() for v in low])
        self._root = self._solved(self._start, derivatives.highs)
        self._cuts = cuts
        size = float(np.max(np.abs(self._root), initial=0.0)) or 1.0
        self.undone = float(np.max(np.abs(self._root - self._start), initial=0.0)) / size
        """How far the function's value is from the root, beside the largest number of the root."""

    def _solved(self, y: np.ndarray, high: list[Any]) -> np.ndarray:
        change = np.inf
        for _ in range(NEWTON):
            value, jacobian = self._linearized(y, high)
            step = np.linalg.solve(jacobian, value)
            before, change = change, float(np.max(np.abs(step), initial=0.0))
            y = y - step
            if not np.isfinite(change):
                raise np.linalg.LinAlgError("Newton's method on the residual does not converge from the result")
            if change <= 1e-15 * float(np.max(np.abs(y), initial=1e-300)) or (change >= before and change < 1e-10):
                return y
        if change > 1e-8 * float(np.max(np.abs(y), initial=1e-300)):
            raise np.linalg.LinAlgError("Newton's method on the residual does not converge from the result")
        return y

    def _gradients(self, w: Sequence[Any], y: np.ndarray, high: list[Any]) -> list[np.ndarray]:
        _, jacobian = self._linearized(y, high)
        weights = np.concatenate([np.asarray(v, np.float64).ravel() for v in w])
        return [-reals(g).ravel() for g in self._pulled(y, high, np.linalg.solve(jacobian.T, weights))]

    def gradients(self, w: Sequence[Any], k: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(flat outputs, flat gradients) for a cotangent, under the k-th variation."""
        high, _ = variation(self._derivatives, self._seed, k)
        root = self._root if k == 0 else self._solved(self._root, high)
        return np.split(root, self._cuts), self._gradients(w, root, high)

    def uncertainty(self, w: Sequence[Any]) -> list[np.ndarray] | None:
        """What the rule may be off because the solver stopped before the root."""
        high = self._derivatives.highs
        at_root, here = self._gradients(w, self._root, high), self._gradients(w, self._start, high)
        return [4 * np.abs(a - b) for a, b in zip(at_root, here, strict=True)]

    @property
    def opaque(self) -> tuple[str, ...]:
        """The primitives that could not be evaluated in float64."""
        return self._run.opaque
