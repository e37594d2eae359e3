"""Models that run without jnn: as StableHLO, which needs only jax."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jnn.model import Model
from jnn.optional import needed
from jnn.persistence import files
from jnn.persistence.errors import PrecisionError


def export(
    path: files.Path, model: Model, *, dtype: Any = None, platforms: Sequence[str] = ("cpu", "cuda", "tpu")
) -> None:
    """Freeze `model.mean`, from raw inputs `(n, d)` of any n to predictions `(n, K)`, into a program in a file.

    What runs it needs jax, but neither jnn nor the model. jax keeps such files readable for six months at least; what
    should last longer is saved with `save`. Custom activations and likelihoods go in as the operations they consist of.

    Args:
        path: where to; written like `save` writes, all or nothing.
        model: what to export, ensembles included.
        dtype: of the inputs; by default `Model.input_dtype`. Those of another must be converted.
        platforms: where it should run.

    Raises:
        MismatchError: if the parts of the model do not fit each other.
        PrecisionError: for a 64-bit dtype while JAX's 64-bit mode is off.
        ImportError: if flatbuffers is not installed.

    To run it:

        program = jax.export.deserialize(bytearray(pathlib.Path("iris.stablehlo").read_bytes()))
        mean = program.call(x)  # x of shape (n, d) and the dtype of the export
    """
    needed("flatbuffers", extra="export")
    model.check()
    wanted = jnp.dtype(dtype or model.input_dtype)
    if jnp.asarray(np.zeros((), wanted)).dtype != wanted:
        raise PrecisionError(
            f"expected inputs of at most 32 bits, since JAX's 64-bit mode is off, got {wanted}; pass "
            'dtype="float32", or turn it on, jax.config.update("jax_enable_x64", True), here and where it runs'
        )
    (n,) = jax.export.symbolic_shape("n")
    program = jax.export.export(jax.jit(model.mean), platforms=tuple(platforms))
    files.replace(path, [program(jax.ShapeDtypeStruct((n, model.inputs), wanted)).serialize()])
