"""A differential tester of derivatives for any JAX function: is a hand-written rule right, and where is it wrong?"""

from jnn.gradcheck.check import check, check_rules, compare, cotangent, leaf, rule_call, tangent
from jnn.gradcheck.report import Check, Element, GradientError, LeafEvidence, Mutation, Report, RuleReport

__all__ = [
    "Check",
    "Element",
    "GradientError",
    "LeafEvidence",
    "Mutation",
    "Report",
    "RuleReport",
    "check",
    "check_rules",
    "compare",
    "cotangent",
    "leaf",
    "rule_call",
    "tangent",
]
