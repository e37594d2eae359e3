"""PyTorch: a loop over shuffled batches of tensors that lie on the device, fused Adam; on request torch.compile.

No DataLoader: for data that fit in memory it would only cost time. Several networks are trained at once by
`torch.func.vmap` over their stacked parameters, as PyTorch's tutorial on ensembles has it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]

from experiments.benchmarks.workloads import Data, Setting, Train, Trained, Unavailable, Workload

set_threads = torch.set_num_threads
VARIANTS_WITH_THREADS = ("", "compile")
PRECISIONS = {"float32": "highest", "tf32": "high", "bfloat16": "medium"}
KINDS = {"cpu": "cpu", "gpu": "cuda"}
ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}
PACKAGES = ("torch",)


def device(setting: Setting) -> str:
    """Where it computes, with the precision of its matrix products set."""
    if setting.device == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise Unavailable("PyTorch sees no GPU")
    torch.set_float32_matmul_precision(PRECISIONS[setting.precision])
    return torch.cuda.get_device_name()


class Perceptron(torch.nn.Module):
    """A chain of linear layers, or with shortcuts each reading all earlier ones."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(*shape) for shape in workload.shapes)
        self.h, self.shortcuts = ACTIVATIONS[workload.activation], workload.shortcuts

    def forward(self, x: Any) -> Any:
        """The outputs' pre-activations."""
        for layer in self.layers[:-1]:
            z = self.h(layer(x))
            x = torch.cat([x, z], dim=-1) if self.shortcuts else z
        return self.layers[-1](x)


def _mean_loss(workload: Workload, a: Any, y: Any) -> Any:
    if workload.loss == "categorical":
        return F.cross_entropy(a, y)
    if workload.loss == "bernoulli":
        return F.binary_cross_entropy_with_logits(a, y, reduction="sum") / len(y)
    return 0.5 * torch.square(a - y).sum(dim=-1).mean()


def _optimizer(workload: Workload, parameters: Any) -> Any:
    if workload.optimizer == "rprop":
        return torch.optim.Rprop(parameters, lr=workload.learning_rate)
    return torch.optim.Adam(parameters, lr=workload.learning_rate, fused=True)


def _tensors(data: Data, setting: Setting) -> tuple[Any, Any]:
    y = torch.from_numpy(data.y)
    kind = KINDS[setting.device]
    return torch.from_numpy(data.x).to(kind), (y if y.is_floating_point() else y.long()).to(kind)


def _batches(workload: Workload, x: Any) -> Iterator[Any]:
    for _ in range(workload.epochs):
        if workload.batch_size is None:
            yield None
        else:
            yield from torch.randperm(len(x), device=x.device).split(workload.batch_size)


def _synchronize(setting: Setting) -> None:
    if setting.device == "gpu":
        torch.cuda.synchronize()


def prepare(workload: Workload, data: Data, setting: Setting, compiled: bool = False) -> Train:
    """Eager, or with the loss compiled."""
    if workload.members > 1:
        return _prepare_many(workload, data, setting)
    if workload.optimizer == "lbfgs":
        return _prepare_lbfgs(workload, data, setting)
    x, y = _tensors(data, setting)
    model = Perceptron(workload).to(x.device)

    def loss(x: Any, y: Any) -> Any:
        return _mean_loss(workload, model(x), y)

    if compiled:  # on a GPU with CUDA graphs
        loss = torch.compile(loss, dynamic=False, mode="reduce-overhead" if setting.device == "gpu" else None)

    def train(seed: int) -> Trained:
        _reset(model, seed)
        optimizer = _optimizer(workload, model.parameters())
        for rows in _batches(workload, x):
            optimizer.zero_grad()
            (loss(x, y) if rows is None else loss(x[rows], y[rows])).backward()
            optimizer.step()
        _synchronize(setting)
        return _trained(model, x.device)

    return train


def prepare_compile(workload: Workload, data: Data, setting: Setting) -> Train:
    """With torch.compile."""
    return prepare(workload, data, setting, compiled=True)


def _reset(model: Perceptron, seed: int) -> None:
    torch.manual_seed(seed)
    for layer in model.layers:
        layer.reset_parameters()


def _trained(model: Perceptron, where: Any, iterations: int | None = None) -> Trained:
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def outputs(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return torch.func.functional_call(model, state, (torch.from_numpy(x).to(where),)).cpu().numpy()

    norm = sum(float(value.square().sum()) for value in state.values() if value.ndim > 1)
    return Trained(outputs, norm, iterations)


def _prepare_lbfgs(workload: Workload, data: Data, setting: Setting) -> Train:
    x, y = _tensors(data, setting)
    model = Perceptron(workload).to(x.device)

    def train(seed: int) -> Trained:
        _reset(model, seed)
        optimizer = torch.optim.LBFGS(
            model.parameters(),
            max_iter=workload.epochs,
            max_eval=20 * workload.epochs,
            history_size=10,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Any:
            optimizer.zero_grad()
            squares = sum(layer.weight.square().sum() for layer in model.layers)
            error = _mean_loss(workload, model(x), y) + 0.5 * workload.weight_decay / len(x) * squares
            error.backward()
            return error

        optimizer.step(closure)
        _synchronize(setting)
        return _trained(model, x.device, next(iter(optimizer.state.values()))["n_iter"])

    return train


def _prepare_many(workload: Workload, data: Data, setting: Setting) -> Train:
    assert workload.batch_size is not None
    x, y = _tensors(data, setting)
    model = Perceptron(workload).to(x.device)

    def loss(params: Any, x: Any, y: Any) -> Any:
        return _mean_loss(workload, torch.func.functional_call(model, params, (x,)), y)

    gradients = torch.func.vmap(torch.func.grad(loss))

    def train(seed: int) -> Trained:
        torch.manual_seed(seed)
        models = [Perceptron(workload).to(x.device) for _ in range(workload.members)]
        params, _ = torch.func.stack_module_state(models)
        params = {name: value.detach() for name, value in params.items()}
        optimizer = _optimizer(workload, params.values())
        for _ in range(workload.epochs):
            order = torch.rand(workload.members, len(x), device=x.device).argsort(dim=1)
            for rows in order.split(workload.batch_size, dim=1):
                for name, gradient in gradients(params, x[rows], y[rows]).items():
                    params[name].grad = gradient
                optimizer.step()
        _synchronize(setting)

        def outputs(x: np.ndarray) -> np.ndarray:
            apply = torch.func.vmap(lambda p, x: torch.func.functional_call(model, p, (x,)), (0, None))
            with torch.no_grad():
                where = next(iter(params.values())).device
                return apply(params, torch.from_numpy(x).to(where)).cpu().numpy()

        return Trained(outputs)

    return train
