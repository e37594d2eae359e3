"""A description and arrays as the bytes of one safetensors file, sealed so that no changed bit goes unnoticed.

    8 bytes: the header's length; the header, a JSON object; the arrays' bytes

The header's metadata has the single entry "jnn": a JSON object (as a string, as safetensors wants it) with a checksum,
the format's number, the version of jnn that wrote it, and the description. The checksum is the SHA-256 digest of the
whole file with zeros in place of the digest.
"""

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jnn.optional import needed
from jnn.persistence.errors import DamagedFileError, ForeignFileError, NewerFileError, UnsupportedError

FORMAT = 1  # raised when a file of a new kind would be misread by an older jnn

_NAMES = """
    BOOL=bool I8=int8 I16=int16 I32=int32 I64=int64 U8=uint8 U16=uint16 U32=uint32 U64=uint64 C64=complex64
    F8_E4M3=float8_e4m3fn F8_E5M2=float8_e5m2 BF16=bfloat16 F16=float16 F32=float32 F64=float64
"""
DTYPES: Mapping[str, np.dtype] = {code: jnp.dtype(name) for code, name in (pair.split("=") for pair in _NAMES.split())}
"""What an array in a file may hold, by safetensors' name of it."""

BLANK = b"0" * 64
OPENING = b'{"__metadata__":{"jnn":"'
LONGEST_HEADER = 100_000_000  # safetensors' own limit


def sealed(description: Any, arrays: dict[str, np.ndarray]) -> list[bytes | memoryview]:
    """The file's bytes, in pieces; UnsupportedError if the description is too long for a header."""
    needed("safetensors", extra="persistence")
    from safetensors.numpy import save as serialize

    entry = {"checksum": BLANK.decode(), "format": FORMAT, "jnn": _version(), "description": description}
    text = json.dumps(entry, separators=(",", ":"), allow_nan=False)
    if len(text) + 200 * len(arrays) > LONGEST_HEADER // 2:  # quotation marks are escaped, and more follows
        raise UnsupportedError(
            f"expected a description of at most {LONGEST_HEADER // 2:,} characters, got {len(text):,}; "
            "keep long lists of numbers as NumPy arrays"
        )
    data = serialize(arrays, metadata={"jnn": text})
    at = data.index(BLANK)
    view = memoryview(data)
    return [view[:at], digest(view, at), view[at + len(BLANK) :]]


def opened(data: bytes | bytearray) -> tuple[Any, dict[str, np.ndarray], str]:
    """The description and the arrays of a file's bytes, and which jnn wrote them. Raises what `load` does."""
    needed("safetensors", extra="persistence")
    from safetensors import SafetensorError, deserialize

    try:
        found = deserialize(data)
        header = data[8 : 8 + int.from_bytes(data[:8], "little")]
        text = json.loads(header)["__metadata__"]["jnn"]
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(data, error) from None
    entry = _checked(text, data)
    number, version = entry["format"], entry["jnn"]
    if number > FORMAT:
        raise NewerFileError(
            f"expected a file of format {FORMAT} or older; got format {number}, written by jnn {version}: update jnn "
            f"(this is {_version()})"
        )
    unknown = sorted({item["dtype"] for _, item in found} - set(DTYPES))
    if unknown:
        raise DamagedFileError(f"expected arrays of {', '.join(DTYPES)}; got {', '.join(unknown)}")
    arrays = {name: np.frombuffer(item["data"], DTYPES[item["dtype"]]).reshape(item["shape"]) for name, item in found}
    return entry["description"], arrays, version


def _checked(text: str, data: bytes | bytearray) -> dict[str, Any]:
    """The metadata's entry, if the checksum in it is that of the file."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        entry = json.loads(text)
        written = entry["checksum"].encode()
        view, at = memoryview(data), data.index(written)
        complete = isinstance(entry["format"], int) and {"jnn", "description"} <= entry.keys()
        if complete and len(written) == len(BLANK) and digest(view, at) == written:
            return entry
    raise DamagedFileError(
        "the file's checksum is not that of its content: bytes of it changed after jnn wrote it; "
        "use another copy of it, or save again"
    )


def digest(view: memoryview, at: int) -> bytes:
    """The checksum of the bytes, for the place where it stands."""
    found = hashlib.sha256(view[:at])
    found.update(BLANK)
    found.update(view[at + len(BLANK) :])
    return found.hexdigest().encode()


def _unreadable(data: bytes | bytearray, error: Exception) -> ForeignFileError | DamagedFileError:
    if bytes(data[8 : 8 + len(OPENING)]) == OPENING:
        return DamagedFileError(
            f"the file begins as jnn writes it, but is not whole ({error}): it was cut off or changed; "
            "use another copy of it, or save again"
        )
    if isinstance(error, KeyError | TypeError):
        what = "a safetensors file of another program; read its arrays with safetensors.numpy.load_file"
    elif not data:
        what = "an empty file"
    else:
        looks = next((f", as {kind} does" for begin, kind in _BEGINNINGS.items() if data.startswith(begin)), "")
        what = f"{len(data):,} bytes that begin with {bytes(data[:16])!r}{looks}"
    return ForeignFileError(f"expected a file that jnn.persistence.save wrote; got {what}")


_BEGINNINGS = {
    b"\x80": "a pickle",
    b"PK": "a zip archive (.npz, PyTorch, Keras)",
    b"\x93NUMPY": "a .npy file",
    b"\x89HDF": "an HDF5 file",
    b"<": "a web page",
    b"version https://git-lfs": "a Git LFS pointer (fetch the file itself: git lfs pull)",
}


def _version() -> str:
    try:
        return importlib.metadata.version("jnn")
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return "unknown"
