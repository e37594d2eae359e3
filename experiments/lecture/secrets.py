"""The lecture's recipe for shallow networks, and what each of its secrets is worth: leave them out one at a time."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

import jnn
from experiments import datasets, drawing, statistics
from experiments.datasets import SOURCES, Data
from experiments.experiment import Effort, Experiment, Outcome, Picture, Session, Table, Verdict, efforts
from experiments.lecture import variants
from experiments.lecture.variants import Settings, Trained, Variant
from experiments.statistics import Estimate
from jnn.transforms import Whiten

RECIPE = "the recipe"
SECRETS = {
    "no normalization": "Data of zero mean and unit variance, component by component, lower the test risk.",
    "large initial weights": "Small initial weights lower the test risk.",
    "2 neurons": "“Enough neurons” in the single layer lower the test risk.",
    "no early stopping": "Early stopping lowers the test risk.",
    "no shortcuts": "Shortcuts lower the test risk.",
    "no PCA": "PCA, which removes linear correlations, lowers the test risk.",
}
"""What is left out, and what the lecture says of it. (PCA: what is compared is the recipe with it and the recipe.)"""

LARGE = 10.0
"""Large initial weights are as many times the usual ones, whose weighted sums have unit variance."""


EFFORTS = efforts(
    names=(("iris",), ("breast_cancer", "wine", "diabetes"), tuple(SOURCES)),
    splits=(2, 10, 40),
    epochs=(3, 150, 300),
    hidden=(4, 32, 32),
    examples=(60, None, None),
)
"""Which data sets, how many splits, for how many epochs, and how many neurons are enough."""


@dataclass(frozen=True)
class Ablation:
    """Test risks of one data set's networks, `(splits,)` each: of the recipe, and with each secret left out.

    "no PCA" is the recipe as well; what it is compared with is the recipe with PCA.
    """

    data: Data
    risks: dict[str, np.ndarray]
    with_pca: np.ndarray

    def harm(self, secret: str, level: float = 0.95) -> Estimate:
        """How much higher the test risk is without the secret, in units of the recipe's: 1 stands for twice."""
        without, beside = self.risks[secret], self.with_pca if secret == "no PCA" else self.risks[RECIPE]
        return self.data.estimate((without - beside) / beside.mean(), level)


def raw(name: str, data: Data, effort: Effort, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same splits' inputs as they come, neither shifted nor scaled."""
    unscaled = datasets.split(name, effort.splits, seed, effort.examples, standardize=False)
    assert unscaled.train.x.shape == data.train.x.shape
    return unscaled.train.x, unscaled.test.x


def ablate(name: str, effort: Effort, seed: int) -> Ablation:
    """Train the recipe and all its mutilations on every split of a data set, as one program."""
    data = datasets.split(name, effort.splits, seed, effort.examples)
    whole = jnn.mlp([data.inputs, effort.hidden, data.outputs], hidden="tanh", shortcuts=True)
    small = jnn.mlp([data.inputs, 2, data.outputs], hidden="tanh", shortcuts=True)
    kinds = [
        Variant(RECIPE, whole),
        Variant("no normalization", whole, inputs="raw"),
        Variant("large initial weights", whole, scale=LARGE),
        Variant("2 neurons", small),
        Variant("no shortcuts", jnn.mlp([data.inputs, effort.hidden, data.outputs], hidden="tanh")),
        Variant("with PCA", whole, inputs="whitened"),
    ]
    whitened = datasets.transformed(Whiten, data.train.x, data.test.x)
    both = {"standardized": (data.train.x, data.test.x), "raw": raw(name, data, effort, seed), "whitened": whitened}
    inputs = {kind: train for kind, (train, _) in both.items()}
    trained = variants.train(kinds, data, inputs, Settings(effort.epochs), seed)
    return judged(trained, kinds, np.stack([both[v.inputs][1] for v in kinds]))


def judged(trained: Trained, kinds: list[Variant], test_inputs: np.ndarray) -> Ablation:
    """The test risks; without early stopping the recipe's last hypothesis is taken."""
    chosen, last = (trained.risks(p, test_inputs) for p in (trained.result.params, trained.result.last_params))
    risks = {v.name: np.maximum(np.nan_to_num(r, nan=np.inf), 1e-9) for v, r in zip(kinds, chosen, strict=True)}
    with_pca = risks.pop("with PCA")
    return Ablation(trained.data, risks | {"no early stopping": last[0], "no PCA": risks[RECIPE]}, with_pca)


def run(session: Session) -> Outcome:
    """Leave out each secret on every data set."""
    effort = EFFORTS[session.size]
    names = session.each(effort.names, lambda name: f"Secrets: {SOURCES[name].title}")
    found = [ablate(name, effort, session.seed) for name in names]
    return Outcome(
        verdicts=[verdict(found, secret) for secret in SECRETS],
        tables=[_risk_table(found)],
        pictures=[_bars(found)],
        interrupted=session.interrupted,
    )


def verdict(found: list[Ablation], secret: str) -> Verdict:
    """Whether leaving it out raises the risk somewhere, and lowers it nowhere."""
    cells = {a.data.source.title: a.harm(secret, 1 - 0.05 / len(found)) for a in found}
    return Verdict(
        SECRETS[secret],
        statistics.direction(list(cells.values())),
        f"With {secret} the test risk is higher than {'with PCA' if secret == 'no PCA' else 'that of the recipe'} by "
        f"(joint 95% intervals): {'; '.join(f'{name} {e:+z.0%}' for name, e in cells.items())}.",
    )


def _risk_table(found: list[Ablation]) -> Table:
    rows = []
    for name in (RECIPE, *SECRETS):
        pca = name == "no PCA"
        estimates = [a.data.estimate(a.with_pca if pca else a.risks[name]) for a in found]
        rows.append(["with PCA" if pca else name, *(f"{e.mean:.3f} ± {e.error:.3f}" for e in estimates)])
    return Table(
        "Test risks",
        ["", *(a.data.source.title for a in found)],
        rows,
        f"−ln p per test example, mean ± standard error over {len(found[0].with_pca)} random splits, corrected for the "
        "overlap of the splits. The recipe: standardized inputs, 32 hidden tanh neurons, small "
        "initial weights, shortcuts, Adam, and of all epochs the hypothesis with the lowest validation risk.",
    )


def _bars(found: list[Ablation]) -> Picture:
    return drawing.picture(
        "What each secret is worth",
        "How much higher the test risk is without each secret, in units of the recipe's (no PCA: of the recipe with "
        "PCA), with 95% intervals. Where an interval lies right of the dashed line the secret helps, left of it the "
        "network is better off without. (The diabetes data come centered, and scaled down to 0.05.)",
        "how much higher the test risk is without each secret, with intervals",
        _dots,
        {a.data.source.title: a for a in found},
        width=3.7,
        height=2.9,
    )


def _dots(axes: Axes, a: Ablation) -> None:
    drawing.intervals(axes, range(len(SECRETS)), [a.harm(secret) for secret in SECRETS], across=True)
    axes.set_yticks(range(len(SECRETS)), list(SECRETS))
    axes.set_ylim(len(SECRETS) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.axvline(0, color=drawing.INK, linestyle="--", linewidth=1)
    axes.set_xscale("symlog", linthresh=1, linscale=1.5)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1, 3, 10], ["−1", "−½", "0", "½", "1", "3", "10"])
    axes.minorticks_off()
    axes.set_xlabel("additional test risk / the recipe's")


EXPERIMENT = Experiment(
    name="secrets",
    title="The secrets, one by one",
    question="What is each part of the lecture's recipe worth on real data?",
    claim="Normalize the data (PCA helps), use a single layer with enough neurons, start with small weights, employ "
    "early stopping, try shortcuts (slide “The secrets of successful shallow NN training”).",
    run=run,
    full_minutes=8,
)
