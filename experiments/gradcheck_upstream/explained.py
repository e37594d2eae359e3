"""What did not pass in the table, looked at by hand: by function and inputs, whose fault it is, and why.

Each entry was compared with mpmath or an analytic value; `whose` is "theirs" (the library's derivative is wrong, or is
not there), "no derivative" (none exists at the point, or none that is finite), "deliberate" (the library says so), or
"ours" (the checker cannot decide, or should have).
"""

import fnmatch
from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """Of results whose function and inputs match the patterns."""

    function: str
    inputs: str
    whose: str
    text: str

    def fits(self, function: str, inputs: str) -> bool:
        """Whether it is about this result."""
        return fnmatch.fnmatchcase(function, self.function) and fnmatch.fnmatchcase(inputs, self.inputs)


EXPLANATIONS: tuple[Explanation, ...] = ()


def explanation(function: str, inputs: str) -> Explanation | None:
    """The first explanation of a result, if there is one."""
    return next((e for e in EXPLANATIONS if e.fits(function, inputs)), None)
