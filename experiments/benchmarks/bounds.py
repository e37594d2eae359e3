"""What was promised: each bound on the time of one contestant against another's, the floor, or the machine's rate."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """On the median over the rounds of the time `against` / the time `of`, which must be at least `value`.

    `within` says the same the other way round: `of` takes at most `within` times as long.
    """

    workload: str
    against: str
    value: float
    of: str = "jnn"
    within: bool = False

    @property
    def row(self) -> str:
        """The contestant beside whom it is printed."""
        return self.against if self.of == "jnn" else self.of

    @property
    def text(self) -> str:
        """As printed in its row; "this" is the contestant of the row."""
        if self.within:
            return f"{self.of} ≤ {self.value:g} × this"
        return f"≥ {self.value:g} × {self.of}" if self.of == "jnn" else f"{self.against} ≥ {self.value:g} × this"

    def met(self, ratio: float) -> bool:
        """Whether a ratio of times, against / of, or if `within` of / against, is enough."""
        return ratio <= self.value if self.within else ratio >= self.value


BOUNDS = (
    Bound("digits-32", "sklearn", 8),
    Bound("digits-32", "torch", 10),
    Bound("digits-32", "jax", 2),
    Bound("digits-200", "sklearn", 5),
    Bound("exponential", "torch", 10),
    Bound("wide", "torch", 2.5),
    Bound("ensemble-256", "sklearn", 20),
    Bound("ensemble-256", "jnn-alone", 2.5),
    Bound("first-defaults", "sklearn", 1.5, within=True),
    Bound("first-defaults", "sklearn", 1, of="jnn-cached"),
    Bound("extras", "bare", 1.15, within=True),
)

MOST_OF_FLOOR = 1.5
"""Each workload at most so many times its floor."""

MOST_SECONDS = {"exponential": (10_000, 2.5)}
"""So many epochs in at most so many seconds."""

LEAST_SHARE = {"wide": 0.8}
"""Of the machine's measured matrix rate."""
