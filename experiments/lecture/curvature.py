"""Second derivatives: the Hessian's spectrum, Gauss and Newton's part of it, and how sure a fitted network is.

Steps of Levenberg and Marquardt are compared with other optimizers by `python -m experiments.benchmarks.second_order`.
"""

import functools
import time
import warnings
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from scipy.stats import norm

import jnn
from experiments import datasets, drawing, statistics
from experiments.experiment import Experiment, Outcome, Picture, Session, Table, Verdict
from jnn import Model, curvature, ensembles, laplace, objectives
from jnn.likelihoods import Gaussian
from jnn.sklearn import MLPRegressor

GAUSSIAN = Gaussian()


@dataclass(frozen=True)
class Effort:
    """How many random splits, those for decays, noisy sines, samples with a gap and with uneven noise; and epochs."""

    splits: int
    decays: int
    sines: int
    gaps: int
    uneven: int
    epochs: int


EFFORTS = {
    "tiny": Effort(2, 2, 2, 2, 3, 20),
    "quick": Effort(10, 5, 20, 20, 1000, 1000),
    "full": Effort(20, 20, 40, 40, 3000, 2000),
}


@dataclass(frozen=True)
class Band:
    """Of one sample: its examples, and on a grid the true curve, the mean, and half of the 95% band."""

    examples: tuple[np.ndarray, np.ndarray]
    grid: np.ndarray
    truth: np.ndarray
    mean: np.ndarray
    half: np.ndarray


# --- the spectrum, and what standardization does to it


@dataclass(frozen=True)
class Spectra:
    """Eigenvalues of the Hessian at first weights, `(splits, weights)`, of raw and of standardized inputs."""

    raw: np.ndarray
    standardized: np.ndarray

    @property
    def conditions(self) -> np.ndarray:
        """The largest eigenvalue over the median one, both by magnitude: raw over standardized, for each split."""
        raw, standardized = (np.abs(values) for values in (self.raw, self.standardized))
        return (
            np.max(raw, axis=1)
            / np.median(raw, axis=1)
            / (np.max(standardized, axis=1) / np.median(standardized, axis=1))
        )


def spectra(effort: Effort, session: Session) -> Spectra:
    """Of ten tanh neurons on diabetes, its inputs in units up to a thousand times apart, and standardized."""
    network = jnn.mlp([10, 10, 1])
    found = []
    for standardize in (False, True):
        data = datasets.split("diabetes", effort.splits, session.seed, standardize=standardize)
        hessian = jax.jit(curvature.hessian(network, GAUSSIAN))
        values = []
        for split in range(effort.splits):
            x, y = data.train.x[split], data.train.y[split][:, None]
            x = x if standardize else x * np.geomspace(1, 1000, 10, dtype=np.float32)
            params = network.init(jax.random.key(split))
            values.append(np.linalg.eigvalsh(np.asarray(hessian(params, x, y), np.float64)))
        found.append(np.stack(values))
    return Spectra(*found)


# --- Gauss and Newton's part of the Hessian, along a training

Seen = tuple[int, float, int, float]


def along_a_training(session: Session, epochs: tuple[int, ...]) -> list[Seen]:
    """(epoch, mean squared error, negative eigenvalues of H, ‖H − G‖ / ‖H‖), on the noisy sine, weights decaying."""
    x, y = noisy_sine(np.random.default_rng(session.seed))
    network, gamma = jnn.mlp([1, 10, 1]), 1e-2
    settings: dict[str, Any] = {"weight_decay": gamma, "mask": objectives.every_weight_mask(network)}
    hessian = jax.jit(curvature.hessian(network, GAUSSIAN, **settings))
    gauss_newton = jax.jit(curvature.gauss_newton(network, GAUSSIAN, **settings))
    params = network.init(jax.random.key(session.seed), weights=jnn.networks.nguyen_widrow)
    found = []
    for epoch in epochs:
        after = params
        if epoch:
            after = jnn.fit(
                network,
                GAUSSIAN,
                x,
                y,
                key=jax.random.key(0),
                params=params,
                optimizer=jnn.levenberg_marquardt(),
                weight_decay=gamma,
                epochs=epoch,
            ).params
        h, g = (np.asarray(m, np.float64) for m in (hessian(after, x, y), gauss_newton(after, x)))
        error = float(np.mean((np.asarray(network.apply(after, x)) - y) ** 2))
        values = np.linalg.eigvalsh((h + h.T) / 2)
        negative = int(np.sum(values < -1e-6 * values[-1]))
        found.append((epoch, error, negative, float(np.linalg.norm(h - g) / np.linalg.norm(h))))
    return found


# --- the noisy sine, trained by evidence


def noisy_sine(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """MATLAB's example of `trainbr`: two periods, 41 points, noise 0.1."""
    x = np.linspace(-1, 1, 41)[:, None]
    return x.astype(np.float32), (np.sin(2 * np.pi * x) + 0.1 * rng.normal(size=x.shape)).astype(np.float32)


@dataclass(frozen=True)
class Sines:
    """Of each noisy sine: effective weights, σ, root mean squared error to the truth, coverage of the band of f."""

    effective: np.ndarray
    noise: np.ndarray
    error: np.ndarray
    covered: np.ndarray
    first: Band | None = None


def sines(effort: Effort, session: Session) -> Sines:
    """1-20-1, 61 weights, decay and noise by evidence."""
    grid = np.linspace(-1, 1, 201, dtype=np.float32)[:, None]
    truth = np.sin(2 * np.pi * grid)
    rows: list[Any] = []
    first = None
    for seed in session.each(range(effort.sines), lambda seed: f"Evidence: noisy sine {seed}"):
        x, y = noisy_sine(np.random.default_rng(1000 * session.seed + seed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", laplace.NotConvergedWarning)
            model = laplace.train(jnn.mlp([1, 20, 1]), GAUSSIAN, x, y, key=jax.random.key(seed))
        assert model.posterior is not None
        noise = float(model.posterior.noise)
        mean, variance = model.moments(grid)
        deviation = np.sqrt(np.maximum(variance - noise, 0))
        covered = np.mean(np.abs(mean - truth) <= norm.ppf(0.975) * deviation)
        error = np.sqrt(np.mean((mean - truth) ** 2))
        first = first or Band((x, y), grid, truth, np.asarray(mean), norm.ppf(0.975) * deviation)
        rows.append((float(model.posterior.effective_weights), np.sqrt(noise), error, covered))
    return Sines(*np.array(rows, float).reshape(-1, 4).T, first=first)


# --- evidence, or cross-validation

DECAYS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)


@dataclass(frozen=True)
class Choices:
    """By evidence and by cross-validation, `(splits, 2)`: decay, error on the rest, processor time."""

    decay: np.ndarray
    error: np.ndarray
    seconds: np.ndarray
    train: int
    test: int


def choices(effort: Effort, session: Session) -> Choices:
    """Ten neurons on diabetes, Levenberg and Marquardt's steps; five folds of six decays, or four restarts."""
    data, network = datasets.split("diabetes", effort.decays, session.seed), jnn.mlp([10, 10, 1])
    optimizer = jnn.levenberg_marquardt()

    def by_evidence(x: np.ndarray, y: np.ndarray, key: Any) -> tuple[float, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", laplace.NotConvergedWarning)
            model = laplace.train(network, GAUSSIAN, x, y, key=key, restarts=4)
        assert model.posterior is not None
        return float(model.posterior.weight_decay), model.params

    def by_validation(x: np.ndarray, y: np.ndarray, key: Any) -> tuple[float, Any]:
        settings: dict[str, Any] = {"optimizer": optimizer, "epochs": 50, "initializer": jnn.networks.nguyen_widrow}
        grid = {"weight_decay": DECAYS}
        search = ensembles.cross_validate(network, GAUSSIAN, x, y, key=key, grid=grid, **settings)
        decay = float(search.best["weight_decay"])
        return decay, jnn.fit(network, GAUSSIAN, x, y, key=key, weight_decay=decay, **settings).params

    found = []
    for split in session.each(range(-1, effort.decays), lambda split: f"Evidence or cross-validation: split {split}"):
        x, y = data.train.x[split], data.train.y[split][:, None]
        row = []
        for choose in (by_evidence, by_validation):
            start = time.process_time()
            decay, params = choose(x, y, jax.random.key(abs(split)))
            seconds = time.process_time() - start
            away = np.asarray(network.apply(params, data.test.x[split]))[:, 0] - data.test.y[split]
            row.append((decay, np.sqrt(np.mean(away**2)), seconds))
        if split >= 0:  # the first one compiled
            found.append(row)
    decay, error, seconds = np.moveaxis(np.array(found, float).reshape(-1, 2, 3), 2, 0)
    return Choices(decay, error, seconds, data.train.x.shape[1], data.test.x.shape[1])


# --- a gap in the data


def with_a_gap(rng: np.random.Generator, count: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """y = cos(4x + 0.8) + N(0, 0.1²), x in [−1, −0.7] and [0.5, 1] (Foong et al. 2019)."""
    x = np.concatenate([rng.uniform(-1, -0.7, count // 2), rng.uniform(0.5, 1, count // 2)])[:, None]
    return x.astype(np.float32), wave(x, rng)


def wave(x: np.ndarray, rng: np.random.Generator, noise: float = 0.1) -> np.ndarray:
    """The curve, with noise."""
    return (np.cos(4 * x + 0.8) + noise * rng.normal(size=x.shape)).astype(np.float32)


STRUCTURES = ("last_layer", "diagonal", "kronecker", "full")
WAYS = ("σ alone", *STRUCTURES, "ensemble", "ensemble, leverages", "MLPRegressor")


def in_the_gap(effort: Effort, session: Session) -> tuple[dict[str, np.ndarray], dict[str, Band]]:
    """Coverage of 95% intervals and mean negative log-likelihood of new targets, in the gap and beside it, by way; and
    the intervals of the first sample.
    """
    network = jnn.mlp([1, 30, 1])
    found: dict[str, list[Any]] = {way: [] for way in WAYS}
    bands: dict[str, Band] = {}
    grid = np.linspace(-1.3, 1.3, 200, dtype=np.float32)[:, None]
    for seed in session.each(range(effort.gaps), lambda seed: f"Intervals in a gap: sample {seed}"):
        rng = np.random.default_rng(1000 * session.seed + seed)
        x, y = with_a_gap(rng)
        gap = np.linspace(-0.7, 0.5, 100, dtype=np.float32)[:, None]
        beside, target = with_a_gap(rng)
        parts = ((gap, wave(gap, rng)), (beside, target))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evidence = laplace.train(network, GAUSSIAN, x, y, key=jax.random.key(seed), restarts=4)
            trained = ensembles.fit(
                network,
                GAUSSIAN,
                x,
                y,
                key=jax.random.key(seed),
                members=8,
                validation=0.2,
                epochs=effort.epochs,
                optimizer=jnn.adam(1e-2),
                stopping=jnn.stopping.Patience(100),
            )
            assert evidence.posterior is not None
            decay, noise = float(evidence.posterior.weight_decay), float(evidence.posterior.noise)
            predictions: dict[str, Any] = {"σ alone": _fixed(Model(network, GAUSSIAN, evidence.params), noise)}
            for structure in STRUCTURES:
                posterior = laplace.fit(
                    network, GAUSSIAN, evidence.params, x, y, weight_decay=decay, noise=noise, structure=structure
                )
                predictions[structure] = Model(network, GAUSSIAN, evidence.params, posterior=posterior).moments
        with_leverages = laplace.leverages(trained, x, y)
        assert with_leverages.posterior is not None
        held_out = _held_out_noise(trained, x, y)
        predictions["ensemble"] = _fixed(trained.model, held_out)
        predictions["ensemble, leverages"] = with_leverages.moments
        predictions["MLPRegressor"] = _of_the_regressor(MLPRegressor(random_state=seed).fit(x, y[:, 0]))
        for way, predict in predictions.items():
            found[way].append([_scores(predict(z), t) for z, t in parts])
            if way not in bands:
                mean, variance = predict(grid)
                half = norm.ppf(0.975) * np.sqrt(variance)
                bands[way] = Band((x, y), grid, wave(grid, rng, 0.0), np.asarray(mean), half)
    return {way: np.array(values, float) for way, values in found.items()}, bands


def _fixed(model: Model, noise: float) -> Any:
    """The mixture's moments with one variance of the noise."""

    def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        means = np.asarray(model.member_means(x)) if model.members else np.asarray(model.mean(x))[None]
        return means.mean(axis=0), noise + means.var(axis=0)

    return moments


def _of_the_regressor(model: MLPRegressor) -> Any:
    def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, deviation = model.predict(x, return_std=True)
        return mean[:, None], np.square(deviation)[:, None]

    return moments


def _held_out_noise(trained: ensembles.Ensemble, x: np.ndarray, y: np.ndarray) -> float:
    """σ² of the members' own held-out examples, as if no place were far."""
    held_out = trained.result.state.held_out
    assert held_out is not None
    squares = (np.asarray(trained.member_means(x)) - y) ** 2
    own = [s[np.asarray(i)[: int(c)]] for s, i, c in zip(squares, held_out.index, held_out.count, strict=True)]
    return float(np.mean(np.concatenate(own)))


def _scores(moments: Any, y: np.ndarray) -> tuple[float, float]:
    """Coverage of the 95% interval, and the mean negative log-likelihood, by mean and variance."""
    mean, variance = moments
    standardized = (y - mean) / np.sqrt(variance)
    inside = float(np.mean(np.abs(standardized) <= norm.ppf(0.975)))
    return inside, float(np.mean(0.5 * standardized**2 + 0.5 * np.log(2 * np.pi * variance)))


# --- uneven noise


def uneven_noise(effort: Effort, session: Session) -> dict[str, np.ndarray]:
    """Whether 95% intervals of f, from standard errors, cover it in a quiet and in a noisy place, `(samples, 2)`."""
    network = jnn.mlp([1, 3, 1])
    truth = network.init(jax.random.key(7), weights=jnn.networks.nguyen_widrow)
    rng = np.random.default_rng(session.seed)
    x = np.linspace(-1, 1, 200, dtype=np.float32)[:, None]
    places = np.array([[-0.5], [0.5]], np.float32)
    values = np.asarray(network.apply(truth, places))[:, 0]
    scale = np.where(x < 0, 0.05, 0.3)
    clean = np.asarray(network.apply(truth, x))
    samples = [(clean + scale * rng.normal(size=x.shape)).astype(np.float32) for _ in range(effort.uneven)]
    gamma = 1e-4
    found: dict[Any, list[Any]] = {"observed": [], "hc3": []}
    at = functools.partial(network.apply, x=places)
    for y in session.each(samples, lambda _: "Standard errors where noise is uneven"):
        fitted = jnn.fit(
            network,
            GAUSSIAN,
            x,
            y,
            key=jax.random.key(0),
            params=truth,
            optimizer=jnn.levenberg_marquardt(),
            weight_decay=gamma,
            epochs=100,
        ).params
        estimate = np.asarray(at(fitted))[:, 0]
        for kind, inside in found.items():
            try:
                covariance = laplace.sampling_covariance(
                    network,
                    GAUSSIAN,
                    fitted,
                    x,
                    y,
                    weight_decay=gamma,
                    kind=kind,
                    of=at,
                )
            except ValueError:  # no minimum, so far
                continue
            inside.append(np.abs(estimate - values) <= norm.ppf(0.975) * np.sqrt(np.diagonal(covariance)))
    return {kind: np.array(inside, float).reshape(-1, 2) for kind, inside in found.items()}


# --- what came out


def run(session: Session) -> Outcome:
    """All parts, and what they say."""
    effort = EFFORTS[session.size]
    spectrum = spectra(effort, session)
    training = along_a_training(session, (0, 10) if session.size == "tiny" else (0, 2, 5, 10, 30))
    by_evidence = sines(effort, session)
    chosen = choices(effort, session)
    gap, bands = in_the_gap(effort, session)
    uneven = uneven_noise(effort, session)
    return Outcome(
        verdicts=[
            flatter(spectrum),
            nearer(training),
            by_itself(by_evidence),
            as_well(chosen),
            widen(gap, ("full",), 0.7, "Laplace's posteriors"),
            widen(gap, ("kronecker",), 0.7, "Laplace's posteriors by Kronecker factors"),
            widen(gap, ("ensemble, leverages", "MLPRegressor"), 0.65, "Leverages"),
            robust(uneven),
        ],
        tables=[_training_table(training), _gap_table(gap), _uneven_table(uneven)],
        pictures=[_spectrum_picture(spectrum), *_sine_picture(by_evidence.first), _gap_picture(bands)],
        interrupted=session.interrupted,
    )


def flatter(found: Spectra) -> Verdict:
    """Whether standardized inputs leave the Hessian's eigenvalues nearer together."""
    e = statistics.over_seeds(np.log10(found.conditions).tolist())
    return Verdict(
        "Standardized inputs make the error's valleys rounder.",
        statistics.above(e),
        "With inputs in units up to a thousand times apart, the Hessian's largest eigenvalue over the median one is "
        f"10 to the power of {e.mean:.1f} (95%: {e.low:.1f} to {e.high:.1f}) times that of standardized ones.",
    )


def nearer(rows: list[Seen]) -> Verdict:
    """Whether the Gauss-Newton matrix is nearer to the Hessian at the end of a training."""
    (_, _, negative, first), (*_, last) = rows[0], rows[-1]
    return Verdict(
        "Towards a minimum the Gauss-Newton matrix becomes the Hessian.",
        last < 0.5 * first,
        f"On the noisy sine ‖H − G‖ / ‖H‖ goes from {first:.2f} to {last:.3f}; of the Hessian's eigenvalues {negative} "
        f"are negative at first, and {rows[-1][2]} in the end.",
    )


def by_itself(found: Sines) -> Verdict:
    """Whether the evidence finds decay and noise of the noisy sine."""
    effective, noise, error = (float(np.median(v)) for v in (found.effective, found.noise, found.error))
    covered = float(np.mean(found.covered))
    holds = abs(effective - 12) <= 2 and abs(noise - 0.1) <= 0.01 and error <= 0.05 and 0.9 <= covered <= 0.98
    return Verdict(
        "Without validation examples, the evidence finds how much weights should decay, and the noise.",
        holds,
        f"Medians over {len(found.noise)} noisy sines: {effective:.1f} effective of 61 weights, σ = {noise:.3f} (it is "
        f"0.1), {error:.3f} from the truth; the 95% band of the curve covers {covered:.0%} of it.",
    )


def as_well(found: Choices) -> Verdict:
    """Whether the decay that evidence chooses predicts as well as cross-validation's."""
    e = statistics.over_splits((np.diff(np.log(found.error), axis=1)[:, 0] * -100).tolist(), found.train, found.test)
    decay, (own, other) = np.median(found.decay, axis=0), np.median(found.seconds, axis=0)
    return Verdict(
        "Evidence chooses the decay as well as cross-validation does.",
        statistics.below(e, than=5.0),
        f"On diabetes the error on new examples is {e.mean:+.1f}% (95%: {e.low:+.1f} to {e.high:+.1f}) beside that of "
        f"five-fold cross-validation; median decays {decay[0]:.2g} and {decay[1]:.2g}, processor time {own:.1f} and "
        f"{other:.1f} s.",
    )


def widen(found: dict[str, np.ndarray], ways: tuple[str, ...], bound: float, who: str) -> Verdict:
    """Whether intervals in the gap cover what they should, at least nearly."""
    coverage = {way: float(found[way][:, 0, 0].mean()) for way in (*ways, "σ alone", "ensemble")}
    return Verdict(
        f"{who} tell where there were no data.",
        all(coverage[way] >= bound for way in ways),
        "95% intervals in the gap cover " + ", ".join(f"{c:.0%} ({way})" for way, c in coverage.items()) + ".",
    )


def robust(found: dict[str, np.ndarray]) -> Verdict:
    """Whether HC3's intervals cover f where noise is small and where it is large."""
    shown = {kind: inside.mean(axis=0) for kind, inside in found.items()}
    error = 100 * np.sqrt(0.05 * 0.95 / len(found["hc3"]))
    return Verdict(
        "HC3's standard errors hold where the noise differs from place to place.",
        bool(np.all(np.abs(shown["hc3"] - 0.94) <= 0.02)),
        ", ".join(f"{kind}: 95% intervals cover {q:.3f} (quiet) and {n:.3f} (noisy)" for kind, (q, n) in shown.items())
        + f", {len(found['hc3'])} samples, which know it to ± {error:.1f} points.",
    )


def _training_table(rows: list[Seen]) -> Table:
    shown = [[f"epoch {e}", f"{error:.2g}", str(negative), f"{apart:.3f}"] for e, error, negative, apart in rows]
    return Table(
        "Hessian and Gauss-Newton matrix along a training",
        ["", "mean squared error", "negative eigenvalues of H", "‖H − G‖ / ‖H‖"],
        shown,
        "Levenberg and Marquardt on the noisy sine, 10 neurons.",
    )


def _gap_table(found: dict[str, np.ndarray]) -> Table:
    rows = [
        [way, *(f"{values[:, part, score].mean():.{2}f}" for part in (0, 1) for score in (0, 1))]
        for way, values in found.items()
    ]
    return Table(
        "Intervals in a gap of the data",
        ["", "95% cover, gap", "−ln p, gap", "95% cover, beside", "−ln p, beside"],
        rows,
        f"Means over {len(found['full'])} samples. Weight decay and noise of the posteriors: by evidence.",
    )


def _uneven_table(found: dict[str, np.ndarray]) -> Table:
    rows = [[kind, *(f"{c:.3f}" for c in inside.mean(axis=0))] for kind, inside in found.items()]
    return Table("Standard errors", ["", "covers, quiet", "covers, noisy"], rows, "σ is 0.05 and 0.3; nominal 0.95.")


def _spectrum_picture(found: Spectra) -> Picture:
    def draw(axes: Axes) -> None:
        for values, color, name in (
            (found.raw[0], drawing.FIRST, "in units apart"),
            (found.standardized[0], drawing.SECOND, "standardized"),
        ):
            axes.semilogy(np.sort(np.abs(values))[::-1], color=color, label=name)
        drawing.finish(axes, "eigenvalue's rank", "|eigenvalue| of the Hessian", legend="best")

    panel = drawing.panel(draw, "Spectrum", "Eigenvalues of the Hessian by rank, for raw and for standardized inputs")
    return Picture("The Hessian's spectrum", [panel], "Ten tanh neurons on diabetes, at the first weights.")


def _band_panel(band: Band, title: str, alt: str, within: float) -> str:
    def draw(axes: Axes) -> None:
        x, mean, half = (values[:, 0] for values in (band.grid, band.mean, band.half))
        axes.fill_between(x, mean - half, mean + half, color=drawing.FAINT, label="95%")
        axes.plot(x, band.truth[:, 0], "--", color=drawing.INK, linewidth=1, label="truth")
        axes.plot(x, mean, color=drawing.FIRST, label="mean")
        axes.plot(*(values[:, 0] for values in band.examples), ".", color=drawing.SECOND, label="examples")
        axes.set_ylim(-within, within)
        drawing.finish(axes, "input x", below=2)

    return drawing.panel(draw, title, alt, height=3.2)


def _sine_picture(band: Band | None) -> list[Picture]:
    if band is None:  # interrupted before
        return []
    panel = _band_panel(band, "f, by evidence", "A noisy sine, the fitted curve and its 95% band", 1.5)
    return [Picture("The noisy sine", [panel], "The first sample; the band is that of the curve, without the noise.")]


def _gap_picture(bands: dict[str, Band]) -> Picture:
    panels = [
        _band_panel(band, way, f"A curve and its 95% band about new targets, by {way}, with a gap in the data", 5.0)
        for way, band in bands.items()
    ]
    return Picture("Where there are no data", panels, "The first sample; a band that leaves the picture goes on.")


EXPERIMENT = Experiment(
    name="curvature",
    title="Second derivatives",
    question="What do second derivatives tell, and what are they good for?",
    claim="Many powerful gradient-based search techniques exist (slide “Gradient descent”).",
    run=run,
    full_minutes=15.0,
)
