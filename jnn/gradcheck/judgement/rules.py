"""Every custom rule inside a function, checked where it is really called.

A rule inside a primitive that is evaluated as a whole (shard_map, a Pallas kernel) is checked together with it: the
call of the primitive is the one that is looked at. Of a custom_linear_solve the solution is checked as a function of
its right-hand side, which is what its transposed solver differentiates.

The function is evaluated with its rules in place. At each call of a rule the operands are recorded, and a zero (a
tap) is added to the outputs: the derivative with respect to the tap is the cotangent that reaches the call. Inside a
scan there is one tap and one record for each iteration, of which the first and the last are checked; of a cond, the
branch that was taken; of a while loop (which has no reverse mode) the first iteration, with random cotangents.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jnn.gradcheck.judgement import verdict
from jnn.gradcheck.judgement.examine import examine
from jnn.gradcheck.judgement.findings import ORDER, describe
from jnn.gradcheck.judgement.setting import Options
from jnn.gradcheck.oracle import directions, jaxprs
from jnn.gradcheck.oracle.problem import Problem
from jnn.gradcheck.oracle.rewrite import like, silently, strong
from jnn.gradcheck.report import Check, Report, RuleReport


@dataclasses.dataclass(frozen=True)
class Site:
    """One call of a rule in the program text; `lead` has the lengths of the scans around it."""

    eqn: Any
    where: str
    lead: tuple[int, ...]
    tapped: bool

    @property
    def outputs(self) -> list[Any]:
        """The floating outputs of the call."""
        return [v.aval for v in self.eqn.outvars if jaxprs.is_inexact(v.aval.dtype)]

    def taps(self) -> list[np.ndarray]:
        """Zeros to add to the outputs."""
        return [np.zeros((*self.lead, *a.shape), a.dtype) for a in self.outputs] if self.tapped else []


def _sites(jaxpr: Any, lead: tuple[int, ...], tapped: bool, outer: str) -> list[Site]:
    """The calls of rules in the order in which `_Recording` meets them."""
    inner, _ = jaxprs.opened(jaxpr)
    found: list[Site] = []
    for eqn in inner.eqns:
        name, where = eqn.primitive.name, jaxprs.site(eqn) or outer
        if is_site(eqn):
            found.append(Site(eqn, where, lead, tapped))
        elif name in jaxprs.INLINE:
            found += _sites(jaxprs.body(eqn), lead, tapped, where)
        elif name == "scan":
            found += _sites(eqn.params["jaxpr"], (*lead, eqn.params["length"]), tapped, where)
        elif name == "while":
            found += _sites(eqn.params["body_jaxpr"], lead, False, where)
        elif name == "cond":
            for branch in eqn.params["branches"]:
                found += _sites(branch, lead, tapped, where)
    return found


def is_site(eqn: Any) -> bool:
    """Whether an equation is looked at as a whole."""
    name = eqn.primitive.name
    if name in jaxprs.RULES or name == "custom_linear_solve":
        return True
    looked_into = {*jaxprs.INLINE, "scan", "while", "cond"}
    return name not in looked_into and any(map(jaxprs.has_rule, jaxprs.subjaxprs(eqn)))


def hidden(jaxpr: Any, outer: str = "the function itself") -> list[str]:
    """What was not looked at: rules in the primals of rules, which their own rule stands for."""
    inner, _ = jaxprs.opened(jaxpr)
    found = []
    for eqn in inner.eqns:
        where = jaxprs.site(eqn) or outer
        if eqn.primitive.name in jaxprs.RULES:
            if jaxprs.has_rule(jaxprs.body(eqn)):
                name = jaxprs.rule_name(eqn)
                found.append(
                    f"rules inside the primal of {name} at {where} were not checked: its own rule stands for it"
                )
        elif not is_site(eqn):
            found += [name for sub in jaxprs.subjaxprs(eqn) for name in hidden(sub, where)]
    return found


Record = tuple[list[Any], Any]  # the operands of a call, and whether it was reached


class _Recording:
    """Evaluates a jaxpr with its rules, adding taps and recording operands, site by site."""

    def evaluate(self, jaxpr: Any, args: Sequence[Any], taps: list[list[Any]]) -> tuple[list[Any], list[Record]]:
        """(outputs, records); `taps` has one entry a site of this jaxpr, in order."""
        inner, consts = jaxprs.opened(jaxpr)
        env = jaxprs.Environment(inner, consts, args, lambda literal: literal.val)
        records: list[Record] = []
        used = jaxprs.used_variables(inner)
        for eqn in inner.eqns:
            if jaxprs.is_silent(eqn, used):
                continue
            values = env.read(eqn.invars)
            mine = taps[len(records) :]
            out, more = self._equation(eqn, values, mine)
            records += more
            env.write(eqn.outvars, out)
        return env.read(inner.outvars), records

    def _equation(self, eqn: Any, values: list[Any], taps: list[list[Any]]) -> tuple[list[Any], list[Record]]:
        name = eqn.primitive.name
        if is_site(eqn):
            out = jaxprs.bind(eqn, values)
            left = iter(taps[0])
            tapped = [o + next(left, 0) if jaxprs.is_inexact(v.aval.dtype) and taps[0] else o
                      for o, v in zip(out, eqn.outvars, strict=True)]  # fmt: skip
            return tapped, [(values, jnp.bool_(True))]
        if name in jaxprs.INLINE:
            return self.evaluate(jaxprs.body(eqn), values, taps)
        if name == "scan":
            return self._scan(eqn, values, taps)
        if name == "while":
            return self._while(eqn, values)
        if name == "cond":
            return self._cond(eqn, values, taps)
        return jaxprs.bind(eqn, values), []

    def _scan(self, eqn: Any, values: list[Any], taps: list[list[Any]]) -> tuple[list[Any], list[Record]]:
        jaxpr = eqn.params["jaxpr"]
        n = len(_sites(jaxpr, (), True, ""))
        n_consts, n_carry = jaxprs.scan_arity(eqn)
        consts, xs = values[:n_consts], values[n_consts + n_carry :]
        carry = list(map(strong, values[n_consts : n_consts + n_carry]))

        def step(state: list[Any], x: tuple[list[Any], list[list[Any]]]) -> tuple[list[Any], Any]:
            out, records = self.evaluate(jaxpr, [*consts, *state, *x[0]], x[1])
            return like(out[:n_carry], state), (out[n_carry:], records)

        options = {k: eqn.params[k] for k in ("length", "reverse")}
        state, (ys, records) = lax.scan(step, carry, (xs, taps[:n]), **options)
        return [*state, *ys], records

    def _while(self, eqn: Any, values: list[Any]) -> tuple[list[Any], list[Record]]:
        n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        carry = values[n_cond + n_body :]
        jaxpr = eqn.params["body_jaxpr"]
        n = len(_sites(jaxpr, (), False, ""))
        _, records = self.evaluate(jaxpr, [*values[n_cond : n_cond + n_body], *carry], [[]] * n)
        entered, _ = self.evaluate(eqn.params["cond_jaxpr"], [*values[:n_cond], *carry], [])
        return jaxprs.bind(eqn, values), [(operands, reached & jnp.any(entered[0])) for operands, reached in records]

    def _cond(self, eqn: Any, values: list[Any], taps: list[list[Any]]) -> tuple[list[Any], list[Record]]:
        branches = eqn.params["branches"]
        counts = [len(_sites(b, (), True, "")) for b in branches]
        starts = np.cumsum([0, *counts])
        shapes = [
            jax.eval_shape(
                lambda *ops, b=b, k=k: self.evaluate(b, ops, taps[starts[k] : starts[k + 1]])[1], *values[1:]
            )
            for k, b in enumerate(branches)
        ]

        def branch(k: int) -> Any:
            def run(operands: list[Any], mine: list[list[Any]]) -> tuple[list[Any], list[Record]]:
                out, records = self.evaluate(branches[k], operands, mine[starts[k] : starts[k + 1]])
                blank = [jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), s) for s in shapes]
                blank[k] = records
                return list(map(strong, out)), [record for part in blank for record in part]

            return run

        return lax.switch(values[0], [branch(k) for k in range(len(branches))], values[1:], taps[: starts[-1]])


def rules_of(problem: Problem, options: Options, *, power: bool, most: int) -> Report:
    """The report of `jnn.gradcheck.check_rules`."""
    sites = _sites(problem.jaxpr, (), True, "the function itself")
    environment = verdict.environment()
    kept = tuple(hidden(problem.jaxpr))
    if not sites:
        return Report(problem.name, "pass", "no custom rule is called", not_rewritten=kept, environment=environment)
    w, how = _loss_cotangent(problem, options)
    records, cotangents, why = _recorded(problem, sites, w)
    checks = [Check("cotangents that reach the rules", "pass" if not why else "skipped", why or how)]
    visits = [v for s, r, c in zip(sites, records, cotangents, strict=True) for v in _visits(s, r, c)]
    missed = len(sites) - len({id(v[0]) for v in visits})
    reports = tuple(_checked(k, *visit, options, power) for k, visit in enumerate(visits[:most]))
    sampled = []
    if len(visits) > most:
        sampled.append(f"{most} of {len(visits)} calls were checked; raise most= for all")
    if missed:
        sampled.append(f"{missed} of {len(sites)} calls were not reached at these arguments")
    verdicts = {r.report.verdict for r in reports}
    outcome = next((v for v in ORDER if v in verdicts), "pass")
    bad = list(dict.fromkeys(f"{r.name} ({r.site})" for r in reports if r.report.verdict == outcome))
    names = list(dict.fromkeys(r.name for r in reports))
    calls = "1 call agrees with its primal" if len(reports) == 1 else f"{len(reports)} calls agree with their primals"
    agree = f"{calls}: {', '.join(names)}"
    text = {"pass": agree, "fail": "wrong: ", "kink": "at a kink: ", "inconclusive": "undecided: "}[outcome]
    return Report(
        function=problem.name, verdict=outcome, summary=text + ("" if outcome == "pass" else ", ".join(bad)),
        checks=tuple(checks), rules=reports, reference="the primal of each rule", not_rewritten=kept,
        sampled=tuple(sampled), seed=options.seed, environment=environment,
        snippet=f"gradcheck.check_rules(fun, *args, seed={options.seed})  # fun is {problem.name}",
    )  # fmt: skip


def visits_of(problem: Problem, options: Options) -> list[tuple[Any, list[Any], Any]]:
    """(rule, operands, cotangents) of every call that is looked at, in the order of the report."""
    sites = _sites(problem.jaxpr, (), True, "the function itself")
    records, cotangents, _ = _recorded(problem, sites, _loss_cotangent(problem, options)[0])
    visits = [v for s, r, c in zip(sites, records, cotangents, strict=True) for v in _visits(s, r, c)]
    return [(_called(site), operands, given) for site, _, operands, given in visits]


def _called(site: Site) -> Any:
    """The rule of a site as a function of its flat operands."""

    def rule(*values: Any) -> list[Any]:
        return jaxprs.bind(site.eqn, values)

    rule.__qualname__ = _name(site.eqn)
    return rule


def _name(eqn: Any) -> str:
    if eqn.primitive.name in jaxprs.RULES:
        return jaxprs.rule_name(eqn)
    inside = [jaxprs.rule_name(e) for e in jaxprs.all_equations_of(eqn) if e.primitive.name in jaxprs.RULES]
    return f"{eqn.primitive.name} of {', '.join(dict.fromkeys(inside))}" if inside else eqn.primitive.name


def _loss_cotangent(problem: Problem, options: Options) -> tuple[list[np.ndarray], str]:
    if options.cotangents is not None:
        return list(options.cotangents), "those of the given cotangent"
    if len(problem.outputs) == 1 and problem.outputs[0].size == 1:
        return [np.ones(problem.outputs[0].shape, np.dtype(problem.outputs[0].dtype))], "those of the scalar result"
    return list(directions.cotangents(problem.outputs, options.seed, True)[0].values), "those of a random cotangent"


def _recorded(problem: Problem, sites: list[Site], w: list[Any]) -> tuple[list[Record], list[list[Any] | None], str]:
    """(records, cotangents by site, why there are none)."""
    taps = [s.taps() for s in sites]

    def run(taps: list[list[Any]]) -> tuple[list[Any], list[Record]]:
        return _Recording().evaluate(problem.jaxpr, problem.arrays, taps)

    try:

        def both(taps: list[list[Any]]) -> tuple[list[Record], list[list[Any]]]:
            _, back, records = jax.vjp(run, taps, has_aux=True)
            return records, back(w)[0]

        records, cotangents = silently(both, taps)
        return records, [c if s.tapped else None for c, s in zip(cotangents, sites, strict=True)], ""
    except Exception as error:  # no reverse mode: the values are there all the same
        _, records = silently(run, taps)
        return records, [None] * len(sites), f"random ones are used instead: {describe(error)}"


Visit = tuple[Site, str, list[Any], list[Any] | None]


def _visits(site: Site, record: Record, cotangents: list[Any] | None) -> list[Visit]:
    """The iterations to look at, with their operands and cotangents."""
    operands, reached = record[0], np.asarray(record[1])
    indices = sorted({tuple(0 for _ in site.lead), tuple(n - 1 for n in site.lead)}) if 0 not in site.lead else []
    found: list[Visit] = []
    for index in indices:
        if not reached[index]:
            continue
        name = "iteration " + ", ".join(f"{k + 1} of {n}" for k, n in zip(index, site.lead, strict=True))
        given = None if cotangents is None else [np.asarray(c)[index] for c in cotangents]
        if given is not None and not any(np.any(g) for g in given):
            given = None
        values = [v[index] for v in operands] if index else list(operands)
        found.append((site, name if index else "call", values, given))
    return found


def _checked(
    number: int, site: Site, visit: str, operands: list[Any], cotangents: Any, options: Options, power: bool
) -> RuleReport:
    eqn = site.eqn
    name, kind = _name(eqn), str(jaxprs.RULES.get(eqn.primitive.name, eqn.primitive.name))
    given = None if cotangents is None else tuple(cotangents)
    try:
        rule, arrays, names = _by_variable(site, operands)
        problem = Problem(rule, arrays, names, _right_hand_sides(eqn, len(arrays)))
        report = examine(problem, problem, dataclasses.replace(options, cotangents=given), power_too=power)
        lines = [
            f"# fun is the function given to check_rules, {name} a rule inside it",
            f"rule, operands, w = gradcheck.rule_call(fun, *args, call={number}, seed={options.seed})",
            "_, back = jax.vjp(rule, *operands)",
            "print(back(w) if w is not None else gradcheck.check(rule, *operands))",
        ]
        report = dataclasses.replace(report, snippet="\n".join(lines))
    except ValueError as error:  # nothing in this call is differentiable
        report = Report(name, "pass", describe(error))
    return RuleReport(
        name, kind, site.where, visit if cotangents is not None else visit + ", random cotangents", report
    )


def _right_hand_sides(eqn: Any, count: int) -> tuple[int, ...] | None:
    """The operands that are differentiated; None for all."""
    if eqn.primitive.name == "custom_linear_solve":
        return tuple(range(sum(eqn.params["const_lengths"]), count))
    if eqn.primitive.name == "linear_call":
        return tuple(range(eqn.params["num_callee_consts"] + eqn.params["num_res"], count))
    return None


def _by_variable(site: Site, operands: list[Any]) -> tuple[Any, list[Any], list[str]]:
    """(the rule as a function of the variables that it is called with, their values, their names).

    A call may pass one variable several times (so does closure conversion). What becomes of each of these cotangents is
    the rule's own affair; only their sum is a derivative.
    """
    eqn, rule = site.eqn, _called(site)
    names = jaxprs.parameter_names(eqn, len(operands)) if eqn.primitive.name in jaxprs.RULES else []
    names = names or [f"operand {k}" for k in range(len(operands))]
    arrays = [v if isinstance(v, jax.Array) else jnp.asarray(v) for v in operands]
    if eqn.primitive.name not in jaxprs.RULES:
        return rule, arrays, names
    first: dict[Any, int] = {}
    places = []
    for k, atom in enumerate(eqn.invars):
        key = ("literal", k) if jaxprs.is_literal(atom) else atom
        places.append(first.setdefault(key, k))
    kept = list(dict.fromkeys(places))
    if len(kept) == len(operands):
        return rule, arrays, names

    def called(*values: Any) -> list[Any]:
        by_place = dict(zip(kept, values, strict=True))
        return rule(*(by_place[p] for p in places))

    called.__qualname__ = rule.__qualname__
    return called, [arrays[k] for k in kept], [names[k] for k in kept]
