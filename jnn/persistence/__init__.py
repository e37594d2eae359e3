"""Trained networks as files: to be loaded again, or to run where there is no jnn.

`save` and `load` keep a `Model` exactly. `export` freezes it into a program that needs only jax, `export_onnx` into a
graph for ONNX runtimes. To go on with an interrupted training, pass `fit` a folder for checkpoints (`jnn.Checkpoints`).
"""

from jnn.model import MismatchError as MismatchError, Model as Model
from jnn.persistence.errors import (
    DamagedFileError as DamagedFileError,
    ForeignFileError as ForeignFileError,
    MissingFileError as MissingFileError,
    NewerFileError as NewerFileError,
    PersistenceError as PersistenceError,
    PrecisionError as PrecisionError,
    UnsupportedError as UnsupportedError,
)
from jnn.persistence.exporting import export as export, export_onnx as export_onnx
from jnn.persistence.saving import load as load, save as save
