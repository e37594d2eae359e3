"""The regressor."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_array, column_or_1d

from jnn.likelihoods import Gaussian, Poisson
from jnn.model import Model
from jnn.networks import Params
from jnn.sklearn.base import MLP, Activation, Role, Sizes, Weights, estimator, if_it_streams
from jnn.sklearn.recipe import AUTO
from jnn.transforms import Standardize


@estimator
@dataclass(eq=False, repr=False)
class MLPRegressor(RegressorMixin, MLP):
    """A regressor that takes the place of `sklearn.neural_network.MLPRegressor`: same parameters, better defaults.

    By default an ensemble of small networks is trained, each with another part of the examples held out for early
    stopping, and its members' means are averaged. Inputs are standardized inside, and targets too; counts and rates are
    divided by their mean. Parameters that are given mean what they mean in scikit-learn. With `max_iter` or
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
        *hidden, last = params
        moved = last["b"] + (self._log_unit if of == "targets" else -self._log_unit).astype(last["b"].dtype)
        return (*hidden, {**last, "b": moved}) if self._log_unit.any() else params

    def _measure(self, z: np.ndarray, y: np.ndarray, held_out: np.ndarray | None) -> None:
        """The noise, if the likelihood has a fixed one: residuals of examples that a member has not trained on."""
        self.noise_: np.ndarray | None = None
        if not isinstance(self.likelihood_, Gaussian):
            return
        means = Model(self.network_, self.likelihood_, self.params_).member_means(z)
        squares = np.square(np.asarray(means, np.float64) - y)
        if held_out is not None:
            squares = [own[rows[rows >= 0]] for own, rows in zip(squares, held_out, strict=True)]
        self.noise_ = np.sqrt(np.mean(np.concatenate(list(squares)), axis=0)) * self._unit

    @property
    def _unit(self) -> Any:
        """What the network's outputs are measured in, in units of the targets."""
        return 1.0 if self._target_scaling is None else self._target_scaling.scale

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The mean of the members' predictions, `(n,)` or `(n, K)`; and how far targets scatter around it.

        With `return_std`, the standard deviation of the mixture of the members' distributions: noise within them, and
        the difference between them (see `jnn.model.Model.moments`). A Gaussian of fixed variance takes `noise_` for its
        own.
        """
        mean, variance = self._predicted(X, Model.moments) if return_std else (self._predicted(X, Model.mean), None)
        if self._target_scaling is not None:
            mean = np.asarray(self._target_scaling.undo(mean))
        if variance is not None and isinstance(self.likelihood_, Gaussian):  # whose own variance is one for all
            variance = variance - float(np.asarray(self.likelihood_.dispersion))
        if variance is not None:
            variance = variance * np.square(self._unit) + (0.0 if self.noise_ is None else np.square(self.noise_))
        mean = (mean[:, 0] if self._flat else mean).astype(self._dtype)
        if variance is None:
            return mean
        return mean, np.sqrt(variance[:, 0] if self._flat else variance).astype(self._dtype)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = False
        tags.target_tags.multi_output = True
        return tags
