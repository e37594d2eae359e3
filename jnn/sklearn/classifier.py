"""The classifier."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import assert_all_finite, check_consistent_length, column_or_1d

from jnn.likelihoods import Bernoulli, Categorical, Likelihood
from jnn.sklearn.base import MLP, Role, documented, if_it_streams
from jnn.sklearn.recipe import AUTO


@documented
@dataclass(eq=False, repr=False)
class MLPClassifier(ClassifierMixin, MLP):
    """A classifier that takes the place of `sklearn.neural_network.MLPClassifier`: same parameters, better defaults.

    By default an ensemble of small networks is trained, each with another part of the examples held out for early
    stopping, and its members' probabilities are averaged. Inputs are standardized inside, and columns with heavy tails
    (a value beyond four standard deviations) squashed (`jnn.transforms.Squash`). Parameters that are given
    mean what they mean in scikit-learn. With `max_iter` or `early_stopping`, or another `solver`, one network is
    trained with scikit-learn's own defaults, and training ends as there.

    Two classes have one logistic output, more have soft-max, and a matrix of 0 and 1 (multi-label) a logistic output
    for each column. The error is the cross-entropy (slides "Binary classification", "Multi-class classification").

    Args:
        {parameters}
        class_weight: "balanced", or a weight for each class.

    Attributes:
        classes_: the labels.
        {attributes}

    >>> from sklearn.datasets import load_iris
    >>> from jnn.sklearn import MLPClassifier
    >>> x, y = load_iris(return_X_y=True)
    >>> MLPClassifier(members=2, hidden_layer_sizes=8, random_state=0).fit(x, y).score(x, y) > 0.9
    True
    """

    _squashes: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **MLP._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    hidden_layer_sizes: Any = AUTO
    activation: Any = AUTO
    class_weight: Any = field(default=None, kw_only=True)

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> "MLPClassifier":
        """Train.

        Args:
            X: inputs `(n, d)`: an array, a sparse matrix, or a table.
            y: labels `(n,)`, or 0 and 1 `(n, K)`.
            sample_weight: how often each example counts, `(n,)`.
            X_val: validation inputs, instead of a part of `X`.
            y_val: their labels.

        Raises:
            ValueError: for parameters, shapes or values that do not fit.

        Warns:
            ConvergenceWarning: if `max_iter` or `early_stopping` was given, and no rule ended training.
        """
        self._fit(X, y, sample_weight, X_val, y_val)
        return self

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
        first = not hasattr(self, "params_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        known = None if classes is None else np.unique(classes)
        if not first and known is not None and not np.array_equal(known, self.classes_):
            raise ValueError(f"classes={classes!r} is not the same as at the first call of partial_fit")
        with self._unchanged_by_errors():
            if first:
                self._announced = known
            self._partial_fit(X, y, sample_weight)
        return self

    def _examples(
        self, x: np.ndarray, y: Any, weights: np.ndarray | None, role: Role
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        if not scipy.sparse.issparse(y) and np.asarray(y).dtype.kind == "f":
            assert_all_finite(np.asarray(y), input_name="y")
        check_classification_targets(y)
        check_consistent_length(x, y)
        multilabel = type_of_target(y) == "multilabel-indicator"
        y = np.asarray(y.toarray() if hasattr(y, "toarray") else y) if multilabel else column_or_1d(y, warn=True)
        if weights is not None:
            x, y, weights = x[weights > 0], y[weights > 0], weights[weights > 0]
            if len(x) == 0:
                raise ValueError("expected at least one example with a weight above zero")
        if self.class_weight is not None:
            by_class = compute_sample_weight(self.class_weight, y)
            weights = by_class if weights is None else weights * by_class
        if role == "first":
            self._multilabel = multilabel
            announced = self.__dict__.pop("_announced", None)
            found = np.arange(y.shape[1]) if multilabel else np.unique(y)
            self.classes_ = found if announced is None else announced
        elif role == "again" and not multilabel and not np.array_equal(np.unique(y), self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {np.unique(y)}"
            )
        return x, self._encoded(y), weights

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        if self._multilabel:
            return y.astype(np.float32)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"`y` has classes {unknown} that are not in {self.classes_}, those of the first call")
        index = np.searchsorted(self.classes_, y)
        return index.astype(np.float32)[:, None] if len(self.classes_) <= 2 else index.astype(np.int32)

    def _classes_of(self, y: np.ndarray) -> np.ndarray | None:
        return None if self._multilabel else y.reshape(len(y)).astype(int)

    def _check_held_out(self, count: int, classes: np.ndarray | None) -> None:
        super()._check_held_out(count, classes)
        if classes is None:
            return
        numbers, found = np.unique(classes, return_counts=True)
        if (rare := numbers[found < 2]).size:
            names = [str(label) for label in self.classes_[rare]]
            raise ValueError(
                "The least populated classes in y have only 1 member, which is too few to hold out a stratified part "
                f"(early_stopping=True). Classes with too few members are: {names}"
            )

    def _outputs(self, y: np.ndarray) -> tuple[Likelihood, int]:
        single = self._multilabel or len(self.classes_) <= 2
        outputs = len(self.classes_) if self._multilabel else 1 if single else len(self.classes_)
        self.out_activation_ = "logistic" if single else "softmax"
        return self.likelihood or (Bernoulli() if single else Categorical()), outputs

    def predict_proba(self, X: Any) -> np.ndarray:
        """Each class's probability, `(n, classes)`: the mean of the members'; multi-label, that of each label."""
        mean, _ = self._predicted(X)
        if self._multilabel:
            return mean
        if len(self.classes_) == 1:
            return np.ones_like(mean)
        if len(self.classes_) == 2:
            return np.concatenate([1 - mean, mean], axis=1)
        return mean / mean.sum(axis=1, keepdims=True)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithms of the probabilities."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each example; multi-label, 0 or 1 for each label."""
        probabilities = self.predict_proba(X)
        if self._multilabel:
            return (probabilities > 0.5).astype(int)
        return self.classes_[probabilities.argmax(axis=1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
