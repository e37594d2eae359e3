"""`python -m experiments.proben1`."""

import sys

from experiments.__main__ import main

if __name__ == "__main__":
    sys.exit(main("experiments.proben1.command_line"))
