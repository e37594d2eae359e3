"""The run-time type checker of the tests: beartype, to which an int is as good as a float, as in Python's typing."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
