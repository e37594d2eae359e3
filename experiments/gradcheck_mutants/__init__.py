"""How many mutants of right derivative rules does `jnn.gradcheck.check` tell?

Run `python -m experiments.gradcheck_mutants`.

- `rules`: twenty right rules, each a function and its backward pass, written so that they serve in float32, in float64
  and in mixed precision (activations in bfloat16, parameters in float32, arithmetic in float32).
- `mutate`: the mutations, made on the syntax tree of a backward pass.
- `__main__`: the experiment.
"""
