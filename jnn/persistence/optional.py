"""Packages that only this part of jnn needs."""

import importlib.util


def needed(package: str, extra: str) -> None:
    """Raise ImportError with the command that installs the package, if it is not there."""
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"this needs {package}, which is not installed: pip install 'jnn[{extra}]'")
