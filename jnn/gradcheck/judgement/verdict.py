"""From the evidence to one verdict, one sentence, and a snippet that reproduces the worst element."""

import fnmatch
import platform
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jnn.gradcheck.judgement.findings import Measured, worst_of
from jnn.gradcheck.oracle.problem import Leaf, Problem
from jnn.gradcheck.report import Check, Element, LeafEvidence

NOTHING = "nothing could be compared"
"""The note of a leaf of which nothing is known."""
ELEMENTS = ("reverse mode", "forward mode", "differences")
"""Checks that look at leaves, of which the leaves' notes say what was seen."""


def declared(problem: Problem, expected: str | Sequence[str]) -> set[str]:
    """The names of the leaves that the user declares to deviate.

    Raises:
        ValueError: a pattern matches no leaf.
    """
    patterns = [expected] if isinstance(expected, str) else list(expected)
    paths = [leaf.path for leaf in problem.inputs]
    found: set[str] = set()
    for pattern in patterns:
        matched = {
            p for p in paths if p == pattern or (("*" in pattern or "?" in pattern) and fnmatch.fnmatch(p, pattern))
        }
        if not matched:
            raise ValueError(
                f"expected a leaf that is declared to deviate, got {pattern!r}; the leaves are {', '.join(paths)}"
            )
        found |= matched
    return found


def overall(leaves: Sequence[LeafEvidence], checks: Sequence[Check]) -> str:
    """The worst of all verdicts."""
    return worst_of([*(leaf.verdict for leaf in leaves), *(check.outcome for check in checks)])


def summary(verdict: str, leaves: Sequence[LeafEvidence], checks: Sequence[Check], hints: Sequence[str] = ()) -> str:
    """One sentence for the top of the report; the hints say what may have made it fail."""
    if verdict == "pass":
        declared = [leaf.path for leaf in leaves if leaf.expected]
        more = f"; {', '.join(declared)} deviates as declared" if declared else ""
        count = "1 leaf agrees" if len(leaves) == 1 else f"{len(leaves)} leaves agree"
        return f"{count} with the reference, element by element{more}"
    bad = [leaf for leaf in leaves if leaf.verdict == verdict]
    names = ", ".join(leaf.path + (f" ({leaf.pattern})" if leaf.pattern else "") for leaf in bad[:3])
    if verdict == "fail":
        broken = "; ".join(f"{check.name}: {check.why}" for check in checks if check.outcome == verdict)
        return "; ".join([f"wrong in {names}" if bad else f"violated: {broken}", *hints])
    if verdict == "kink":
        return f"at a kink in {names}" if bad else "at a kink: any value between the one-sided derivatives is as good"
    # What was seen in a leaf says more than which cotangents showed it; a check of its own kind says more than both.
    undecided = [c for c in checks if c.outcome == verdict]
    reasons = [c.why for c in undecided if c.name not in ELEMENTS]
    reasons += [leaf.note for leaf in bad if leaf.note and NOTHING not in leaf.note] + [c.why for c in undecided]
    because = f": {reasons[0]}" if reasons and reasons[0] else f": {NOTHING}" if bad else ""
    return (f"undecided in {names}" if bad else "undecided: " + ", ".join(c.name for c in undecided[:3])) + because


def snippet(problem: Problem, worst: Element | None, seed: int) -> str:
    """Python that shows the worst element again; `fun` and `args` are what was checked."""
    if worst is None:
        return ""
    heading = f"# fun is {problem.name}; fun and args as given to the check"
    forward = worst.probe.startswith("tangent ")
    path = worst.path.removesuffix(".real").removesuffix(".imag")  # of a complex leaf
    part = worst.path[len(path) :]
    index = "[" + ", ".join(map(str, worst.index)) + "]" if worst.index else ""
    leaf = next((leaf for leaf in (problem.outputs if forward else problem.inputs) if leaf.path == path), None)
    if leaf is None:
        return f"gradcheck.check(fun, *args, seed={seed})  # {worst}"
    if forward:
        return "\n".join(
            [
                heading,
                f"v = gradcheck.tangent(fun, *args, probe={worst.probe.removeprefix('tangent ')!r}, seed={seed})",
                "_, dy = jax.jvp(fun, args, v)",
                f"got = jax.tree.leaves(dy)[{problem.output_place(path)}]{index}{part}",
                f"print(got, 'expected', {worst.expected!r})",
            ]
        )
    return "\n".join(
        [
            heading,
            f"w = gradcheck.cotangent(fun, *args, probe={worst.probe!r}, seed={seed})",
            "_, back = jax.vjp(fun, *args)",
            f"got = gradcheck.leaf(fun, args, back(w), {leaf.path!r}){index}{part}",
            f"print(got, 'expected', {worst.expected!r})",
        ]
    )


def evidence(leaf: Leaf, measured: Measured, outcome: str, note: str, pattern: str) -> LeafEvidence:
    """The evidence of a leaf that was compared once."""
    return LeafEvidence(
        path=leaf.path, shape=tuple(int(n) for n in leaf.shape), dtype=np.dtype(leaf.dtype).name, verdict=outcome,
        comparisons=measured.elements, wrong_share=measured.wrong_share, worst=measured.worst,
        median_ulps=measured.median_ulps, pattern=pattern, note=note, detectable=measured.detectable,
        detectable_element=measured.typical, detectable_rounding=measured.precision,
        detectable_rounding_element=measured.precision_element, errors=measured.errors,
    )  # fmt: skip


def environment() -> dict[str, str]:
    """The versions and settings that a verdict may depend on."""
    return {
        "jax": jax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "backend": jax.default_backend(),
        "x64": str(jnp.result_type(float) == jnp.float64),
        "matmul precision": str(jax.config.jax_default_matmul_precision),  # pyright: ignore[reportAttributeAccessIssue]
    }
