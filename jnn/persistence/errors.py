"""What can go wrong with files; every message says what was expected, what came, and what to do."""


class PersistenceError(ValueError):
    """Something cannot be saved, loaded or exported. (Failures of the disk itself stay Python's own `OSError`.)"""


class MissingFileError(PersistenceError, FileNotFoundError):
    """There is no such file, or no such folder to save it in."""


class ForeignFileError(PersistenceError):
    """It is not a file that `save` wrote."""


class DamagedFileError(PersistenceError):
    """It is a file that `save` wrote, but not all of it, or not as it was written."""


class NewerFileError(PersistenceError):
    """It was written by a newer jnn, and this one does not understand it."""


class PrecisionError(PersistenceError):
    """A number would have to be rounded: JAX's 64-bit mode is off."""


class UnsupportedError(PersistenceError):
    """A file cannot hold this: code, or an object of an unknown type; or it needs to be told which."""
