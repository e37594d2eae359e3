"""What does a check of jnn.gradcheck cost, in processor time and in memory?

    python -m experiments.gradcheck_costs [--cases PATTERN] [--slowest N] [--no-memory]

Prints the processor seconds of every check of the corpus together (as they are run by experiments.gradcheck_power), the
slowest ones, and three that are often asked for: an attention, an ordinary differential equation by 100 fixed steps of
Runge and Kutta, and a Cholesky factorization. Then the memory of a check of 1,000,000 parameters in a process of its
own: its peak beyond that of the function's own gradient, in arrays of float64.
"""

import argparse
import fnmatch
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.gradcheck_power import NotFoundError, by_jnn, load_corpus, progress
from jnn import gradcheck

PARAMETERS = 1_000_000
MEMORY = f"""
import resource
import jax, jax.numpy as jnp
from jnn import gradcheck

x = jax.random.normal(jax.random.key(0), ({PARAMETERS},))
rule = jax.custom_vjp(lambda x: jnp.tanh(x))
rule.defvjp(lambda x: (jnp.tanh(x), x), lambda x, g: (g * (1 - jnp.tanh(x) ** 2),))
gradcheck.check(rule, x[:1000], power=False)  # what imports and the compiler take is not the check's
jax.grad(lambda x: rule(x).sum())(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert gradcheck.check(rule, x, power=False).verdict == "pass"
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Two heads, causal."""
    scores = jnp.einsum("hqd,hkd->hqk", q, k) / float(np.sqrt(q.shape[-1]))
    causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))[None]
    return jnp.einsum("hqk,hkd->hqd", jax.nn.softmax(jnp.where(causal, scores, -1e9)), v)


def lotka_volterra(y: jax.Array, p: jax.Array) -> jax.Array:
    """Predators and prey after 100 steps of the classical Runge-Kutta method."""

    def slope(y: jax.Array) -> jax.Array:
        met = y[0] * y[1]
        return jnp.stack([p[0] * y[0] - p[1] * met, p[2] * met - p[3] * y[1]])

    def step(y: jax.Array, _: None) -> tuple[jax.Array, None]:
        h = 0.05
        a = slope(y)
        b = slope(y + h / 2 * a)
        c = slope(y + h / 2 * b)
        return y + h / 6 * (a + 2 * b + 2 * c + slope(y + h * c)), None

    return lax.scan(step, y, None, length=100)[0]


def cholesky(a: jax.Array) -> jax.Array:
    """Of a positive definite matrix made of any."""
    return jnp.linalg.cholesky(a @ a.T + len(a) * jnp.eye(len(a), dtype=a.dtype))


def often_asked_for() -> dict[str, tuple[Callable[..., jax.Array], tuple]]:
    """By name, functions and arguments."""
    keys = jax.random.split(jax.random.key(0), 4)
    return {
        "attention, 2 heads of 16 x 8": (attention, tuple(jax.random.normal(k, (2, 16, 8)) for k in keys[:3])),
        "ODE, 100 fixed steps": (lotka_volterra, (jnp.asarray([1.0, 0.5]), jnp.asarray([1.1, 0.4, 0.1, 0.4]))),
        "Cholesky, 6 x 6": (cholesky, (jax.random.normal(keys[3], (6, 6)),)),
    }


def seconds(run: Callable[[], object]) -> float:
    """The processor time of one call, so that a busy machine does not count."""
    started = time.process_time()
    run()
    return time.process_time() - started


def memory() -> float:
    """The peak of a check of many parameters beyond the function's own, in bytes.

    The allocator is told to return what is freed: by default glibc keeps some of it, more or less from run to run.
    """
    keep = {"MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_TRIM_THRESHOLD_": "1000000"}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, env={**os.environ, **keep}, check=True
    )
    return float(done.stdout)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m experiments.gradcheck_costs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--cases", default="*", metavar="PATTERN", help="only cases whose name matches")
    made.add_argument("--slowest", type=int, default=5, metavar="N", help="how many of the slowest to name (default 5)")
    made.add_argument("--no-memory", action="store_true", help="leave the memory out")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks and print the figures."""
    options = parser().parse_args(argv)
    try:
        corpus = load_corpus()
    except NotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    spent: dict[str, float] = {}
    cases = [case for case in corpus.CASES if fnmatch.fnmatch(case.name, options.cases)]
    for i, case in enumerate(cases):
        progress(i, len(cases), case.name)
        for side in ("right", "wrong"):
            fun = getattr(case, side)
            if fun is not None:
                spent[f"{case.name} ({side})"] = seconds(lambda f=fun, c=case: by_jnn(f, c))
    progress(0, 0, "")
    slowest = sorted(spent, key=lambda name: -spent[name])[: options.slowest]
    print(f"JAX {jax.__version__}, {jax.default_backend()}, {os.cpu_count()} cores; seconds of processor time\n")
    print("| what | seconds |\n|---|---|")
    print(f"| all {len(spent)} checks of the corpus | {sum(spent.values()):.0f} |")
    for name in slowest:
        print(f"| of these, {name} | {spent[name]:.1f} |")
    for name, (fun, args) in often_asked_for().items():
        print(f"| {name} | {seconds(lambda f=fun, a=args: gradcheck.check(f, *a)):.1f} |")
    if not options.no_memory:
        taken = memory()
        arrays = taken / (8 * PARAMETERS)
        print(f"\n{PARAMETERS:,} parameters: {taken / 2**20:.0f} MiB beyond the function's own,", end=" ")
        print(f"{arrays:.1f} arrays of float64")
    return 0


if __name__ == "__main__":
    sys.exit(main())
