"""The pairs that translate to PyTorch: (arguments in float64, right function, wrong function) by the case's name.

Imported by experiments/gradcheck_power.py only, and only where torch is installed. A pullback is `pull(g, *args)`, as
in the other modules; `rule` makes a `torch.autograd.Function` of it.
"""

import math
from collections.abc import Callable

import torch


def rule(primal: Callable, pull: Callable) -> Callable:
    """`primal` with the pullback `pull(g, *args)`."""

    class Rule(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *args):
            ctx.save_for_backward(*args)
            return primal(*args)

        @staticmethod
        def backward(ctx, g):
            out = pull(g, *ctx.saved_tensors)
            return out if isinstance(out, tuple) else (out,)

    return Rule.apply


def normal(seed: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    """Standard normal numbers times `scale`, in float64, which is what gradcheck's defaults are made for."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale).requires_grad_()


def gelu(x):
    return torch.nn.functional.gelu(x, approximate="tanh")


def gelu_slope(x):
    c = math.sqrt(2 / math.pi)
    t = torch.tanh(c * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * c * (1 + 3 * 0.044715 * x**2)


def erf_slope(x):
    return 0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * torch.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)


def silu_slope(x):
    s = torch.sigmoid(x)
    return s + x * s * (1 - s)


def huber(x):
    return torch.where(x.abs() <= 0.5, 0.5 * x**2, 0.5 * (x.abs() - 0.25))


def softmax_pull(g, x, keep=1.0):
    z = torch.softmax(x, -1)
    return z * (g - keep * (g * z).sum(-1, keepdim=True))


def others(x):
    eye = torch.eye(x.numel(), dtype=torch.bool)
    return torch.where(eye, torch.ones((), dtype=x.dtype), x.expand(x.numel(), -1)).prod(-1)


def cross_entropy(x, labels):
    return torch.nn.functional.cross_entropy(x, labels, label_smoothing=0.1)


def cross_entropy_pull(smoothing):
    def pull(g, x, labels):
        n, k = x.shape
        target = (1 - smoothing) * torch.nn.functional.one_hot(labels, k).to(x.dtype) + smoothing / k
        return g * (torch.softmax(x, -1) - target) / n, None

    return pull


def attention(q, k, v):
    return torch.softmax(q @ k.T / math.sqrt(q.shape[1]), -1) @ v


def attention_pull(keep):
    def pull(g, q, k, v):
        c = 1 / math.sqrt(q.shape[1])
        p = torch.softmax(c * q @ k.T, -1)
        dp = g @ v.T
        ds = p * (dp - keep * (p * dp).sum(-1, keepdim=True))
        return c * ds @ k, c * ds.T @ q, p.T @ g

    return pull


def rotate(x, sign=1.0):
    t, d = x.shape
    a, b = x[:, : d // 2], x[:, d // 2 :]
    frequency = 100.0 ** (-torch.arange(d // 2, dtype=x.dtype) / (d // 2))
    angle = sign * torch.arange(t, dtype=x.dtype)[:, None] * frequency
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def conv(x, w):
    return torch.nn.functional.conv1d(x[None, None], w[None, None], padding=1)[0, 0]


def conv_pull(turn):
    def pull(g, x, w):
        padded = torch.nn.functional.pad(x, (1, 1))
        return conv(g, turn(w)), torch.stack([(g * padded[j : j + g.numel()]).sum() for j in range(3)])

    return pull


def embed_pull(accumulate):
    return lambda g, table, ids: (torch.zeros_like(table).index_put((ids,), g, accumulate=accumulate), None)


def sort_pull(inverse):
    def pull(g, x):
        order = torch.argsort(x)
        return g[torch.argsort(order)] if inverse else g[order]

    return pull


def mlp(x, w1, w2):
    return torch.tanh(x @ w1) @ w2


def mlp_pull(stale):
    def pull(g, x, w1, w2):
        a = x @ w1
        d = (g @ w2.T) * (1 - (a if stale else torch.tanh(a)) ** 2)
        return d @ w1.T, x.T @ d, torch.tanh(a).T @ g

    return pull


def translations() -> dict[str, tuple[Callable, Callable, Callable]]:
    """The pairs: the name of the case, its arguments (a factory), the right function, the wrong one."""
    x = lambda: (normal(1, 9, scale=2.0),)  # noqa: E731
    rows = lambda: (normal(2, 4, 6, scale=2.0),)  # noqa: E731
    labels, ids = torch.tensor([3, 0, 5, 1]), torch.tensor([0, 2, 2, 5, 0])
    # fmt: off
    table: dict[str, tuple] = {
        "cos_sign": (x, torch.cos, lambda g, x: -g * x.sin(), lambda g, x: g * x.sin()),
        "gelu_forward_tanh_backward_erf": (x, gelu, lambda g, x: g * gelu_slope(x), lambda g, x: g * erf_slope(x)),
        "silu_factor_1e-3": (x, lambda x: x * torch.sigmoid(x), lambda g, x: g * silu_slope(x),
                             lambda g, x: 1.001 * g * silu_slope(x)),
        "exp_clipped": (lambda: (torch.tensor([-2.0, 0.5, 4.9, 7.0], dtype=torch.float64, requires_grad=True),),
                        torch.exp, lambda g, x: g * x.exp(), lambda g, x: g * x.clamp(max=5).exp()),
        "tanh_stale_residual": (x, torch.tanh, lambda g, x: g * (1 - x.tanh() ** 2), lambda g, x: g * (1 - x**2)),
        "huber_delta": (x, huber, lambda g, x: g * x.clamp(-0.5, 0.5),
                        lambda g, x: g * torch.where(x.abs() <= 0.5, x, x.sign())),
        "erf_constant": (x, torch.erf, lambda g, x: 2 * g / math.sqrt(math.pi) * (-(x**2)).exp(),
                         lambda g, x: g / math.sqrt(math.pi) * (-(x**2)).exp()),
        "atan2_swapped": (lambda: (normal(3, 5), normal(4, 5)), torch.atan2,
                          lambda g, y, x: (g * x / (x**2 + y**2), -g * y / (x**2 + y**2)),
                          lambda g, y, x: (-g * y / (x**2 + y**2), g * x / (x**2 + y**2))),
        "cotangent_of_first_element": (x, torch.sin, lambda g, x: g * x.cos(), lambda g, x: g[:1] * x.cos()),
        "cotangent_squared": (x, torch.sin, lambda g, x: g * x.cos(), lambda g, x: g**2 * x.cos()),
        "cotangent_absolute": (x, torch.sin, lambda g, x: g * x.cos(), lambda g, x: g.abs() * x.cos()),
        "softmax_dropped_term": (rows, lambda x: torch.softmax(x, -1), softmax_pull,
                                 lambda g, x: softmax_pull(g, x, 0.0)),
        "log_softmax_unit_cotangent": (rows, lambda x: torch.log_softmax(x, -1),
                                       lambda g, x: g - torch.softmax(x, -1) * g.sum(-1, keepdim=True),
                                       lambda g, x: g - torch.softmax(x, -1)),
        "prod_by_division": (
            lambda: (torch.tensor([0.5, -1.5, 0.0, 2.0], dtype=torch.float64, requires_grad=True),), torch.prod,
            lambda g, x: g * others(x), lambda g, x: g * x.prod() / x),
        "bias_last_block": (lambda: (normal(5, 24, 3), normal(6, 3)), lambda x, b: x.tanh() + b,
                            lambda g, x, b: (g * (1 - x.tanh() ** 2), g.sum(0)),
                            lambda g, x, b: (g * (1 - x.tanh() ** 2), g[-8:].sum(0))),
        "bias_other_axis": (lambda: (normal(7, 5, 5), normal(8, 5)), lambda x, b: x + b[:, None],
                            lambda g, x, b: (g, g.sum(1)), lambda g, x, b: (g, g.sum(0))),
        "cumsum_off_by_one": (x, lambda x: x.cumsum(0), lambda g, x: g.flip(0).cumsum(0).flip(0),
                              lambda g, x: g.flip(0).cumsum(0).flip(0) - g),
        "mean_not_divided": (rows, torch.mean, lambda g, x: (g / x.numel()).expand_as(x),
                             lambda g, x: (g / x.shape[0]).expand_as(x)),
        "mean_square_detached_target": (lambda: (normal(9, 4), normal(10, 4)), lambda p, t: ((p - t) ** 2).sum(),
                                        lambda g, p, t: (2 * g * (p - t), -2 * g * (p - t)),
                                        lambda g, p, t: (2 * g * (p - t), torch.zeros_like(t))),
        "cross_entropy_smoothing": (lambda: (normal(11, 4, 6, scale=2.0), labels), cross_entropy,
                                    cross_entropy_pull(0.1), cross_entropy_pull(0.0)),
        "attention_delta": (lambda: (normal(12, 5, 4), normal(13, 7, 4), normal(14, 7, 3)), attention,
                            attention_pull(1.0), attention_pull(0.0)),
        "rotary_same_direction": (lambda: (normal(15, 5, 6),), rotate, lambda g, x: rotate(g, -1.0),
                                  lambda g, x: rotate(g)),
        "conv_kernel_not_flipped": (lambda: (normal(16, 9), normal(17, 3)), conv, conv_pull(lambda w: w.flip(0)),
                                    conv_pull(lambda w: w)),
        "embedding_set": (lambda: (normal(18, 6, 3), ids), lambda table, ids: table[ids], embed_pull(True),
                          embed_pull(False)),
        "sort_inverse": (x, lambda x: x.sort().values, sort_pull(True), sort_pull(False)),
        "matmul_missing_transpose": (lambda: (normal(19, 4, 4), normal(20, 4, 4)), torch.matmul,
                                     lambda g, a, b: (g @ b.T, a.T @ g), lambda g, a, b: (g @ b, a.T @ g)),
        "quadratic_form": (lambda: (normal(21, 4, 4), normal(22, 4)), lambda a, x: x @ a @ x,
                           lambda g, a, x: (g * torch.outer(x, x), g * (a + a.T) @ x),
                           lambda g, a, x: (g * torch.outer(x, x), 2 * g * a @ x)),
        "mlp_stale_activation": (lambda: (normal(23, 5, 3), normal(24, 3, 4), normal(25, 4, 2)), mlp, mlp_pull(False),
                                 mlp_pull(True)),
    }
    # fmt: on
    return {name: (args, rule(f, right), rule(f, wrong)) for name, (args, f, right, wrong) in table.items()}
