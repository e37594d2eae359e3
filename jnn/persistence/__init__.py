"""Trained networks as files: to be loaded again, or to run where there is no jnn.

`save` and `load` keep a `Model` exactly. `export` freezes it into a program that needs only jax, `export_onnx` into a
graph for ONNX runtimes. To go on with an interrupted training, keep the `FitResult` with orbax instead.
"""

from jnn.model import MismatchError as MismatchError
from jnn.model import Model as Model
from jnn.persistence.errors import DamagedFileError as DamagedFileError
from jnn.persistence.errors import ForeignFileError as ForeignFileError
from jnn.persistence.errors import MissingFileError as MissingFileError
from jnn.persistence.errors import NewerFileError as NewerFileError
from jnn.persistence.errors import PersistenceError as PersistenceError
from jnn.persistence.errors import PrecisionError as PrecisionError
from jnn.persistence.errors import UnsupportedError as UnsupportedError
from jnn.persistence.exporting import export as export
from jnn.persistence.exporting import export_onnx as export_onnx
from jnn.persistence.saving import load as load
from jnn.persistence.saving import save as save
