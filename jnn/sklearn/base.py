"""What both estimators share: preparing inputs, training an ensemble, predicting with it, keeping it."""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from jnn import ensembles
from jnn.likelihoods import Likelihood
from jnn.networks import Layered, Params, mlp
from jnn.networks.base import Hidden
from jnn.persistence import Model
from jnn.sklearn import files, streaming
from jnn.sklearn.plan import AUTO, Plan, make_plan
from jnn.sklearn.scaling import Scaling
from jnn.sklearn.shapes import rounded_up, with_rows
from jnn.sklearn.training import Problem, Trained, train
from jnn.training.splitting import split

ROWS_AT_ONCE = 16_384
"""For predictions: so many that starting a program costs nothing, so few that hidden layers stay small."""

Role = Literal["first", "again", "part"]


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

    # What classifier and regressor know.

    _squashes = False
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

    def _measure(self, x: np.ndarray, y: np.ndarray, held_out: np.ndarray | None) -> None:
        """What is to be learned from the trained members, given what each has held out."""

    # Training.

    def _fit(self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any) -> None:
        """Train from scratch, or with `warm_start` from where the last call ended."""
        warm = bool(self.warm_start) and hasattr(self, "params_")
        x, weights = self._inputs(X, sample_weight, reset=not warm)
        x, y, weights = self._examples(x, y, weights, "again" if warm else "first")
        if (X_val is None) != (y_val is None):
            raise ValueError("expected both X_val and y_val, or neither")
        plan = make_plan(self.get_params(deep=False), len(x), X_val is not None, loss_unit=self._loss_unit())
        if not warm:
            self._begin(x, y, weights, plan)
        with self._settings():
            z = self._standardized(x)
            own = None if X_val is None else self._own_validation(X_val, y_val)
            key, fold_key = jax.random.split(self._key())
            rows, held_out = self._divided(plan, fold_key, len(x), self._classes_of(y))
            problem = Problem(self.network_, self.likelihood_, z, y, weights, own)
            trained = train(
                problem,
                plan,
                key,
                rows,
                held_out,
                start=self._last if warm else None,
                shuffle=bool(self.shuffle),
                device=self.device,
                progress=bool(self.verbose),
            )
            self._keep(trained, plan, len(x))
            self._measure(z, y, held_out)

    def _begin(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, plan: Plan) -> None:
        """What is decided at the first call: scales of the inputs, the network."""
        squashes = self._squashes and plan.squashes
        self._scaling = Scaling.fit(x, weights, squashes) if self.standardize else None
        self._random = check_random_state(self.random_state)
        self.likelihood_, self.n_outputs_ = self._outputs(y)
        sizes = (x.shape[1], *plan.hidden, self.likelihood_.pre_activations(self.n_outputs_))
        hidden: Hidden = plan.activation
        self.network_: Layered = mlp(sizes, hidden, shortcuts=bool(self.shortcuts))
        self.n_layers_ = len(sizes)
        self.t_ = 0
        self._stream: Any = None
        for name in ("params_", "n_iter_"):
            self.__dict__.pop(name, None)

    def _divided(
        self, plan: Plan, key: Any, n: int, classes: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Each member's rows, and those that it holds out."""
        if plan.validation is None or plan.validation == "own":
            return np.tile(np.arange(n), (plan.members, 1)), None
        if plan.validation == "folds":
            rows, held_out = ensembles.k_fold(key, n, plan.members, classes)
            return np.asarray(rows), np.asarray(held_out)
        if self.early_stopping is True:
            self._check_held_out(plan.division(n)[1], classes)
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

    def _keep(self, trained: Trained, plan: Plan, n: int) -> None:
        """Remember what was learned."""
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.best)):
            raise ValueError(NOT_FINITE)
        validated = plan.validation is not None
        self.params_ = trained.best if validated else trained.last
        self._last = trained.last
        self.n_members_ = plan.members
        self.n_iter_ = int(trained.epochs.max())
        self.t_ += int(trained.epochs.sum()) * n // plan.members
        self.loss_curve_ = _mean_by_epoch(trained.train, self.n_iter_)
        self.loss_ = self.loss_curve_[-1]
        self.validation_curve_ = _mean_by_epoch(trained.validation, self.n_iter_) if validated else None
        self.validation_scores_ = [-risk for risk in self.validation_curve_] if self.validation_curve_ else None
        self.best_validation_score_ = max(self.validation_scores_) if self.validation_scores_ else None
        self.best_loss_ = None if validated else float(np.nanmin(self.loss_curve_))
        self.best_iteration_ = int(trained.best_epoch[0]) if plan.members == 1 else trained.best_epoch
        if plan.optimizer is not None and (~trained.ended & (trained.epochs < plan.epochs)).any():
            warnings.warn("Training interrupted by user: what was learned until then is kept.", stacklevel=4)
        elif plan.expects_an_end and not trained.ended.all():
            warnings.warn(
                f"{self.solver}: the maximum of {plan.epochs} iterations was reached before training converged. "
                "Increase max_iter, or leave it to 'auto'.",
                ConvergenceWarning,
                stacklevel=4,
            )

    # Training by and by.

    def _check_stream(self) -> None:
        if self.early_stopping is True:
            raise ValueError("partial_fit does not support early_stopping=True: a stream has no end")

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> None:
        first = not hasattr(self, "params_")
        x, weights = self._inputs(X, sample_weight, reset=first)
        x, y, weights = self._examples(x, y, weights, "first" if first else "part")
        plan = make_plan(self.get_params(deep=False), len(x), own_validation=False, streaming=True)
        if first:
            self._begin(x, y, weights, plan)
            self.n_members_ = plan.members
            self.n_iter_ = 0
            self.loss_curve_ = []
        with self._settings():
            z = self._standardized(x)
            self._stream, self.params_, loss = streaming.one_pass(
                self.network_,
                self.likelihood_,
                plan,
                z,
                y,
                weights,
                key=jax.random.split(self._key())[0],  # as `fit` does: the same first weights
                members=self.n_members_,
                params=None if first else self.params_,
                optimizer_state=self._stream,
                shuffle=bool(self.shuffle),
            )
            self._measure(z, y, held_out=None)
        self._last = self.params_
        self.n_iter_ += 1
        self.t_ += len(x)
        self.loss_ = loss
        self.loss_curve_ = [*self.loss_curve_, loss]
        self.best_loss_ = min(self.loss_curve_)
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
        return (self._standardized(x), y) if weights is None else (self._standardized(x), y, weights)

    def _standardized(self, x: np.ndarray) -> np.ndarray:
        """In float64, in which a large mean loses nothing; then in the precision of training."""
        z = x if self._scaling is None else self._scaling.apply(x)
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

    def _moments(self, X: Any, variance: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """Means, and variances if asked for, of the members' mixture, in the units that the network was trained in."""
        check_is_fitted(self, "params_")
        x = self._table(X, reset=False)
        means, variances = [], []
        with self._settings():
            for start in range(0, len(x), ROWS_AT_ONCE):
                z = self._standardized(x[start : start + ROWS_AT_ONCE])
                if variance:
                    params = jax.tree.map(jnp.asarray, self.params_)
                    found = ensembles.mixture_moments(self.network_, self.likelihood_, params, _padded(z))
                    variances.append(np.asarray(found.variance, np.float64)[: len(z)])
                    means.append(np.asarray(found.mean, np.float64)[: len(z)])
                else:
                    means.append(self._means(self.params_, z))
        return np.concatenate(means), np.concatenate(variances) if variance else None

    def _means(self, params: Params, z: np.ndarray) -> np.ndarray:
        """The mean of some members' predictions for standardized inputs."""
        mean = ensembles.mixture_mean(self.network_, self.likelihood_, jax.tree.map(jnp.asarray, params), _padded(z))
        return np.asarray(mean, np.float64)[: len(z)]

    # What scikit-learn's estimators have as attributes.

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The weights of each layer, for raw inputs: the standardization is folded into the first layer's.

        With shortcuts a layer reads all earlier ones, its own input last (see `jnn.mlp`). Only for `members=1`.
        """
        return [w.astype(self._dtype) for w, _ in self._raw_layers()]

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The biases of each layer, for raw inputs. Only for `members=1`."""
        return [b.astype(self._dtype) for _, b in self._raw_layers()]

    def _raw_layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        check_is_fitted(self, "params_")
        if self.n_members_ > 1:
            raise AttributeError(
                f"coefs_ and intercepts_ are those of one network, and this is an ensemble of {self.n_members_}: see "
                "params_, or train with members=1"
            )
        layers = [(p["W"][0].astype(np.float64), p["b"][0].astype(np.float64)) for p in self.params_]
        if self._scaling is None:
            return layers
        folded = []
        for layer, (w, b) in zip(self.network_.layers, layers, strict=True):
            w = w.copy()
            for source, rows in self.network_.blocks(layer):
                if source == 0:
                    w[rows] /= self._scaling.scale[:, None]
                    b = b - self._scaling.mean @ w[rows]
            folded.append((w, b))
        return folded

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


def _padded(z: np.ndarray) -> np.ndarray:
    """With rows of zeros, so that numbers of rows that differ little share a program."""
    return with_rows(z, max(16, rounded_up(len(z))))


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
"""For `partial_fit`: the attribute exists only with solvers that can take examples by and by."""
