"""Likelihoods: what a network learns beside the mean, on data whose distribution is known because we drew them."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from scipy import stats

import jnn
from experiments import drawing, statistics
from experiments.experiment import Experiment, Outcome, Picture, Session, Table, Verdict, efforts
from experiments.statistics import calibration_error
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


EFFORTS = efforts(seeds=(3, 50, 300), epochs=(20, 500, 500))
"""How many data sets, each with a network of its own, and for how many epochs."""


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
        return self.error - calibration_error(self.true, self.happened_to_true)

    @property
    def error(self) -> np.ndarray:
        """The calibration error of each network."""
        return calibration_error(self.predicted, self.happened)


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


def run(session: Session) -> Outcome:
    """Five likelihoods on their data."""
    seeds = EFFORTS[session.size].seeds
    kinds = (*REGRESSION, "classes of two", "classes of three")
    data = {kind: draw(kind, seeds, session.seed) for kind in kinds}
    session.say("Likelihoods: Gaussian")
    a = dict(zip(REGRESSION, outputs(Gaussian(), 1, [data[kind] for kind in REGRESSION], session), strict=True))
    noise = {s: fitted_noise(a[f"s={s}"], data[f"s={s}"].y) / s for s in NOISE}
    growing, fixed = data["growing noise"], a["growing noise"]
    s = fitted_noise(fixed, growing.y)[:, None, None]
    (learned,) = outputs(HeteroscedasticGaussian(), 2, [growing], session)
    session.say("Likelihoods: counts and classes")
    nll = {
        "squared error": rounded_normal_nll(a["counts"], data["counts"].y),
        "fixed variance": normal_nll(fixed, s, growing.y),
        "learned variance": normal_nll(learned[..., :1], np.exp(learned[:, TRAIN:, 1:] / 2), growing.y),
        "Poisson": poisson_nll(outputs(Poisson(), 1, [data["counts"]], session)[0], data["counts"].y),
    }
    two, three = data["classes of two"], data["classes of three"]
    classes = {
        "two": two_classes(outputs(Bernoulli(), 1, [two], session)[0], two),
        "three": three_classes(outputs(Categorical(), 3, [three], session)[0], three),
    }
    return Outcome(
        verdicts=[
            noise_is_found(noise),
            *(calibrated(kind, p) for kind, p in classes.items()),
            better("Poisson", "squared error", "counts", nll),
            better("learned variance", "fixed variance", "noise that grows with x", nll),
        ],
        tables=[_nll_table(nll, classes)],
        pictures=[_reliability(classes), _bands(growing, fixed, learned, s[0].item())],
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
    return Verdict(
        f"What remains of the sum of squares tells the noise s, to {RECOVERED:.0%}.",
        statistics.every(statistics.inside(e, 1 - RECOVERED, 1 + RECOVERED) for e in found.values()),
        f"Estimate over s: {', '.join(f'{e:.3f} for s = {s}' for s, e in found.items())}.",
    )


def calibrated(kind: str, probabilities: Probabilities) -> Verdict:
    """The excess of the calibration error against its margin."""
    excess, error = statistics.over_seeds(probabilities.excess), statistics.over_seeds(probabilities.error)
    return Verdict(
        f"Outputs trained by the cross-entropy of {kind} classes are probabilities: what they say happens as often as "
        f"they say, to {100 * CALIBRATED:.0f} percentage points.",
        statistics.inside(excess, -1, CALIBRATED),
        f"The mean gap is {100 * error.mean:.1f} points; that is {100 * excess:.1f} more than the gap of the true "
        "probabilities on the same examples.",
    )


def better(one: str, other: str, data: str, nll: Mapping[str, np.ndarray]) -> Verdict:
    """The difference of two test negative log-likelihoods, data set by data set."""
    change = statistics.over_seeds(nll[other] - nll[one])
    return Verdict(
        f"On {data}, a network with {one} gives new examples a higher probability than one with {other}.",
        statistics.above(change),
        f"−ln p of a test example is lower by {change:.3f}.",
    )


def _nll_table(nll: Mapping[str, np.ndarray], classes: Mapping[str, Probabilities]) -> Table:
    figures = {
        f"−ln p, {'counts' if name in ('Poisson', 'squared error') else 'growing noise'}, {name}": values
        for name, values in nll.items()
    }
    for kind, p in classes.items():
        sharper = p.predicted**2 / (p.predicted**2 + (1 - p.predicted) ** 2)
        figures |= {
            f"calibration error, {kind} classes, network": p.error,
            f"calibration error, {kind} classes, true probabilities": p.error - p.excess,
            f"calibration error, {kind} classes, network, overconfident": calibration_error(sharper, p.happened),
        }
    return Table.of(
        "On test examples",
        figures,
        {"": str, "mean (95% interval)": lambda name: f"{statistics.over_seeds(figures[name]):.4f}"},
        f"{TEST} test examples for each data set. Overconfident: odds squared, to show what the calibration error can "
        "see. A squared error gives a count the probability of a rounded normal number.",
    )


def _reliability(classes: Mapping[str, Probabilities]) -> Picture:
    return drawing.picture(
        "Reliability",
        "How often it happened, by what the networks said, on the test examples of all data sets. Probabilities lie on "
        "the line. Of three classes, the one thought most likely. Bars: 95% intervals over data sets.",
        "share that happened by predicted probability",
        _reliable,
        {f"{kind.capitalize()} classes": p for kind, p in classes.items()},
        width=3.0,
        height=3.0,
    )


def _reliable(axes: Axes, p: Probabilities) -> None:
    axes.plot([0, 1], [0, 1], "--", color=drawing.MUTED, linewidth=1)
    chosen = np.minimum((p.predicted * BINS).astype(int), BINS - 1)
    for b in range(BINS):
        inside = chosen == b
        enough = inside.sum(axis=1) >= 5
        if enough.sum() > 1:
            shares = [said[where].mean() for said, where in zip(p.happened[enough], inside[enough], strict=True)]
            drawing.intervals(axes, [p.predicted[inside].mean()], [statistics.over_seeds(shares)])
    drawing.finish(axes, "predicted probability", "share that happened")
    axes.set_aspect("equal")


def _bands(data: Sample, fixed: np.ndarray, learned: np.ndarray, s: float) -> Picture:
    x, y = data.x[0, :, 0], data.y[0, :, 0]
    order, grid = np.argsort(x), np.linspace(-2, 2, 100)

    def draw(axes: Axes, moments: tuple[np.ndarray, np.ndarray]) -> None:
        mean, deviation = moments
        axes.plot(x[:TRAIN], y[:TRAIN], ".", color=drawing.FAINT, markersize=3)
        low, high = ((mean + side * deviation)[order] for side in (-2, 2))
        axes.fill_between(x[order], low, high, color=drawing.FIRST, alpha=0.25, linewidth=0)
        axes.plot(x[order], mean[order], color=drawing.FIRST)
        for side in (-2, 2):
            axes.plot(grid, sine(grid) + side * noise_of(grid), "--", color=drawing.SECOND, linewidth=1)
        drawing.finish(axes, "x", "y")

    return drawing.picture(
        "Noise that grows",
        "One data set: training examples, the learned mean, and a band of two standard deviations, which should hold "
        "95% of the points everywhere. Dashed: the band that the data were drawn from.",
        "data, the learned mean, and two standard deviations around it",
        draw,
        {
            "Fixed variance": (fixed[0, :, 0], np.full(len(x), s)),
            "Learned variance": (learned[0, :, 0], np.exp(learned[0, :, 1] / 2)),
        },
    )


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
