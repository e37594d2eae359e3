"""Training on a table that stays on disk: Parquet files, read some groups of rows at a time.

    python experiments/examples/from_parquet.py [--small]

Inputs go where arrays go (`jnn.data.parquet`), standardized on the way by one pass over the files. The device works on
some rows while the next are read; memory holds a few groups (`memory=`), never the table. Printed are how much there
is, and the share of the targets' variance that is left on rows of a file of their own:

    400000 rows in 4 files, 16.0 MB of inputs
    left of the variance: 0.2 %
"""

import sys
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet

import jnn

ROWS, EPOCHS = (1000, 2) if "--small" in sys.argv else (100_000, 5)

rng = np.random.default_rng(0)
Path("rows").mkdir(exist_ok=True)
for name in ("rows/a", "rows/b", "rows/c", "rows/d", "new"):
    x = rng.normal(3, 2, (ROWS, 10)).astype("float32")
    y = np.sin(x[:, 0]) * x[:, 1] + 0.1 * rng.normal(size=ROWS)
    columns = {f"x{number}": column for number, column in enumerate(x.T)}
    pa.parquet.write_table(pa.table({**columns, "y": y}), f"{name}.parquet", row_group_size=ROWS // 10)

data = jnn.data.parquet("rows/*.parquet", target="y", memory=2**20)
print(f"{len(data.x)} rows in 4 files, {data.x.shape[1] * len(data.x) * 4 / 1e6:.1f} MB of inputs")
standardize = jnn.data.standardize(data.x)
network, likelihood = jnn.mlp([10, 50, 50, 1]), jnn.likelihoods.Gaussian()
result = jnn.fit(
    network, likelihood, jnn.data.Transformed(data.x, standardize), data.y,
    key=jax.random.key(0), epochs=EPOCHS, batch_size=100,
)  # fmt: skip
model = jnn.Model(network, likelihood, result.params, (standardize,))

new = jnn.data.parquet("new.parquet", target="y")
left = np.mean((model.mean(np.asarray(new.x)) - new.y) ** 2) / np.var(new.y)
print(f"left of the variance: {100 * left:.1f} %")
