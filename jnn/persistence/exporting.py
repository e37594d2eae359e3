"""Models that run without jnn: as StableHLO, which needs only jax."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jnn.persistence import files
from jnn.persistence.errors import PrecisionError
from jnn.persistence.model import Model
from jnn.persistence.optional import needed


def export(
    path: str | os.PathLike[str],
    model: Model,
    *,
    dtype: Any = None,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
) -> None:
    """Freeze `model.mean`, from raw inputs `(n, d)` of any n to predictions `(n, K)`, into a program in a file.

    What runs it needs jax, but neither jnn nor the model. jax keeps such files readable for six months at least; what
    should last longer is saved with `save`. Custom activations and likelihoods go in as the operations they consist of.

    Args:
        path: where to; written like `save` writes, all or nothing.
        model: what to export.
        dtype: of the inputs; by default the widest of the model's arrays. Inputs of another dtype must be converted.
        platforms: where it should run.

    Raises:
        MismatchError: if the parts of the model do not fit each other.
        PrecisionError: for a 64-bit dtype while JAX's 64-bit mode is off.
        ImportError: if flatbuffers is not installed.

    The program is run where there is jax:

        program = jax.export.deserialize(bytearray(pathlib.Path("iris.stablehlo").read_bytes()))
        mean = program.call(x)  # x of shape (n, d) and the dtype of the export
    """
    needed("flatbuffers", extra="export")
    model.check()
    arrays = jax.tree.leaves((model.params, model.transforms, model.target_transform))
    wanted = jnp.dtype(dtype or max((leaf.dtype for leaf in arrays), key=lambda dtype: dtype.itemsize))
    if jnp.asarray(np.zeros((), wanted)).dtype != wanted:
        raise PrecisionError(
            f"expected inputs of at most 32 bits, since JAX's 64-bit mode is off, got {wanted}; pass "
            'dtype="float32", or turn it on, jax.config.update("jax_enable_x64", True), here and where it runs'
        )

    def mean(x: Float[Array, "n d"]) -> Float[Array, "n K"]:
        return model.mean(x)

    (n,) = jax.export.symbolic_shape("n")
    program = jax.export.export(jax.jit(mean), platforms=tuple(platforms))
    files.replace(path, [program(jax.ShapeDtypeStruct((n, model.inputs), wanted)).serialize()])
