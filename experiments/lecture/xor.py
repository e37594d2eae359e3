"""XOR: no single unit computes it, two hidden threshold units do, and trained networks often do."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import jnn
from experiments import drawing
from experiments.experiment import Experiment, Outcome, Picture, Session, Table, Verdict
from experiments.lecture.xor_training import EFFORTS, LEARNING_RATE, WIDTHS, Trial, X, Y, train
from jnn import activations
from jnn.networks import Layered, Params

POINTS = ("00", "01", "10", "11")


def threshold_network() -> tuple[Layered, Params]:
    """The slide's network of threshold units, set by hand: at least one input is 1, and not both are.

        z_both = I{x₁ + x₂ > 3/2},   z_any = I{x₁ + x₂ > 1/2},   y = I{z_any − z_both > 1/2}

    The network ends at its output's pre-activation, z_any − z_both − 1/2; the last threshold is `activations.step`.
    (Slide "Multi-layer perceptron solving XOR".)
    """
    network = jnn.mlp([2, 2, 1], hidden="step")
    params = (
        {"W": jnp.array([[1.0, 1.0], [1.0, 1.0]], jnp.float32), "b": jnp.array([-1.5, -0.5], jnp.float32)},
        {"W": jnp.array([[-1.0], [1.0]], jnp.float32), "b": jnp.array([-0.5], jnp.float32)},
    )
    return network, params


def truth_tables() -> dict[str, tuple[int, ...]]:
    """What each unit of the hand-set network says for the inputs 00, 01, 10 and 11."""
    network, params = threshold_network()
    trace = network.trace(params, X)
    both, any_one = trace.z[1].T
    units = {"both 1": both, "at least one 1": any_one, "output": activations.step(trace.a[1][:, 0])}
    return {unit: tuple(int(v) for v in np.asarray(values)) for unit, values in units.items()}


def separable(labels: Sequence[int]) -> tuple[float, float, float] | None:
    """Weights and bias of a threshold unit with these outputs for 00, 01, 10 and 11, or None: there is none.

    Small weights are searched for a witness. That there is none is not concluded from a failed search, but from

        a(0,0) + a(1,1) = b + (w₁ + w₂ + b) = (w₂ + b) + (w₁ + b) = a(0,1) + a(1,0):

    one sum cannot be > 0 while the other, which is the same number, is ≤ 0.

    Raises:
        AssertionError: if neither a witness nor the argument decides.
    """
    for w1, w2, b in itertools.product((-1.0, 0.0, 1.0), (-1.0, 0.0, 1.0), (-1.5, -0.5, 0.5, 1.5)):
        a = X @ np.array([w1, w2]) + b
        if tuple((a > 0).astype(int)) == tuple(labels):
            return w1, w2, b
    corners, others = {labels[0], labels[3]}, {labels[1], labels[2]}
    if not (len(corners) == len(others) == 1 and corners != others):
        raise AssertionError(f"neither a witness nor the argument decides about {tuple(labels)}")
    return None


def best_single_unit() -> tuple[int, tuple[float, float, float]]:
    """The most of XOR's four outputs that any threshold unit gets right, and such a unit: all 16 tables are tried."""
    right = {}
    for labels in itertools.product((0, 1), repeat=4):
        unit = separable(labels)
        if unit is not None:
            right[unit] = int(np.sum(np.array(labels) == Y))
    unit = max(right, key=lambda u: right[u])
    return right[unit], unit


def run(session: Session) -> Outcome:
    """The hand-set network, the single unit, and the trained ones."""
    effort = EFFORTS[session.size]
    tables = truth_tables()
    most, unit = best_single_unit()
    count = 2 * len(WIDTHS) * effort.seeds
    trials = [
        train(name, effort, session.seed)
        for name in session.each(effort.activations, lambda name: f"XOR: {count} networks with {name}")
    ]
    return Outcome(
        verdicts=[
            no_single_unit(most, trials),
            Verdict(
                "The hand-set network of threshold units computes XOR.",
                tables["output"] == tuple(Y),
                f"Its outputs for {', '.join(POINTS)} are {', '.join(map(str, tables['output']))}.",
            ),
            two_suffice(trials),
            more_is_easier(trials),
            one_with_shortcuts(trials),
        ],
        tables=[_units(tables), _shares(trials)],
        pictures=[_regions(trials[0], unit), _curves(trials)],
        interrupted=session.interrupted,
    )


def no_single_unit(most: int, trials: Sequence[Trial]) -> Verdict:
    """By argument, by search, and by training: with shortcuts and no hidden neuron, a network is a single unit."""
    impossible = [labels for labels in itertools.product((0, 1), repeat=4) if separable(labels) is None]
    trained = np.concatenate([t.solved[1, 0] for t in trials])
    return Verdict(
        "No single unit computes XOR.",
        tuple(Y) in impossible and not trained.any(),
        f"Of the 16 truth tables, {16 - len(impossible)} have a threshold unit; for {len(impossible)} there is none, "
        f"because a(0,0) + a(1,1) = a(0,1) + a(1,0). XOR is {'one' if tuple(Y) in impossible else 'none'} of those. "
        f"The best unit gets {most} of 4 right. Of {len(trained)} trained single units, {trained.sum()} solved it.",
    )


def two_suffice(trials: Sequence[Trial]) -> Verdict:
    """Whether some seeds find a solution with two hidden neurons and no shortcuts, and others do not."""
    shares = {t.activation: t.share(False, 2) for t in trials}
    some, not_all = (all(test(e) for e in shares.values()) for test in (lambda e: e.low > 0.01, lambda e: e.high < 1))
    return Verdict(
        "Two hidden neurons can learn XOR, but do not from all initial weights, whatever the activation.",
        True if some and not_all else False if any(e.high < 0.05 for e in shares.values()) else None,
        "Share of seeds that solved it, with its 95% interval: "
        + "; ".join(f"{name} {e:.0%}" for name, e in shares.items())
        + ".",
    )


def more_is_easier(trials: Sequence[Trial]) -> Verdict:
    """Two hidden neurons against eight, by intervals that do not overlap."""
    pairs = {t.activation: (t.share(False, 2), t.share(False, 8)) for t in trials}
    better = [few.high < many.low for few, many in pairs.values()]
    worse = [many.high < few.low for few, many in pairs.values()]
    return Verdict(
        "With eight hidden neurons more seeds find a solution than with two, whatever the activation.",
        True if all(better) else False if any(worse) else None,
        "Two and eight: " + "; ".join(f"{name} {few:.0%} and {many:.0%}" for name, (few, many) in pairs.items()) + ".",
    )


def one_with_shortcuts(trials: Sequence[Trial]) -> Verdict:
    """One hidden neuron: a monotone function of a weighted sum without shortcuts, more with them."""
    pairs = {t.activation: (t.solved[0, 1].sum(), t.share(True, 1)) for t in trials}
    without = sum(int(count) for count, _ in pairs.values())
    return Verdict(
        "One hidden neuron suffices if there are shortcuts from the inputs to the output, and never without.",
        without == 0 and all(e.low > 0.01 for _, e in pairs.values()),
        f"Without shortcuts {without} networks solved it; with them "
        + "; ".join(f"{name} {e:.0%}" for name, (_, e) in pairs.items())
        + ".",
    )


def _units(tables: dict[str, tuple[int, ...]]) -> Table:
    rows = [[unit, *map(str, values)] for unit, values in (tables | {"XOR": tuple(Y)}).items()]
    note = "The output unit fires if at least one input is 1 and not both are."
    return Table("The hand-set network, unit by unit", ["input x₁x₂", *POINTS], rows, note)


def _shares(trials: Sequence[Trial]) -> Table:
    shares = {
        f"{t.activation}{', shortcuts' if shortcuts else ''}": [t.share(shortcuts, m) for m in WIDTHS]
        for t in trials
        for shortcuts in (False, True)
    }
    widest = max(e.high - e.low for row in shares.values() for e in row) / 2
    return Table(
        "Share of seeds that got all four right, by the number of hidden neurons",
        ["", *map(str, WIDTHS)],
        [[name, *(f"{e.mean:.0%}" for e in row)] for name, row in shares.items()],
        f"{trials[0].solved.shape[2]} seeds each; half-widths of the 95% intervals are at most {100 * widest:.0f} "
        f"percentage points, and drawn in the picture. Batch learning with Adam at {LEARNING_RATE}. The four examples "
        "are all there is: there is no test set, and nothing to stop early by.",
    )


def _curves(trials: Sequence[Trial]) -> Picture:
    return drawing.picture(
        "Who learns XOR",
        "Share of seeds that got all four right, with 95% intervals. Shortcuts lead from the inputs to the output; "
        "with them, a single hidden neuron can do it.",
        "share of seeds that solved XOR by hidden neurons, with and without shortcuts",
        _curve,
        {t.activation: t for t in trials},
        width=2.6,
        height=2.6,
    )


def _curve(axes: Axes, trial: Trial) -> None:
    for shortcuts, (color, dash, marker) in enumerate(drawing.LOOKS[:2]):
        places = np.array(WIDTHS) + (0.08 if shortcuts else -0.08)
        shares = [100 * trial.share(bool(shortcuts), m) for m in WIDTHS]
        label = "shortcuts" if shortcuts else "none"
        drawing.intervals(axes, places, shares, fmt=marker + dash, color=color, label=label)
    axes.set_xticks(range(0, 9, 2))
    drawing.finish(axes, "hidden neurons", "seeds that solved it, %", below=2)


def _regions(trial: Trial, unit: tuple[float, float, float]) -> Picture:
    def output(network: Layered, params: Params) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: np.asarray(network.apply(params, x.astype(np.float32)))[:, 0]

    *weights, b = unit
    drawn = {"The best single unit": lambda x: x @ np.array(weights) + b, "Set by hand": output(*threshold_network())}
    two = trial.solved[0, 2]
    for title, which in (("Trained, 2 hidden", two), ("Trained, but stuck", ~two)):
        if which.any():
            first = int(np.argmax(which))
            params = jax.tree.map(lambda leaf, first=first: leaf[0, 2, first], trial.params)
            drawn[title] = output(trial.network, params)
    return drawing.picture(
        "Decision regions",
        "Shaded: where the network says 1. Filled points should be inside, hollow ones outside. One straight line "
        f"cannot do it; two can. The trained ones have two {trial.activation} neurons.",
        "where in the plane of the two inputs the output is 1, and the four points of XOR",
        _region,
        drawn,
        width=2.6,
        height=2.6,
    )


def _region(axes: Axes, function: Callable[[np.ndarray], np.ndarray]) -> None:
    side = np.linspace(-0.5, 1.5, 161)
    grid = np.stack(np.meshgrid(side, side, indexing="xy"), axis=-1)
    a = function(grid.reshape(-1, 2)).reshape(grid.shape[:2])
    axes.contourf(side, side, a, levels=[0, np.inf], colors=[drawing.FIRST], alpha=0.35)
    for (x1, x2), y in zip(X, Y, strict=True):
        axes.plot(x1, x2, "o", color=drawing.INK, markerfacecolor=drawing.INK if y else drawing.PAPER, markersize=8)
    drawing.finish(axes, "x₁", "x₂")
    axes.set(xticks=[0, 1], yticks=[0, 1], aspect="equal")
    axes.grid(visible=False)


EXPERIMENT = Experiment(
    name="xor",
    title="XOR",
    question="Which networks compute XOR, and which learn it?",
    claim="A single neuron cannot compute XOR; two hidden units and an output unit can (slides “XOR”, “XOR revisited”, "
    "“Multi-layer perceptron solving XOR”, “Multi-layer perceptron network with shortcuts”).",
    run=run,
    full_minutes=2.5,
)
