"""What both estimators share: parameters → settings → an ensemble → a model that predicts."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from jnn import ensembles, transforms
from jnn.likelihoods import Likelihood
from jnn.model import Model
from jnn.networks import Layered, Params, mlp
from jnn.networks.base import Hidden
from jnn.sklearn import files, lbfgs
from jnn.sklearn.recipe import AUTO, Plan, make_plan
from jnn.training import DivergenceWarning, FitResult
from jnn.training.program import RUNNING
from jnn.training.splitting import held_out_count, split
from jnn.transforms import Squash, Standardize, Transform

Role = Literal["first", "again", "part"]
E = TypeVar("E")


PARAMETERS = """hidden_layer_sizes: neurons of each hidden layer.
        activation: "relu", "tanh", "logistic", "identity", any other of jnn's, or a list with one for each layer.
        solver: "adam", "sgd", or "lbfgs" (full batch).
        alpha: γ, weight decay. Biases are spared.
        batch_size: examples a step.
        learning_rate: "constant", "invscaling" or "adaptive", for "sgd".
        learning_rate_init: the learning rate, or its first value.
        power_t: exponent of "invscaling".
        max_iter: the most epochs.
        shuffle: whether each epoch takes the examples in a new order.
        random_state: decides everything random.
        tol: what counts as an improvement of the loss, in targets' units squared; 1e-4 (of the variance) by default.
        verbose: show a bar with the risks while training (needs rich).
        warm_start: whether `fit` goes on from the last result.
        momentum, nesterovs_momentum: for "sgd".
        early_stopping: True to hold out `validation_fraction`, False to hold out nothing.
        validation_fraction: the share held out.
        beta_1, beta_2, epsilon: of Adam.
        n_iter_no_change: epochs to wait for an improvement.
        max_fun: at most as many evaluations of "lbfgs".
        shortcuts: whether every layer reads all earlier ones, the inputs included.
        members: networks in the ensemble.
        standardize: whether inputs are standardized inside (and squashed, in a classifying ensemble).
        likelihood: any of `jnn.likelihoods` in place of the one above; `HeteroscedasticGaussian()` learns a variance
            that depends on the inputs.
        optimizer: any of jnn's or optax's, in place of `solver`.
        dtype: of training, "float32" or "float64".
        device: of JAX, where to train."""

ATTRIBUTES = """network_, params_, likelihood_: what was trained, for jnn's own functions; `params_` has a member axis.
        n_iter_: epochs run, by the member that ran longest.
        best_iteration_: the epoch of each member's best hypothesis.
        loss_curve_: mean training risk by epoch.
        validation_curve_: mean validation risk by epoch, or None; `validation_scores_` are the same, negated."""


def documented(cls: type[E]) -> type[E]:
    """Put what both estimators' documentation shares into a class' docstring."""
    cls.__doc__ = (cls.__doc__ or "").replace("{parameters}", PARAMETERS).replace("{attributes}", ATTRIBUTES)
    return cls


class Trained(NamedTuple):
    """What training left, as NumPy arrays with a first axis over the members."""

    best: Params  # each member's best hypothesis; without validation its last
    last: Params
    train: np.ndarray  # risks by epoch; NaN where there is none
    validation: np.ndarray
    epochs: np.ndarray  # how many each was trained for
    best_epoch: np.ndarray
    converged: np.ndarray  # whether a rule ended it
    result: FitResult | None  # for what goes on from it


@dataclass(kw_only=True, eq=False, repr=False)
class MLP(BaseEstimator):
    """The parameters of both estimators, and everything that does not depend on what the targets are."""

    # Whatever is wrong with a parameter is said by `fit`, as everywhere in scikit-learn.
    solver: Any = "adam"
    alpha: Any = AUTO
    batch_size: Any = AUTO
    learning_rate: Any = "constant"
    learning_rate_init: Any = AUTO
    power_t: Any = 0.5
    max_iter: Any = AUTO
    shuffle: Any = True
    random_state: Any = None
    tol: Any = AUTO
    verbose: Any = False
    warm_start: Any = False
    momentum: Any = 0.9
    nesterovs_momentum: Any = True
    early_stopping: Any = AUTO
    validation_fraction: Any = 0.1
    beta_1: Any = 0.9
    beta_2: Any = 0.999
    epsilon: Any = 1e-8
    n_iter_no_change: Any = AUTO
    max_fun: Any = 15000
    shortcuts: Any = False
    members: Any = AUTO
    standardize: Any = True
    likelihood: Any = None
    optimizer: Any = None
    dtype: Any = None
    device: Any = None

    _auto: ClassVar[StrOptions] = StrOptions({AUTO})
    _count: ClassVar[list[Any]] = [Interval(Integral, 1, None, closed="left"), _auto]
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left"), _auto],
        "activation": "no_validation",  # jnn.activations says what there is
        "solver": [StrOptions({"adam", "sgd", "lbfgs"})],
        "alpha": [Interval(Real, 0, None, closed="left"), _auto],
        "batch_size": _count,
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither"), _auto],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": _count,
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left"), _auto],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean", _auto],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [*_count, Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "shortcuts": ["boolean"],
        "members": _count,
        "standardize": ["boolean"],
        "likelihood": [Likelihood, None],
        "optimizer": [HasMethods(["init", "update"]), None],
        "dtype": [StrOptions({"float32", "float64"}), Options(type, {np.float32, np.float64}),
                  Options(np.dtype, {np.dtype(np.float32), np.dtype(np.float64)}), None],
        "device": "no_validation",
    }  # fmt: skip

    # What classifier and regressor know.

    _squashes: ClassVar[bool] = False
    """Whether heavy tails among the inputs may be drawn in: classes seldom depend on how far out an outlier is."""

    def _classes_of(self, y: np.ndarray) -> np.ndarray | None:
        """Each example's class, by which to stratify; None if there are none."""
        raise NotImplementedError

    def _outputs(self, y: np.ndarray) -> tuple[Likelihood, int]:
        """The likelihood, and how many outputs the network has."""
        raise NotImplementedError

    def _loss_unit(self) -> float:
        """The loss that is minimized, in units of scikit-learn's, which is about targets as they are."""
        return 1.0

    def _target_transform(self) -> Standardize | None:
        """What the targets went through."""
        return None

    def _measure(self, z: np.ndarray, y: np.ndarray, held_out: np.ndarray | None) -> None:
        """What is to be learned from the trained members, given what each has held out."""

    # Training.

    def _fit(self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any) -> None:
        """Train from scratch, or with `warm_start` from where the last call ended."""
        self._check_parameters()
        warm = bool(self.warm_start) and hasattr(self, "params_")
        with self._unchanged_by_errors():
            x, weights = self._inputs(X, sample_weight, reset=not warm)
            x, y, weights = self._examples(x, y, weights, "again" if warm else "first")
            if (X_val is None) != (y_val is None):
                raise ValueError("expected both X_val and y_val, or neither")
            plan = make_plan(self.get_params(deep=False), len(x), X_val is not None, loss_unit=self._loss_unit())
            if not warm:
                self._begin(x, y, weights, plan)
            with self._settings():
                z = self._prepared(x)
                own = None if X_val is None else self._own_validation(X_val, y_val)
                key, fold_key = jax.random.split(self._key())
                rows, held_out = self._divided(plan, fold_key, len(x), self._classes_of(y))
                start = self._last if warm else None
                if plan.lbfgs:
                    trained = self._by_lbfgs(plan, key, z, y, weights, start)
                else:
                    data = {"weights": weights, "rows": rows, "held_out": held_out, "validation": own}
                    trained = self._by_gradients(plan, key, z, y, **data, params=start)
                self._keep(trained, plan, len(x))
                self._stream = None
                self._measure(z, y, held_out)

    def _check_parameters(self) -> None:
        self._validate_params()
        for name, value in self.get_params(deep=False).items():
            allowed = self._parameter_constraints[name]
            if isinstance(value, bool) and not {"boolean", "verbose"} & set(map(str, allowed)) and name != "device":
                raise ValueError(f"expected {name} as a number or 'auto', got {value!r}")
        sizes = self.hidden_layer_sizes  # type: ignore[attr-defined]
        if not isinstance(sizes, str):
            each = np.atleast_1d(np.asarray(sizes))
            if each.ndim != 1 or (each.size and not np.issubdtype(each.dtype, np.integer)) or (each < 1).any():
                raise ValueError(f"expected hidden_layer_sizes of at least 1 neuron each, got {sizes!r}")

    @contextlib.contextmanager
    def _unchanged_by_errors(self) -> Iterator[None]:
        """Within: whatever ends training early leaves the estimator as it was, unfitted if it was not fitted."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _begin(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, plan: Plan) -> None:
        """What is decided at the first call: scales of the inputs, the network."""
        self._transforms = self._fitted_transforms(x, weights, self._squashes and plan.squashes)
        self._random = check_random_state(self.random_state)
        self.likelihood_, self.n_outputs_ = self._outputs(y)
        sizes = (x.shape[1], *plan.hidden, self.likelihood_.pre_activations(self.n_outputs_))
        hidden: Hidden = plan.activation
        self.network_: Layered = mlp(sizes, hidden, shortcuts=bool(self.shortcuts))
        self.n_layers_ = len(sizes)
        self.t_ = 0
        self._stream: FitResult | None = None
        for name in ("params_", "n_iter_"):
            self.__dict__.pop(name, None)

    def _fitted_transforms(self, x: np.ndarray, weights: np.ndarray | None, squashes: bool) -> tuple[Transform, ...]:
        if not self.standardize:
            return ()
        with np.errstate(over="ignore", invalid="ignore"):  # found when it is applied
            standardize = Standardize.fit(x.astype(np.float64), weights)
            z = standardize.apply(x.astype(np.float64))
        if not squashes or not np.isfinite(z).all():
            return (standardize,)
        squash = Squash.fit(z)
        return (standardize, squash) if np.isfinite(squash.bound).any() else (standardize,)

    def _divided(
        self, plan: Plan, key: Any, n: int, classes: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Each member's rows, and those that it holds out; None for all, or none."""
        if plan.validation is None or plan.validation == "own":
            return None, None
        if plan.validation == "folds":
            rows, held_out = ensembles.k_fold(key, n, plan.members, classes)
            return np.asarray(rows), np.asarray(held_out)
        if self.early_stopping is True:
            self._check_held_out(round(plan.validation * n), classes)
        held_out_count(n, plan.validation)
        parts = [split(k, n, plan.validation, classes) for k in jax.random.split(key, plan.members)]
        rows, held_out = (np.stack([np.asarray(part[i]) for part in parts]) for i in range(2))
        return rows, held_out

    def _check_held_out(self, count: int, classes: np.ndarray | None) -> None:
        """Raise ValueError if that many examples, held out as the user asked for, are too few to say anything."""
        if count < 2:
            raise ValueError(
                f"The validation set is too small: validation_fraction={self.validation_fraction} holds out {count}. "
                "Increase 'validation_fraction' or the size of your dataset."
            )

    def _by_gradients(self, plan: Plan, key: Any, z: np.ndarray, y: np.ndarray, **arguments: Any) -> Trained:
        """An ensemble as one compiled program."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DivergenceWarning)  # said in scikit-learn's way
            ensemble = ensembles.fit(
                self.network_,
                self.likelihood_,
                z,
                y,
                key=key,
                members=plan.members,
                devices=None if self.device is None else [self.device],
                **plan.settings,
                **arguments,
            )
        result = ensemble.result
        epochs = np.asarray(result.epochs)
        if result.interruption is not None and epochs.max() == 0:
            raise KeyboardInterrupt("training was interrupted before its first epoch")
        if (lost := int(np.sum(result.diverged))) > 0:
            warnings.warn(
                f"{lost} of {plan.members} networks diverged: the error or a weight became NaN or infinite. Their last "
                "good weights are kept. Lower learning_rate_init, or leave standardize=True.",
                ConvergenceWarning,
                stacklevel=5,
            )
        if result.interruption is not None:
            warnings.warn("Training interrupted by user: what was learned until then is kept.", stacklevel=5)
        best, last, best_epoch, code = jax.device_get(
            (result.params, result.last_params, result.best_epoch, result.code)
        )
        history = result.history
        ended = (code != RUNNING) | (result.interruption is not None)
        return Trained(
            best,
            last,
            np.asarray(history.train_error),
            np.asarray(history.validation_error),
            epochs,
            best_epoch,
            ended,
            result,
        )

    def _by_lbfgs(
        self, plan: Plan, key: Any, z: np.ndarray, y: np.ndarray, weights: np.ndarray | None, start: Params | None
    ) -> Trained:
        """One member after another."""
        if start is None:
            start = lbfgs.draw(self.network_, key, plan.members, z.dtype)
        found = [
            lbfgs.minimize(
                self.network_,
                self.likelihood_,
                z,
                y,
                weights,
                start=jax.tree.map(lambda leaf, m=member: jnp.asarray(leaf[m]), start),
                alpha=plan.settings["weight_decay"],  # type: ignore[arg-type]
                iterations=plan.settings["epochs"],  # type: ignore[typeddict-item]
                evaluations=self.max_fun,
                tol=1e-4 if self.tol == AUTO else self.tol * self._loss_unit(),
            )
            for member in range(plan.members)
        ]
        longest = max(len(one.curve) for one in found)
        train = np.stack([np.pad(one.curve, (0, longest - len(one.curve)), constant_values=np.nan) for one in found])
        params = jax.device_get(jax.tree.map(lambda *leaves: jnp.stack(leaves), *(one.params for one in found)))
        epochs = np.array([len(one.curve) for one in found])
        converged = np.array([one.converged for one in found])
        return Trained(params, params, train, np.full_like(train, np.nan), epochs, epochs, converged, None)

    def _keep(self, trained: Trained, plan: Plan, n: int) -> None:
        """Remember what was learned."""
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.best)):
            raise ValueError(NOT_FINITE)
        validated = plan.validation is not None
        self.params_ = trained.best if validated else trained.last
        self._predictor = self._made_model()
        self._last = trained.last
        self.n_members_ = plan.members
        self.n_iter_ = int(trained.epochs.max())
        self.t_ += int(trained.epochs.sum()) * n // plan.members
        self.loss_curve_ = _mean_by_epoch(trained.train, self.n_iter_)
        self.loss_ = self.loss_curve_[-1]
        self.validation_curve_ = _mean_by_epoch(trained.validation, self.n_iter_) if validated else None
        self.validation_scores_ = [-risk for risk in self.validation_curve_] if self.validation_curve_ else None
        self.best_validation_score_ = max(self.validation_scores_) if self.validation_scores_ else None
        self.best_loss_ = None if validated else _least(self.loss_curve_)
        self.best_iteration_ = int(trained.best_epoch[0]) if plan.members == 1 else trained.best_epoch
        if plan.expects_an_end and not trained.converged.all():
            warnings.warn(
                f"{self.solver}: the maximum of {plan.settings['epochs']} iterations was reached before training "  # type: ignore[typeddict-item]
                "converged. Increase max_iter, or leave it to 'auto'.",
                ConvergenceWarning,
                stacklevel=4,
            )

    # A part of a stream after the other.

    def _check_stream(self) -> None:
        self._check_parameters()
        if self.early_stopping is True:
            raise ValueError("partial_fit does not support early_stopping=True: a stream has no end")

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> None:
        """One epoch more, on other examples: training is resumed."""
        first = not hasattr(self, "params_")
        with self._unchanged_by_errors():
            x, weights = self._inputs(X, sample_weight, reset=first)
            x, y, weights = self._examples(x, y, weights, "first" if first else "part")
            plan = make_plan(self.get_params(deep=False), len(x), own_validation=False, streaming=True)
            if first:
                self._begin(x, y, weights, plan)
                self.n_members_, self.n_iter_, self.loss_curve_ = plan.members, 0, []
            with self._settings():
                z = self._prepared(x)
                key = jax.random.split(self._key())[0]  # as `fit` does: the same first weights
                from_where: dict[str, Any] = {}
                if self._stream is not None:
                    from_where["resume"] = _restarted(self._stream, key, self.n_members_)
                elif not first:
                    from_where["params"] = self._last
                plan.settings["epochs"] = 1
                trained = self._by_gradients(plan, key, z, y, weights=weights, **from_where)
                self.params_ = self._last = trained.last
                self._predictor = self._made_model()
                assert trained.result is not None
                self._stream = _without_keys(trained.result)
                self._measure(z, y, held_out=None)
            self.n_iter_ += 1
            self.t_ += len(x)
            self.loss_ = float(np.mean(trained.train))
            self.loss_curve_ = [*self.loss_curve_, self.loss_]
            self.best_loss_ = _least(self.loss_curve_)
            self.validation_curve_ = self.validation_scores_ = self.best_validation_score_ = None
            self.best_iteration_ = self.n_iter_

    # Inputs.

    def _inputs(self, X: Any, sample_weight: Any, reset: bool) -> tuple[np.ndarray, np.ndarray | None]:
        x = self._table(X, reset)
        if reset:
            self._dtype = x.dtype.name
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, x, dtype=np.float64)
        if weights is not None and (weights < 0).any():
            raise ValueError("expected sample_weight ≥ 0, got negative ones")
        return x, weights

    def _table(self, X: Any, reset: bool) -> np.ndarray:
        """Checked numbers; sparse ones are spread out, since standardized they would be dense in any case."""
        x: Any = validate_data(self, X, reset=reset, accept_sparse=["csr", "csc"], dtype=[np.float64, np.float32])
        return x.toarray() if hasattr(x, "toarray") else x

    def _examples(
        self, x: np.ndarray, y: Any, weights: np.ndarray | None, role: Role
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Inputs, targets as the likelihood takes them, weights; without the examples that weigh nothing.

        What is to be known of the targets is learned from the "first" examples; those that training starts "again"
        with must have the same classes, a "part" (of a stream, or to validate on) may lack some.
        """
        raise NotImplementedError

    def _own_validation(self, X_val: Any, y_val: Any) -> Any:
        """The user's validation examples as `ensembles.fit` takes them."""
        x, y, weights = self._examples(self._table(X_val, reset=False), y_val, None, "part")
        return (self._prepared(x), y) if weights is None else (self._prepared(x), y, weights)

    def _prepared(self, x: np.ndarray) -> np.ndarray:
        """What the network sees: transformed in float64, then in the precision of training."""
        z = x.astype(np.float64)
        for transform in self._transforms:
            z = np.asarray(transform.apply(z))
        with np.errstate(over="ignore"):
            z = z.astype(self._precision)
        if not np.isfinite(z).all():
            raise ValueError(NOT_FINITE)
        return z

    @property
    def _precision(self) -> Any:
        """float32, unless asked for more; L-BFGS on float64 data in float64, as its line search profits from it."""
        if self.dtype is not None:
            return np.dtype(self.dtype)
        return np.dtype(self._dtype) if self.solver == "lbfgs" and self.optimizer is None else np.dtype(np.float32)

    @contextlib.contextmanager
    def _settings(self) -> Iterator[None]:
        """Within: JAX's 64-bit mode if it is needed, and the device if one was chosen."""
        with contextlib.ExitStack() as stack:
            if self._precision == np.float64:
                stack.enter_context(jax.enable_x64(True))
            if self.device is not None:
                stack.enter_context(jax.default_device(self.device))
            yield

    def _key(self) -> Any:
        return jax.random.key(int(self._random.randint(np.iinfo(np.int32).max)))

    # Predictions.

    def _predicted(self, X: Any, variance: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """Means, and variances if asked for, of the members' mixture, in the units that the network was trained in."""
        check_is_fitted(self, "params_")
        x = self._table(X, reset=False).astype(np.float64)
        with self._settings():
            if variance:
                mean, spread = self._model.moments(x)
            else:
                mean, spread = self._model.mean(x), None
        mean = np.asarray(mean)
        if not (finite := np.isfinite(mean).all(axis=-1)).all():
            raise ValueError(f"X has values too large to predict from; the first is in row {np.argmin(finite)}")
        return mean, None if spread is None else np.asarray(spread)

    def _made_model(self) -> Model:
        return Model(self.network_, self.likelihood_, self.params_, self._transforms)

    @property
    def _model(self) -> Model:
        """From raw inputs to means in the units that the network was trained in."""
        if "_predictor" not in self.__dict__:  # after pickling
            self._predictor = self._made_model()
        return self._predictor

    def __getstate__(self) -> Any:
        before: Any = super().__getstate__()
        state: dict[str, Any] = dict(before)
        state.pop("_predictor", None)  # made again when it is needed
        return state

    # What scikit-learn's estimators have as attributes.

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The weights of each layer, for raw inputs: the standardization is folded into the first layer's.

        With shortcuts a layer reads all earlier ones, its own input last (see `jnn.mlp`). Only for `members=1`.
        """
        return [np.asarray(p["W"]).astype(self._dtype) for p in self._raw_layers()]

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The biases of each layer, for raw inputs. Only for `members=1`."""
        return [np.asarray(p["b"]).astype(self._dtype) for p in self._raw_layers()]

    def _raw_layers(self) -> Params:
        check_is_fitted(self, "params_")
        if self.n_members_ > 1:
            raise AttributeError(
                f"coefs_ and intercepts_ are those of one network, and this is an ensemble of {self.n_members_}: see "
                "params_, or train with members=1"
            )
        with jax.enable_x64(True):
            params = jax.tree.map(lambda leaf: jnp.asarray(leaf[0], jnp.float64), self.params_)
            for transform in self._transforms:
                _, params = transforms.fold(transform, self.network_, params)  # type: ignore[arg-type]
            return jax.device_get(params)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save as one safetensors file (see `jnn.persistence`): no pickle, no code, exact to the bit."""
        files.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Any:
        """Load what `save` wrote."""
        return files.load(cls, path)

    def as_model(self) -> Model:
        """From raw inputs to means, for `jnn.persistence.export` and `export_onnx`.

        Its `mean` is in raw units; of two classes it is the probability of the second.
        """
        return files.as_model(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


def _without_keys(result: FitResult) -> FitResult:
    """A result that pickles, as typed keys do not; whoever goes on brings others."""
    state = jax.device_get(result.state._replace(key=jax.random.key_data(result.state.key)))
    return FitResult(state, result.rules, result.limit)


def _restarted(result: FitResult, key: Any, members: int) -> FitResult:
    """A result as one before the first epoch, but for parameters and the optimizer's state."""
    state = result.state
    state = state._replace(
        key=jax.random.split(key, members), epoch=np.zeros_like(state.epoch), code=np.full_like(state.code, RUNNING)
    )
    return FitResult(state, result.rules, result.limit)


def _least(curve: list[float]) -> float:
    return min((loss for loss in curve if np.isfinite(loss)), default=float("nan"))


def _mean_by_epoch(curves: np.ndarray, epochs: int) -> list[float]:
    """The mean over those members that were still training."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where nobody's risk is known, the mean is NaN
        return np.nanmean(np.asarray(curves, np.float64)[:, :epochs], axis=0).tolist()


def _streams(estimator: MLP) -> bool:
    if estimator.solver == "lbfgs" and estimator.optimizer is None:
        raise AttributeError(
            "partial_fit is not available with solver='lbfgs', which needs all examples at once; use 'adam' or 'sgd'"
        )
    return True


if_it_streams = available_if(_streams)
"""For `partial_fit`: the attribute exists only with solvers that can take examples part by part."""
