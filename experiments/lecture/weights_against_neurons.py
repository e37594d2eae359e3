"""What makes a layer complex, the size of its weights or the number of its neurons: drawn at random, and trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from scipy import stats

import jnn
from experiments import drawing, statistics
from experiments.experiment import Experiment, Outcome, Picture, Session, Table, Verdict, efforts
from experiments.statistics import Estimate
from jnn.networks import Params

NEURONS = (2, 4, 8, 16, 32, 64)
SIZES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""c: by what the random networks' hidden weights are multiplied; as many doublings as of the neurons."""
DECAYS = (0.0, 0.001, 0.01, 0.1, 1.0)
"""γ of the trained networks, which is what keeps their weights small."""
NETWORK = jnn.mlp([1, NEURONS[-1], 1])
GRID = np.linspace(-1, 1, 513, dtype=np.float32)[:, None]
EXAMPLES, NOISE = 30, 0.3
RESAMPLES = 1000


EFFORTS = efforts(random=(4, 100, 1000), trained=(3, 12, 60), epochs=(20, 800, 3000))
"""How many random networks of each kind, how many trained ones, and for how long."""


def with_neurons(params: Params, neurons: jax.Array) -> Params:
    """The network's first neurons only, with output weights as large as `jnn.mlp` of that width would draw them.

    The others' weights are 0, and stay 0 in training: nothing comes out of tanh(0), and nothing comes back.
    """
    hidden, output = params
    present = jnp.arange(NEURONS[-1]) < neurons
    grown = jnp.sqrt(NEURONS[-1] / neurons).astype(output["W"].dtype)
    return (
        {"W": hidden["W"] * present[None, :], "b": hidden["b"] * present},
        {"W": output["W"] * present[:, None] * grown, "b": output["b"]},
    )


def combinations(*factors: tuple[float, ...]) -> tuple[np.ndarray, ...]:
    """All combinations of the factors' values, one array for each factor."""
    return tuple(np.asarray(v).ravel() for v in np.meshgrid(*factors, indexing="ij"))


def random_functions(count: int, seed: int) -> np.ndarray:
    """f on the GRID for each number of neurons and size, `(NEURONS, SIZES, count, points)`.

    f(x) = Σ_m v_m tanh(c w_m (x − u_m)),   w ~ N(0, 1),  u uniform on ±1,  v ~ N(0, 1/M)
    """

    def one(key: jax.Array, neurons: jax.Array, size: jax.Array) -> jax.Array:
        draw, places = jax.random.split(key)
        hidden, output = NETWORK.init(draw)
        u = jax.random.uniform(places, (NEURONS[-1],), jnp.float32, minval=-1, maxval=1)
        w = size * hidden["W"]
        return NETWORK.apply(with_neurons(({"W": w, "b": -w[0] * u}, output), neurons), GRID)[:, 0]

    neurons, sizes = combinations(NEURONS, SIZES)
    keys = jax.random.split(jax.random.key(seed), count)
    by_seed = jax.vmap(one, in_axes=(0, None, None))

    @jax.jit
    def everyone(neurons: jax.Array, sizes: jax.Array) -> jax.Array:
        return jax.lax.map(lambda pair: by_seed(keys, *pair), (neurons, sizes))  # one after another: memory

    f = everyone(neurons, sizes.astype(np.float32))
    return np.asarray(f, np.float64).reshape(len(NEURONS), len(SIZES), count, -1)


def pieces(f: np.ndarray) -> np.ndarray:
    """Into how many rising and falling pieces a function falls: 1 + the number of its turning points.

    Where tanh saturates, f is level but for rounding: steps below 10⁻⁵ of the range go on as the one before did.
    """
    steps = np.diff(f, axis=-1)
    counts = np.abs(steps) > 1e-5 * np.ptp(f, axis=-1, keepdims=True)
    before = np.maximum.accumulate(np.where(counts, np.arange(steps.shape[-1]), 0), axis=-1)
    before = np.maximum(before, counts.argmax(axis=-1)[..., None])  # what comes first goes with the first that counts
    rises = np.take_along_axis(steps, before, axis=-1) > 0
    return 1.0 + np.sum(rises[..., 1:] != rises[..., :-1], axis=-1)


def roughness(f: np.ndarray) -> np.ndarray:
    """√(∫f″² / ∫f′²), in units of 1/x: 0 for a straight line, whatever its slope; k for sin(kx)."""
    step = 2 / (f.shape[-1] - 1)
    return np.sqrt(np.sum(np.diff(f, n=2, axis=-1) ** 2, axis=-1) / np.sum(np.diff(f, axis=-1) ** 2, axis=-1)) / step


MEASURES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"pieces": pieces, "roughness": roughness}


def effects(first: np.ndarray, second: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The coefficients of two variables in a regression of y on both."""
    design = np.stack([np.ones(y.size), first.ravel(), second.ravel()], axis=1)
    _, one, other = np.linalg.lstsq(design, y.ravel(), rcond=None)[0]
    return float(one), float(other)


@dataclass(frozen=True)
class Effects:
    """What the size of the weights does, what the number of neurons does, and by how much more the former does."""

    size: Estimate
    neurons: Estimate
    difference: Estimate


def bootstrapped(of: Callable[[np.ndarray], tuple[float, float]], seeds: int, seed: int) -> Effects:
    """Effects of (size, neurons) with 95% percentile intervals over resampled seeds; `of` computes them for some."""
    rng = np.random.default_rng(seed)
    found = np.array([of(rng.integers(0, seeds, seeds)) for _ in range(RESAMPLES)])
    all_of_them = np.array(of(np.arange(seeds)))

    def estimate(mean: float, values: np.ndarray) -> Estimate:
        low, high = np.quantile(values, [0.025, 0.975])
        return Estimate(float(mean), float(values.std()), float(low), float(high))

    size, neurons = (estimate(all_of_them[k], found[:, k]) for k in range(2))
    change = np.abs(found[:, 0]) - np.abs(found[:, 1])
    return Effects(size, neurons, estimate(abs(all_of_them[0]) - abs(all_of_them[1]), change))


def doublings(f: np.ndarray, measure: Callable[[np.ndarray], np.ndarray], seed: int) -> Effects:
    """By how many doublings a measure grows for each doubling of the size, and of the number of neurons."""
    log = np.log2(measure(f))
    sizes, neurons = (np.log2(v).reshape(log.shape[:2]) for v in combinations(NEURONS, SIZES)[::-1])

    def of(chosen: np.ndarray) -> tuple[float, float]:
        return effects(sizes, neurons, log[:, :, chosen].mean(axis=2))

    return bootstrapped(of, f.shape[2], seed)


@dataclass(frozen=True)
class Trained:
    """Trained networks, `(NEURONS, DECAYS, seeds)`: the root mean square of their hidden weights, and their risks."""

    size: np.ndarray
    train: np.ndarray
    test: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """By how much the risk is higher on new examples."""
        return self.test - self.train


def train(session: Session) -> Trained:
    """Networks of every width with every decay, on a noisy sine; each seed has data of its own."""
    effort = EFFORTS[session.size]

    def draw(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
        inputs, noise = jax.random.split(key)
        x = jax.random.uniform(inputs, (count, 1), jnp.float32, minval=-1, maxval=1)
        return x, jnp.sin(4 * x) + NOISE * jax.random.normal(noise, (count, 1), jnp.float32)

    def one(key: jax.Array, neurons: jax.Array, decay: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        initial, training, testing = jax.random.split(key, 3)
        x, y = draw(training, EXAMPLES)
        params = jnn.fit(
            NETWORK,
            jnn.likelihoods.Gaussian(),
            x,
            y,
            key=key,
            optimizer=jnn.adam(0.03),
            epochs=effort.epochs,
            batch_size=None,
            weight_decay=decay,
            params=with_neurons(NETWORK.init(initial), neurons),
        ).params
        size = jnp.sqrt(jnp.sum(params[0]["W"] ** 2) / neurons)
        risk = jnn.objectives.objective(NETWORK, jnn.likelihoods.Gaussian())
        return size, risk(params, x, y), risk(params, *draw(testing, 500))

    by_seed = jax.vmap(one, in_axes=(0, None, None))
    neurons, decays = combinations(NEURONS, DECAYS)
    keys = jax.random.split(jax.random.key(session.seed), effort.trained)
    found = jax.jit(jax.vmap(by_seed, in_axes=(None, 0, 0)))(keys, neurons, decays.astype(np.float32))
    size, training, test = (np.asarray(v, np.float64).reshape(len(NEURONS), len(DECAYS), -1) for v in found)
    return Trained(size, training, test)


def ranks(trained: Trained, seed: int) -> Effects:
    """Standardized coefficients of the ranks of size and number of neurons in a regression of the rank of the gap."""
    neurons = np.broadcast_to(np.array(NEURONS, float)[:, None, None], trained.size.shape)

    def standardized(values: np.ndarray) -> np.ndarray:
        return np.asarray(stats.zscore(stats.rankdata(values.ravel())))

    def of(chosen: np.ndarray) -> tuple[float, float]:
        three = (trained.size, neurons, trained.gap)
        return effects(*(standardized(v[:, :, chosen]) for v in three))

    return bootstrapped(of, trained.size.shape[2], seed)


def run(session: Session) -> Outcome:
    """Random functions, then trained ones."""
    session.say("Weights against neurons: random networks")
    f = random_functions(EFFORTS[session.size].random, session.seed)
    session.say("Weights against neurons: trained networks")
    trained = train(session)
    drawn = {name: doublings(f, measure, session.seed) for name, measure in MEASURES.items()}
    gap = ranks(trained, session.seed)
    return Outcome(
        verdicts=[*(random_verdict(name, e) for name, e in drawn.items()), trained_verdict(gap)],
        tables=[_table(drawn, gap)],
        pictures=[_functions(f), _pictures(f, trained)],
        interrupted=session.interrupted,
    )


def random_verdict(name: str, found: Effects) -> Verdict:
    """Doublings of a measure by doublings of size and number."""
    what = {"pieces": "the number of rising and falling pieces", "roughness": "roughness"}[name]
    return Verdict(
        f"Random networks: doubling the weights raises {what} by more than doubling the neurons does.",
        statistics.above(found.difference),
        f"Doubling the weights multiplies it by {2**found.size:.2f}, doubling the neurons by {2**found.neurons:.2f}.",
    )


def trained_verdict(found: Effects) -> Verdict:
    """Rank coefficients."""
    return Verdict(
        "Trained networks: how much worse they are on new examples depends more on the size of their hidden weights "
        "than on the number of neurons.",
        statistics.above(found.difference),
        f"Coefficients of the ranks in a joint regression of the rank of the gap: {found.size:.2f} for the size, "
        f"{found.neurons:.2f} for the number; the difference is {found.difference:.2f}.",
    )


def _table(drawn: Mapping[str, Effects], gap: Effects) -> Table:
    effects = {f"{name}, random": e for name, e in drawn.items()} | {"gap, trained": gap}
    return Table(
        "Effects on complexity",
        ["", "size of the weights", "number of neurons", "difference"],
        [[name, f"{e.size:.2f}", f"{e.neurons:.2f}", f"{e.difference:.2f}"] for name, e in effects.items()],
        f"Random networks: doublings of the measure for each doubling of the weights (from {SIZES[0]} to {SIZES[-1]}) "
        f"and of the neurons (from {NEURONS[0]} to {NEURONS[-1]}), by linear regression. Trained networks: "
        "standardized coefficients of ranks. Difference: of the absolute values. 95% intervals by the bootstrap over "
        "seeds.",
    )


def _functions(f: np.ndarray) -> Picture:
    def draw(axes: Axes, of: tuple[int, float]) -> None:
        three = f[NEURONS.index(of[0]), SIZES.index(of[1])][:3]
        scaled = {str(place): (GRID[:, 0], (g - g.min()) / np.ptp(g)) for place, g in enumerate(three)}
        drawing.lines(axes, scaled, marker="")
        drawing.finish(axes, "x", "f, scaled")

    return drawing.picture(
        "Random networks",
        "Three functions of each kind, shifted and scaled to the same range. 16 times the neurons change little in the "
        "first pair, where weights are small; 16 times the weights, from the first pair to the second, change more.",
        "three random functions",
        draw,
        {f"{m} neurons, c = {c:g}": (m, c) for c in (1.0, 16.0) for m in (4, 64)},
        width=2.6,
        height=2.2,
    )


def _pictures(f: np.ndarray, trained: Trained) -> Picture:
    counted = pieces(f).mean(axis=2)
    widths = {f"M = {m}": NEURONS.index(m) for m in (4, 16, 64)}
    scales = {f"c = {c:g}": SIZES.index(c) for c in (1.0, 4.0, 16.0)}

    def by_size(axes: Axes) -> None:
        drawing.lines(axes, {label: (SIZES, counted[m]) for label, m in widths.items()})
        drawing.finish(axes, "size of the weights c", "pieces", log="xy", below=3)

    def by_number(axes: Axes) -> None:
        drawing.lines(axes, {label: (NEURONS, counted[:, c]) for label, c in scales.items()})
        drawing.finish(axes, "number of neurons M", "pieces", log="xy", below=3)

    def gaps(axes: Axes) -> None:
        points = {label: (trained.size[m].ravel(), trained.gap[m].ravel()) for label, m in widths.items()}
        seen = {label: (size, np.maximum(gap, 1e-3)) for label, (size, gap) in points.items()}
        drawing.lines(axes, seen, linestyle="none", markersize=3)
        drawing.finish(axes, "root mean square of hidden weights", "test − training risk", log="xy", below=3)

    return drawing.picture(
        "Complexity by size and by number",
        "Left and middle: mean number of rising and falling pieces of random functions. The steeper the lines, the "
        "more the variable matters. Right: gap between test and training risk, each point a trained network; where the "
        "marks of all widths lie on one curve, the size tells the gap and the number does not.",
        "complexity for three numbers of neurons, or sizes of the weights",
        lambda axes, draw: draw(axes),
        {"By the size of the weights": by_size, "By the number of neurons": by_number, "Trained networks": gaps},
    )


EXPERIMENT = Experiment(
    name="weights_against_neurons",
    title="Weights against neurons",
    question="What makes a layer complex: large weights, or many neurons?",
    claim="The magnitude of the weights is more important for the complexity of a layer than the number of neurons "
    "(slide “The secrets of successful shallow NN training”); the smaller the weights, the more linear the function "
    "(slide “Weight-decay”).",
    run=run,
    full_minutes=1,
)
