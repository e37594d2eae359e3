"""Proben1: a published study of early stopping and shortcut connections, reproduced from its data files.

    python -m experiments.proben1 --data FOLDER

Prechelt, "Proben1: A set of neural network benchmark problems and benchmarking rules", Technical Report 21/94,
Universität Karlsruhe, 1994. The data files are public, and not part of this project.
"""
