"""From a table with categories and gaps to a saved model, and to predictions in another process.

    python experiments/examples/table_to_predictions.py [--small]

The estimator takes the table as it is; its file holds what became of the columns as well. Printed are the
cross-validated log-loss, and what a process that has only the file says of two new rows, the first of a city that the
model has never seen:

    log-loss 0.33, of the classes' shares alone 0.69
    elsewhere: ['stay', 'leave'] with 1.00 and 0.99
"""

import subprocess
import sys

import numpy as np
import pandas as pd
from sklearn.model_selection import cross_val_score

from jnn.sklearn import MLPClassifier

N = 200 if "--small" in sys.argv else 2000

rng = np.random.default_rng(0)
table = pd.DataFrame({
    "age": rng.integers(18, 90, N).astype(float),
    "city": rng.choice(["Bochum", "Kopenhagen", "Zürich"], N, p=[0.6, 0.3, 0.1]),
    "plan": pd.Categorical(rng.choice(["basic", "family"], N)),
    "months": rng.exponential(20, N),
})  # fmt: skip
score = (table.age - 50) / 20 + 2 * (table.city == "Bochum") - 1.5 * (table.plan == "family") - table.months / 20
y = np.where(score + 0.5 * rng.logistic(size=N) > 0, "leave", "stay")
table.loc[rng.random(N) < 0.1, "age"] = np.nan
table.loc[rng.random(N) < 0.1, "city"] = None

model = MLPClassifier(random_state=0)
losses = -cross_val_score(model, table, y, scoring="neg_log_loss")
shares = np.unique(y, return_counts=True)[1] / N
print(f"log-loss {losses.mean():.2f}, of the classes' shares alone {-(shares * np.log(shares)).sum():.2f}")
model.fit(table, y).save("leaving.safetensors")

new = pd.DataFrame({"age": [25, 80], "city": ["Oslo", "Bochum"], "plan": ["family", "basic"], "months": [50.0, None]})
new.to_csv("new.csv", index=False)
elsewhere = """
import pandas
from jnn.sklearn import MLPClassifier
model, new = MLPClassifier.load("leaving.safetensors"), pandas.read_csv("new.csv")
print("elsewhere:", model.predict(new).tolist(), "with {:.2f} and {:.2f}".format(*model.predict_proba(new).max(axis=1)))
"""
print(subprocess.run([sys.executable, "-c", elsewhere], check=True, capture_output=True, text=True).stdout, end="")
