"""The regressor."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d

from jnn.likelihoods import Gaussian, Poisson
from jnn.model import Model
from jnn.networks import Params
from jnn.sklearn.base import MLP, Activation, Role, Sizes, Weights, estimator, if_it_streams
from jnn.sklearn.leverages import Leverages, Seen
from jnn.sklearn.recipe import AUTO
from jnn.transforms import Standardize


@estimator
@dataclass(eq=False, repr=False)
class MLPRegressor(RegressorMixin, MLP):
    """A regressor that takes the place of `sklearn.neural_network.MLPRegressor`: same parameters, better defaults.

    By default an ensemble of small networks is trained, each with another part of the examples held out for early
    stopping, and its members' means are averaged. Inputs are standardized inside, and targets too; counts and rates are
    divided by their mean. A linear model stands beside each member, its share chosen by what was held out
    (`jnn.sklearn.linear`). Parameters that are given mean what they mean in scikit-learn. With `max_iter` or
    `early_stopping`, or another `solver`, one network is trained with scikit-learn's own defaults, and training ends as
    there.

    The error is the negative log-likelihood of Gaussian noise, the sum of squares (slide "Sum-of-squares and maximum
    likelihood"), or that of another likelihood. `predict(X, return_std=True)` tells how far targets scatter.

    Args:
        {parameters}

    Attributes:
        noise_: standard deviation of the targets around the members' predictions, `(K,)`, in their units, as far as the
            likelihood does not say it itself: from the examples held out, else from the training examples (of a stream,
            its last part).
        {attributes}

    >>> from sklearn.datasets import load_diabetes
    >>> from jnn.sklearn import MLPRegressor
    >>> x, y = load_diabetes(return_X_y=True)
    >>> model = MLPRegressor(members=2, hidden_layer_sizes=8, random_state=0).fit(x, y)
    >>> model.score(x, y) > 0.4
    True
    >>> mean, deviation = model.predict(x, return_std=True)
    """

    loss: Annotated[
        Any,
        StrOptions({"squared_error", "poisson"}),
        'the error; "poisson" for counts, or for rates with their exposure as `sample_weight`.',
    ] = "squared_error"
    hidden_layer_sizes: Sizes = AUTO
    activation: Activation = AUTO

    @if_it_streams
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLPRegressor":
        """Train for one pass over a part of the examples; the first one decides how data are standardized.

        Args:
            X: inputs.
            y: targets.
            sample_weight: how often each example counts.
        """
        self._check_stream()
        self._train(X, y, sample_weight, streaming=True)
        return self

    def _checked(self, y: Any) -> np.ndarray:
        y = check_array(y, ensure_2d=False, dtype="float64", input_name="y")
        return y if y.ndim == 2 and y.shape[1] > 1 else column_or_1d(y, warn=True)[:, None]

    def _learned(self, y: np.ndarray, weights: Weights, role: Role, classes: Any) -> tuple[np.ndarray, Weights]:
        if role == "first":
            squared = self.loss == "squared_error"
            self.out_activation_ = "identity" if squared else "exp"
            self.likelihood_ = self.likelihood or (Gaussian() if squared else Poisson())
            self.n_outputs_ = y.shape[1]
            self._flat = y.shape[1] == 1
            # A likelihood stays of its kind when targets are shifted and scaled if outputs are linear: Gaussian noise.
            linear = self.likelihood_.linear_outputs(self.likelihood_.pre_activations(1))[:1]
            self._target_scaling = Standardize.fit(y, weights) if self.standardize and all(linear) else None
            self._log_unit = np.zeros(y.shape[1])
            if self.standardize and isinstance(self.likelihood_, Poisson):
                mean = np.average(y, axis=0, weights=weights)
                self._log_unit = np.log(np.where(mean > 0, mean, 1.0))
        if self._target_scaling is not None:
            y = np.asarray(self._target_scaling.apply(y))
        if self._log_unit.any():
            y = y / np.exp(self._log_unit)
        return y.astype(self._precision), weights

    def _in_units(self, params: Params, of: Literal["targets", "training"]) -> Params:
        """Rates are trained on in units of their mean μ, as of counts around a million exp(a) would be far off at
        first, and the error without digits: exp(a + ln μ) = μ exp(a) are those in the targets' units.
        """
        if not self._log_unit.any():
            return params
        *hidden, last = params
        by = self._log_unit if of == "targets" else -self._log_unit
        return (*hidden, {**last, "b": last["b"] + by.astype(last["b"].dtype)})

    def _measure(self, z: np.ndarray, y: np.ndarray, held_out: np.ndarray | None) -> None:
        """The noise, if the likelihood has a fixed one, and how far intervals must reach.

        Both from residuals of examples that a member has not trained on (without such, the noise from all examples).
        For intervals in units of the deviation that was predicted: the noise, or the likelihood's own for each input.
        """
        self.noise_: np.ndarray | None = None
        self._residuals: np.ndarray | None = None
        fixed = isinstance(self.likelihood_, Gaussian)
        self._leverages: Leverages | None = None
        # Of a stream the last part only is there, which would tell of gaps where others have been.
        kept = fixed and held_out is not None and self._stream is None
        self._seen = tuple(Seen.of(z, y, held_out, self.n_members_)) if kept else None  # a tuple: as files keep it
        if held_out is None and not fixed:
            return
        model = Model(self.network_, self.likelihood_, self.params_)
        try:
            means, variances = (model.member_means(z), 1.0) if fixed else model.member_moments(z)
        except NotImplementedError:  # a likelihood of the user's own without a variance
            return
        away = (np.asarray(means, np.float64) - y * np.exp(self._log_unit)) * self._unit
        away = away if fixed else away / (np.sqrt(np.asarray(variances, np.float64)) * self._unit)
        if held_out is not None:
            away = [own[rows[rows >= 0]] for own, rows in zip(away, held_out, strict=True)]
        away = np.concatenate(list(away))
        most = np.maximum(np.abs(away).max(axis=0), np.finfo(away.dtype).tiny)  # whose square may be too large a number
        self.noise_ = most * np.sqrt(np.mean(np.square(away / most), axis=0)) if fixed else None
        if held_out is not None and not fixed:
            self._residuals = np.sort(np.abs(away), axis=0)

    @property
    def _unit(self) -> Any:
        """What the network's outputs are measured in, in units of the targets."""
        return 1.0 if self._target_scaling is None else self._target_scaling.scale

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The mean of the members' predictions, `(n,)` or `(n, K)`; and how far targets scatter around it.

        With `return_std`, the standard deviation of the mixture of the members' distributions: noise within them, and
        the difference between them (see `jnn.model.Model.moments`). A Gaussian of fixed variance has that of the noise,
        times 1 + h(x), which is large where the members have seen no examples, σ² (1 + h(x)) (see
        `jnn.sklearn.leverages`; σ² is `noise_` squared, less what the weights' uncertainty is to blame for).
        """
        mean, variance = self._predicted(X, self._moments) if return_std else (self._predicted(X, Model.mean), None)
        if self._target_scaling is not None:
            mean = np.asarray(self._target_scaling.undo(mean))
        mean = (mean[:, 0] if self._flat else mean).astype(self._dtype)
        if variance is None:
            return mean
        deviation = np.sqrt(variance) * self._unit
        return mean, (deviation[:, 0] if self._flat else deviation).astype(self._dtype)

    def _moments(self, model: Model, x: np.ndarray) -> tuple[Any, Any]:
        """Mean and variance on the scale of training."""
        mean, variance = model.moments(x)
        if not isinstance(self.likelihood_, Gaussian):
            return mean, variance
        dispersion = float(np.asarray(self.likelihood_.dispersion))
        noise: Any = 0.0 if self.noise_ is None else np.square(self.noise_ / self._unit)
        if (leverages := self._of_the_seen()) is not None:
            noise = noise * leverages.noise_share * (1 + leverages(self._prepared(x)))
        return mean, np.maximum(variance - dispersion, 0) + noise

    def _of_the_seen(self) -> Leverages | None:
        """Found when they are asked for, since they take longer than a prediction."""
        if self._seen is not None and self._leverages is None and isinstance(self.likelihood_, Gaussian):
            seen = Seen(*self._seen)  # type: ignore[arg-type]  (its fields)
            dispersion = float(np.asarray(self.likelihood_.dispersion))
            self._leverages = Leverages(self.network_, self.params_, seen, dispersion)
        return self._leverages

    def _standardized(self) -> np.ndarray | None:
        """Residuals of examples held out, in units of the deviation predicted for them, sorted; None without such."""
        if (leverages := self._of_the_seen()) is None or self.noise_ is None:
            return self._residuals
        sigma = self.noise_ / self._unit * np.sqrt(leverages.noise_share)
        return np.sort(leverages.residuals / np.where(sigma > 0, sigma, 1.0), axis=0)

    def __getstate__(self) -> Any:
        """What predictions need, without what they have found out of it."""
        state: Any = super().__getstate__()
        return state | ({"_leverages": None} if hasattr(self, "_leverages") else {})

    def predict_interval(self, X: Any, coverage: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """The lower and the upper ends, each `(n,)` or `(n, K)`, of intervals that hold a share of new targets.

        They reach as far from the mean as the examples that each member has held out were from what that member said of
        them, the ⌈coverage · (N + 1)⌉-th nearest of N: cross-conformal prediction, which holds whatever the noise is,
        as long as new examples are like the old ones. In units of the deviation (see `predict`): noise and leverage for
        the examples held out, or the likelihood's own for each input; for `X` the members' disagreement on top, so that
        intervals are wider where there were few examples. Of every target by itself. (N is some 2,000 at most.)

        Args:
            X: inputs.
            coverage: between 0 and 1; N / (N + 1) at most.

        Raises:
            ValueError: if nothing was held out, or too few for this coverage.

        Source: Vovk, "Cross-conformal predictors", 2015; Barber, Candès, Ramdas, Tibshirani, "Predictive inference with
        the jackknife+", 2021 (with the members' mean in the middle).
        """
        check_is_fitted(self, "params_")
        residuals = self._standardized()
        if residuals is None:
            raise ValueError("no examples were held out to measure intervals by: train with early_stopping=True, say")
        count = len(residuals)
        place = int(np.ceil(coverage * (count + 1)))
        if not 0 < coverage < 1 or place > count:
            raise ValueError(f"expected coverage between 0 and {count / (count + 1):.4g}, as {count} examples allow")
        reach = residuals[place - 1]
        mean, deviation = self.predict(X, return_std=True)
        half = (reach[0] if self._flat else reach) * deviation
        lower = mean - half
        return np.maximum(lower, 0) if isinstance(self.likelihood_, Poisson) else lower, mean + half

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = False
        tags.target_tags.multi_output = True
        return tags
