"""Likelihoods: what a network learns beside the mean, on data whose distribution is known because we drew them."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from scipy import stats

import jnn
from experiments import drawing, statistics
from experiments.experiment import Experiment, Outcome, Picture, Session, Table, Verdict
from experiments.statistics import Estimate
from jnn.likelihoods import Bernoulli, Categorical, Gaussian, HeteroscedasticGaussian, Likelihood, Poisson

NOISE = (0.1, 0.3, 1.0)
"""s of the data with Gaussian noise."""
TRAIN, TEST = 400, 1000
HIDDEN = 8
BINS = 10
RECOVERED = 0.03
"""By what share of s the estimate may be wrong."""
CALIBRATED = 0.03
"""By how much calibration errors may exceed those of the true probabilities."""


@dataclass(frozen=True)
class Effort:
    """How many data sets, each with a network of its own, and for how many epochs."""

    seeds: int
    epochs: int


EFFORTS = {"tiny": Effort(3, 20), "quick": Effort(50, 500), "full": Effort(300, 500)}


@dataclass(frozen=True)
class Sample:
    """Data sets with a first axis over seeds: inputs, targets, and what the targets were drawn from, `truth`."""

    x: np.ndarray
    y: np.ndarray
    truth: np.ndarray

    def part(self, rows: slice) -> "Sample":
        """Some of the examples of every data set."""
        return Sample(self.x[:, rows], self.y[:, rows], self.truth[:, rows])

    @property
    def train(self) -> "Sample":
        """The examples to learn from."""
        return self.part(slice(None, TRAIN))

    @property
    def test(self) -> "Sample":
        """The others."""
        return self.part(slice(TRAIN, None))


def sine(x: np.ndarray) -> np.ndarray:
    """The function that regression is to find."""
    return np.sin(2 * x)


def noise_of(x: np.ndarray) -> np.ndarray:
    """A standard deviation that grows with x, from 0.05 at −2 to 0.8 at 2."""
    return 0.05 * 2 ** (x + 2)


def draw(kind: str, seeds: int, seed: int) -> Sample:
    """Data sets of one kind; inputs are uniform on ±2."""
    rng = np.random.default_rng([seed, *kind.encode()])
    x = rng.uniform(-2, 2, (seeds, TRAIN + TEST, 1 if kind in ("counts", "growing noise") or kind[0] == "s" else 2))
    if kind == "classes of two":
        truth = 1 / (1 + np.exp(-2 * sine(x[..., :1]) - x[..., 1:]))
        y = rng.random(truth.shape) < truth
    elif kind == "classes of three":
        a = np.stack([2 * sine(x[..., 0]), x[..., 1], -x[..., 1]], axis=-1)
        truth = np.exp(a) / np.exp(a).sum(axis=-1, keepdims=True)
        y = (rng.random((*truth.shape[:-1], 1)) > truth.cumsum(axis=-1)[..., :-1]).sum(axis=-1)
    elif kind == "counts":
        truth = np.exp(1 + sine(x))
        y = rng.poisson(truth)
    else:
        truth = noise_of(x) if kind == "growing noise" else np.full_like(x, float(kind[2:]))
        y = sine(x) + truth * rng.normal(size=x.shape)
    return Sample(x.astype(np.float32), y.astype(np.int32 if kind == "classes of three" else np.float32), truth)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def train(likelihood: Likelihood, outputs: int, epochs: int, keys: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Train a network on each data set's training examples, and return its outputs `a` for all examples."""
    network = jnn.mlp([x.shape[-1], HIDDEN, outputs])

    def one(key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        result = jnn.fit(
            network,
            likelihood,
            x[:TRAIN],
            y[:TRAIN],
            key=key,
            optimizer=jnn.adam(0.02),
            epochs=epochs,
            batch_size=None,
        )
        return network.apply(result.params, x)

    return jax.vmap(one)(keys, x, y)


def outputs(likelihood: Likelihood, number: int, samples: Sequence[Sample], session: Session) -> list[np.ndarray]:
    """Train on several kinds of data at once, and return the outputs for each."""
    x, y = (np.concatenate(parts) for parts in zip(*((s.x, s.y) for s in samples), strict=True))
    keys = jax.random.split(jax.random.key(session.seed), len(x))
    a = np.asarray(train(likelihood, number, EFFORTS[session.size].epochs, keys, x, y), np.float64)
    return np.split(a, len(samples))


def fitted_noise(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The s of maximum likelihood for each data set, s² = 1/N Σ (y − f)² over the training examples."""
    return np.sqrt(np.mean((y[:, :TRAIN] - a[:, :TRAIN]) ** 2, axis=(1, 2)))


def top(probability: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probability of the class that is thought most likely, and whether it is the true one."""
    return probability.max(axis=-1), (probability.argmax(axis=-1) == y).astype(float)


@dataclass(frozen=True)
class Probabilities:
    """Predicted probabilities of test examples, and what happened, `(seeds, n)`; the same for the true ones."""

    predicted: np.ndarray
    happened: np.ndarray
    true: np.ndarray
    happened_to_true: np.ndarray

    @property
    def excess(self) -> np.ndarray:
        """The calibration error beyond that of the true probabilities, which is not 0 in a sample."""
        return self.error - statistics.calibration_error(self.true, self.happened_to_true)

    @property
    def error(self) -> np.ndarray:
        """The calibration error of each network."""
        return statistics.calibration_error(self.predicted, self.happened)


def poisson_nll(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    """−ln p(y) by Poisson's distribution, the mean over test examples of each data set."""
    nll = Poisson().nll(jnp.asarray(a[:, TRAIN:], jnp.float32), y[:, TRAIN:], complete=True)
    return np.asarray(nll).mean(axis=1)


def rounded_normal_nll(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The same by squared error, where a count is a rounded normal number with the fitted s."""
    s = fitted_noise(a, y)[:, None, None]
    mean, count = a[:, TRAIN:], y[:, TRAIN:]
    upper = np.where(count == 0, -np.inf, (count - 0.5 - mean) / s)
    p = stats.norm.cdf((count + 0.5 - mean) / s) - stats.norm.cdf(upper)
    return -np.log(np.maximum(p, 1e-12)).mean(axis=(1, 2))


def normal_nll(mean: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
    """−ln p(y) by the normal distribution, the mean over test examples of each data set."""
    return -stats.norm.logpdf(y[:, TRAIN:], mean[:, TRAIN:], s).mean(axis=(1, 2))


REGRESSION = (*(f"s={s}" for s in NOISE), "growing noise", "counts")


@dataclass
class Found:
    """What the parts of the experiment found, as far as they were run."""

    noise: dict[float, np.ndarray] = field(default_factory=dict)
    nll: dict[str, np.ndarray] = field(default_factory=dict)
    classes: dict[str, Probabilities] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)


def fixed_variance(found: Found, session: Session) -> None:
    """Squared errors on all data of regression, counts included; and learned variances where the noise grows."""
    seeds = EFFORTS[session.size].seeds
    data = {kind: draw(kind, seeds, session.seed) for kind in REGRESSION}
    a = dict(zip(REGRESSION, outputs(Gaussian(), 1, list(data.values()), session), strict=True))
    found.noise = {s: fitted_noise(a[f"s={s}"], data[f"s={s}"].y) / s for s in NOISE}
    found.nll["squared error"] = rounded_normal_nll(a["counts"], data["counts"].y)
    growing = data["growing noise"]
    s = fitted_noise(a["growing noise"], growing.y)[:, None, None]
    found.nll["fixed variance"] = normal_nll(a["growing noise"], s, growing.y)
    (learned,) = outputs(HeteroscedasticGaussian(), 2, [growing], session)
    found.nll["learned variance"] = normal_nll(learned[..., :1], np.exp(learned[:, TRAIN:, 1:] / 2), growing.y)
    found.pictures.append(_bands(growing, a["growing noise"], learned, s[0].item()))


def counts(found: Found, session: Session) -> None:
    """Poisson's likelihood on counts."""
    data = draw("counts", EFFORTS[session.size].seeds, session.seed)
    found.nll["Poisson"] = poisson_nll(outputs(Poisson(), 1, [data], session)[0], data.y)


def classes(found: Found, session: Session) -> None:
    """Two classes and three."""
    seeds = EFFORTS[session.size].seeds
    two, three = (draw(kind, seeds, session.seed) for kind in ("classes of two", "classes of three"))
    found.classes["two"] = two_classes(outputs(Bernoulli(), 1, [two], session)[0], two)
    found.classes["three"] = three_classes(outputs(Categorical(), 3, [three], session)[0], three)
    found.pictures.insert(0, _reliability(found.classes))


def run(session: Session) -> Outcome:
    """Five likelihoods on their data."""
    found = Found()
    parts = {"Gaussian": fixed_variance, "counts": counts, "classes": classes}
    for name in session.each(parts, lambda name: f"Likelihoods: {name}"):
        parts[name](found, session)
    contests = (
        ("Poisson", "squared error", "counts"),
        ("learned variance", "fixed variance", "noise that grows with x"),
    )
    return Outcome(
        verdicts=[
            noise_is_found(found.noise),
            *(calibrated(kind, p) for kind, p in found.classes.items()),
            *(better(*contest, found.nll) for contest in contests if contest[0] in found.nll),
        ],
        tables=[_noise_table(found.noise), _nll_table(found.nll, found.classes)],
        pictures=found.pictures,
        interrupted=session.interrupted,
    )


def two_classes(a: np.ndarray, data: Sample) -> Probabilities:
    """Bernoulli outputs: the probability of class 1."""
    predicted = np.asarray(Bernoulli().mean(jnp.asarray(a[:, TRAIN:])))[..., 0]
    happened = data.test.y[..., 0]
    return Probabilities(predicted, happened, data.test.truth[..., 0], happened)


def three_classes(a: np.ndarray, data: Sample) -> Probabilities:
    """Categorical outputs: the probability of the class thought most likely."""
    predicted = np.asarray(Categorical().mean(jnp.asarray(a[:, TRAIN:])))
    return Probabilities(*top(predicted, data.test.y), *top(data.test.truth, data.test.y))


def noise_is_found(noise: Mapping[float, np.ndarray]) -> Verdict:
    """ŝ / s for each s."""
    found = {s: statistics.over_seeds(ratio) for s, ratio in noise.items()}
    judged = [statistics.inside(e, 1 - RECOVERED, 1 + RECOVERED) for e in found.values()]
    words = [f"{e.mean:.3f} ({e.low:.3f} to {e.high:.3f}) for s = {s}" for s, e in found.items()]
    return Verdict(
        f"What remains of the sum of squares tells the noise s, to {100 * RECOVERED:.0f}%.",
        False if False in judged else None if None in judged else True,
        f"Estimate over s: {', '.join(words)}.",
    )


def calibrated(kind: str, probabilities: Probabilities) -> Verdict:
    """The excess of the calibration error against its margin."""
    excess, error = statistics.over_seeds(probabilities.excess), statistics.over_seeds(probabilities.error)
    return Verdict(
        f"Outputs trained by the cross-entropy of {kind} classes are probabilities: what they say happens as often as "
        f"they say, to {100 * CALIBRATED:.0f} percentage points.",
        statistics.inside(excess, -1, CALIBRATED),
        f"The mean gap is {100 * error.mean:.1f} points; that is {_points(excess)} more than the gap of the true "
        "probabilities on the same examples.",
    )


def better(one: str, other: str, data: str, nll: Mapping[str, np.ndarray]) -> Verdict:
    """The difference of two test negative log-likelihoods, data set by data set."""
    change = statistics.over_seeds(nll[other] - nll[one])
    return Verdict(
        f"On {data}, a network with {one} gives new examples a higher probability than one with {other}.",
        statistics.above(change),
        f"−ln p of a test example is lower by {change.mean:.3f} ({change.low:.3f} to {change.high:.3f}).",
    )


def _points(e: Estimate) -> str:
    return f"{100 * e.mean:.1f} ({100 * e.low:.1f} to {100 * e.high:.1f})"


def _noise_table(noise: Mapping[float, np.ndarray]) -> Table:
    weights = jnn.mlp([1, HIDDEN, 1]).weight_count
    rows = []
    for s, ratio in noise.items():
        scaled = (ratio, ratio / np.sqrt(1 - weights / TRAIN))
        found = [statistics.over_seeds(s * values) for values in scaled]
        rows.append([f"{s}", *(f"{e.mean:.4f} ({e.low:.4f} to {e.high:.4f})" for e in found)])
    return Table(
        "Gaussian noise, recovered from the training residuals",
        ["s", "maximum likelihood", "divided by N − P"],
        rows,
        f"N = {TRAIN} examples, P = {weights} weights; mean and 95% interval over {len(noise[NOISE[0]])} data sets. "
        "Maximum likelihood divides the sum of squares by N. Were the network linear in its weights, N − P would make "
        "it right on average; not all of these weights bend the fit, so that it is too much.",
    )


def _nll_table(nll: Mapping[str, np.ndarray], classes: Mapping[str, Probabilities]) -> Table:
    rows = [
        [f"−ln p, {'counts' if name in ('Poisson', 'squared error') else 'growing noise'}, {name}", _figure(values)]
        for name, values in nll.items()
    ]
    for kind, p in classes.items():
        sharper = p.predicted**2 / (p.predicted**2 + (1 - p.predicted) ** 2)
        for name, error in (
            ("network", p.error),
            ("true probabilities", statistics.calibration_error(p.true, p.happened_to_true)),
            ("network, overconfident", statistics.calibration_error(sharper, p.happened)),
        ):
            rows.append([f"calibration error, {kind} classes, {name}", _figure(error)])
    return Table(
        "On test examples",
        ["", "mean (95% interval)"],
        rows,
        f"{TEST} test examples for each data set. Overconfident: odds squared, to show what the calibration error can "
        "see. A squared error gives a count the probability of a rounded normal number.",
    )


def _figure(values: np.ndarray) -> str:
    e = statistics.over_seeds(values)
    return f"{e.mean:.4f} ({e.low:.4f} to {e.high:.4f})"


def _reliability(classes: Mapping[str, Probabilities]) -> Picture:
    titles = {"two": "Two classes", "three": "Three classes"}
    return Picture(
        "Reliability",
        [
            drawing.panel(
                functools.partial(_reliable, p=p),
                titles[kind],
                f"{titles[kind]}: share that happened by predicted probability",
                width=3.0,
                height=3.0,
            )
            for kind, p in classes.items()
        ],
        "How often it happened, by what the networks said, on the test examples of all data sets. Probabilities lie on "
        "the line. Of three classes, the one thought most likely. Bars: 95% intervals over data sets.",
    )


def _reliable(axes: Axes, p: Probabilities) -> None:
    axes.plot([0, 1], [0, 1], "--", color=drawing.MUTED, linewidth=1)
    chosen = np.minimum((p.predicted * BINS).astype(int), BINS - 1)
    for b in range(BINS):
        inside = chosen == b
        enough = inside.sum(axis=1) >= 5
        if enough.sum() > 1:
            shares = [
                happened[where].mean() for happened, where in zip(p.happened, inside, strict=True) if where.sum() >= 5
            ]
            e = statistics.over_seeds(shares)
            middle = p.predicted[inside].mean()
            axes.plot([middle, middle], [e.low, e.high], color=drawing.FIRST)
            axes.plot(middle, e.mean, "o", color=drawing.FIRST)
    drawing.finish(axes, "predicted probability", "share that happened")
    axes.set_aspect("equal")


def _bands(data: Sample, fixed: np.ndarray, learned: np.ndarray, s: float) -> Picture:
    fixed_s = np.full_like(fixed[0], s)
    learned_s = np.exp(learned[0, :, 1:] / 2)
    panels = [("Fixed variance", fixed[0], fixed_s), ("Learned variance", learned[0, :, :1], learned_s)]
    return Picture(
        "Noise that grows",
        [
            drawing.panel(
                functools.partial(_band, x=data.x[0, :, 0], y=data.y[0, :, 0], mean=mean[:, 0], s=spread[:, 0]),
                title,
                f"{title}: data, the learned mean, and two standard deviations around it",
            )
            for title, mean, spread in panels
        ],
        "One data set: training examples, the learned mean, and a band of two standard deviations, which should hold "
        "95% of the points everywhere. Dashed: the band that the data were drawn from.",
    )


def _band(axes: Axes, x: np.ndarray, y: np.ndarray, mean: np.ndarray, s: np.ndarray) -> None:
    order = np.argsort(x)
    axes.plot(x[:TRAIN], y[:TRAIN], ".", color=drawing.FAINT, markersize=3)
    axes.fill_between(
        x[order], (mean - 2 * s)[order], (mean + 2 * s)[order], color=drawing.FIRST, alpha=0.25, linewidth=0
    )
    axes.plot(x[order], mean[order], color=drawing.FIRST)
    grid = np.linspace(-2, 2, 100)
    for side in (-2, 2):
        axes.plot(grid, sine(grid) + side * noise_of(grid), "--", color=drawing.SECOND, linewidth=1)
    drawing.finish(axes, "x", "y")


EXPERIMENT = Experiment(
    name="likelihoods",
    title="Likelihoods",
    question="Do networks learn the distribution that their error function stands for?",
    claim="Minimizing the sum of squares is maximum likelihood under Gaussian noise (slide “Sum-of-squares and maximum "
    "likelihood”); outputs of classifiers are probabilities, and their error is a negative log-likelihood (slides "
    "“Binary classification”, “Multi-class classification”).",
    run=run,
    full_minutes=0.7,
)
