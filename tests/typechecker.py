"""The run-time type checker of the tests: beartype, to which an int is as good as a float, as in Python's typing."""

import contextlib
from collections.abc import Iterator

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))


@contextlib.contextmanager
def off() -> Iterator[None]:
    """Within: as users run it, so that what comes is the library's own message."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
