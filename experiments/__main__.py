"""`python -m experiments`."""

import contextlib
import importlib.util
import sys

NEEDED = {"sklearn": "scikit-learn", "scipy": "scipy", "matplotlib": "matplotlib", "rich": "rich"}


def missing() -> list[str]:
    """The packages that the experiments need and that are not installed."""
    return [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]


def main(command: str = "experiments.command_line") -> int:
    """Run a module's command line, or say what to install."""
    absent = missing()
    if absent:
        print(
            f"The experiments need {', '.join(absent)}, which jnn itself does not. In the folder of the checkout: "
            "pip install -e '.[experiments]'",
            file=sys.stderr,
        )
        return 2
    import jnn

    with contextlib.suppress(OSError):  # a home that cannot be written to: compile everything again
        jnn.enable_compilation_cache()
    return importlib.import_module(command).main(sys.argv[1:])  # only now: it imports what may be missing


if __name__ == "__main__":
    sys.exit(main())
