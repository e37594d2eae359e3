"""`python -m jnn.gradcheck MODULE:FUNCTION`: check the derivatives of a function from the command line."""

import argparse
import contextlib
import difflib
import functools
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jnn.gradcheck import _arguments, check, check_rules
from jnn.gradcheck.report import Report

PASSED, FAILED, USAGE, UNDECIDED = 0, 1, 2, 3
_STATUS = {"pass": PASSED, "fail": FAILED, "kink": UNDECIDED, "inconclusive": UNDECIDED}

_EPILOG = """\
arguments (--shapes), one a parameter, separated by spaces:
  f32[3,4]     Gaussian numbers, times --scale    f32[4]>0   their magnitudes
  f32          a scalar                           f32[2]=0   all equal to a number
  i32[5]<10    integers in [0, 10); without <10   bool[3]    true or false
               in [0, 2)                          key        a random key
  dtypes: f16 bf16 f32 f64 c64 c128 i8 ... i64 u8 ... u64 bool; those of 64 bits enable x64 for the run
without --shapes, the arguments are those of the first call in the function's docstring example

exit status:
  0 pass    1 fail    2 usage error, or the function raised    3 kink or inconclusive: look at the report

examples:
  python -m jnn.gradcheck kernels:rms_norm --shapes "f32[5,8] f32[8]"
  python -m jnn.gradcheck kernels:embed --shapes "f32[100,16] i32[7]<100" --html embed.html
  python -m jnn.gradcheck jax.nn:gelu --shapes "bf16[33]" --order 2
  python -m jnn.gradcheck models:loss --rules              (each custom rule inside, arguments from the docstring)
"""


class _UsageError(Exception):
    """What the user typed cannot be followed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    Args:
        argv: the arguments after the program's name; those of the process when None.

    Returns:
        0 pass, 1 fail, 2 usage error, 3 kink or inconclusive.
    """
    options = _parser().parse_args(argv)
    try:
        report = _checked(options)
    except (_UsageError, _arguments.ArgumentError) as error:
        print(f"gradcheck: {error}", file=sys.stderr)
        return USAGE
    print(report)
    for path, write in ((options.json, report.to_json), (options.html, report.to_html)):
        if path is not None:
            try:
                write(path)
            except OSError as error:
                print(f"gradcheck: cannot write {path}: {error}", file=sys.stderr)
                return USAGE
            print(f"written: {path}")
    return _STATUS[report.verdict]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jnn.gradcheck",
        description="Check the derivatives of a JAX function: its custom rules against autodiff of the primal in "
        "float64, and against differences. Prints a report.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "function", metavar="MODULE:FUNCTION", help="what to check, e.g. jax.nn:gelu or layers:Norm.apply"
    )
    parser.add_argument("--shapes", metavar="SPECS", help="the arguments, e.g. 'f32[3,4] i32[5]<10 key' (see below)")
    parser.add_argument("--scale", type=float, default=1.0, help="standard deviation of floating arguments (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the arguments and of the directions (default 0)")
    parser.add_argument("--order", type=int, choices=(1, 2), help="2: the derivative of the gradient too (default 1)")
    parser.add_argument("--rules", action="store_true", help="check each custom rule called inside the function")
    parser.add_argument("--reference", metavar="MODULE:FUNCTION", help="compare with this function's derivatives")
    parser.add_argument("--expected", metavar="LEAF", action="append", help="a leaf meant to deviate (repeatable)")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", metavar="FILE", help="write the report as a page with plots")
    return parser


def _checked(options: argparse.Namespace) -> Report:
    given = [f"--{name}" for name in ("order", "reference", "expected") if getattr(options, name) is not None]
    if options.rules and given:
        raise _UsageError(f"expected --rules without {', '.join(given)}; a rule is checked as it is called")
    specs = None if options.shapes is None else _arguments.split(options.shapes)
    x64 = jax.enable_x64(True) if specs and _arguments.needs_x64(specs) else contextlib.nullcontext()
    with x64:
        fun = _found(options.function)
        reference = None if options.reference is None else _found(options.reference)
        if specs is None:
            fun, args = _bound(fun, *_arguments.from_docstring(fun))
        else:
            args = _arguments.made(specs, options.seed, options.scale)
        _called(fun, args, options.function)
        try:
            if options.rules:
                return check_rules(fun, *args, seed=options.seed)
            expected = options.expected or ()
            order = options.order or 1
            return check(fun, *args, order=order, seed=options.seed, reference=reference, expected=expected)
        except (TypeError, ValueError) as error:
            raise _UsageError(f"{options.function} cannot be checked at these arguments: {error}") from error
        except Exception as error:
            # Never the status of a failed check.
            traceback.print_exc()
            raise _UsageError(f"the check of {options.function} raised {type(error).__name__}: {error}") from error


def _found(name: str) -> Callable[..., Any]:
    """The function MODULE:FUNCTION; the current folder is on the path, as always with `python -m`."""
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise _UsageError(f"expected MODULE:FUNCTION, for example jax.nn:gelu, got {name!r}")
    if module_name.endswith(".py"):
        module = module_name.removesuffix(".py").replace("/", ".")
        raise _UsageError(f"expected the name of a module, got the file {module_name!r}; write {module}:{path}")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(missing + "."):
            raise _UsageError(
                f"there is no module {missing!r}; run in the folder that holds it, or set PYTHONPATH"
            ) from error
        raise _UsageError(f"{module_name} imports {missing!r}, which is not installed") from error
    except Exception as error:
        traceback.print_exc()
        raise _UsageError(f"importing {module_name} raised {type(error).__name__}: {error}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, dir(found))
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise _UsageError(f"{module_name} has no function {path!r}{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise _UsageError(f"expected a function, but {name} is of type {type(found).__name__}")
    return found


def _bound(fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Callable[..., Any], Any]:
    """Positional arguments only, so that those given by keyword are differentiated too, where Python allows it."""
    if not kwargs:
        return fun, args
    bound = inspect.signature(fun).bind(*args, **kwargs)
    rest = bound.kwargs
    return (functools.partial(fun, **rest) if rest else fun), bound.args


def _called(fun: Callable[..., Any], args: Sequence[Any], name: str) -> None:
    """Call the function once, so that its own errors are told from those of the check."""
    try:
        fun(*args)
    except Exception as error:
        traceback.print_exc()
        shown = ", ".join(f"{a.dtype}{list(a.shape)}" if hasattr(a, "shape") else repr(a) for a in args)
        raise _UsageError(f"{name} raised {type(error).__name__} when called with {shown}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
