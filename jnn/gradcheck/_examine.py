"""One function examined: all checks, put together into a report."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jnn.gradcheck import _contract, _kinks, _opinion, _patterns, _power, _projections, _verdict
from jnn.gradcheck._evidence import describe
from jnn.gradcheck._first_order import FirstOrder, Options
from jnn.gradcheck._judge import reals
from jnn.gradcheck._problem import Problem
from jnn.gradcheck.report import Check, Report


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Numbers that are not finite are evidence here: neither NumPy nor JAX may stop at them."""
    with np.errstate(all="ignore"), jax.debug_nans(False), jax.debug_infs(False):
        yield


def examine(
    problem: Problem,
    plain: Problem,
    options: Options,
    *,
    order: int = 1,
    spared: set[str] | None = None,
    power: bool = True,
) -> Report:
    """The report on one problem; `plain` is the one whose primal is the reference (the same, usually)."""
    spared = spared or set()
    first = FirstOrder(problem, plain, options)
    checks = _first(first, spared)
    if order == 2:
        checks.append(_second(first))
    hints = []
    if _detached(first, spared):
        hints.append("the function calls stop_gradient: declare the leaf with expected= if that is meant")
    broken = [i.path for i in problem.inputs if not np.all(np.isfinite(reals(first.derivatives.lows[i.position])))]
    if broken:
        hints.append(f"the arguments themselves are not finite in {', '.join(broken)}")
    for record in first.records:
        disputes = [d for d in record.disputes if d.probe >= 0]
        if record.verdict == "fail" and disputes:
            x = reals(first.derivatives.lows[record.leaf.position]).ravel()
            record.pattern = _patterns.guess(disputes[0].comparison, record.leaf.shape, x)
    mutations = _power.mutations(first) if power and first.reverse_error is None else ()
    _verdict.apply_declarations(first.records, spared)
    leaves = tuple(r.evidence(r.leaf.path in spared) for r in first.records)
    verdict = _verdict.overall(leaves, checks)
    bad = [leaf.worst for leaf in leaves if leaf.worst is not None and leaf.verdict == verdict]
    return Report(
        function=problem.name,
        verdict=verdict,
        summary=_verdict.summary(verdict, leaves, checks, hints),
        leaves=leaves,
        checks=tuple(checks),
        mutations=mutations,
        reference=_reference_text(first, given=plain is not problem),
        removed=first.derivatives.removed,
        not_rewritten=first.derivatives.kept,
        sampled=tuple(first.sampled),
        seed=options.seed,
        order=order,
        snippet=_verdict.snippet(problem, bad[0] if bad else None, options.seed),
        environment=_verdict.environment(),
    )


def _first(first: FirstOrder, spared: set[str]) -> list[Check]:
    first.reverse()
    if first.reverse_error is None and first.source is None:
        first.checks.append(_projections.run(first))
    first.forward()
    _kinks.settle(first, allow_nonfinite=first.options.allow_nonfinite)
    checks = list(first.checks)
    forward = next((k for k, c in enumerate(checks) if c.name == "forward mode"), None)
    if forward is not None and checks[forward].outcome == "pass":
        checks[forward] = _of_mode(first, "forward", checks[forward].why, spared)
    works = forward is not None and checks[forward].ran and checks[forward].outcome != "fail"
    if first.reverse_error is not None:
        checks.insert(0, Check("reverse mode", "skipped" if works else "fail", describe(first.reverse_error)))
    elif first.gradients:
        probes = ", ".join(p.name for p in first.probes[:4]) + (", ..." if len(first.probes) > 4 else "")
        count = f"{len(first.probes)} cotangent{'s' * (len(first.probes) != 1)}: {probes}"
        checks.insert(0, _of_mode(first, "reverse", count, spared))
    for record in first.records:
        if not record.comparisons and record.leaf.size:
            record.notes["compared together with the other leaves only" if works else "nothing could be compared"] = (
                None
            )
            record.verdict = "pass" if works else "inconclusive"
    checks += _contract.run(first, spared)
    checks.append(_opinion.run(first, spared))
    return checks


def _of_mode(first: FirstOrder, mode: str, ran: str, spared: set[str]) -> Check:
    """The check of one mode, as bad as what its comparisons showed in the leaves that are not declared to deviate."""
    records = [r for r in first.records if r.leaf.path not in spared]
    if mode == "forward" and not spared:
        records.append(first.together)
    found = {r.leaf.path: r.outcomes[mode] for r in records if mode in r.outcomes}
    outcome = next((v for v in _verdict.ORDER if v in found.values()), "pass")
    if outcome == "pass":
        return Check(f"{mode} mode", "pass", ran)
    if first.together.outcomes.get(mode) == outcome and not spared:
        return Check(f"{mode} mode", outcome, str(first.together.worst))
    bad = ", ".join(path for path, verdict in found.items() if verdict == outcome)
    return Check(f"{mode} mode", outcome, f"{bad}; {ran}")


def _detached(first: FirstOrder, spared: set[str]) -> bool:
    """Whether a deviation that is not declared comes from the function's stop_gradients (most change nothing)."""
    if not any(r.startswith("stop_gradient") for r in first.derivatives.removed):
        return False
    failed = [(j, r) for j, r in enumerate(first.records) if r.verdict == "fail" and r.leaf.path not in spared]
    for j, dispute in [(j, next((d for d in r.disputes if d.probe >= 0), None)) for j, r in failed]:
        if dispute is None:
            continue
        w = list(first.probes[dispute.probe].values)
        try:
            kept = reals(first.derivatives.with_stop_gradient(first.derivatives.lows, w)[1][j]).ravel()
        except Exception:  # the function has no such derivative: no hint, then
            return False
        c = dispute.comparison.at(dispute.where)
        if np.any(np.abs(kept[dispute.where] - c.truth) > c.allowed_arithmetic()):
            return True
    return False


def _second(first: FirstOrder) -> Check:
    """Order 2: the gradient of ⟨w, f⟩ is the function, and the gradient of the primal without rules its reference."""
    name = "order 2"
    if first.reverse_error is not None:
        return Check(name, "skipped", "there is no gradient to differentiate")
    problem, d = first.problem, first.derivatives
    w = [jnp.asarray(v) for v in first.probes[0].values]
    names = [f"argument {k}" for k in range(len(d.lows))]
    for leaf in problem.inputs:
        names[leaf.position] = leaf.path
    plain = core.jaxpr_as_fun(d.primal)

    def pulled(f: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        def gradient(*arrays: Any) -> list[Any]:
            _, back = jax.vjp(lambda *x: f(*problem.merged(arrays, x)), *problem.differentiable(arrays))
            return list(back(w))

        return gradient

    try:
        rule = Problem(pulled(problem.flat), d.lows, names)
        second = FirstOrder(
            rule, Problem(pulled(lambda *a: list(plain(*a))), d.lows, names), first.options_at_order_2()
        )
        second.reverse()
    except Exception as error:
        return Check(name, "inconclusive", describe(error))
    if second.reverse_error is not None:
        return Check(name, "fail", f"the gradient cannot be differentiated: {describe(second.reverse_error)}")
    if second.source is None:
        return Check(name, "inconclusive", "; ".join(c.why for c in second.checks))
    _kinks.settle(second)
    by_path = {r.leaf.path: r for r in first.records}
    for record in second.records:
        owner = by_path[record.leaf.path]
        if record.verdict != "pass":
            owner.notes[f"order 2 {record.verdict}: {record.worst}"] = None
        if record.verdict == "fail":
            owner.verdict = "fail"
    verdicts = {r.verdict for r in second.records}
    outcome = next((v for v in _verdict.ORDER if v in verdicts), "pass")
    return Check(name, outcome, _symmetry(second) if outcome == "pass" else "Hessian-vector products deviate")


def _symmetry(second: FirstOrder) -> str:
    """⟨u, Hv⟩ and ⟨v, Hu⟩ for the two random directions, as text (both were compared with the truth already)."""
    if len(second.probes) < 2:
        return "Hessian-vector products agree"
    u, v = ([reals(a).ravel() for a in second.probes[k].values] for k in (0, 1))
    one = sum(float(a @ b) for a, b in zip(v, second.gradients[0], strict=True))
    two = sum(float(a @ b) for a, b in zip(u, second.gradients[1], strict=True))
    return f"Hessian-vector products agree; ⟨v, Hu⟩ = {one:.7g}, ⟨u, Hv⟩ = {two:.7g}"


def _reference_text(first: FirstOrder, *, given: bool) -> str:
    kind = "none" if first.source is None else first.source.kind
    what = "its primal without custom rules" if not given else "the reference that was given"
    if first.source is None and first.tangents:
        kind = "forward-mode autodiff"
    text = f"{kind} of {what}, in float64"
    if first.source is not None and first.source.opaque:
        text += "; not in float64: " + ", ".join(first.source.opaque)
    return text
