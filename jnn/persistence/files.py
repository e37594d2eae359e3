"""Whole files or none."""

import contextlib
import os
import pathlib
import secrets
import stat
from collections.abc import Iterable

from jnn.persistence.errors import ForeignFileError, MissingFileError, PersistenceError

Path = str | os.PathLike[str]


def read(path: Path) -> bytes:
    """The file's bytes; MissingFileError if there is none, ForeignFileError if it is a folder, a pipe or a device."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError("expected a file, found nothing there; check the path") from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise ForeignFileError(f"expected a file, found {what}")
    return pathlib.Path(path).read_bytes()


def replace(path: Path, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
    """Write a file so that at every moment, also if the process or the machine dies, the old or the new one is whole.

    It is written beside the old one, brought to the disk, and renamed. If that fails, what was written is removed; only
    a process that is killed can leave its `.name.….tmp` behind, which nothing reads.

    Raises:
        MissingFileError: if the folder is not there.
        PersistenceError: if something other than a file has this name.
        OSError: if the disk is full, or the folder may not be written to, ...
    """
    target = pathlib.Path(os.path.realpath(path))  # a link stays one
    if not target.parent.is_dir():
        raise MissingFileError(f"expected a folder {str(target.parent)!r} to save in, found none; create it first")
    if target.exists() and not target.is_file():
        what = "a folder" if target.is_dir() else "no regular file"
        raise PersistenceError(f"expected the name of a file, but {str(target)!r} is {what}; choose another name")
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        with open(beside, "xb") as file:
            if target.exists():
                os.chmod(beside, stat.S_IMODE(target.stat().st_mode))
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:  # Ctrl-C as well
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    if hasattr(os, "O_DIRECTORY"):  # bring the new name to the disk, too, where the file system can
        with contextlib.suppress(OSError):
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
