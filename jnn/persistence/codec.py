"""Python values as JSON and arrays, and back, to the bit and with their types.

None, booleans, integers, finite floats, strings, lists, and dictionaries with strings as keys are JSON's own. Anything
else is an object `{"$": kind, ...}`. Arrays are named in it, and kept beside it by name.
"""

import contextlib
import math
from collections.abc import Hashable, Mapping
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jnn import activations
from jnn.persistence.container import DTYPES
from jnn.persistence.errors import DamagedFileError, PrecisionError, UnsupportedError
from jnn.persistence.kinds import KINDS, known

NAMES = {kind.type: name for name, kind in KINDS.items()}


def as_object(value: Any) -> Any:
    """What a name in `custom` stands for: functions (h, h') are the activation that networks make of them."""
    functions = isinstance(value, tuple) and len(value) in (2, 3) and all(map(callable, value))
    return activations.get(value) if functions else value


class Writer:
    """Encodes values; `arrays` gathers theirs by name."""

    def __init__(self, custom: Mapping[str, Any]) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.custom: dict[tuple[type, Any], str] = {}
        for name, value in custom.items():
            value = as_object(value)
            if not isinstance(value, Hashable):
                raise UnsupportedError(f"expected custom[{name!r}] as something hashable, got {type(value).__name__}")
            self.custom[type(value), value] = name

    def encode(self, value: Any, path: str) -> Any:
        """The value as JSON; `path` says where it stands. UnsupportedError for a type that files do not hold."""
        kind: Any = type(value)
        kind = np.dtype if issubclass(kind, np.dtype) else kind  # NumPy has a type for every dtype
        with contextlib.suppress(TypeError):  # lists, arrays and whatever else is not hashable
            if (type(value), value) in self.custom:
                return {"$": "custom", "name": self.custom[type(value), value]}
        if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
            return value
        if kind in (list, tuple):
            items = [self.encode(item, f"{path}.{n}") for n, item in enumerate(value)]
            return items if kind is list else {"$": "tuple", "items": items}
        if kind is dict:
            if "$" in value or any(type(key) is not str for key in value):
                return {"$": "dict", "items": self.encode([list(pair) for pair in value.items()], path)}
            return self._fields(value, path)
        if isinstance(value, jax.core.Tracer):
            raise UnsupportedError(f"{path} has no value yet: call save outside of jit, vmap and grad")
        if isinstance(value, jax.Array):
            if not jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
                return {"$": "jax", **self._array(np.asarray(value), path)}
            data = self._array(np.asarray(jax.random.key_data(value)), path)
            return {"$": "key", "implementation": str(jax.random.key_impl(value)), **data}
        if kind is np.ndarray or isinstance(value, np.generic):
            return {"$": "numpy" if kind is np.ndarray else "scalar", **self._array(np.asarray(value), path)}
        if kind not in NAMES:
            raise UnsupportedError(
                f"{path} is of the type {kind.__module__}.{kind.__qualname__}, which a file cannot hold. Turn it into "
                "arrays, numbers or strings; or give it a name, save(..., custom={name: object}), and pass the same "
                "to load"
            )
        return {"$": NAMES[kind], **self._fields(KINDS[NAMES[kind]].fields(value), path)}

    def _fields(self, fields: Mapping[str, Any], path: str) -> dict[str, Any]:
        return {key: self.encode(item, f"{path}.{key}") for key, item in fields.items()}

    def _array(self, array: np.ndarray, path: str) -> dict[str, Any]:
        if array.dtype.kind in "OU":
            items = self.encode(array.ravel().tolist(), path)
            return {"items": items, "shape": list(array.shape), "dtype": self.encode(array.dtype, path)}
        if array.dtype.newbyteorder("=") not in DTYPES.values():
            known = ", ".join(sorted(map(str, DTYPES.values())))
            raise UnsupportedError(f"{path} is an array of {array.dtype}; a file holds {known} and strings")
        name = path
        while name in self.arrays:  # of {"a.b": ...} and {"a": {"b": ...}}
            name += "_"
        self.arrays[name] = np.asarray(array, order="C")
        return {"array": name}


class Reader:
    """Decodes what a `Writer` made; `unused` names the arrays that nothing has asked for yet."""

    def __init__(self, arrays: Mapping[str, np.ndarray], custom: Mapping[str, Any]) -> None:
        self.arrays = arrays
        self.custom = custom
        self.unused = set(arrays)

    def decode(self, described: Any) -> Any:
        """The value. Raises what `load` does, and Python's own errors if the description makes no sense."""
        if isinstance(described, list):
            return [self.decode(item) for item in described]
        if not isinstance(described, dict):
            return described
        if "$" not in described:
            return {key: self.decode(item) for key, item in described.items()}
        fields = dict(described)
        name = fields.pop("$")
        if name == "custom":
            return self._custom(fields["name"])
        if name in ("jax", "numpy", "scalar", "key"):
            return self._array(name, fields)
        if name in ("tuple", "dict"):
            return (tuple if name == "tuple" else dict)(self.decode(fields["items"]))
        return known(KINDS, name, "kind").build(**{key: self.decode(item) for key, item in fields.items()})

    def _custom(self, name: str) -> Any:
        if name not in self.custom:
            raise UnsupportedError(
                f"the file needs an object of yours that was saved by the name {name!r}: load(path, "
                f"custom={{{name!r}: ...}}) with the same one; got {sorted(self.custom) or 'none'}"
            )
        return as_object(self.custom[name])

    def _array(self, kind: str, fields: dict[str, Any]) -> Any:
        if "items" in fields:
            array = np.empty(len(fields["items"]), self.decode(fields["dtype"]))
            for n, item in enumerate(self.decode(fields["items"])):
                array[n] = item
            array = array.reshape(fields["shape"])
        else:
            if (name := fields["array"]) not in self.unused:
                raise DamagedFileError(f"expected an array named {name!r} in the file, once; it is not there")
            self.unused.remove(name)
            array = self.arrays[name]
        if kind in ("numpy", "scalar"):
            return array if kind == "numpy" else array[()]
        moved = jnp.asarray(array)
        if moved.dtype != array.dtype:
            raise PrecisionError(
                f"{fields['array']} is of {array.dtype}, and JAX would make {moved.dtype} of it. Turn on 64-bit "
                'numbers first, jax.config.update("jax_enable_x64", True), or load within jax.enable_x64(True); '
                "to round them, save them rounded"
            )
        return jax.random.wrap_key_data(moved, impl=fields["implementation"]) if kind == "key" else moved
