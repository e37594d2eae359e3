"""Calls a function with changed arguments, and judges what comes of it."""

import ast
import contextlib
import functools
import pathlib
import signal
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.contract.functions import Function
from experiments.contract.kinds import Demand, Kind, kinds_of

SECONDS = 120
"""After so many, a call hangs."""


MODES = {
    "default": contextlib.nullcontext,
    "strict dtype promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "strict rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "debug_nans": lambda: jax.debug_nans(True),
    "x64": lambda: jax.enable_x64(True),
}
"""How JAX may be set."""


OF_SCIKIT_LEARN = (
    "dates",
    "durations",
    "a record",
    "nothings",
    "objects of several kinds",
    "numbers in words",
    "words",
    "bytes",
)
"""What the estimators take for numbers as scikit-learn does, for categories or for gaps (see `jnn.tables`)."""


class HangsError(Exception):
    """The call takes too long."""


@dataclass(frozen=True)
class Case:
    """A function, what becomes of some of its arguments, and how JAX is set."""

    function: Function
    changes: Mapping[str, str]
    mode: str

    def __str__(self) -> str:
        changed = ", ".join(f"{name}: {kind}" for name, kind in self.changes.items())
        return f"{self.function.name}({', '.join(self.function.arguments)})  {changed}  [{self.mode}]"

    @property
    def kinds(self) -> dict[str, Kind]:
        """What becomes of the arguments."""
        return {name: kinds_of(self.function.arguments[name])[kind] for name, kind in self.changes.items()}

    def call(self) -> Any:
        """What the function returns."""
        arguments = dict(self.function.arguments)
        for name, kind in self.kinds.items():
            arguments[name] = kind.change(arguments[name])
        return self.function.call(**arguments)


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        case: it.
        fault: what is wrong, or "".
        message: of the error that was raised, or "".
    """

    case: Case
    fault: str
    message: str


def judge(case: Case) -> Outcome:
    """Call, and find fault."""
    try:
        arguments = {n: kind.change(case.function.arguments[n]) for n, kind in case.kinds.items()}
    except Exception:
        return Outcome(case, "", "no such argument")  # a date of a number beyond the calendar, and the like
    del arguments
    extreme = any(kind.extreme for kind in case.kinds.values())
    try:
        with _watched(strictly=case.function.trains or not extreme), MODES[case.mode]():
            result = jax.block_until_ready(case.call())
    except HangsError:
        return Outcome(case, f"takes more than {SECONDS} s", "")
    except FloatingPointError as error:
        allowed = case.mode == "debug_nans" and extreme
        return Outcome(case, "" if allowed else f"debug_nans: {error}", str(error))
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        if _expects_success(case):
            return Outcome(case, f"good arguments are refused: {message}", message)
        return Outcome(case, "" if _is_clear(error) else f"not the library's own message: {message}", message)
    return Outcome(case, _fault_of(case, result), "")


def _expects_success(case: Case) -> bool:
    return all(kind == "as it is" for kind in case.changes.values())


def _fault_of(case: Case, result: Any) -> str:
    kinds = case.kinds
    if case.function.trains and not _finite(result):
        return "what was trained is not finite"
    for name, kind in kinds.items():
        free = name == case.function.labels or (name in case.function.optional and case.changes[name] == "nothing")
        free = free or (case.function.name.startswith("sklearn.") and case.changes[name] in OF_SCIKIT_LEARN)
        if kind.demand is Demand.REFUSED and not free:
            return f"{name} is no number, and is taken"
    # The dtype follows the inputs, and with it what a key draws.
    other = case.mode == "x64" or any("16" in kind for kind in case.changes.values())
    other |= case.function.name.startswith("sklearn.") and "numbers in words" in case.changes.values()
    if not other and all(kind.demand is Demand.SAME for kind in kinds.values()):
        return _difference(result, _expected(case.function))
    return ""


def _difference(result: Any, expected: Any) -> str:
    """How a result differs from that of good arguments in numbers, to the precision of its dtype."""
    if len(jax.tree.leaves(result)) != len(jax.tree.leaves(expected)):
        return "the result has another structure than that of good arguments"
    for found, wanted in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        if not hasattr(found, "dtype") or jnp.issubdtype(found.dtype, jax.dtypes.prng_key):
            continue
        if np.shape(found) != np.shape(wanted):
            return f"shape {np.shape(found)} instead of {np.shape(wanted)}"
        if not jnp.issubdtype(found.dtype, jnp.number):
            continue
        narrow = jnp.issubdtype(found.dtype, jnp.floating) and found.dtype.itemsize < 4
        tolerance = 0.1 if narrow else 1e-3
        with np.errstate(invalid="ignore"):
            difference = np.abs(np.asarray(found, np.float64) - np.asarray(wanted, np.float64))
            difference = np.where(np.asarray(found) == np.asarray(wanted), 0, difference)  # infinities, too
        limit = tolerance * (1 + np.abs(np.asarray(wanted, np.float64)))
        if not (difference <= limit).all():
            return f"another result than that of the same numbers, by {np.max(difference):.3g}"
    return ""


_known: dict[int, Any] = {}


def _expected(function: Function) -> Any:
    """What good arguments give."""
    number = id(function)
    if number not in _known:
        with _watched():
            _known[number] = jax.device_get(function.call(**function.arguments))
    return _known[number]


def _finite(result: Any) -> bool:
    leaves = [leaf for leaf in jax.tree.leaves(result) if hasattr(leaf, "dtype")]
    numbers = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return all(bool(np.isfinite(np.asarray(leaf, np.float64)).all()) for leaf in numbers)


@contextlib.contextmanager
def _watched(strictly: bool = True) -> Iterator[None]:
    """Within: what hangs is interrupted, and warnings of NumPy's and JAX's are errors, the library's own are not."""

    def interrupt(*_: Any) -> None:
        raise HangsError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if strictly:
                warnings.simplefilter("error", RuntimeWarning)
            warnings.filterwarnings("error", message="Explicitly requested dtype|A JAX array is being")
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _is_clear(error: BaseException) -> bool:
    """Whether it was raised by a `raise` of the library's, or within scikit-learn, which the estimators let check."""
    frames: list[TracebackType] = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    ours = [frame.tb_frame.f_code.co_filename for frame in frames]
    known = [path for path in ours if "/jnn/" in path or "/sklearn/" in path]
    if known and "/jnn/" not in known[-1]:
        return True
    clear = isinstance(error, (TypeError, ValueError, IndexError, AttributeError)) and len(str(error)) > 20
    return clear and bool(known) and known[-1] == ours[-1] and frames[-1].tb_lineno in _raises(ours[-1])


@functools.cache
def _raises(path: str) -> frozenset[int]:
    """The lines of a file on which `raise` statements stand."""
    statements = [node for node in ast.walk(ast.parse(pathlib.Path(path).read_text())) if isinstance(node, ast.Raise)]
    return frozenset(line for node in statements for line in range(node.lineno, (node.end_lineno or node.lineno) + 1))
