"""Save and load."""

import os
import struct
from collections.abc import Mapping
from typing import Any

from jnn.model import Model
from jnn.persistence import container, files
from jnn.persistence.codec import Reader, Writer
from jnn.persistence.errors import DamagedFileError, PersistenceError, UnsupportedError


def save(path: files.Path, model: Model, *, custom: Mapping[str, Any] | None = None) -> None:
    """Save a model as one safetensors file, exact to the bit; the rest is a description in its header.

    If anything goes wrong, an older file of that name stays as it was.

    Args:
        path: where to; any suffix will do, ".safetensors" is usual.
        model: what to save.
        custom: names for your own objects in it, which a file cannot hold because they are code: activations (or pairs
            (h, h')), likelihoods, labels of a class of your own. `load` needs the same.

    Raises:
        MismatchError: if the parts of the model do not fit each other.
        UnsupportedError: if a part cannot be saved, with what to do about it.
        MissingFileError: if the folder does not exist.
        ImportError: if safetensors is not installed.

    >>> import pathlib, tempfile, jax, jnn
    >>> from jnn import likelihoods, persistence
    >>> network = jnn.mlp([4, 5, 3])
    >>> params = network.init(jax.random.key(0))
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name) / "iris.safetensors"
    >>> persistence.save(path, persistence.Model(network, likelihoods.Categorical(), params, extra={"seed": 0}))
    >>> model = persistence.load(path)
    >>> model.network == network, model.extra
    (True, {'seed': 0})
    >>> folder.cleanup()
    """
    if not isinstance(model, Model):
        raise UnsupportedError(
            f"expected a Model, got {type(model).__name__}; write save(path, Model(network, likelihood, params)). "
            "A FitResult to resume from is a checkpoint: keep that with orbax"
        )
    model.check()
    writer = Writer(custom or {})
    parts = {name: getattr(model, name) for name in Model.__dataclass_fields__} | {"extra": dict(model.extra)}
    for newer in ("table", "posterior"):  # where there is none, an older jnn, which does not know of it, reads the file
        if parts[newer] is None:
            del parts[newer]
    description = {"$": "model", **{name: writer.encode(value, name) for name, value in parts.items()}}
    pieces = container.sealed(description, writer.arrays)
    try:  # what cannot be read must not replace what can
        _built(b"".join(pieces), custom or {})
    except PersistenceError as error:
        raise UnsupportedError(f"the model could not be read back, and was not saved: {error}") from error
    files.replace(path, pieces)


def load(path: files.Path, *, custom: Mapping[str, Any] | None = None) -> Model:
    """Load a model that `save` wrote, equal in every bit and type; JAX arrays are on JAX's default device.

    No code in the file is run, and nothing is imported by a name in it. `custom` is what was given to `save`.

    Raises:
        MissingFileError: if there is no such file.
        ForeignFileError: if it is something else than what `save` writes.
        DamagedFileError: if it was cut off or changed since; every bit counts.
        NewerFileError: if a newer jnn wrote it, and this one does not understand it.
        PrecisionError: if it has 64-bit numbers, and JAX's 64-bit mode is off.
        UnsupportedError: if it needs an object that `custom` does not have.
        ImportError: if safetensors is not installed.
    """
    try:
        return _built(files.read(path), custom or {})
    except PersistenceError as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from None


def _built(data: bytes, custom: Mapping[str, Any]) -> Model:
    description, arrays, version = container.opened(data)
    reader = Reader(arrays, custom)
    try:
        model = reader.decode(description)
        if not isinstance(model, Model):
            raise TypeError(f"expected the description of a model, got {type(model).__name__}")
        if reader.unused:
            raise ValueError(f"no part of it uses the arrays {', '.join(sorted(reader.unused)[:5])}")
        model.check()
    except PersistenceError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error) as error:
        raise DamagedFileError(
            f"the file is whole, but its description is not one that jnn writes ({error}). It says that jnn {version} "
            "wrote it; update jnn, or save again"
        ) from error
    return model
