"""Packages that only a part of jnn needs."""

import contextlib
import importlib.util


def needed(package: str, extra: str, what: str | None = None) -> None:
    """Raise ImportError with the command that installs `package`, and what it is for, unless it is there."""
    with contextlib.suppress(ModuleNotFoundError):  # of a parent of the package
        if importlib.util.find_spec(package) is not None:
            return
    what = what or f"this needs {package}, which is not installed"
    raise ImportError(f"{what}: pip install 'jnn[{extra}]'")
