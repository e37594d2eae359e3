"""XOR: no single unit computes it, two hidden threshold units do, and trained networks often do."""

import functools
import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import jnn
from experiments import drawing, statistics
from experiments.experiment import Experiment, Outcome, Picture, Session, Table, Verdict
from jnn import activations
from jnn.likelihoods import Bernoulli
from jnn.networks import Layered, Params
from jnn.training import FitResult

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
Y = np.array([0, 1, 1, 0])
POINTS = ("00", "01", "10", "11")


@dataclass(frozen=True)
class Effort:
    """How many seeds, and for how many epochs."""

    seeds: int
    epochs: int
    rival_seeds: int


EFFORTS = {"tiny": Effort(4, 20, 1), "quick": Effort(400, 1000, 20), "full": Effort(10_000, 1000, 100)}
LEARNING_RATE = 0.03


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


@dataclass(frozen=True)
class Trial:
    """A kind of network, trained from many seeds: parameters on a leading axis, and who got all four right."""

    name: str
    network: Layered
    result: FitResult
    solved: np.ndarray

    @property
    def share(self) -> statistics.Estimate:
        """Of seeds that solved it, with its interval."""
        return statistics.share(int(self.solved.sum()), len(self.solved))


def train(name: str, network: Layered, effort: Effort, seed: int) -> Trial:
    """Batch learning with Adam from `effort.seeds` initial weights, as one program."""

    def one(key: jax.Array) -> FitResult:
        return jnn.fit(
            network,
            Bernoulli(),
            X,
            Y[:, None],
            key=key,
            optimizer=jnn.adam(LEARNING_RATE),
            epochs=effort.epochs,
            batch_size=None,
        )

    result = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(seed), effort.seeds))
    a = jax.vmap(lambda params: network.apply(params, X))(result.params)
    return Trial(name, network, result, np.all((np.asarray(a)[..., 0] > 0) == (Y == 1), axis=1))


def rival(hidden: int, effort: Effort, seed: int) -> np.ndarray:
    """Which of a few seeds scikit-learn's MLP of the same size, optimizer and learning rate solves XOR from."""
    solved = []
    for place in range(effort.rival_seeds):
        model = MLPClassifier(
            (hidden,),
            activation="tanh",
            alpha=0.0,
            learning_rate_init=LEARNING_RATE,
            batch_size=4,  # type: ignore[arg-type]  (scikit-learn infers str from its default "auto")
            max_iter=effort.epochs,
            n_iter_no_change=effort.epochs,
            random_state=seed + place,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, Y)
        solved.append(bool(np.all(model.predict(X) == Y)))
    return np.array(solved)


def run(session: Session) -> Outcome:
    """The hand-set network, the single unit, and the trained ones."""
    effort = EFFORTS[session.size]
    tables = truth_tables()
    most, unit = best_single_unit()
    kinds = {
        "no hidden unit": jnn.mlp([2, 1]),
        "2 hidden": jnn.mlp([2, 2, 1]),
        "4 hidden": jnn.mlp([2, 4, 1]),
        "1 hidden, shortcuts": jnn.mlp([2, 1, 1], shortcuts=True),
    }
    trials = [
        train(name, kinds[name], effort, session.seed)
        for name in session.each(kinds, lambda name: f"XOR: {effort.seeds} networks, {name}")
    ]
    session.say("XOR: scikit-learn's MLP")
    theirs = rival(2, effort, session.seed)
    return Outcome(
        verdicts=[
            _no_single_unit(most, trials[0]),
            Verdict(
                "The hand-set network of threshold units computes XOR.",
                tables["output"] == tuple(Y),
                f"Its outputs for {', '.join(POINTS)} are {', '.join(map(str, tables['output']))}.",
            ),
            *([_more_is_easier(trials)] if len(trials) > 2 else []),
        ],
        tables=[_units(tables), _shares(trials, theirs)],
        pictures=[_regions(trials, unit)],
        interrupted=session.interrupted,
    )


def _no_single_unit(most: int, linear: Trial) -> Verdict:
    impossible = [labels for labels in itertools.product((0, 1), repeat=4) if separable(labels) is None]
    return Verdict(
        "No single unit computes XOR.",
        tuple(Y) in impossible and not linear.solved.any(),
        f"Of the 16 truth tables, {16 - len(impossible)} have a threshold unit; for {len(impossible)} there is none, "
        f"because a(0,0) + a(1,1) = a(0,1) + a(1,0). XOR is {'one' if tuple(Y) in impossible else 'none'} of those. "
        f"The best unit gets {most} of 4 right. Of {len(linear.solved)} trained single units, "
        f"{linear.solved.sum()} solved it.",
    )


def _more_is_easier(trials: Sequence[Trial]) -> Verdict:
    few, more = (next(t for t in trials if t.name == name).share for name in ("2 hidden", "4 hidden"))
    words = [f"{t.name}: {_percent(t.share)}" for t in trials[1:]]
    return Verdict(
        "Two hidden neurons suffice, but not from all initial weights; four find a solution more often.",
        True if few.low > 0 and few.high < more.low else False if more.high < few.low else None,
        "Share of seeds that solved it, with its 95% interval: " + "; ".join(words) + ".",
    )


def _percent(e: statistics.Estimate) -> str:
    return f"{100 * e.mean:.0f}% ({100 * e.low:.0f} to {100 * e.high:.0f})"


def _units(tables: dict[str, tuple[int, ...]]) -> Table:
    rows = [[unit, *map(str, values)] for unit, values in tables.items()]
    return Table(
        "The hand-set network, unit by unit",
        ["input x₁x₂", *POINTS],
        [*rows, ["XOR", *map(str, Y)]],
        "The output unit fires if at least one input is 1 and not both are.",
    )


def _shares(trials: Sequence[Trial], theirs: np.ndarray) -> Table:
    rows = []
    for t in trials:
        risk = np.asarray(t.result.history.train_error)[:, -1]
        rows.append([f"jnn, {t.name}", _percent(t.share), str(len(t.solved)), f"{np.median(risk):.2g}"])
    share = statistics.share(int(theirs.sum()), len(theirs))
    rows.append(["sklearn MLP, 2 hidden", _percent(share), str(len(theirs)), ""])
    return Table(
        "Trained networks (tanh)",
        ["", "all four right (95% interval)", "seeds", "median risk"],
        rows,
        f"Batch learning with Adam at {LEARNING_RATE}. The four examples are all there is: there is no test set, and "
        "nothing to stop early by.",
    )


def _regions(trials: Sequence[Trial], unit: tuple[float, float, float]) -> Picture:
    hand, hand_params = threshold_network()
    w1, w2, b = unit
    drawn: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
        ("The best single unit", lambda x: x @ np.array([w1, w2]) + b),
        ("Set by hand", functools.partial(_output, hand, hand_params)),
    ]
    for trial in trials[1:2]:
        for title, which in (("Trained, 2 hidden", trial.solved), ("Trained, but stuck", ~trial.solved)):
            if which.any():
                first = int(np.argmax(which))
                params = jax.tree.map(lambda leaf, first=first: leaf[first], trial.result.params)
                drawn.append((title, functools.partial(_output, trial.network, params)))
    return Picture(
        "Decision regions",
        [
            drawing.panel(
                functools.partial(_region, function=f),
                title,
                f"{title}: where in the plane of the two inputs the output is 1, and the four points of XOR",
                width=2.6,
                height=2.6,
            )
            for title, f in drawn
        ],
        "Shaded: where the network says 1. Filled points should be inside, hollow ones outside. One straight line "
        "cannot do it; two can.",
    )


def _output(network: Layered, params: Params, x: np.ndarray) -> np.ndarray:
    return np.asarray(network.apply(params, x.astype(np.float32)))[:, 0]


def _region(axes: Axes, function: Callable[[np.ndarray], np.ndarray]) -> None:
    side = np.linspace(-0.5, 1.5, 161)
    grid = np.stack(np.meshgrid(side, side, indexing="xy"), axis=-1)
    a = function(grid.reshape(-1, 2)).reshape(grid.shape[:2])
    axes.contourf(side, side, a, levels=[0, np.inf], colors=[drawing.FIRST], alpha=0.35)
    for (x1, x2), y in zip(X, Y, strict=True):
        axes.plot(x1, x2, "o", color=drawing.INK, markerfacecolor=drawing.INK if y else drawing.PAPER, markersize=8)
    axes.set_xlabel("x₁")
    axes.set_ylabel("x₂")
    axes.set_xticks([0, 1])
    axes.set_yticks([0, 1])
    axes.set_aspect("equal")
    axes.grid(visible=False)


EXPERIMENT = Experiment(
    name="xor",
    title="XOR",
    question="Which networks compute XOR, and which learn it?",
    claim="A single neuron cannot compute XOR; two hidden units and an output unit can (slides “XOR”, “XOR revisited”, "
    "“Multi-layer perceptron solving XOR”).",
    run=run,
)
