"""scikit-learn's interface to jnn: estimators that take the place of scikit-learn's own multi-layer perceptrons.

    from jnn.sklearn import MLPClassifier, MLPRegressor

They need scikit-learn 1.6 or newer: `pip install 'jnn[sklearn]'`.
"""

try:
    from sklearn.utils.validation import validate_data  # noqa: F401  (new in 1.6)
except ImportError as error:
    raise ImportError("jnn.sklearn needs scikit-learn 1.6 or newer: pip install 'jnn[sklearn]'") from error

from jnn.sklearn.classifier import MLPClassifier as MLPClassifier
from jnn.sklearn.regressor import MLPRegressor as MLPRegressor
