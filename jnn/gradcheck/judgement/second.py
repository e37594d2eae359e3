"""Order 2: the gradient of ⟨w, f⟩ is the function, and its derivative is judged like any other.

Two opinions are heard. One is autodiff of autodiff of the primal without rules. The other are differences of the
rule's own gradient, which the first order has confirmed: where the primal has no second derivative in JAX (a while
loop) they are the reference, and where autodiff follows a branch that holds at a single point only (sinc at 0) they
refute it. Without the second opinion no Hessian-vector product passes.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from jnn.gradcheck.judgement import kinks, opinion, projections, reverse
from jnn.gradcheck.judgement.findings import Findings, LeafFinding, describe, worst_of
from jnn.gradcheck.judgement.forward import Forward
from jnn.gradcheck.judgement.reverse import Reverse
from jnn.gradcheck.judgement.setting import Setting, flats
from jnn.gradcheck.oracle import reference
from jnn.gradcheck.oracle.problem import Problem
from jnn.gradcheck.report import Check

NAME = "order 2"


def run(first: Setting, spared: set[str]) -> Findings:
    """Compare Hessian-vector products."""
    if first.reverse_error is not None:
        return Findings((Check(NAME, "skipped", "there is no gradient to differentiate"),))
    problem, d = first.problem, first.derivatives
    w = [jnp.asarray(v) for v in first.probes[0].values]
    plain = core.jaxpr_as_fun(d.primal)

    def pulled(f: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        def gradient(*arrays: Any) -> list[Any]:
            _, back = jax.vjp(lambda *x: f(*problem.merged(arrays, x)), *problem.differentiable(arrays))
            return list(back(w))

        return gradient

    positions = [leaf.position for leaf in problem.inputs]
    names = problem.array_names()

    def made(f: Callable[..., list[Any]]) -> Problem:
        return Problem(pulled(f), d.lows, names, positions)

    try:
        rule = made(problem.flat)
    except Exception as error:
        return Findings((Check(NAME, "inconclusive", describe(error)),))
    truth = rule
    if first.options.residual is None:
        with contextlib.suppress(Exception):  # the primal may have no gradient in JAX
            truth = made(lambda *a: list(plain(*a)))
    options = type(first.options)(first.options.seed, first.options.tolerance, first.options.allow_nonfinite)
    setting = Setting(rule, truth, options, witness=rule)
    if setting.reverse_error is not None:
        why = f"the gradient cannot be differentiated: {describe(setting.reverse_error)}"
        return Findings((Check(NAME, "fail", why),))
    found, compared = _compared(setting, by_differences=truth is rule)
    found += opinion.run(setting, compared, found, spared)
    verdicts = {path: found.verdict(path) for path in (leaf.path for leaf in problem.inputs)}
    outcome = worst_of([*verdicts.values(), *(c.outcome for c in found.checks)])
    if outcome == "pass" and _unconfirmed(found):
        outcome = "inconclusive"
    return Findings(
        (Check(NAME, outcome, _why(outcome, setting, compared, found)),), _told(found, verdicts), found.sampled
    )


def _compared(setting: Setting, *, by_differences: bool) -> tuple[Findings, Reverse]:
    if by_differences:
        compared = reverse.by_differences(setting)
    else:
        compared = reverse.run(setting)
        if compared.source is None:
            compared = reverse.by_differences(setting)
    if compared.source is None:
        gradients, found = projections.run(setting, autodiff=False)
        return found, Reverse(None, gradients, (), found)
    return kinks.settle(setting, compared, Forward()), compared


def _unconfirmed(found: Findings) -> bool:
    """Whether nothing but autodiff of the primal spoke."""
    if any(c.name == projections.NAME for c in found.checks):
        return False
    return any(c.name == opinion.NAME and c.outcome == "skipped" and c.why != opinion.THEMSELVES for c in found.checks)


def _told(found: Findings, verdicts: dict[str, str]) -> tuple[LeafFinding, ...]:
    out = []
    for path, verdict in verdicts.items():
        if verdict == "pass":
            continue
        bad = [leaf for leaf in found.of(path) if leaf.outcome == verdict]
        worst = next((leaf.worst for leaf in bad if leaf.worst is not None), None)
        note = next((leaf.note for leaf in bad if leaf.note), "")
        said = f"order 2 {verdict}: {worst if worst is not None else note}"
        # A kink of second order is none of the gradient itself.
        out.append(LeafFinding(path, verdict if verdict != "kink" else "pass", said))
    return tuple(out)


def _why(outcome: str, setting: Setting, compared: Reverse, found: Findings) -> str:
    if outcome == "pass":
        return _symmetry(setting, compared)
    reasons = [
        c.why for c in found.checks if c.outcome == outcome or (outcome == "inconclusive" and c.outcome == "skipped")
    ]
    if outcome == "inconclusive":
        return "no second opinion: " + "; ".join(reasons) if reasons else "Hessian-vector products are undecided"
    return "Hessian-vector products deviate" + "".join(f"; {r}" for r in reasons[:1])


def _symmetry(setting: Setting, compared: Reverse) -> str:
    """⟨u, Hv⟩ and ⟨v, Hu⟩ for the two random directions, as text (both were compared with the truth already)."""
    kind = "" if not isinstance(compared.source, reference.Differences) else " with differences of the gradient"
    if len(setting.probes) < 2 or len(compared.gradients) < 2:
        return f"Hessian-vector products agree{kind}"
    u, v = (flats(setting.probes[k].values) for k in (0, 1))
    one = sum(float(a @ b) for a, b in zip(v, compared.gradients[0], strict=True))
    two = sum(float(a @ b) for a, b in zip(u, compared.gradients[1], strict=True))
    return f"Hessian-vector products agree{kind}; ⟨v, Hu⟩ = {one:.7g}, ⟨u, Hv⟩ = {two:.7g}"
