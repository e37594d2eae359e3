"""What both estimators share: parameters → settings → an ensemble → a model that predicts."""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, check_is_fitted, validate_data

from jnn import ensembles, tables, transforms
from jnn.likelihoods import Likelihood
from jnn.model import Model
from jnn.networks import Params, mlp
from jnn.sklearn import lbfgs, linear
from jnn.sklearn.files import Saved
from jnn.sklearn.recipe import AUTO, Plan, make_plan
from jnn.tables import Table
from jnn.training import Callback, Checkpoints, DivergenceWarning, FitResult
from jnn.training.fingerprint import fingerprint
from jnn.training.fitting import ASKED
from jnn.training.program import RUNNING
from jnn.training.splitting import split
from jnn.transforms import FREE, Affine, Clip, Encode, Pieces, Squash, Standardize, Transform

Role = Literal["first", "again", "part"]
Weights = np.ndarray | None
Examples = tuple[np.ndarray, np.ndarray, Weights]
E = TypeVar("E", bound=Any)

ATTRIBUTES = """network_, params_, likelihood_: what was trained, for jnn's own functions; `params_` has a member axis.
        n_iter_: epochs run, by the member that ran longest.
        best_iteration_: the epoch of each member's best hypothesis.
        loss_curve_: mean training risk by epoch.
        validation_curve_: mean validation risk by epoch, or None; `validation_scores_` are the same, negated."""

# What parameters may be, in scikit-learn's words; "auto" and None are allowed where they are the default.
Number = Annotated[Any, Interval(Real, 0, None, closed="left")]
Positive = Annotated[Any, Interval(Real, 0, None, closed="neither")]
Share = Annotated[Any, Interval(Real, 0, 1, closed="left")]
Count = Annotated[Any, Interval(Integral, 1, None, closed="left")]
Flag = Annotated[Any, "boolean"]
Sizes = Annotated[Count, "array-like", "neurons of each hidden layer."]
Activation = Annotated[Any, '"relu", "tanh", "logistic", "identity", any of jnn\'s, or a list, one for each layer.']


def estimator(cls: type[E]) -> type[E]:
    """Document a class' parameters and attributes, and say what the parameters may be: their types tell both."""
    parameters: list[Any] = sorted(fields(cls), key=lambda field: field.kw_only is True)
    lines = "\n        ".join(f"{field.name}: {field.type.__metadata__[-1]}" for field in parameters)
    cls.__doc__ = (cls.__doc__ or "").replace("{parameters}", lines).replace("{attributes}", ATTRIBUTES)
    cls.__init__.__annotations__ |= {field.name: Any for field in parameters}  # as `help` is to show them
    also = {AUTO: [StrOptions({AUTO})], None: [None]}
    cls._parameter_constraints = {
        field.name: [*allowed, *also.get(field.default, [])]
        for field in parameters
        if (allowed := field.type.__metadata__[:-1])
    }
    return cls


@dataclass(kw_only=True, eq=False, repr=False)
class MLP(Saved, BaseEstimator):
    """The parameters of both estimators, and everything that does not depend on what the targets are."""

    # What they may be and what they are. Whatever is wrong with one is said by `fit`, as everywhere in scikit-learn.
    solver: Annotated[
        Any,
        StrOptions({"adam", "sgd", "lbfgs", "lm"}),
        '"adam", "sgd", "lbfgs", or "lm" (Levenberg-Marquardt).',
    ] = "adam"
    alpha: Annotated[
        Number, "γ, weight decay, beside the sum of weighted errors; if chosen here, the scale of weights is no matter."
    ] = AUTO
    batch_size: Annotated[Count, "examples a step."] = AUTO
    learning_rate: Annotated[
        Any, StrOptions({"constant", "invscaling", "adaptive"}), '"constant", "invscaling" or "adaptive", for "sgd".'
    ] = "constant"
    learning_rate_init: Annotated[Positive, "the learning rate, or its first value."] = AUTO
    power_t: Annotated[Number, 'exponent of "invscaling".'] = 0.5
    max_iter: Annotated[Count, "the most epochs."] = AUTO
    shuffle: Annotated[Flag, "whether each epoch takes the examples in a new order."] = True
    random_state: Annotated[Any, "random_state", "decides everything random."] = None
    tol: Annotated[Number, "least improvement, in targets' units squared; 1e-4 (of the variance) by default."] = AUTO
    verbose: Annotated[Any, "verbose", "show a bar with the risks while training (needs rich)."] = False
    warm_start: Annotated[Flag, "whether `fit` goes on from the last weights (without momenta and curvature)."] = False
    momentum: Annotated[Any, Interval(Real, 0, 1, closed="both"), 'for "sgd".'] = 0.9
    nesterovs_momentum: Annotated[Flag, 'for "sgd".'] = True
    early_stopping: Annotated[Flag, "True to hold out `validation_fraction`, False to hold out nothing."] = AUTO
    validation_fraction: Annotated[Share, "the share held out."] = 0.1
    beta_1: Annotated[Share, "of Adam."] = 0.9
    beta_2: Annotated[Share, "of Adam."] = 0.999
    epsilon: Annotated[Positive, "of Adam."] = 1e-8
    n_iter_no_change: Annotated[Count, Options(Real, {np.inf}), "epochs to wait for an improvement."] = AUTO
    max_fun: Annotated[Count, 'at most as many evaluations of "lbfgs".'] = 15000
    shortcuts: Annotated[Flag, "whether every layer reads all earlier ones, the inputs included."] = False
    members: Annotated[Count, "networks in the ensemble."] = AUTO
    standardize: Annotated[Flag, "whether inputs are standardized (and squashed, in a classifying ensemble)."] = True
    likelihood: Annotated[
        Any,
        Likelihood,
        "any of `jnn.likelihoods`; `HeteroscedasticGaussian()` learns a variance that depends on inputs.",
    ] = None
    optimizer: Annotated[Any, HasMethods(["init", "update"]), "any of jnn's or optax's, in place of `solver`."] = None
    categorical_features: Annotated[
        Any,
        StrOptions({"from_dtype"}),
        "array-like",
        None,
        '"from_dtype": columns of categories or strings; None: no column; or names, numbers, or a boolean for each.',
    ] = "from_dtype"
    dtype: Annotated[
        Any,
        StrOptions({"float32", "float64"}),
        Options(type, {np.float32, np.float64}),
        Options(np.dtype, {np.dtype(np.float32), np.dtype(np.float64)}),
        'of training, "float32" or "float64".',
    ] = None
    device: Annotated[Any, "of JAX, where to train."] = None
    checkpoint: Annotated[
        Any,
        Checkpoints,
        str,
        os.PathLike,
        "a folder, or `jnn.Checkpoints(folder)`: `fit` goes on where an equal one was killed or interrupted. Fits with "
        "other parameters or data, as of clones and folds, have folders of their own inside.",
    ] = None

    # What classifier and regressor know.

    def _checked(self, y: Any) -> np.ndarray:
        """Targets as an array with an entry or a row for each example."""
        raise NotImplementedError

    def _learned(self, y: np.ndarray, weights: Weights, role: Role, classes: Any) -> tuple[np.ndarray, Weights]:
        """Targets as the likelihood takes them, and the examples' weights.

        What is to be known of targets, `likelihood_` and `n_outputs_` included, is learned from the "first" ones (and
        `classes`, of a stream). Those that training starts "again" with must have the same classes, a "part" (of a
        stream, or to validate on) may lack some.
        """
        raise NotImplementedError

    def _in_units(self, params: Params, of: Literal["targets", "training"]) -> Params:
        """Parameters of a network for targets as they are, or as they are trained on; here the same."""
        return params

    def _measure(self, z: np.ndarray, y: np.ndarray, held_out: np.ndarray | None) -> None:
        """What is to be learned from the trained members, given what each has held out."""

    def fit(
        self: E, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None,
        callback: Callback | None = None,
    ) -> E:  # fmt: skip
        """Train from scratch, or with `warm_start` from where the last call ended.

        Args:
            X: inputs `(n, d)`: a table of pandas, polars or Arrow, an array, or a sparse matrix. What is missing
                (NaN, None) is filled, categories become one-hot; see `jnn.transforms.Encode`.
            y: targets `(n,)` or `(n, K)`; for a classifier labels `(n,)`, or 0 and 1 `(n, K)`.
            sample_weight: how often each example counts, `(n,)`.
            X_val: validation inputs, instead of a part of `X`.
            y_val: their targets.
            callback: called after each epoch with a `jnn.training.Snapshot`, whose entries are arrays with one for each
                member; training ends if it returns True. What it raises ends training, too, and leaves the estimator
                as it was. Members are then trained by one thread.

        Raises:
            ValueError: for parameters, shapes or values that do not fit.

            KeyboardInterrupt: after Ctrl-C; what was learned until then is kept.

        Warns:
            ConvergenceWarning: if `max_iter` or `early_stopping` was given, and no rule ended training.
        """
        self._check_parameters()
        if callback is not None and self.solver == "lbfgs" and self.optimizer is None:
            raise ValueError("solver='lbfgs' knows no epochs to call back after: use another solver")
        self._train(X, y, sample_weight, X_val, y_val, callback)
        return self

    def _train(
        self, X: Any, y: Any, sample_weight: Any, X_val: Any = None, y_val: Any = None,
        callback: Callback | None = None, *, streaming: bool = False, classes: Any = None,
    ) -> None:  # fmt: skip
        """For `fit`; or with `streaming`, for `partial_fit`, one epoch more on other examples."""
        if (X_val is None) != (y_val is None):
            raise ValueError("expected both X_val and y_val, or neither")
        goes_on = hasattr(self, "params_") and (streaming or bool(self.warm_start))
        role: Role = "first" if not goes_on else "part" if streaming else "again"
        with self._unchanged_by_errors():
            x, y, weights = self._examples(X, y, sample_weight, role, classes)
            # scikit-learn's loss is half the mean square of targets as they are; here it is half a sum, of scaled ones.
            scale = np.ones(1) if self._target_scaling is None else self._target_scaling.scale
            with np.errstate(over="ignore"):  # targets near the largest number: the unit is then 0
                unit = len(scale) / float(np.mean(np.square(scale)))
            plan = make_plan(self.get_params(deep=False), len(x), X_val is not None, streaming, unit)
            if goes_on:
                self._check_unchanged(plan)
            else:
                self._begin(x, y, weights, plan)
            with self._settings():
                z = self._prepared(x)
                seed = int(self._random.randint(np.iinfo(np.int32).max))
                key, fold_key = _two_keys(seed)
                rows, held_out = self._divided(plan, fold_key, y)
                start = self._last if goes_on else None
                if plan.lbfgs:
                    numbers = {"key": key, "params": start, "evaluations": self.max_fun}
                    result = lbfgs.fit(self.network_, self.likelihood_, z, y, weights, plan, **numbers)
                else:
                    data: dict[str, Any] = {"weights": weights, "rows": rows, "held_out": held_out, "params": start}
                    if X_val is not None:
                        own_x, *own = self._examples(X_val, y_val, None, "part")
                        data["validation"] = (self._prepared(own_x), *own)
                    result = self._by_gradients(plan, callback, key, z, y, **data)
                self._keep(result, plan, len(x))
                if plan.validation == "folds":
                    trained = [self.params_, self._last]
                    plain = next((t.columns for t in self._transforms if isinstance(t, Pieces)), z.shape[1])
                    data = {"z": z, "columns": plain, "y": y, "weights": weights, "rows": rows, "held_out": held_out}
                    network, (self.params_, self._last) = linear.beside(
                        self.network_, self.likelihood_, trained, **data
                    )
                    self._beside, self.network_ = self._beside or network != self.network_, network
                self.params_ = self._in_units(self.params_, of="targets")
                self._model = Model(self.network_, self.likelihood_, self.params_, self._transforms)
                self._measure(z, y, held_out)
        if result.interruption not in (None, ASKED):  # so that a cross-validation stops, too
            raise KeyboardInterrupt(f"training was interrupted after {self.n_iter_} epochs; what was learned is kept")

    def _check_unchanged(self, plan: Plan) -> None:
        """Raise ValueError if what training goes on with is not what parameters ask for."""
        had = self.network_
        asked = mlp(had.sizes, plan.activation, shortcuts=bool(self.shortcuts))
        beside = {0} if self._beside else set()  # what a linear model has added
        pairs = {
            "hidden_layer_sizes": (plan.hidden, had.sizes[1:-1]),
            "activation": (asked.hidden_activations, had.hidden_activations),
            "shortcuts": tuple({*n.layers[-1].sources} | beside for n in (asked, had)),
            "members": (plan.members, self.n_members_),
            "likelihood": (self.likelihood or self.likelihood_, self.likelihood_),
        }
        for name, (new, old) in pairs.items():
            if new != old and getattr(self, name) != AUTO:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is not what training began with, and it would go on with: leave "
                    "it as it was, or begin anew with warm_start=False"
                )

    def _check_stream(self) -> None:
        self._check_parameters()
        if self.early_stopping is True:
            raise ValueError("partial_fit does not support early_stopping=True: a stream has no end")
        if self.checkpoint is not None:
            raise ValueError("partial_fit keeps no checkpoints, only fit does: set_params(checkpoint=None)")

    def _check_parameters(self) -> None:
        self._validate_params()
        if self.checkpoint is not None and self.random_state is None:
            raise ValueError(
                "checkpoint needs random_state, a number, so that the same call again is the same training"
            )
        if self.checkpoint is not None and self.solver == "lbfgs" and self.optimizer is None:
            raise ValueError("solver='lbfgs' keeps no checkpoints: leave checkpoint out, or use another solver")
        for name, value in self.get_params(deep=False).items():
            allowed = set(map(str, self._parameter_constraints.get(name, [])))
            if isinstance(value, bool) and not {"boolean", "verbose"} & allowed and name != "device":
                raise ValueError(f"expected {name} as a number or 'auto', got {value!r}")

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

    def _begin(self, x: np.ndarray, y: np.ndarray, weights: Weights, plan: Plan) -> None:
        """What is decided at the first call: scales of the inputs, the network."""
        self._transforms = self._fitted_transforms(x, weights, plan.recipe and plan.members > 1)
        self._random = check_random_state(self.random_state)
        columns = x[:1].astype(np.float64)
        for transform in self._transforms:
            columns = transform.apply(columns)
        sizes = (columns.shape[1], *plan.hidden, self.likelihood_.pre_activations(self.n_outputs_))
        self.network_ = mlp(sizes, plan.activation, shortcuts=bool(self.shortcuts))
        self.n_layers_ = len(sizes)
        self._beside = False
        self.t_ = 0
        self.loss_curve_: list[float] = []
        self._stream: FitResult | None = None

    def _fitted_transforms(self, x: np.ndarray, weights: Weights, ensemble: bool) -> tuple[Transform, ...]:
        """In a classifying ensemble, whose members have no `coefs_`: heavy tails squashed, as classes seldom depend on
        how far out outliers are; and columns in pieces, which do nothing for regression's error (see the README).
        """
        encode = Encode.fit(x, self._columns.counts)
        z = np.asarray(encode.apply(x.astype(np.float64)))
        if not self.standardize:
            return (encode,)
        with np.errstate(over="ignore", invalid="ignore"):  # found when it is applied
            standardize = Standardize.fit(z, weights)
            # Standardized, a rare category would be far out; as it is, all categories are equally far from each other.
            standardize = replace(standardize, scale=np.where(encode.number, standardize.scale, 0.5))
            z = standardize.apply(z)
        if not np.isfinite(z).all():
            return (encode, standardize)
        squash, clip = Squash.fit(z), Clip.fit(z)
        found: tuple[Transform, ...] = (encode, standardize, clip)
        classifies = ensemble and is_classifier(self)
        if classifies and (squash.bound < FREE).any():
            found, z = (*found, squash), np.asarray(squash.apply(z))
        # With categories and gaps the number of columns differs from one part of the rows to the next.
        multiple = 8 if ensemble and (self._columns.has_categories or z.shape[1] > x.shape[1]) else 1
        pieces = Pieces.fit(np.asarray(z), np.asarray(encode.number) & classifies, multiple_of=multiple)
        return (*found, pieces) if pieces.source else found

    def _divided(self, plan: Plan, key: Any, y: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Each member's rows, and those that it holds out; None for all, or none."""
        n = len(y)
        classes = y.reshape(n).astype(int) if is_classifier(self) and y.size == n else None  # by which to stratify
        if plan.validation is None or plan.validation == "own":
            return None, None
        if plan.validation == "folds":
            rows, held_out = ensembles.k_fold(key, n, plan.members, classes)
            return np.asarray(rows), np.asarray(held_out)
        if self.early_stopping is True:
            self._check_held_out(round(plan.validation * n), classes)
        parts = [split(k, n, plan.validation, classes) for k in jax.random.split(key, plan.members)]
        return np.stack([rows for rows, _ in parts]), np.stack([held_out for _, held_out in parts])

    def _check_held_out(self, count: int, classes: np.ndarray | None) -> None:
        if count < 2:
            raise ValueError(
                f"The validation set is too small: validation_fraction={self.validation_fraction} holds out {count}. "
                "Increase 'validation_fraction' or the size of your dataset."
            )
        numbers, found = np.unique([] if classes is None else classes, return_counts=True)
        if (rare := numbers[found < 2]).size:
            names = [str(label) for label in self.classes_[rare]]  # type: ignore[attr-defined]
            raise ValueError(
                "The least populated classes in y have only 1 member, which is too few to hold out a stratified part "
                f"(early_stopping=True). Classes with too few members are: {names}"
            )

    def _by_gradients(
        self, plan: Plan, callback: Callback | None, key: Any, z: np.ndarray, y: np.ndarray, **data: Any
    ) -> FitResult:
        data |= {"key": key, "members": plan.members, "devices": None if self.device is None else [self.device]}
        if plan.streams and self._stream is not None:
            keys = jax.random.split(key, plan.members)
            data |= {"params": None, "resume": replace(self._stream, state=self._stream.state._replace(key=keys))}
        if self.checkpoint is not None:
            data["checkpoint"] = self._own_checkpoints(x=z, y=y, **data, **plan.settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DivergenceWarning)  # said in scikit-learn's way
            made = ensembles.fit(self.network_, self.likelihood_, z, y, callback=callback, **data, **plan.settings)
        result = made.result
        if result.interruption is not None and np.max(result.epochs) == 0:
            raise KeyboardInterrupt("training was interrupted before its first epoch")
        if (lost := int(np.sum(result.diverged))) > 0:
            warnings.warn(
                f"{lost} of {plan.members} networks diverged: the error or a weight became NaN or infinite. Their last "
                "good weights are kept. Lower learning_rate_init, or leave standardize=True.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return result

    def _own_checkpoints(self, epochs: int, progress: bool, **problem: Any) -> Checkpoints:
        """A folder within the user's for this problem alone, known by a digest; more epochs of it go on."""
        given = self.checkpoint if isinstance(self.checkpoint, Checkpoints) else Checkpoints(self.checkpoint)
        words = fingerprint(network=self.network_, likelihood=self.likelihood_, **problem)
        digest = hashlib.blake2b(repr(sorted(words.items())).encode(), digest_size=8).hexdigest()
        return replace(given, folder=Path(given.folder) / digest)

    def _keep(self, result: FitResult, plan: Plan, n: int) -> None:
        history, validated = result.history, plan.validation is not None
        self.params_, self._last, epochs, best_epoch, code = jax.device_get(
            (result.params, result.last_params, result.epochs, result.best_epoch, result.code)
        )
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(self.params_)):
            raise ValueError(NOT_FINITE)
        self._stream = _resumable(result) if plan.streams else None
        self.n_members_ = plan.members
        self.t_ += int(epochs.sum()) * n // plan.members
        longest = int(epochs.max())
        curve = _mean_by_epoch(history.train_error, longest)
        self.loss_curve_ = self.loss_curve_ + curve if plan.streams else curve
        self.n_iter_, self.loss_ = len(self.loss_curve_), self.loss_curve_[-1]
        self.validation_curve_ = _mean_by_epoch(history.validation_error, longest) if validated else None
        self.validation_scores_ = [-risk for risk in self.validation_curve_] if self.validation_curve_ else None
        self.best_validation_score_ = max(self.validation_scores_) if self.validation_scores_ else None
        known = [loss for loss in self.loss_curve_ if np.isfinite(loss)]
        self.best_loss_ = None if validated else min(known, default=float("nan"))
        best_epoch = int(best_epoch[0]) if plan.members == 1 else best_epoch
        self.best_iteration_ = self.n_iter_ if plan.streams else best_epoch
        if not (plan.recipe or plan.streams or result.interruption) and (code == RUNNING).any():
            warnings.warn(
                f"{self.solver}: the maximum of {plan.settings.get('epochs')} iterations was reached before training "
                "converged. Increase max_iter, or leave it to 'auto'.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _table(self, X: Any, reset: bool) -> np.ndarray:
        """A matrix of numbers; sparse ones are spread out, since standardized they would be dense in any case."""
        chosen, names = self.categorical_features, tables.column_names(X)
        if not reset and self._is_matrix(X):  # what there is to check is checked: one row is predicted in half the time
            x: Any = X
        elif tables.is_table(X) and not tables.all_numbers(X):
            x = validate_data(self, X, reset=reset, skip_check_array=True)
            rows = len(X) if hasattr(X, "__len__") else X.num_rows
            if rows == 0 or x.shape[1] == 0:
                raise ValueError(f"expected at least one row and one column, got a table of shape {x.shape}")
        else:
            floats = [np.float64, np.float32] if tables.all_numbers(X) else None
            loose = {"dtype": floats, "ensure_all_finite": False, "accept_sparse": ["csr", "csc"]}
            x = validate_data(self, X, reset=reset, **loose)
            x = x.toarray() if hasattr(x, "toarray") else x
        plain = isinstance(x, np.ndarray) and x.dtype.kind in "biuf"
        by_type = chosen is None or isinstance(chosen, str)
        if reset:
            kept = Table(names, (None,) * x.shape[1]) if plain and by_type else Table.fit(x, chosen)
            self._columns = replace(kept, names=names)
        if not plain or self._columns.has_categories:
            x = self._columns.apply(x)
        x = x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)
        if (infinite := np.isinf(x)).any():
            row, column = np.argwhere(infinite)[0]
            raise ValueError(
                f"Input X contains infinity or a value too large: {self._columns.named(int(column))}, row {row}"
            )
        return x

    def _is_matrix(self, X: Any) -> bool:
        """Whether it is a NumPy array of numbers with at least one row and the columns of training, without names."""
        numbers = type(X) is np.ndarray and X.dtype.kind in "fiu" and X.ndim == 2
        return (
            numbers
            and hasattr(self, "_model")
            and len(X) > 0
            and X.shape[1] == self._model.inputs
            and not hasattr(self, "feature_names_in_")
        )

    def _examples(self, X: Any, y: Any, sample_weight: Any, role: Role, classes: Any = None) -> Examples:
        """Inputs, targets as the likelihood takes them, weights; without the examples that weigh nothing."""
        x = self._table(X, reset=role == "first")
        if role == "first":
            self._dtype = x.dtype.name
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        y, weights = self._checked(y), None
        check_consistent_length(x, y)
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, x, dtype=np.float64)
            if (weights < 0).any():
                raise ValueError("expected sample_weight ≥ 0, got negative ones")
            counted = weights > 0
            x, y, weights = x[counted], y[counted], weights[counted]
            if len(x) == 0:
                raise ValueError("expected at least one example with a weight above zero")
        y, weights = self._learned(y, weights, role, classes)
        if weights is not None and isinstance(self.alpha, str):
            weights = weights / weights.max()
            weights /= weights.mean()
        return x, y, weights

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
        wide = jax.enable_x64(True) if self._precision == np.float64 else contextlib.nullcontext()
        with wide, contextlib.nullcontext() if self.device is None else jax.default_device(self.device):
            yield

    def _predicted(self, X: Any, of: Callable[[Model, np.ndarray], Any]) -> Any:
        """What the model says of `X`: its mean, its moments, ..."""
        check_is_fitted(self, "params_")
        x = self._table(X, reset=False).astype(np.float64)
        with self._settings():
            found = of(self._model, x)
        mean = found[0] if isinstance(found, tuple) else found
        if not (finite := np.isfinite(mean)).all():
            row = np.argmin(finite.all(axis=-1))
            raise ValueError(f"X has values too large to predict from; the first is in row {row}")
        return found

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The weights of each layer, for raw inputs: the standardization is folded into the first layer's.

        (Not what happens to inputs far outside of the range of those that were trained on: see `jnn.transforms.Clip`.)
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
                if isinstance(transform, Affine):
                    _, params = transforms.fold(transform, self.network_, params)
            return jax.device_get(params)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        return tags


NOT_FINITE = "Solver produced non-finite parameter weights. The input data may contain large values: preprocess it."


@jax.jit  # one program for the first result to wait for, in place of three
def _two_keys(seed: Any) -> tuple[Any, Any]:
    return tuple(jax.random.split(jax.random.key(seed)))


def _resumable(result: FitResult) -> FitResult:
    """As before the first epoch, but for parameters and the optimizer's state; without keys, which do not pickle."""
    state = jax.device_get(result.state._replace(key=None))  # whoever goes on brings others
    state = state._replace(epoch=np.zeros_like(state.epoch), code=np.full_like(state.code, RUNNING))
    return FitResult(state, result.rules, result.limit)


def _mean_by_epoch(curves: Any, epochs: int) -> list[float]:
    """The mean over those members that were still training; NaN where nobody's risk is known."""
    curves = np.asarray(curves, np.float64)[:, :epochs]
    return np.ma.masked_array(curves, np.isnan(curves)).mean(axis=0).filled(np.nan).tolist()


def _streams(estimator: MLP) -> bool:
    if estimator.solver in ("lbfgs", "lm") and estimator.optimizer is None:
        raise AttributeError(
            f"no partial_fit with solver={estimator.solver!r}, which needs all examples at once: use 'adam' or 'sgd'"
        )
    return True


if_it_streams = available_if(_streams)
"""For `partial_fit`: the attribute exists only with solvers that can take examples part by part."""
