"""Adam's effects: how long its steps can get, what signs of the gradient do to them, and what the correction is for."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from scipy import stats

import jnn
from experiments import drawing, statistics
from experiments.experiment import Experiment, Outcome, Picture, Session, Table, Verdict, efforts

ALPHA, B1, B2 = 0.001, 0.9, 0.999
"""The slide's defaults."""

SLIDE = (1 - B1) / np.sqrt(1 - B2)
"""By how much, says the slide, a step can exceed α: 3.16."""
TIGHT = SLIDE / np.sqrt(1 - B1**2 / B2)
"""By how much it can, by the inequality of Cauchy and Schwarz:

    m² = (1 − β₁)² (Σ_k β₁ᵏ g_{t−k})² ≤ (1 − β₁)² Σ_k (β₁²/β₂)ᵏ · Σ_k β₂ᵏ g²_{t−k} = (1 − β₁)²/(1 − β₁²/β₂) · v/(1 − β₂)

with equality where g_{t−k} ∝ (β₁/β₂)ᵏ: for a gradient that has been growing by the factor β₂/β₁ = 1.11 a step.
"""

TIMES = np.array([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000])
"""Steps at which E{v} is compared."""
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""α for the networks."""
LEVEL = 0.999
"""Of the intervals that E{v} must lie in, all at once."""


EFFORTS = efforts(sequences=(500, 4000, 20_000), networks=(4, 100, 1000), epochs=(20, 300, 300))
"""How many sequences of random gradients, how many networks with and without the correction, for how many epochs."""


def uncorrected(alpha: Any) -> optax.Schedule:
    """The α for n updates made that makes Adam forget the correction: α (1 − β₁ᵗ)/√(1 − β₂ᵗ), t = n + 1."""
    return lambda n: alpha * (1 - B1 ** (n + 1)) / jnp.sqrt(1 - B2 ** (n + 1))


@functools.partial(jax.jit, static_argnums=1)
def follow(gradients: jax.Array, corrected: bool = True) -> tuple[jax.Array, jax.Array]:
    """Feed gradients `(T, n)` to Adam, one after another: its steps in units of α, and its v, `(T, n)`."""
    adam = jnn.adam(ALPHA if corrected else uncorrected(ALPHA), B1, B2, eps=1e-30)

    def one(state: Any, g: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        step, state = adam.update(g, state)
        return state, (jnp.asarray(step) / ALPHA, state.v)

    return jax.lax.scan(one, adam.init(gradients[0]), gradients)[1]


def in_float64(gradients: np.ndarray, corrected: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """What `follow` returns, computed in float64."""
    with jax.enable_x64(True):
        steps, v = follow(jnp.asarray(gradients, jnp.float64), corrected)
        return np.asarray(steps), np.asarray(v)


def constructed(steps: int = 8000) -> dict[str, np.ndarray]:
    """Sequences of gradients, made to show something: each `(steps,)`."""
    t = np.arange(steps)
    growing = np.where(t >= steps - 250, (B2 / B1) ** (t - steps + 1.0), 0)
    return {
        "always 1": np.ones(steps),
        "+1, −1, +1, ...": (-1.0) ** t,
        "0 for long, then 1": np.where(t == steps - 1, 1.0, 0.0),
        "0 for long, then growing by β₂/β₁": growing,
    }


def random_gradients(name: str, sequences: int, seed: int) -> np.ndarray:
    """Independent gradients, `(1000, sequences)`; but for those that grow, their second moment does not change."""
    rng = np.random.default_rng([seed, *name.encode()])
    shape = (int(TIMES[-1]), sequences)
    if name == "exponential":
        return rng.exponential(size=shape)
    g = rng.normal(size=shape)
    if name == "mostly 0":
        return g * (rng.random(shape) < 0.05)
    if name == "growing":
        return g * np.sqrt(np.linspace(0.002, 2, shape[0]))[:, None]
    return g + MEAN[name]


@dataclass(frozen=True)
class Random:
    """What Adam made of random gradients: v at TIMES, `(times, sequences)`, the last steps, and the longest step."""

    v: np.ndarray
    last: np.ndarray
    longest: float


def summary(name: str, session: Session) -> Random:
    """Follow random gradients of one distribution."""
    steps, v = in_float64(random_gradients(name, EFFORTS[session.size].sequences, session.seed))
    return Random(v[TIMES - 1], steps[-1], float(np.abs(steps).max()))


SECOND_MOMENT = {"normal, mean 0": 1.0, "normal, mean 1": 2.0, "exponential": 2.0, "mostly 0": 0.05}
"""E{g²} of the stationary ones."""
MEAN = {"normal, mean 0": 0.0, "normal, mean 1": 1.0, "exponential": 1.0, "mostly 0": 0.0}


def train(session: Session) -> Mapping[str, np.ndarray]:
    """Risks of networks that learned a sine with and without the correction, `(networks, RATES)`."""
    effort = EFFORTS[session.size]
    network = jnn.mlp([1, 10, 1])
    x = np.linspace(-2, 2, 64, dtype=np.float32)[:, None]

    def risk(key: jax.Array, alpha: jax.Array, corrected: bool) -> jax.Array:
        result = jnn.fit(
            network,
            jnn.likelihoods.Gaussian(),
            x,
            np.sin(2 * x),
            key=key,
            optimizer=jnn.adam(alpha if corrected else uncorrected(alpha)),
            epochs=effort.epochs,
            batch_size=None,
        )
        return result.history.train_error[-1]

    def both(key: jax.Array) -> dict[str, jax.Array]:
        of_rate = {"with": True, "without": False}
        return {
            name: jax.vmap(lambda alpha, corrected=corrected: risk(key, alpha, corrected))(jnp.asarray(RATES))
            for name, corrected in of_rate.items()
        }

    keys = jax.random.split(jax.random.key(session.seed), effort.networks)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(both))(keys))


def run(session: Session) -> Outcome:
    """The constructed sequences, the random ones, and the networks."""
    session.say("Adam: constructed sequences")
    made = constructed()
    stacked = np.stack(list(made.values()), axis=1)
    steps = dict(zip(made, in_float64(stacked)[0].T, strict=True))
    plain = dict(zip(made, in_float64(stacked, corrected=False)[0].T, strict=True))
    session.say("Adam: random gradients")
    found = {name: summary(name, session) for name in (*SECOND_MOMENT, "growing")}
    session.say("Adam: networks with and without the correction")
    risks = train(session)
    stationary = {name: found[name] for name in SECOND_MOMENT}
    longest = max(r.longest for r in found.values())
    return Outcome(
        verdicts=[
            slides_bound(steps, longest),
            tight_bound(steps, longest),
            signs(steps),
            ratio({name: r.last for name, r in stationary.items()}),
            second_moment({name: r.v for name, r in stationary.items()}),
            correction(steps["always 1"], plain["always 1"]),
            learning(risks),
        ],
        tables=[_moment_table(stationary)],
        pictures=[_pictures(found, steps["always 1"], plain["always 1"], risks)],
    )


def slides_bound(steps: Mapping[str, np.ndarray], longest: float) -> Verdict:
    """The bound as the slide has it."""
    most = {name: float(np.abs(s).max()) for name, s in steps.items()}
    name = max(most, key=lambda n: most[n])
    return Verdict(
        f"No step is longer than α (1 − β₁)/√(1 − β₂) = {SLIDE:.2f} α.",
        bool(max(most[name], longest) <= SLIDE * (1 + 1e-9)),
        f"The exception that the slide means, a first gradient after many zeros, makes a step of "
        f"{most['0 for long, then 1']:.2f} α. But gradients “{name}” make one of {most[name]:.2f} α.",
    )


def tight_bound(steps: Mapping[str, np.ndarray], longest: float) -> Verdict:
    """The bound by Cauchy and Schwarz, reached and not exceeded."""
    most = max(float(np.abs(s).max()) for s in steps.values())
    return Verdict(
        f"No step is longer than α (1 − β₁)/√((1 − β₂)(1 − β₁²/β₂)) = {TIGHT:.2f} α, and a step can be that long.",
        bool(most >= 0.99 * TIGHT and max(most, longest) <= TIGHT * (1 + 1e-9)),
        f"The longest constructed step is {most:.3f} α; the longest by random gradients {longest:.2f} α.",
    )


def signs(steps: Mapping[str, np.ndarray]) -> Verdict:
    """Gradients of one sign against gradients that alternate; the latter end at (1 − β₁)/(1 + β₁)."""
    same, alternating = (float(np.abs(steps[name][-1])) for name in ("always 1", "+1, −1, +1, ..."))
    return Verdict(
        "Steps are α long where gradients have the same sign and size, and get small where the sign alternates.",
        abs(same - 1) < 1e-6 and alternating < 0.1,
        f"After {len(steps['always 1'])} gradients the steps are {same:.4f} α and {alternating:.4f} α.",
    )


def ratio(ends: Mapping[str, np.ndarray]) -> Verdict:
    """The mean step against α E{g}/√E{g²}, with a margin of 0.02: m̂ and v̂ are estimates, and their ratio is biased."""
    words, judged = [], []
    for name, steps in ends.items():
        expected = MEAN[name] / np.sqrt(SECOND_MOMENT[name])
        found = statistics.over_seeds(-steps)
        judged.append(statistics.inside(found, expected - 0.02, expected + 0.02))
        words.append(f"{name}: {found:.3f} for {expected:.3f}")
    return Verdict(
        "The mean step is α E{g}/√E{g²}, to within 0.02 α.",
        statistics.every(judged),
        "In units of α, after 1000 steps: " + "; ".join(words),
    )


def standardized(v: np.ndarray, moment: float) -> np.ndarray:
    """How many standard errors the mean of v is away from E{g²}(1 − β₂ᵗ), at each of TIMES; v is `(times, n)`."""
    return (v.mean(axis=1) - moment * (1 - B2**TIMES)) / (v.std(axis=1, ddof=1) / np.sqrt(v.shape[1]))


def second_moment(v: Mapping[str, np.ndarray]) -> Verdict:
    """E{v} at all times and for all distributions at once: Bonferroni's share of the level for each."""
    z = np.concatenate([standardized(values, SECOND_MOMENT[name]) for name, values in v.items()])
    limit = float(stats.norm.ppf(1 - (1 - LEVEL) / 2 / len(z)))
    relative = max(
        float(np.max(np.abs(values.mean(axis=1) / (SECOND_MOMENT[name] * (1 - B2**TIMES)) - 1)))
        for name, values in v.items()
    )
    return Verdict(
        "E{v} = E{g²}(1 − β₂ᵗ) for gradients whose second moment does not change.",
        bool(np.all(np.abs(z) <= limit)),
        f"At {len(TIMES)} times for {len(v)} distributions the means are up to {np.max(np.abs(z)):.1f} standard errors "
        f"away ({100 * relative:.1f}%); up to {limit:.1f} are allowed at a joint level of {100 * LEVEL:.1f}%.",
    )


def correction(steps: np.ndarray, plain: np.ndarray) -> Verdict:
    """What the correction does to the steps for a constant gradient."""
    with_it, without = np.abs(steps), np.abs(plain)
    return Verdict(
        "The correction makes a constant gradient's steps α long from the first one on.",
        bool(np.all(np.abs(with_it - 1) < 1e-6) and abs(without[0] - 1) > 0.01),
        f"With it they are {with_it.min():.6f} to {with_it.max():.6f} α long. Without it they start at "
        f"{without[0]:.2f} α, since √v is even further from its mean than m, grow to {without.max():.2f} α in step "
        f"{np.argmax(without) + 1}, and fall below 1.1 α in step {np.flatnonzero(without > 1.1)[-1] + 2}.",
    )


def learning(risks: Mapping[str, np.ndarray]) -> Verdict:
    """The risks at the best α of each, chosen by the first half of the networks and compared on the others."""
    half = len(risks["with"]) // 2
    best = {name: int(np.argmin(np.median(r[:half], axis=0))) for name, r in risks.items()}
    logs = {name: np.log10(np.nan_to_num(r[half:, best[name]], nan=1e6, posinf=1e6)) for name, r in risks.items()}
    change = statistics.over_seeds(logs["without"] - logs["with"])
    return Verdict(
        "Networks reach a lower risk with the correction, each at its best α.",
        statistics.above(change),
        f"Best α of {', '.join(map(str, RATES))}: {RATES[best['with']]} with it, {RATES[best['without']]} without. The "
        f"risk without it is {10**change.mean:.2f} times (95% interval {10**change.low:.2f} to {10**change.high:.2f}) "
        f"that with it, on {half} networks that α was not chosen by.",
    )


def _moment_table(found: Mapping[str, Random]) -> Table:
    def filled(place: int) -> Callable[[str], str]:
        share = 1 - B2 ** TIMES[place]
        return lambda name: f"{statistics.over_seeds(found[name].v[place] / (SECOND_MOMENT[name] * share)):.3f}"

    return Table.of(
        "v over E{g²}(1 − β₂ᵗ), and the mean step",
        found,
        {"gradients": str}
        | {f"t = {TIMES[place]}": filled(place) for place in (0, 3, 6, 9)}
        | {"mean step, α": lambda name: f"{statistics.over_seeds(-found[name].last):.3f}"},
        f"Means of {len(next(iter(found.values())).last)} sequences with their 95% intervals, at β₁ = {B1} and "
        f"β₂ = {B2}. The mean step is at t = 1000. ε is left out, as on the slide.",
    )


def _pictures(
    found: Mapping[str, Random], steps: np.ndarray, plain: np.ndarray, risks: Mapping[str, np.ndarray]
) -> Picture:
    def moments(axes: Axes) -> None:
        t = np.geomspace(1, 1000, 100)
        axes.plot(t, 1 - B2**t, color=drawing.INK, linewidth=1, label="1 − β₂ᵗ")
        names = ("mostly 0", "normal, mean 1", "growing")
        means = {name: (TIMES, found[name].v.mean(axis=1) / SECOND_MOMENT.get(name, 1.0)) for name in names}
        drawing.lines(axes, means, linestyle="none")
        drawing.finish(axes, "step t", "mean of v / E{g²}", log="xy", legend="lower right")

    def lengths(axes: Axes) -> None:
        t = np.arange(1, len(steps) + 1)
        drawing.lines(axes, {"without": (t, np.abs(plain)), "with": (t, np.abs(steps))}, marker="")
        drawing.logarithmic(axes, "x")
        axes.set_ylim(bottom=0)
        drawing.finish(axes, "step t", "length of the step, α", legend="best")

    def learned(axes: Axes) -> None:
        drawing.lines(axes, {name: (RATES, risks[name]) for name in ("without", "with")}, band=True)
        drawing.finish(axes, "α", "risk at the end", log="xy", legend="best")

    return drawing.picture(
        "Initialization bias, and its correction",
        "Left: v starts near 0 and fills up as 1 − β₂ᵗ (line) for all gradients whose second moment stays; those that "
        "grow to twice the second moment do not follow. Middle: without the correction, m fills up faster than "
        "√v, and steps are too long for thousands of steps. Right: networks that learn a sine; medians, with bands "
        "from the lower to the upper quartile.",
        "mean of v, length of the steps, or risk of networks, by step or by α",
        lambda axes, draw: draw(axes),
        {"E{v} over E{g²}": moments, "A constant gradient": lengths, "Networks": learned},
    )


EXPERIMENT = Experiment(
    name="adam_effects",
    title="Adam's effects",
    question="How long are Adam's steps, and what does the bias correction change?",
    claim="α bounds the steps, but for an increase by (1 − β₁)/√(1 − β₂); same signs make long steps, changing signs "
    "short ones (slide “Adam: Effects”); E{v} = E{g²}(1 − β₂ᵗ) (slide “Adam: Initialization bias correction”).",
    run=run,
    full_minutes=0.5,
)
