"""The lecture's activation functions: are their hand-written derivatives right, and which of them saturate?"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from scipy.optimize import brentq, minimize_scalar

from experiments import drawing
from experiments.experiment import Experiment, Outcome, Picture, Session, Table, Verdict
from jnn.activations import Activation, logistic, relu, softsign, step, tanh

FORMULAS = {
    step: "I{a > 0}",
    tanh: "tanh a",
    relu: "max(0, a)",
    logistic: "1/(1 + exp(−a))",
    softsign: "a/(1 + |a|)",
}
SATURATING = {"step": "both", "tanh": "both", "relu": "left", "logistic": "both", "softsign": "both"}
"""What the graphs on the slide show: on which sides h becomes flat."""

SMALL = 0.01
"""Where h' is below it, a neuron passes on less than 1% of its δ."""
REACH = 10.0
FAR = 10.0 ** np.arange(1, 9)
"""Arguments along which h' is followed to its limit."""
GRID_POINTS = {"tiny": 201, "quick": 4001, "full": 100_001}


@dataclass(frozen=True)
class Found:
    """All figures about one activation; everything in float64.

    Attributes:
        activation: h and h'.
        a: a grid over ±REACH that leaves out the kink at 0.
        h: h(a).
        slope: h'(a), the hand-written one.
        autodiff: what JAX makes of h.
        difference: (h(a + d) − h(a − d)) / 2d.
        bar: how wrong the difference may be.
        tails: h' at −FAR and at FAR, `(2, len(FAR))`.
        at_zero: h'(0).
    """

    activation: Activation
    a: np.ndarray
    h: np.ndarray
    slope: np.ndarray
    autodiff: np.ndarray
    difference: np.ndarray
    bar: np.ndarray
    tails: np.ndarray
    at_zero: float

    @property
    def name(self) -> str:
        return self.activation.name

    @property
    def flat(self) -> float:
        """The share of ±REACH where h' < SMALL."""
        return float(np.mean(self.slope < SMALL))

    @property
    def sides(self) -> str:
        """On which sides h' goes to 0: it ends below 10⁻¹², and never rises on the way."""
        left, right = (t[-1] < 1e-12 and bool(np.all(np.diff(t) <= 0)) for t in self.tails)
        return {(True, True): "both", (True, False): "left", (False, True): "right"}.get((left, right), "none")


def examine(activation: Activation, points: int) -> Found:
    """Evaluate h, h', autodiff's derivative of h, and central differences.

    The difference misses h'''d²/6, of which half the step shows 3/4, and each h carries a few rounding errors.
    """
    half = np.linspace(REACH / points, REACH, points // 2)
    a = np.concatenate([-half[::-1], half])
    d = np.minimum(1e-4, np.abs(a) / 2)  # not across the kink

    def everything(a: jax.Array, d: jax.Array, far: jax.Array) -> tuple[jax.Array, ...]:
        h, derivative = activation.h, activation.derivative
        wide, narrow = ((h(a + e) - h(a - e)) / (2 * e) for e in (d, d / 2))
        rounding = 8 * np.finfo(np.float64).eps * (1 + jnp.abs(h(a))) / d
        bar = 4 / 3 * jnp.abs(wide - narrow) + rounding
        tails = jnp.stack([derivative(-far), derivative(far)])
        return h(a), derivative(a), jax.vmap(jax.grad(h))(a), wide, bar, tails, derivative(jnp.zeros(()))

    with jax.enable_x64(True):
        arrays = [np.asarray(v) for v in jax.jit(everything)(a, d, FAR)]
    h, slope, autodiff, difference, bar, tails, zero = arrays
    return Found(activation, a, h, slope, autodiff, difference, bar, tails, float(zero))


def steepest(found: Found) -> float:
    """The largest h', by a search from the steepest point of the grid."""
    place = found.a[int(np.argmax(found.slope))]
    with jax.enable_x64(True):
        slope = jax.jit(found.activation.derivative)
        best = minimize_scalar(lambda a: -float(slope(jnp.asarray(a))), bounds=(place - 0.1, place + 0.1))
        return max(float(found.slope.max()), found.at_zero, -float(best.fun))


def flat_beyond(found: Found) -> float | None:
    """The a > 0 beyond which h' < SMALL, if there is one and h' is continuous there."""
    with jax.enable_x64(True):
        slope = jax.jit(found.activation.derivative)

        def above(a: float) -> float:
            return float(slope(jnp.asarray(a))) - SMALL

        return float(brentq(above, 1e-3, 1e3)) if above(1e-3) > 0 > above(1e3) else None  # type: ignore[arg-type]


def run(session: Session) -> Outcome:
    """Examine each activation."""
    found = [examine(activation, GRID_POINTS[session.size]) for activation in FORMULAS]
    by_name = {f.name: f for f in found}
    return Outcome(
        verdicts=[
            derivatives_agree(found),
            saturation(found),
            quarter(by_name["logistic"]),
            relu_slopes(by_name["relu"]),
        ],
        tables=[_table(found)],
        pictures=[_drawn(found)],
    )


def derivatives_agree(found: list[Found]) -> Verdict:
    """h' against two others: autodiff, to rounding, and differences, to their own error bars."""
    autodiff = max(float(np.max(np.abs(f.slope - f.autodiff))) for f in found)
    inside = sum(int(np.sum(np.abs(f.slope - f.difference) <= f.bar)) for f in found)
    points = sum(len(f.a) for f in found)
    bar = float(np.median(np.concatenate([f.bar for f in found])))
    return Verdict(
        "Every hand-written h′ is the derivative of its h.",
        autodiff <= 1e-14 and inside == points,
        f"In float64 it is at most {autodiff:.0e} away from autodiff; {inside} of {points} central differences agree "
        f"within their own error bars (median {bar:.0e}).",
    )


def saturation(found: list[Found]) -> Verdict:
    """On which sides h' vanishes, against what the graphs show."""
    words = {"both": "on both sides", "left": "on the left only", "right": "on the right only", "none": "nowhere"}
    said = "; ".join(f"{f.name} {words[f.sides]}, h′ < {SMALL} on {100 * f.flat:.0f}% of ±{REACH:.0f}" for f in found)
    return Verdict(
        "The sigmoids saturate on both sides, the rectified linear unit on the left only.",
        all(f.sides == SATURATING[f.name] for f in found),
        f"h′ falls to 0 (below 10⁻¹² at |a| = 10⁸): {said}.",
    )


def quarter(found: Found) -> Verdict:
    """The bound on the slide "Vanishing gradient"."""
    top = steepest(found)
    return Verdict(
        "The derivative of the logistic function is at most 0.25.",
        top <= 0.25,
        f"The largest found is {top:.15g}; h′(0) = {found.at_zero:.15g}.",
    )


def relu_slopes(found: Found) -> Verdict:
    """The question on the slide "Vanishing gradient", answered."""
    below, above = (set(found.slope[side].tolist()) for side in (found.a < 0, found.a > 0))
    return Verdict(
        "The derivative of the rectified linear unit is 0 for a < 0 and 1 for a > 0.",
        below == {0.0} and above == {1.0},
        f"Values of h′ for a < 0: {sorted(below)}; for a > 0: {sorted(above)}. At the kink jnn takes {found.at_zero}.",
    )


def _table(found: list[Found]) -> Table:
    def beyond(f: Found) -> str:
        place = flat_beyond(f)
        return "" if place is None else f"{place:.2f}"

    return Table.of(
        "Slopes",
        found,
        {
            "": lambda f: f"{f.name}, {FORMULAS[f.activation]}",
            "largest h′": lambda f: f"{max(f.slope.max(), f.at_zero):.3g}",
            "share flat": lambda f: f"{f.flat:.0%}",
            "flat beyond a": beyond,
            "h′ to the left": lambda f: f"{f.tails[0][0]:.0e} → {f.tails[0][-1]:.0e}",
            "h′ to the right": lambda f: f"{f.tails[1][0]:.0e} → {f.tails[1][-1]:.0e}",
            "error": lambda f: f"{np.max(np.abs(f.slope - f.autodiff)):.0e}",
        },
        f"Share flat: where h′ < {SMALL}, of a from −{REACH:.0f} to {REACH:.0f}. To the left and right: h′ at |a| = 10 "
        "and at 10⁸. Error: largest distance from autodiff in float64. Where softsign is flat its slope falls as "
        "1/a², while those of tanh and the logistic function fall exponentially.",
    )


def _drawn(found: list[Found]) -> Picture:
    return drawing.picture(
        "Activation functions and their derivatives",
        f"Solid: h. Dashed: the hand-written h′, with crosses from autodiff on it. Shaded: where h′ < {SMALL}, so that "
        "next to nothing passes backwards.",
        "the function h, its hand-written derivative, and autodiff's derivative at some points",
        _curves,
        {f.name: f for f in found},
        width=2.6,
        height=2.6,
    )


def _curves(axes: Axes, f: Found) -> None:
    near = np.abs(f.a) <= 5.5
    a, slope = f.a[near], f.slope[near]
    below, above = a < 0, a > 0
    axes.fill_between(a, -1.15, 2.15, where=list(slope < SMALL), color=drawing.FAINT, alpha=0.35, linewidth=0)
    for side in (below, above):  # not joined across a jump
        axes.plot(a[side], f.h[near][side], color=drawing.FIRST, label="h" if side is above else None)
        axes.plot(a[side], slope[side], "--", color=drawing.SECOND, label="h′" if side is above else None)
    some = slice(len(a) // 24, None, max(1, len(a) // 12))
    axes.plot(a[some], f.autodiff[near][some], "x", color=drawing.INK, label="autodiff")
    axes.set_ylim(-1.15, 2.15 if f.name == "relu" else 1.15)
    axes.set_xticks([-5, 0, 5])
    drawing.finish(axes, "a", below=3)


EXPERIMENT = Experiment(
    name="activations",
    title="Activation functions",
    question="Are the hand-written derivatives right, and which activation functions saturate?",
    claim="z = h(a) with a threshold, tanh, max(0, a), 1/(1 + exp(−a)) or a/(1 + |a|) (slide “Activation functions”); "
    "the logistic function's slope is at most 0.25, and what is that of the rectified linear unit? (slide “Vanishing "
    "gradient”).",
    run=run,
    full_minutes=0.1,
)
