"""What a problem is, in words that can be compared: to know whether a checkpoint belongs to it, and else what differs.

Two values have the same words if and only if training with them is the same: arrays by their bytes, functions by their
code and what they close over, everything else by its parts. Nothing depends on where things lie in memory.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import platform
import re
import types
from collections.abc import Mapping, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnn.optimizers import Optimizer

SHORT = 60
"""The most characters of words that are told; of longer ones a digest is kept, which tells that they differ."""
LIBRARIES = {"jnn", "jax", "jaxlib", "optax", "numpy", "functools"}
"""Where functions have no code to compare: the versions stand for it."""


def fingerprint(**parts: Any) -> dict[str, str]:
    """The words for each part, and for the versions that a result's last bits depend on."""
    names = ("jnn", "jax", "jaxlib", "optax")
    versions = {"Python": platform.python_version().rpartition(".")[0]}
    versions |= {name: importlib.metadata.version(name) for name in names}
    return {"versions": ", ".join(f"{name} {version}" for name, version in versions.items())} | {
        name: _short(_words(value, ())) for name, value in parts.items()
    }


def differences(saved: Mapping[str, str], given: Mapping[str, str]) -> str:
    """Which parts differ, and how, as far as it can be told in a few words; empty if none does."""
    told = []
    for name in sorted({*saved, *given}):
        was, now = saved.get(name, "nothing"), given.get(name, "nothing")
        if was != now:
            long = was.startswith("blake2b ") or now.startswith("blake2b ")
            told.append(f"{name} (another one)" if long else f"{name} (there {was}, now {now})")
    return "; ".join(told)


def _short(words: str) -> str:
    if len(words) <= SHORT:
        return words
    return f"blake2b {_digest(words.encode())}"


def _digest(data: Any) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _words(value: Any, inside: tuple[int, ...]) -> str:
    """A value in words; `inside` tells which functions and objects it was reached through, for those in circles."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.dtype)):
        return repr(value)
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        return _array(value)
    if id(value) in inside:
        return f"circle {inside[::-1].index(id(value))}"
    words = functools.partial(_words, inside=(*inside, id(value)))
    if hasattr(value, "fingerprint"):  # a source of data, which has its own way to know itself
        return f"{type(value).__qualname__}({value.fingerprint()})"
    if isinstance(value, types.CodeType):
        names = (value.co_names, value.co_varnames, value.co_freevars)
        return f"{value.co_name} {_digest(value.co_code)} {names} {words(value.co_consts)}"
    if isinstance(value, types.FunctionType):
        return _function(value, words)
    if isinstance(value, functools.partial):
        return f"partial({words(value.func)}, {words(value.args)}, {words(value.keywords)})"
    if isinstance(value, types.MethodType):
        return f"{words(value.__self__)}.{value.__name__}"
    if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType, np.ufunc)):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
    if isinstance(value, Optimizer):
        return words([value.make, dict(value.numbers), dict(value.structure)])
    name = type(value).__qualname__
    if isinstance(value, Mapping):
        return f"{name}{{{', '.join(f'{words(key)}: {words(item)}' for key, item in value.items())}}}"
    if isinstance(value, Set):
        return f"{name}{sorted(map(words, value))}"
    if isinstance(value, (list, tuple)):
        return f"{name}[{', '.join(map(words, value))}]"
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return f"{name}{words(fields)}"
    if callable(getattr(value, "__wrapped__", None)):  # as `jax.jit` makes them
        return f"{name}({words(value.__wrapped__)})"
    if getattr(value, "__dict__", None):
        return f"{name}{words(dict(sorted(vars(value).items())))}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _array(value: Any) -> str:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"key {jax.random.key_impl(value)} {_array(jax.random.key_data(value))}"
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{array.dtype} {array.item()!r}"
    rows = hashlib.blake2b(digest_size=16)
    for first in range(0, max(len(array), 1), step := max(1, 2**24 // max(1, array[:1].nbytes))):
        rows.update(np.ascontiguousarray(array[first : first + step]).view(np.uint8).data if array.size else b"")
    return f"{array.dtype} {array.shape} {rows.hexdigest()}"


def _function(value: types.FunctionType, words: Any) -> str:
    """A library's own function is known by its name; one that it made, also by what it closes over."""
    module, name = value.__module__ or "", value.__qualname__
    known = module.partition(".")[0] in LIBRARIES or not module
    if known and "<locals>" not in name:
        return f"{module}.{name}"
    cells = [cell.cell_contents for cell in value.__closure__ or ()]
    code = "" if known else words(value.__code__)
    return f"{module}.{name} {code} {words([cells, value.__defaults__, value.__kwdefaults__])}"
