"""The public functions with good arguments, by name, all of which may be changed."""

import functools
import inspect
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from sklearn.exceptions import ConvergenceWarning

import jnn
from jnn import (
    activations,
    backprop,
    curvature,
    ensembles,
    laplace,
    likelihoods,
    networks,
    objectives,
    persistence,
    schedules,
    stopping,
    transforms,
)
from jnn.likelihoods import Bernoulli, Categorical, Gaussian, GeneralRule, HeteroscedasticGaussian, OneHot, Poisson
from jnn.sklearn import MLPClassifier, MLPRegressor


@dataclass(frozen=True)
class Function:
    """A function of good arguments.

    Attributes:
        name: the function's own, after `jnn.`.
        call: it, with whatever else it needs; takes the arguments by name.
        arguments: good ones: arrays, numbers, keys, parameters.
        trains: whether what it returns was trained: finite, whatever came.
        labels: the argument that may be anything that has a name or an order.
        optional: arguments that may be None.
    """

    name: str
    call: Callable[..., Any]
    arguments: Mapping[str, Any]
    trains: bool = False
    labels: str = ""
    optional: tuple[str, ...] = ()


N = 24
_random = np.random.default_rng(0)
X = _random.integers(-3, 4, (N, 3)).astype(np.float32)
LABELS = np.resize(np.arange(3), N).astype(np.int32)
Y = _random.integers(-2, 3, (N, 2)).astype(np.float32)
COUNTS = _random.integers(0, 4, (N, 2)).astype(np.float32)
BITS = (Y > 0).astype(np.float32)
WEIGHTS = _random.integers(1, 4, N).astype(np.float32)
KEY = jax.random.key(0)
NETWORK = jnn.mlp([3, 4, 2], shortcuts=True)
CLASSES = jnn.mlp([3, 4, 3])
EDGES = np.array([(1, 4), (2, 4), (3, 5), (4, 5), (4, 6), (5, 6), (5, 7), (1, 7)])
DAG = jnn.dag(3, 2, EDGES)


def _params(network: networks.Network, lead: tuple[int, ...] = ()) -> Any:
    """Parameters that are small integers, as all good arguments."""
    shapes = jax.eval_shape(network.init, KEY)
    return jax.tree.map(lambda leaf: _random.integers(-2, 3, lead + leaf.shape).astype(np.float32), shapes)


PARAMS, CLASS_PARAMS, DAG_PARAMS, MEMBERS = _params(NETWORK), _params(CLASSES), _params(DAG), _params(NETWORK, (3,))
STANDARDIZE = transforms.Standardize(np.array([1.0, 0.0, -1.0]), np.array([2.0, 1.0, 0.5]))
TARGETS = transforms.Standardize(np.array([1.0, 0.0]), np.array([2.0, 1.0]))
PAIRS = {  # pre-activations and targets
    "Gaussian": (Gaussian(), Y[::-1].copy(), Y),
    "Bernoulli": (Bernoulli(), Y, BITS),
    "Poisson": (Poisson(), Y, COUNTS),
    "Categorical": (Categorical(), X, LABELS),
    "HeteroscedasticGaussian": (HeteroscedasticGaussian(), np.concatenate([X, X[:, :1]], axis=1), Y),
    "GeneralRule": (GeneralRule("softmax", likelihoods.SquaredError()), X, np.eye(3, dtype=np.float32)[LABELS]),
}
FIT = {"key": KEY, "epochs": 2, "batch_size": 8}
ENSEMBLE = ensembles.fit(NETWORK, Gaussian(), X, Y, members=3, **FIT)
ROWS = np.array([[0, 1, 2, 3, 4, 5, 6, 7, -1], [2, 3, 4, 5, 6, 7, 8, 9, 10], [9, 8, 7, 6, 5, 4, 3, 2, 1]])


def _activations() -> list[Function]:
    some = [activations.tanh, activations.relu, activations.gelu, activations.step]
    return [Function(f"activations.{h.name}", lambda a, h=h: h(a), {"a": X}) for h in some]


def _likelihoods() -> list[Function]:
    found = [Function("likelihoods.Gaussian", lambda s: Gaussian(s).delta(jax.numpy.asarray(Y), Y + 1), {"s": 2.0})]
    for name, (likelihood, a, y) in PAIRS.items():
        for method in ("nll", "delta", "mean", "variance", "decide", "sample"):
            if call := getattr(likelihood, method, None):
                names = [n for n in inspect.signature(call).parameters if n in ("key", "a", "y")]
                arguments = {"key": KEY, "a": a, "y": y}
                found.append(Function(f"likelihoods.{name}.{method}", call, {n: arguments[n] for n in names}))
        outputs = a.shape[1]
        check = likelihood.check_targets
        found.append(
            Function(f"likelihoods.{name}.check_targets", lambda y, check=check, k=outputs: check(y, k), {"y": y})
        )
    encoding = OneHot.fit([0, 1, 2])
    found += [
        Function("likelihoods.OneHot.fit", lambda y: len(OneHot.fit(y).classes), {"y": LABELS}, labels="y"),
        Function("likelihoods.OneHot.encode", encoding.encode, {"labels": LABELS}, labels="labels"),
        Function("likelihoods.OneHot.indices", encoding.indices, {"labels": LABELS}, labels="labels"),
        Function("likelihoods.OneHot.decode", encoding.decode, {"z": X}),
        Function("likelihoods.OneHot.labels", encoding.labels, {"indices": LABELS}),
    ]
    return found


def _networks() -> list[Function]:
    found = [
        Function("mlp", lambda sizes: jnn.mlp(sizes).weight_count, {"sizes": np.array([3, 4, 2])},
                 labels="sizes"),
        Function("dag", lambda connections: jnn.dag(3, 2, connections).weight_count, {"connections": EDGES},
                 labels="connections"),
        Function("dag", lambda inputs, outputs: jnn.dag(inputs, outputs, EDGES).weight_count,
                 {"inputs": 3, "outputs": 2}),
        Function("networks.Network.init", lambda key, bias: NETWORK.init(key, bias=bias), {"key": KEY, "bias": 1.0}),
        Function("networks.normal", lambda d: NETWORK.init(KEY, weights=networks.normal(d)), {"d": 1.0}),
        Function("networks.uniform", lambda b: NETWORK.init(KEY, weights=networks.uniform(b)), {"b": 1.0}),
        Function("networks.with_shortcuts", lambda params: networks.with_shortcuts(CLASSES, params)[1],
                 {"params": CLASS_PARAMS}),
        Function("networks.as_dag", lambda params: networks.as_dag(CLASSES, params)[1], {"params": CLASS_PARAMS}),
    ]  # fmt: skip
    for network, params in ((NETWORK, PARAMS), (DAG, DAG_PARAMS)):
        both = {"params": params, "x": X}
        found += [
            Function("networks.Network.apply", network.apply, both),
            Function("networks.Network.trace", network.trace, both),
        ]
    return found


def _transforms() -> list[Function]:
    fitted = {"Standardize": STANDARDIZE, "Whiten": transforms.Whiten.fit(X), "Squash": transforms.Squash.fit(X)}
    found = [
        Function(f"transforms.{name}.{method}", getattr(transform, method), {argument: X})
        for name, transform in fitted.items()
        for method, argument in (("apply", "x"), ("undo", "z"))
    ]
    return [
        *found,
        Function("transforms.Standardize.fit", transforms.Standardize.fit, {"x": X, "weights": WEIGHTS},
                 trains=True, optional=("weights",)),
        Function("transforms.Whiten.fit", lambda x: transforms.Whiten.fit(x).scale, {"x": X}, trains=True),
        Function("transforms.Whiten.fit", lambda components: transforms.Whiten.fit(X, components).scale,
                 {"components": 2}, trains=True, optional=("components",)),
        Function("transforms.Squash.fit", transforms.Squash.fit, {"z": X}),
        Function("transforms.fold", lambda params: transforms.fold(STANDARDIZE, NETWORK, params)[1],
                 {"params": PARAMS}),
        Function("transforms.fold_outputs", lambda params: transforms.fold_outputs(TARGETS, NETWORK, params),
                 {"params": PARAMS}),
    ]  # fmt: skip


def _model() -> list[Function]:
    model = jnn.Model(NETWORK, Gaussian(), MEMBERS, (STANDARDIZE,), TARGETS)
    found = [
        Function(f"Model.{method}", getattr(model, method), {"x": X}) for method in ("mean", "moments", "member_means")
    ]
    return [
        *found,
        Function("Model", lambda params: jnn.Model(NETWORK, Gaussian(), params).mean(X), {"params": PARAMS}),
        Function("Model.check", lambda params: jnn.Model(NETWORK, Gaussian(), params).check(), {"params": PARAMS}),
        Function("ensembles.Ensemble.mean", ENSEMBLE.mean, {"x": X}),
        Function("ensembles.Ensemble.member", lambda number: ENSEMBLE.member(number)[1], {"number": 1}),
    ]


def _optimizers() -> list[Function]:
    def updated(optimizer: Any, params: Any, gradients: Any) -> Any:
        return optimizer.update(gradients, optimizer.init(params), params, value=np.float32(1.0))[0]

    found = []
    for optimizer in (
        jnn.adam(),
        jnn.steepest_descent(0.1, 0.5),
        jnn.rprop(),
    ):
        both = {"params": PARAMS, "gradients": PARAMS}
        found.append(
            Function("optimizers.Optimizer.update", lambda optimizer=optimizer, **trees: updated(optimizer, **trees),
                     both)
        )  # fmt: skip
    numbers: dict[str, tuple[Callable[..., Any], dict[str, float]]] = {
        "adam": (jnn.adam, {"learning_rate": 0.5, "b1": 0.5, "b2": 0.75, "eps": 0.125}),
        "steepest_descent": (jnn.steepest_descent, {"learning_rate": 0.5, "momentum": 0.5}),
        "levenberg_marquardt": (
            lambda damping: jnn.levenberg_marquardt(damping),
            {"damping": 0.5},
        ),
        "rprop": (jnn.rprop, {"learning_rate": 0.5, "eta_plus": 1.5, "eta_minus": 0.5, "max_step": 2.0}),
        "schedules.cosine": (
            lambda **given: jnn.steepest_descent(schedules.cosine(**given)),
            {"learning_rate": 0.5, "updates": 8.0},
        ),
        "schedules.inverse_scaling": (
            lambda **given: jnn.steepest_descent(schedules.inverse_scaling(**given, steps=3, batch_size=8)),
            {"learning_rate": 0.5, "power": 0.5},
        ),
    }
    for name, (make, arguments) in numbers.items():
        found.append(
            Function(
                name,
                lambda make=make, batch_size=None if name == "levenberg_marquardt" else 8, **given: _fitted(
                    optimizer=make(**given), batch_size=batch_size
                ),
                arguments,
                trains=True,
                optional=("momentum",),
            )
        )
    return found


def _objectives() -> list[Function]:
    mask = objectives.all_weights_mask(NETWORK)
    return [
        Function("objectives.penalty", lambda params: objectives.penalty(params, mask), {"params": PARAMS}),
        Function("objectives.penalty_gradient", lambda params: objectives.penalty_gradient(params, mask),
                 {"params": PARAMS}),
    ]  # fmt: skip


def _backprop() -> list[Function]:
    found = []
    for network, params in ((NETWORK, PARAMS), (DAG, DAG_PARAMS)):
        batch = {"params": params, "x": X, "y": Y}
        for make in (objectives.objective, backprop.value_and_grad):
            name = f"{make.__module__}.{make.__name__}".removeprefix("jnn.")
            call = make(network, Gaussian(), weight_decay=0.5)
            found.append(Function(name, call, {**batch, "weights": WEIGHTS}, optional=("weights",)))
            found.append(
                Function(name, lambda weight_decay, make=make, network=network, batch=batch: make(
                    network, Gaussian(), weight_decay=weight_decay)(**batch), {"weight_decay": 0.5})
            )  # fmt: skip
        for call in (backprop.deltas, backprop.per_example_gradients, backprop.per_example_gradient_norms):
            found.append(
                Function(f"backprop.{call.__name__}", lambda call=call, network=network, **given: call(
                    network, Gaussian(), **given), batch)
            )  # fmt: skip
        found.append(
            Function("backprop.apply", lambda params, x, network=network: backprop.apply(network, params, x),
                     {"params": params, "x": X})
        )  # fmt: skip
    value = backprop.differentiable(
        backprop.value_and_grad(CLASSES, Categorical()), *map(jax.numpy.asarray, (X, LABELS))
    )
    found.append(Function("backprop.differentiable", value, {"params": CLASS_PARAMS}))
    return found


def _curvature() -> list[Function]:
    found = []
    own: list[tuple[Any, Any, dict[str, Any]]] = [
        (NETWORK, Gaussian(), {"params": PARAMS, "x": X, "y": Y}),
        (CLASSES, Categorical(), {"params": CLASS_PARAMS, "x": X, "y": LABELS}),
    ]
    for network, likelihood, batch in own:
        batch = {**batch, "v": batch["params"], "weights": WEIGHTS}
        for make, names in (
            (curvature.hessian_vector_product, "params v x y weights"),
            (curvature.gauss_newton_vector_product, "params v x weights"),
            (curvature.gauss_newton, "params x weights"),
            (curvature.hessian, "params x y weights"),
            (curvature.diagonal, "params x weights"),
            (curvature.kronecker_factors, "params x weights"),
        ):
            call = make(network, likelihood)
            arguments = {name: batch[name] for name in names.split(" ")}
            found.append(Function(f"curvature.{make.__name__}", call, arguments, optional=("weights",)))
        found += [
            Function("curvature.root_rows", functools.partial(curvature.root_rows, network, likelihood),
                     {name: batch[name] for name in ("params", "x", "weights")}, optional=("weights",)),
            Function("curvature.jacobian", functools.partial(curvature.jacobian, network),
                     {name: batch[name] for name in ("params", "x")}),
        ]  # fmt: skip
    value = curvature.differentiable(CLASSES, Categorical())
    found.append(
        Function("curvature.differentiable", lambda params, x: value(params, x, LABELS),
                 {"params": CLASS_PARAMS, "x": X})
    )  # fmt: skip
    return found


def _laplace() -> list[Function]:
    def parts(posterior: Any) -> Any:
        return posterior.basis.eigenvalues, posterior.noise, posterior.weight_decay

    def fit(**given: Any) -> Any:
        arguments = {"params": PARAMS, "x": X, "y": Y, "weight_decay": 0.5, **given}
        return laplace.fit(NETWORK, Gaussian(), **arguments)

    data = {"x": X, "y": Y, "weights": WEIGHTS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", laplace.NotConvergedWarning)
        known = jnn.Model(NETWORK, Gaussian(), PARAMS, posterior=fit())
    held_out = ensembles.fit(NETWORK, Gaussian(), X, Y, members=3, validation=0.25, **FIT)
    line = jnn.mlp([3, 2])
    flat = _params(line)
    return [
        Function("laplace.fit", lambda **given: parts(fit(**given)), data, trains=True, optional=("weights",)),
        Function("laplace.fit", lambda params: parts(fit(params=params)), {"params": PARAMS}, trains=True),
        Function("laplace.fit", lambda **given: parts(fit(**given)), {"weight_decay": 0.5, "noise": 2.0},
                 trains=True, optional=("noise",)),
        Function("laplace.fit", lambda x, y: parts(fit(x=x, y=y, structure="kronecker")), {"x": X, "y": Y},
                 trains=True),
        Function("laplace.train", lambda **given: parts(laplace.train(
            NETWORK, Gaussian(), **{"x": X, "y": Y, "key": KEY, "restarts": 2, "rounds": 2, "epochs": 2, **given}
        ).posterior), {"x": X, "y": Y, "key": KEY}, trains=True),
        Function("laplace.train", lambda **given: parts(laplace.train(
            NETWORK, Gaussian(), X, Y, key=KEY, **{"restarts": 2, "rounds": 2, "epochs": 2, **given}
        ).posterior), {"keep": 1, "rounds": 2, "epochs": 2, "tolerance": 0.5}, trains=True),
        Function("laplace.leverages", lambda x, y: parts(laplace.leverages(held_out, x, y).posterior), {"x": X, "y": Y},
                 trains=True),
        Function("laplace.leverages", lambda weight_decay: parts(laplace.leverages(
            held_out, X, Y, weight_decay=weight_decay).posterior), {"weight_decay": 0.5}, trains=True),
        *(Function("laplace.sampling_covariance", lambda kind=kind, **given: laplace.sampling_covariance(
            line, Gaussian(), kind=kind, **{"params": flat, "x": X, "y": Y, "weight_decay": 0.5, **given}), arguments,
            trains=True)
          for kind in ("observed", "hc3")
          for arguments in ({"params": flat, "x": X, "y": Y}, {"weight_decay": 0.5})),
        Function("Model.moments", known.moments, {"x": X}),
        Function("Model.interval", known.interval, {"x": X}),
        Function("Model.interval", lambda coverage: known.interval(X, coverage), {"coverage": 0.5}),
    ]  # fmt: skip


def _fitted(network: Any = NETWORK, likelihood: Any = Gaussian(), x: Any = X, y: Any = Y, **settings: Any) -> Any:  # noqa: B008
    return jnn.fit(network, likelihood, x, y, **{**FIT, **settings}).params


def _together(**settings: Any) -> Any:
    arguments = {"network": NETWORK, "likelihood": Gaussian(), "x": X, "y": Y, "members": 3, **FIT, **settings}
    return ensembles.fit(**arguments).params


def _rule(rule: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **numbers: _fitted(stopping=rule(**numbers), validation=0.25)


def _training() -> list[Function]:
    own = {"x": X, "y": Y, "weights": WEIGHTS, "key": KEY}
    classes = {"x": X, "y": LABELS}
    found = [
        Function("fit", _fitted, own, trains=True, optional=("weights",)),
        Function("fit", lambda **given: _fitted(CLASSES, Categorical(), **given), classes, trains=True),
        Function("fit", lambda **given: _fitted(CLASSES, Categorical(), validation=0.25, **given), classes,
                 trains=True),
        Function("fit", lambda **given: _fitted(likelihood=Poisson(), **given), {"x": X, "y": COUNTS}, trains=True),
        Function("fit", lambda **given: _fitted(likelihood=Bernoulli(), **given), {"x": X, "y": BITS}, trains=True),
        Function("fit", lambda x, y, weights: _fitted(validation=(x, y, weights)),
                 {"x": X, "y": Y, "weights": WEIGHTS}, trains=True, optional=("weights",)),
        Function("fit", lambda params: _fitted(params=params), {"params": PARAMS}, trains=True,
                 optional=("params",)),
        Function("fit", _fitted, {"epochs": 2, "batch_size": 8, "validate_every": 1, "weight_decay": 0.5},
                 trains=True, optional=("batch_size",)),
        Function("fit", _fitted, {"validation": 0.25}, trains=True, optional=("validation",)),
        Function("fit", _fitted, {"rows_on_device": 16}, trains=True, optional=("rows_on_device",)),
        Function("fit", lambda x, y: _fitted(x=x, y=y, rows_on_device=16), {"x": X, "y": Y}, trains=True),
        Function("ensembles.fit", _together, own, trains=True, optional=("weights",)),
        Function("ensembles.fit", lambda **given: _together(network=CLASSES, likelihood=Categorical(), **given),
                 classes, trains=True),
        Function("ensembles.fit", lambda params: _together(params=params), {"params": MEMBERS}, trains=True,
                 optional=("params",)),
        Function("ensembles.fit", lambda rows, held_out: _together(rows=rows, held_out=held_out),
                 {"rows": ROWS, "held_out": ROWS[::-1].copy()}, trains=True, optional=("rows", "held_out")),
        Function("ensembles.fit", _together, {"members": 3, "weight_decay": 0.5, "lanes": 2}, trains=True,
                 optional=("lanes",)),
        Function("ensembles.k_fold", lambda key, classes: ensembles.k_fold(key, N, 3, classes),
                 {"key": KEY, "classes": LABELS}, optional=("classes",)),
        Function("ensembles.k_fold", lambda count, folds: ensembles.k_fold(KEY, count, folds),
                 {"count": N, "folds": 3}),
        Function("ensembles.bootstrap", lambda key: ensembles.bootstrap(key, N, 3), {"key": KEY}),
        Function("ensembles.bootstrap", lambda count, members: ensembles.bootstrap(KEY, count, members),
                 {"count": N, "members": 3}),
        Function("ensembles.cross_validate", _searched, own, trains=True, optional=("weights",)),
        Function("ensembles.cross_validate", _searched, {"folds": 3}, trains=True),
    ]  # fmt: skip
    for name, rule, numbers in (
        ("Patience", stopping.Patience, {"epochs": 2, "min_delta": 0.5}),
        ("GeneralizationLoss", stopping.GeneralizationLoss, {"alpha": 0.5}),
        ("TrainingProgress", stopping.TrainingProgress, {"threshold": 0.5, "strip": 2}),
        ("ProgressQuotient", stopping.ProgressQuotient, {"alpha": 0.5, "strip": 2}),
        ("GradientNorm", stopping.GradientNorm, {"tolerance": 0.5}),
    ):
        found.append(Function(f"training.stopping.{name}", _rule(rule), numbers, trains=True))
    return found


def _searched(**given: Any) -> Any:
    """Mean scores may be infinite, where something diverged; parameters do not come back."""
    arguments = {"x": X, "y": Y, "grid": {"learning_rate": [0.01, 0.1]}, "folds": 3, **FIT, **given}
    return np.nan_to_num(ensembles.cross_validate(NETWORK, Gaussian(), **arguments).mean, posinf=0)


def _persistence() -> list[Function]:
    def kept(params: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model"
            persistence.save(path, jnn.Model(NETWORK, Gaussian(), params))
            return persistence.load(path).params

    def exported(params: Any) -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model"
            persistence.export(path, jnn.Model(NETWORK, Gaussian(), params), platforms=("cpu",))
            return path.stat().st_size

    model = jnn.Model(NETWORK, Gaussian(), PARAMS)
    return [
        Function("persistence.save", kept, {"params": PARAMS}),
        Function("persistence.export", exported, {"params": PARAMS}),
        Function("Model.mean", lambda x: model.mean(x), {"x": X}),
    ]  # fmt: skip


def _sklearn() -> list[Function]:
    warnings.simplefilter("ignore", ConvergenceWarning)
    found = []
    words = np.array(["ant", "bee", "cow"])[LABELS]
    settings = {"members": 2, "random_state": 0, "max_iter": 2, "hidden_layer_sizes": 4, "batch_size": 8}
    for kind, target, words_too in ((MLPClassifier, LABELS, True), (MLPRegressor, Y[:, 0].copy(), False)):
        name = f"sklearn.{kind.__name__}"

        def fitted(kind: Any = kind, **given: Any) -> Any:
            return kind(**settings).fit(**given).params_

        def streamed(kind: Any = kind, **given: Any) -> Any:
            classes = {"classes": [0, 1, 2]} if kind is MLPClassifier else {}
            return kind(**settings).partial_fit(**given, **classes).params_

        both = {"X": X, "y": target, "sample_weight": WEIGHTS}
        options: dict[str, Any] = {"trains": True, "optional": ("sample_weight",)}
        estimator = kind(**settings).fit(X, target)
        found += [
            Function(f"{name}.fit", fitted, both, labels="y" if words_too else "", **options),
            Function(f"{name}.partial_fit", streamed, both, **options),
            Function(f"{name}.predict", estimator.predict, {"X": X}),
            Function(f"{name}.score", estimator.score, {"X": X, "y": target}, labels="y"),
        ]
        if words_too:
            probabilities = MLPClassifier(**settings).fit(X, words).predict_proba
            found.append(Function(f"{name}.predict_proba", probabilities, {"X": X}, trains=True))
    return found


def _plots() -> list[Function]:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    from jnn import plots

    def drawn(**given: Any) -> None:
        try:
            plots.plot_calibration(**given)
        finally:
            pyplot.close("all")

    probabilities = np.eye(3, dtype=np.float32)[LABELS]
    return [Function("plots.plot_calibration", drawn, {"probabilities": probabilities, "labels": LABELS})]


def functions() -> list[Function]:
    """All of them."""
    makers = (_activations, _likelihoods, _networks, _transforms, _model, _optimizers, _objectives, _backprop,
              _curvature, _laplace, _training, _persistence, _sklearn, _plots)  # fmt: skip
    return [function for make in makers for function in make()]


TAKE_NO_NUMBERS = {
    "enable_compilation_cache": "a folder",
    "describe": "a network",
    "activations.get": "a name",
    "objectives.decay_mask": "a network and a likelihood",
    "objectives.all_weights_mask": "a network",
    "objectives.is_zero": "anything",
    "objectives.check_reduction": "a word",
    "objectives.every_weight_mask": "a network",
    "objectives.shares": "inside objective and value_and_grad",
    "optimizers.takes_curvature": "an optimizer",
    "objectives.checked_decay": "inside objective and value_and_grad",
    "objectives.examples": "inside objective and value_and_grad",
    "optimizers.is_elementwise": "an optimizer",
    "optimizers.parametrized": "what the rule that it is given takes",
    "persistence.load": "a file",
    "persistence.export_onnx": "a model, checked as export checks it",
    "plots.plot_history": "a result",
    "plots.plot_network": "a network",
    "training.stopping.rule": "a decorator of classes",
    "networks.fan_in_normal": "an initializer, as normal",
    "networks.fan_in_uniform": "an initializer, as uniform",
    "gradcheck.check": "a function, and whatever pytree that takes",
    "gradcheck.check_rules": "functions, as check",
    "gradcheck.compare": "functions, as check",
    "gradcheck.cotangent": "a name",
    "gradcheck.leaf": "a name",
    "gradcheck.rule_call": "functions",
    "gradcheck.tangent": "a name",
}
"""Public functions that are not here, and what they take."""
