"""Are the derivatives that public libraries offer right? `python -m experiments.gradcheck_upstream`.

- `target`: what is checked.
- `scan`: every public function of JAX (`nn`, `numpy`, `scipy.special`) and optax in which a custom rule is called, at
  five kinds of input in two dtypes.
- `in_<library>`: functions of one library, called as its documentation does; a library that is missing is skipped.
- `explained`: what did not pass, looked at by hand; `exact`: the values that it should have.
- `__main__`: the experiment.
"""
