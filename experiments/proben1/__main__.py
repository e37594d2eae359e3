"""`python -m experiments.proben1`."""

import sys

from experiments.__main__ import missing


def main() -> int:
    """Run the command line, or say what to install."""
    absent = missing()
    if absent:
        print(
            f"This study needs {', '.join(absent)}, which jnn itself does not. In the folder of the checkout: "
            "pip install -e '.[experiments]'",
            file=sys.stderr,
        )
        return 2
    from experiments.proben1 import command_line  # only now: it imports what may be missing

    return command_line.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
