"""Mutants of the library's arithmetic: would the tests notice?

`changes` says what a mutant is, `selections` which tests each module is for and which mutants are no fault, `running`
runs the ones against the others, and `__main__` is the command.
"""
