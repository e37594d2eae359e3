"""The classifier."""

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any

import numpy as np
import scipy.sparse
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import assert_all_finite, column_or_1d

from jnn.likelihoods import Bernoulli, Categorical
from jnn.model import Model
from jnn.sklearn.base import MLP, Activation, Role, Sizes, Weights, estimator, if_it_streams
from jnn.sklearn.recipe import AUTO


def is_missing(label: Any) -> bool:
    """Whether a label is None, NaN, or of pandas' kinds of them."""
    return label is None or type(label).__name__ == "NAType" or bool(label != label)


@estimator
@dataclass(eq=False, repr=False)
class MLPClassifier(ClassifierMixin, MLP):
    """A classifier that takes the place of `sklearn.neural_network.MLPClassifier`: same parameters, better defaults.

    By default an ensemble of small networks is trained, each with another part of the examples held out for early
    stopping, and its members' probabilities are averaged. Inputs are standardized inside, columns with heavy tails (a
    value beyond four standard deviations) squashed (`jnn.transforms.Squash`), and numbers also seen in pieces
    (`jnn.transforms.Pieces`). A linear model stands beside each member, its share chosen by what was held out
    (`jnn.sklearn.linear`). Parameters that are given mean what they mean in scikit-learn. With `max_iter` or
    `early_stopping`, or another `solver`, one network is trained with scikit-learn's own defaults, and training ends as
    there.

    Two classes have one logistic output, more have soft-max, and a matrix of 0 and 1 (multi-label) a logistic output
    for each column. The error is the cross-entropy (slides "Binary classification", "Multi-class classification").

    Args:
        {parameters}

    Attributes:
        classes_: the labels.
        {attributes}

    >>> from sklearn.datasets import load_iris
    >>> from jnn.sklearn import MLPClassifier
    >>> x, y = load_iris(return_X_y=True)
    >>> MLPClassifier(members=2, hidden_layer_sizes=8, random_state=0).fit(x, y).score(x, y) > 0.9
    True
    """

    hidden_layer_sizes: Sizes = AUTO
    activation: Activation = AUTO
    _: KW_ONLY
    class_weight: Annotated[Any, StrOptions({"balanced"}), dict, '"balanced", or a weight for each class.'] = None

    @if_it_streams
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> "MLPClassifier":
        """Train for one pass over a part of the examples; the first one decides how inputs are standardized.

        Args:
            X: inputs.
            y: labels.
            classes: all labels that there are; needed at the first call.
            sample_weight: how often each example counts.
        """
        self._check_stream()
        known = None if classes is None else np.unique(classes)
        if not hasattr(self, "params_"):
            if known is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
        elif known is not None and not np.array_equal(known, self.classes_):
            raise ValueError(f"classes={classes!r} is not the same as at the first call of partial_fit")
        self._train(X, y, sample_weight, streaming=True, classes=known)
        return self

    def _checked(self, y: Any) -> np.ndarray:
        if not scipy.sparse.issparse(y):
            try:
                labels = np.asarray(y)
            except ValueError as error:
                raise ValueError(
                    "expected y of shape (n,) or (n, K), got a ragged list; give every row as many"
                ) from error
            if labels.dtype.kind == "V":
                raise ValueError(f"expected y as labels: numbers, strings or booleans; got records, {labels.dtype}")
            if labels.dtype.kind == "f":
                assert_all_finite(labels, input_name="y")
            missing = [n for n, label in enumerate(labels.flat) if is_missing(label)] if labels.dtype == object else []
            if missing:
                raise ValueError(
                    f"y contains NaN: {len(missing)} labels are missing, the first in row {missing[0]}. Leave those "
                    "examples out, or give what is missing a label of its own"
                )
        check_classification_targets(y)
        if type_of_target(y) == "multilabel-indicator":
            return np.asarray(y.toarray() if hasattr(y, "toarray") else y)
        return column_or_1d(y, warn=True)

    def _learned(self, y: np.ndarray, weights: Weights, role: Role, classes: Any) -> tuple[np.ndarray, Weights]:
        if self.class_weight is not None:
            by_class = compute_sample_weight(self.class_weight, y)
            weights = by_class if weights is None else weights * by_class
        found = np.arange(y.shape[1]) if y.ndim == 2 else np.unique(y)
        if role == "first":
            self._multilabel = y.ndim == 2
            self.classes_ = found if classes is None else classes
            softmax = not self._multilabel and len(self.classes_) > 2
            self.out_activation_ = "softmax" if softmax else "logistic"
            self.likelihood_ = self.likelihood or (Categorical() if softmax else Bernoulli())
            self.n_outputs_ = len(self.classes_) if softmax or self._multilabel else 1
        elif role == "again" and y.ndim == 1 and not np.array_equal(found, self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {found}"
            )
        if self._multilabel:
            return y.astype(np.float32), weights
        if len(unknown := np.setdiff1d(y, self.classes_)):
            raise ValueError(f"`y` has classes {unknown} that are not in {self.classes_}, those of the first call")
        index = np.searchsorted(self.classes_, y)
        return (index.astype(np.int32) if len(self.classes_) > 2 else index.astype(np.float32)[:, None]), weights

    def predict_proba(self, X: Any) -> np.ndarray:
        """Each class's probability, `(n, classes)`: the mean of the members'; multi-label, that of each label."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithms of the probabilities, from pre-activations: also of those that round to 0 or 1."""
        found = self._predicted(X, Model.log_probabilities)
        if not self._multilabel and len(self.classes_) == 1:
            return np.zeros((len(found), 1))
        if self.n_outputs_ == 1 and found.shape[1] == 1:  # a likelihood that says nothing of the other class
            found = np.concatenate([np.log1p(-np.exp(found)), found], axis=1)
        if self._multilabel:
            return found[:, -self.n_outputs_ :]
        return found - np.logaddexp.reduce(found, axis=1, keepdims=True)  # float32's sum to 1 but for rounding

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each example; multi-label, 0 or 1 for each label."""
        found = self.predict_log_proba(X)
        if self._multilabel:
            return (found > np.log(0.5)).astype(int)
        return self.classes_[found.argmax(axis=1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
