"""What the lecture claims, tried out: run `python -m experiments --help`."""
