"""Who takes part: names, where their code is, and what can be chosen about them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Entrant:
    """One contestant; `module` is loaded in a worker process, perhaps of another interpreter.

    Attributes:
        name: on the command line and in the results.
        title: in the table.
        module: in `experiments.benchmarks.peers`.
        peer: which installation it needs, the name for `--python`.
        devices: where it can compute.
        variant: tells several entrants of one module apart.
        on_request: runs only if named.
    """

    name: str
    title: str
    module: str
    peer: str
    devices: tuple[str, ...] = ("cpu", "gpu")
    variant: str = ""
    on_request: bool = False


ENTRANTS = {
    e.name: e
    for e in (
        Entrant("jnn", "jnn", "jnn_fit", "jnn"),
        Entrant("jnn-before", "jnn of the other checkout", "jnn_fit", "jnn", on_request=True),
        Entrant("jnn-alone", "jnn, one after another", "jnn_fit", "jnn", variant="alone"),
        Entrant("jnn-plain", "jnn, none of these", "jnn_fit", "jnn", variant="plain"),
        Entrant("jnn-cached", "jnn, with the compilation cache", "jnn_fit", "jnn", variant="cached"),
        Entrant("bare", "bare loop, none of these", "bare", "jnn"),
        Entrant("sklearn", "scikit-learn", "scikit_learn", "sklearn", ("cpu",)),
        Entrant("sklearn-joblib", "scikit-learn, joblib on all cores", "scikit_learn", "sklearn", ("cpu",), "joblib"),
        Entrant("torch", "PyTorch", "pytorch", "torch"),
        Entrant("torch-compile", "PyTorch, torch.compile", "pytorch", "torch", variant="compile", on_request=True),
        Entrant("jax", "JAX, jitted step in a Python loop", "plain_jax", "jax"),
        Entrant("equinox", "Equinox + optax", "equinox_optax", "equinox"),
        Entrant("flax", "Flax NNX + optax", "flax_nnx", "flax"),
        Entrant("connex", "connex + optax", "connex_dag", "connex"),
        Entrant("scipy", "SciPy L-BFGS-B over a jitted gradient", "scipy_lbfgs", "scipy", ("cpu",)),
    )
}


def interpreters(options: Sequence[str]) -> dict[str, str]:
    """By peer, from options `PEER,PEER=PATH`.

    Raises:
        ValueError: for an option that is none of these.
    """
    found, peers = {}, sorted({e.peer for e in ENTRANTS.values()})
    for option in options:
        names, _, path = option.partition("=")
        if not path or not set(names.split(",")) <= set(peers):
            raise ValueError(f"expected --python PEER,PEER=PATH with peers of {', '.join(peers)}; got {option!r}")
        found.update(dict.fromkeys(names.split(","), path))
    return found
