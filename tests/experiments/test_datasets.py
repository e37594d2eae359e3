"""Random splits of scikit-learn's bundled data."""

import numpy as np
import pytest

from experiments import datasets


@pytest.mark.parametrize("name", datasets.SOURCES)
def test_splits_are_disjoint_stratified_and_standardized_by_the_training_part(name: str) -> None:
    data = datasets.split(name, splits=2, seed=1)
    x, _ = data.source.load(return_X_y=True)
    assert data.train.x.dtype == data.test.x.dtype == np.float32
    assert data.train.x.shape[1] + data.test.x.shape[1] == len(x)
    varies = data.train.x.std(axis=1) > 0
    # Means of up to 1,300 float32 numbers of size 1: errors of some 10⁻⁷ each, no more when summed.
    np.testing.assert_allclose(data.train.x.mean(axis=1, dtype=np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(data.train.x.std(axis=1, dtype=np.float64)[varies], 1, atol=1e-5)
    assert np.abs(data.test.x.mean(axis=1)[varies]).max() > 1e-3
    if data.source.classes:
        shares = [np.bincount(part.y[0]) / part.y.shape[1] for part in (data.train, data.test)]
        np.testing.assert_allclose(*shares, atol=1 / data.test.y.shape[1])
    # Both parts together are the data set again, shifted and scaled: nothing twice, nothing lost.
    together = np.sort(np.concatenate([data.train.x[0, :, -1], data.test.x[0, :, -1]]).astype(np.float64))
    assert np.corrcoef(together, np.sort(x[:, -1]))[0, 1] > 1 - 1e-6
