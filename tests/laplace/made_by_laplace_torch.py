"""What laplace-torch says of a small network, for `test_laplace_torch.py`; not run by the tests.

    pip install laplace-torch
    python tests/laplace/made_by_laplace_torch.py > tests/laplace/laplace_torch.json

A bias is the weight of an input that is 1: laplace-torch's Kronecker factors leave out what biases and other weights
have in common. Weights come in the order of `jax.flatten_util.ravel_pytree`.
"""

import itertools
import json

import numpy as np
import torch  # pyright: ignore
from laplace import Laplace  # pyright: ignore
from torch import nn  # pyright: ignore

SIZES = (2, 3, 2)
PRIOR_PRECISION, SIGMA = 0.7, 0.3


class One(nn.Module):
    """Append an input that is always 1."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """(n, d) to (n, d + 1)."""
        return torch.cat([z, torch.ones(len(z), 1)], dim=1)


def network() -> nn.Sequential:
    """2-3-2 with tanh, its weights the sines of 1, 2, …."""
    layers = [nn.Linear(i + 1, o, bias=False) for i, o in itertools.pairwise(SIZES)]
    start = 1
    for layer in layers:
        rows, columns = layer.in_features, layer.out_features
        weights = np.sin(np.arange(start, start + rows * columns)).reshape(rows, columns)
        layer.weight.data = torch.tensor(weights.T.copy())
        start += rows * columns
    return nn.Sequential(One(), layers[0], nn.Tanh(), One(), layers[1])


def in_order(size: tuple[int, ...] = SIZES) -> np.ndarray:
    """Where each weight of ours is among torch's, whose matrices are the other way round."""
    found, start = [], 0
    for i, o in itertools.pairwise(size):
        found.append(start + np.arange((i + 1) * o).reshape(o, i + 1).T.reshape(-1))
        start += (i + 1) * o
    return np.concatenate(found)


def main() -> None:
    """Print the values as JSON, a case a line."""
    torch.set_default_dtype(torch.float64)
    x = torch.tensor(np.cos(np.arange(1, 19)).reshape(9, 2))
    new = torch.tensor([[0.5, -0.5], [2.0, 1.0], [-3.0, 4.0]])
    targets = {
        "regression": torch.tensor(np.sin(2 * np.arange(1, 19)).reshape(9, 2)),
        "classification": torch.tensor([0, 1, 1, 0, 1, 0, 0, 0, 1]),
    }
    place, found = in_order(), {}
    v = np.cos(np.arange(len(place)))
    for likelihood, y in targets.items():
        for structure in ("full", "kron"):
            sigma = {"sigma_noise": SIGMA} if likelihood == "regression" else {}
            posterior = Laplace(
                network(),
                likelihood,
                subset_of_weights="all",
                hessian_structure=structure,
                prior_precision=PRIOR_PRECISION,
                **sigma,
            )
            posterior.fit(torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=9))
            precision = posterior.posterior_precision
            precision = precision.to_matrix() if structure == "kron" else precision
            precision = precision.detach().numpy()[np.ix_(place, place)]
            _, variance = posterior._glm_predictive_distribution(new)
            found[f"{likelihood}, {structure}"] = {
                "precision @ v": (precision @ v).tolist(),
                "evidence": posterior.log_marginal_likelihood().item(),
                "covariance": variance.detach().numpy().tolist(),
            }
    lines = (f"{json.dumps(case)}: {json.dumps(values)}" for case, values in found.items())
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
