"""How coarsely the device multiplies matrices: accelerators may round the operands of float32 products to 11 or 8 bits.

JAX leaves that to the device unless it is told otherwise (`jax.default_matmul_precision`), so it is measured, not
looked up: a matrix times the identity is that matrix, with what was rounded away missing.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from jnn.gradcheck.oracle import jaxprs
from jnn.gradcheck.oracle.numbers import eps_of

PRODUCTS = ("dot_general", "conv_general_dilated", "ragged_dot_general")

SIZE = 256
"""Of the matrix: large enough not to be done in another way than matrices are."""


def coarseness(programs: Iterable[Any]) -> float:
    """The spacing at one of the operands of float32 products in some programs; 0 if none are coarser than float32."""
    precisions = {
        e.params.get("precision")
        for jaxpr in programs
        for e in jaxprs.all_equations(jaxpr)
        if e.primitive.name in PRODUCTS and any(v.aval.dtype in (np.float32, np.complex64) for v in e.invars)
    }
    where = jax.config.jax_default_device or jax.devices()[0]  # pyright: ignore[reportAttributeAccessIssue]
    return max((_measured(precision, where) for precision in precisions), default=0.0)


@functools.lru_cache
def _measured(precision: Any, where: Any) -> float:
    del where  # of the cache's key only: it is the default device that multiplies
    return spacing(jax.jit(lambda a, b: jax.lax.dot(a, b, precision=precision)))


def spacing(product: Callable[[Any, Any], Any]) -> float:
    """The spacing at one of a product's operands (float32), or 0 if it is float32's.

    Rounded to nearest, an operand is off by half of it at most.
    """
    operand = np.random.default_rng(0).uniform(1, 2, (SIZE, SIZE)).astype(np.float32)
    gone = np.abs(np.asarray(product(operand, np.eye(SIZE, dtype=np.float32)), np.float64) - operand).max()
    return 0.0 if gone <= eps_of(np.float32) else 2 * float(gone)
