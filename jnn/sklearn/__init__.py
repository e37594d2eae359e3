"""scikit-learn's interface to jnn: estimators that take the place of scikit-learn's own multi-layer perceptrons.

    from jnn.sklearn import MLPClassifier, MLPRegressor

They need scikit-learn 1.6 or newer: `pip install 'jnn[sklearn]'`.
"""

try:
    from sklearn.utils.validation import validate_data
except ImportError as error:
    raise ImportError(
        "jnn.sklearn needs scikit-learn 1.6 or newer, which jnn itself does not: pip install 'jnn[sklearn]'"
    ) from error
del validate_data

from jnn.sklearn.classifier import MLPClassifier as MLPClassifier  # noqa: E402
from jnn.sklearn.regressor import MLPRegressor as MLPRegressor  # noqa: E402
