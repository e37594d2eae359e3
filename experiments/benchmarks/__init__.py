"""Speed, measured side by side: run `python -m experiments.benchmarks --help`."""
