"""Order 2: the gradient of ⟨w, f⟩ is the function, and its derivative is judged like any other.

Where the function has forward mode only (a while loop), its derivative along a tangent is the function; and where the
gradient in turn has no reverse mode, forward mode over it gives the Hessian-vector products.

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

from jnn.gradcheck.judgement import forward, kinks, opinion, projections, reverse
from jnn.gradcheck.judgement.findings import Findings, LeafFinding, describe, worst_of
from jnn.gradcheck.judgement.forward import Forward
from jnn.gradcheck.judgement.reverse import Reverse
from jnn.gradcheck.judgement.setting import Setting, flats
from jnn.gradcheck.oracle import reference
from jnn.gradcheck.oracle.problem import Problem
from jnn.gradcheck.report import Check

NAME = "order 2"
Flat = Callable[..., list[Any]]


def run(first: Setting, ahead: Forward, spared: set[str]) -> Findings:
    """Compare Hessian-vector products."""
    if first.reverse_error is not None and not ahead.works:
        return Findings((Check(NAME, "inconclusive", "there is no derivative to differentiate"),))
    problem, d = first.problem, first.derivatives
    plain = core.jaxpr_as_fun(d.primal)
    derived = _pulled(first) if first.reverse_error is None else _pushed(first, ahead)
    positions = [leaf.position for leaf in problem.inputs]

    def made(f: Flat) -> Problem:
        return Problem(derived(f), d.lows, problem.array_names(), positions)

    try:
        rule = made(problem.flat)
    except Exception as error:
        return Findings((Check(NAME, "inconclusive", describe(error)),))
    truth = rule
    if first.options.residual is None:
        with contextlib.suppress(Exception):  # the primal may have no derivative of this kind in JAX
            truth = made(lambda *a: list(plain(*a)))
    options = type(first.options)(first.options.seed, first.options.tolerance, first.options.allow_nonfinite)
    setting = Setting(rule, truth, options, witness=rule)
    found, compared, pushed = _compared(setting, autodiff=truth is not rule)
    if setting.reverse_error is not None and not pushed.works:
        # Autodiff of a kernel or a callback in a backward function: there is no second derivative to be wrong.
        why = f"the derivative cannot be differentiated: {describe(setting.reverse_error)}"
        return Findings((Check(NAME, "inconclusive", why),))
    found += opinion.run(setting, compared, pushed, found, spared)
    verdicts = {path: found.verdict(path) for path in (leaf.path for leaf in problem.inputs)}
    outcome = worst_of([*verdicts.values(), found.verdict(forward.TOGETHER), *(c.outcome for c in found.checks)])
    if outcome == "pass" and _unconfirmed(found):
        outcome = "inconclusive"
    return Findings(
        (Check(NAME, outcome, _why(outcome, setting, compared, found)),), _told(found, verdicts), found.sampled
    )


def _pulled(first: Setting) -> Callable[[Flat], Flat]:
    """The gradient of ⟨w, f⟩."""
    problem, w = first.problem, [jnp.asarray(v) for v in first.probes[0].values]

    def derived(f: Flat) -> Flat:
        def gradient(*arrays: Any) -> list[Any]:
            _, back = jax.vjp(lambda *x: f(*problem.merged(arrays, x)), *problem.differentiable(arrays))
            return list(back(w))

        return gradient

    return derived


def _pushed(first: Setting, ahead: Forward) -> Callable[[Flat], Flat]:
    """The derivative of f along a tangent in all leaves."""
    problem, v = first.problem, [jnp.asarray(t) for t in ahead.tangents[0].values]

    def derived(f: Flat) -> Flat:
        def derivative(*arrays: Any) -> list[Any]:
            x = problem.differentiable(arrays)
            return list(jax.jvp(lambda *x: f(*problem.merged(arrays, x)), x, v)[1])

        return derivative

    return derived


def _compared(setting: Setting, *, autodiff: bool) -> tuple[Findings, Reverse, Forward]:
    """What was found, by reverse mode if there is one."""
    if setting.reverse_error is not None:
        pushed = forward.run(setting, autodiff=autodiff)
        return kinks.settle(setting, Reverse(), pushed) + pushed.findings, Reverse(), pushed
    compared = reverse.run(setting) if autodiff else Reverse()
    if compared.source is None:
        compared = reverse.by_differences(setting)
    if compared.source is None:
        gradients, found = projections.run(setting, autodiff=False)
        return found, Reverse(None, gradients, (), found), Forward()
    return kinks.settle(setting, compared, Forward()), compared, Forward()


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
    if len(setting.probes) < 2 or not {0, 1} <= set(compared.gradients):
        return f"Hessian-vector products agree{kind}"
    u, v = (flats(setting.probes[k].values) for k in (0, 1))
    one = sum(float(a @ b) for a, b in zip(v, compared.gradients[0], strict=True))
    two = sum(float(a @ b) for a, b in zip(u, compared.gradients[1], strict=True))
    return f"Hessian-vector products agree{kind}; ⟨v, Hu⟩ = {one:.7g}, ⟨u, Hv⟩ = {two:.7g}"
