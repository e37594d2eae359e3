"""Pairs that break the contract of a rule: the cotangent, trees, order 2, vmap, NaN, precision, implicit."""

import jax
import jax.numpy as jnp
from jax import lax

from .case import Case, array, bf16, f32, i32, jvp, normal, pair, spd, uniform, vjp, vjp_fwd

FAMILY = "contract"
TREES = "trees"
SECOND = "order2"
IMPLICIT = "implicit"
NANS = "nan"


def sin_rule(change):
    return lambda g, x: (change(g * jnp.cos(x), g, x),)


def x9():
    return (normal(501, 9),)


def sin_pair(name, note, change, family=FAMILY, torch=None):
    return pair(name, family, jnp.sin, sin_rule(lambda d, g, x: d), sin_rule(change), x9, note, torch=torch)


def weather(tree):
    """Fields of very different size, as in an atmosphere model."""
    wind, q = tree["wind"], tree["moisture"]
    return {"wind": jnp.tanh(wind / 1e3) * 1e3, "moisture": q * jnp.exp(-q)}


def weather_rule(factor):
    def pull(g, tree):
        q = tree["moisture"]
        dw = g["wind"] * (1 - jnp.tanh(tree["wind"] / 1e3) ** 2)
        return ({"wind": dw, "moisture": factor * g["moisture"] * jnp.exp(-q) * (1 - q)},)

    return pull


def energy(tree):
    """One scalar of three leaves, the third of which contributes 3e-6 of the gradient."""
    return jnp.sum(tree["u"] ** 2) + jnp.sum(jnp.sin(tree["v"])) + 3e-6 * jnp.sum(tree["w"] ** 3)


def energy_rule(factor):
    def pull(g, tree):
        u, v, w = tree["u"], tree["v"], tree["w"]
        return ({"u": 2 * g * u, "v": g * jnp.cos(v), "w": factor * g * 9e-6 * w**2},)

    return pull


def three_leaves():
    return ({"u": normal(502, 50), "v": normal(503, 50), "w": normal(504, 4)},)


def affine(tree, x):
    return tree["scale"] * x + tree["shift"]


def affine_rule(swap):
    def pull(g, tree, x):
        leaves = {"scale": g * x, "shift": g}
        if swap:
            leaves = {"scale": g, "shift": g * x}
        return leaves, g * tree["scale"]

    return pull


def two_layers(params, x):
    (w1, b1), (w2, b2) = params
    return jnp.tanh(x @ w1 + b1[None, :]) @ w2 + b2[None, :]


def two_layers_rule(after=True, bias=True):
    def pull(g, params, x):
        (w1, b1), (w2, _) = params
        z = jnp.tanh(x @ w1 + b1[None, :])
        d = (g @ w2.T) * (1 - z**2 if after else 1 - (x @ w1 + b1[None, :]) ** 2)
        db1 = jnp.sum(d, 0) if bias else jnp.zeros_like(b1)
        return ((x.T @ d, db1), (z.T @ g, jnp.sum(g, 0))), d @ w1.T

    return pull


def layers():
    return ((normal(505, 3, 4), normal(506, 4)), (normal(507, 4, 2), normal(508, 2))), normal(509, 5, 3)


def exp_push(hold):
    return lambda p, t: hold(jnp.exp(p[0])) * t[0]


def same(x):
    return x


@jax.custom_jvp
def sech2_wrong(x):
    return 1 - jnp.tanh(x) ** 2


# The derivative of 1 − z² is −2 z z', not −2 z.
sech2_wrong.defjvp(lambda p, t: (sech2_wrong(p[0]), -2 * jnp.tanh(p[0]) * t[0]))


def cube_sum(x):
    return jnp.sum(x**3)


def lse(x):
    m = jnp.max(x)
    return m + jnp.log(jnp.sum(jnp.exp(x - m)))


def softmax(x):
    e = jnp.exp(x - jnp.max(x))
    return e / jnp.sum(e)


def softmax_held(x):
    e = jnp.exp(x - jnp.max(x))
    return e / lax.stop_gradient(jnp.sum(e))


def batched_kernel(axis_size_scale):
    """A pullback with its own batching rule, as kernels have; the rule of the wrong one averages over the batch."""

    @jax.custom_batching.custom_vmap
    def kernel(g, x):
        return g * jnp.cos(x)

    @kernel.def_vmap
    def batched(size, in_batched, g, x):
        g = g if in_batched[0] else jnp.broadcast_to(g, (size, *g.shape))
        x = x if in_batched[1] else jnp.broadcast_to(x, (size, *x.shape))
        return g * jnp.cos(x) / (size if axis_size_scale else 1), True

    return vjp(jnp.sin, lambda g, x: (kernel(g, x),))


def safe_ratio(x):
    return jnp.where(x != 0, jnp.expm1(x) / jnp.where(x != 0, x, 1), 1 + 0.5 * x)


def unsafe_ratio(x):
    return jnp.where(x != 0, jnp.expm1(x) / x, 1 + 0.5 * x)


def guarded_log(x):
    return jnp.where(x > 0, x**3 * jnp.log(jnp.where(x > 0, x, 1)), 0)


def guarded_log_right(g, x):
    return (g * jnp.where(x > 0, x**2 * (3 * jnp.log(jnp.where(x > 0, x, 1)) + 1), 0),)


def guarded_log_wrong(g, x):
    return (g * (x > 0).astype(x.dtype) * (3 * x**2 * jnp.log(jnp.abs(x)) + x**2),)


def masked_mean(x, mask):
    n = jnp.sum(mask, -1).astype(x.dtype)
    return jnp.sum(jnp.where(mask, x, 0), -1) / jnp.maximum(n, 1)


def masked_mean_rule(floor):
    def pull(g, x, mask):
        n = jnp.maximum(jnp.sum(mask, -1).astype(x.dtype), floor)
        return mask.astype(x.dtype) * (g / n)[:, None], None

    return pull


def masks():
    return normal(510, 3, 4), jnp.asarray([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)


def step(x, a):
    return 0.5 * jnp.tanh(a @ x) + jnp.sin(jnp.arange(x.shape[0], dtype=i32).astype(x.dtype))


def fixed_point(a):
    """x = step(x, a), by 60 iterations; the contraction factor is below 0.6."""
    return lax.fori_loop(0, 60, lambda _, x: step(x, a), jnp.zeros(a.shape[0], a.dtype))


def fixed_point_rule(iterations):
    def pull(g, a):
        _, back = jax.vjp(step, fixed_point(a), a)
        w = lax.fori_loop(0, iterations, lambda _, w: g + back(w)[0], g)
        return (back(w)[1],)

    return pull


def root(a):
    """x³ + x = a by Newton's method."""
    return lax.fori_loop(0, 40, lambda _, x: x - (x**3 + x - a) / (3 * x**2 + 1), a)


def ridge(x, y, penalty):
    return jnp.linalg.solve(x.T @ x + penalty * jnp.eye(x.shape[1], dtype=x.dtype), x.T @ y)


def ridge_rule(with_penalty):
    def pull(g, x, y, penalty):
        w = ridge(x, y, penalty)
        u = jnp.linalg.solve(x.T @ x + with_penalty * penalty * jnp.eye(x.shape[1], dtype=x.dtype), g)
        r = y - x @ w
        return jnp.outer(r, u) - jnp.outer(x @ u, w), x @ u, -u @ w

    return pull


def decay(y0, k):
    """50 explicit Euler steps of y' = −k y."""
    return lax.fori_loop(0, 50, lambda _, y: y - 0.02 * k * y, y0)


def decay_rule(steps):
    def pull(g, y0, k):
        f = 1 - 0.02 * k
        return g * f**50, -0.02 * steps * g * y0 * f**49

    return pull


def rounded(x):
    return jnp.round(4 * x) / 4


def bf16_saved(x):
    return (x.astype(bf16),)


def symmetric(a):
    return jnp.sum(jnp.tril(a) * jnp.tril(a).T) + jnp.sum(jnp.sin(a + a.T))


# fmt: off
CASES = [
    sin_pair("cotangent_zero_not_zero", "weight decay added in the backward pass: the cotangent zero gives 0.1 x",
             lambda d, g, x: d + 0.1 * x),
    sin_pair("cotangent_squared", "non-linear in the cotangent, right for ones", lambda d, g, x: d * g,
             torch="cotangent_squared"),
    sin_pair("cotangent_normalized", "the gradient divided by the cotangent's norm",
             lambda d, g, x: d / jnp.sqrt(jnp.sum(g**2))),
    sin_pair("cotangent_sign", "the sign of the gradient, as in signSGD", lambda d, g, x: jnp.sign(d)),
    sin_pair("cotangent_absolute", "right for non-negative cotangents, which is all that some tools try",
             lambda d, g, x: jnp.abs(g) * jnp.cos(x), torch="cotangent_absolute"),
    sin_pair("gradient_clipped", "clipped at ±0.25 by a rule that is called sin",
             lambda d, g, x: jnp.clip(d, -0.25, 0.25)),
    sin_pair("gradient_reversed", "a gradient reversal layer: a deliberate deviation", lambda d, g, x: -0.5 * d),
    sin_pair("gradient_detached", "no gradient at all (jax #3130: silent when the output is large)",
             lambda d, g, x: jnp.zeros_like(x)),
    pair("straight_through", FAMILY, rounded, lambda g, x: (jnp.zeros_like(x),), lambda g, x: (g,), x9,
         "a straight-through estimator: a deliberate deviation from the derivative zero"),
    Case("stop_gradient_of_scale", FAMILY, lambda x: x / jnp.max(jnp.abs(x)), x9,
         lambda x: x / lax.stop_gradient(jnp.max(jnp.abs(x))), "the scale of a quantizer detached", how="vjp"),
    pair("weather_moisture", TREES, weather, weather_rule(1.0), weather_rule(2.0),
         lambda: ({"wind": normal(511, 20, scale=800.0), "moisture": normal(512, 3, scale=1e-3)},),
         "the small leaf wrong beside a large one (jax-gcm #820)"),
    pair("leaf_3e-6_of_projection", TREES, energy, energy_rule(1.0), energy_rule(1.5), three_leaves,
         "the wrong leaf is 3e-6 of any projection (jax-gcm #816, #820)"),
    pair("tree_swapped_leaves", TREES, affine, affine_rule(False), affine_rule(True),
         lambda: ({"scale": normal(513, 6), "shift": normal(514, 6)}, normal(515, 6)), "scale and shift swapped"),
    pair("mlp_stale_activation", TREES, two_layers, two_layers_rule(), two_layers_rule(after=False), layers,
         "1 − a² for 1 − z² in a two-layer network", torch="mlp_stale_activation"),
    pair("mlp_dead_bias", TREES, two_layers, two_layers_rule(), two_layers_rule(bias=False), layers,
         "one leaf of a nested tree never receives a gradient"),
    Case("exp_second_order", SECOND, jvp(jnp.exp, exp_push(same)), x9, jvp(jnp.exp, exp_push(lax.stop_gradient)),
         "right first derivative, second derivative zero: the saved output was detached (jax #3996)", order=2,
         how="order2", primal=jnp.exp),
    Case("tanh_second_order", SECOND, vjp(jnp.tanh, lambda g, x: (g * (1 - jnp.tanh(x) ** 2),)), x9,
         vjp(jnp.tanh, lambda g, x: (g * sech2_wrong(x),)), "right first derivative, whose own rule is wrong", order=2,
         how="order2", primal=jnp.tanh),
    Case("cube_second_order", SECOND, vjp(cube_sum, lambda g, x: (3 * g * x**2,)), x9,
         vjp(cube_sum, lambda g, x: (3 * g * x * lax.stop_gradient(x),)), "half of the second derivative (jax #5832)",
         order=2, how="order2", primal=cube_sum),
    Case("logsumexp_second_order", SECOND, vjp(lse, lambda g, x: (g * softmax(x),)), x9,
         vjp(lse, lambda g, x: (g * softmax_held(x),)), "the Hessian is diag(z) without z zᵀ", order=2, how="order2",
         primal=lse),
    Case("vmap_batching_rule", "vmap", batched_kernel(False), x9, batched_kernel(True),
         "a kernel's own batching rule divides by the batch size", how="vmap", primal=jnp.sin),
    pair("other_primal_scale", FAMILY, lambda x: jnp.sin(x) * 2, lambda g, x: (2 * g * jnp.cos(x),),
         lambda g, x: (g * jnp.cos(x),), x9, "the scale of the forward pass missing backward"),
    Case("other_primal_value", FAMILY,
         vjp_fwd(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),)), x9,
         vjp_fwd(jnp.sin, lambda x: (x - x**3 / 6 + x**5 / 120, x), lambda x, g: (g * jnp.cos(x),)),
         "the forward pass of the rule is an approximation that the function does not use", how="primal",
         primal=jnp.sin),
    Case("single_where", NANS, safe_ratio, lambda: (array(-1.0, 0.0, 0.5, 2.0),), unsafe_ratio,
         "(e^x − 1)/x: NaN under where at 0, where the derivative is 1/2 (jax #475)"),
    pair("log_under_where", NANS, guarded_log, guarded_log_right, guarded_log_wrong,
         lambda: (array(-1.5, 0.0, 0.5, 2.0),), "x³ ln x at 0, masked by a product: 0 · (−inf) is NaN"),
    pair("masked_mean_empty_row", NANS, masked_mean, masked_mean_rule(1.0), masked_mean_rule(0.0), masks,
         "a row without elements: 0/0 in the backward pass only"),
    Case("residual_in_bf16", "precision", vjp(jnp.sin, lambda g, x: (g * jnp.cos(x),)), x9,
         vjp(jnp.sin, lambda g, x: (g * jnp.cos(x.astype(f32)),), bf16_saved), "the input saved in bfloat16 to spare "
         "memory: relative error 4e-3", primal=jnp.sin),
    pair("sum_accumulated_in_bf16", "precision", lambda x, b: x * b, lambda g, x, b: (g * b, jnp.sum(g * x)),
         lambda g, x, b: (g * b, jnp.sum((g * x).astype(bf16)).astype(f32)),
         lambda: (uniform(516, 64, low=0.5, high=1.5), f32(1.25)), "partial sums of a float32 leaf kept in bfloat16"),
    pair("fixed_point_one_term", IMPLICIT, fixed_point, fixed_point_rule(60), fixed_point_rule(0),
         lambda: (normal(517, 4, 4, scale=0.4),), "the Neumann series of the implicit derivative cut after one term"),
    pair("newton_root_sign", IMPLICIT, root, lambda g, a: (g / (3 * root(a) ** 2 + 1),),
         lambda g, a: (-g / (3 * root(a) ** 2 + 1),), lambda: (normal(518, 5, scale=2.0),),
         "the sign of the implicit function theorem"),
    pair("ridge_without_penalty", IMPLICIT, ridge, ridge_rule(1.0), ridge_rule(0.0),
         lambda: (normal(519, 9, 3), normal(520, 9), f32(0.7)), "the penalty forgotten in the adjoint's matrix",
         self_test=1e4),
    pair("euler_step_count", IMPLICIT, decay, decay_rule(50), decay_rule(49),
         lambda: (uniform(521, 4, low=1.0, high=2.0), uniform(522, 4, low=0.5, high=2.0)),
         "one step too few in the adjoint: 2%"),
    pair("symmetric_argument", "linalg", symmetric,
         lambda g, a: (g * (2 * jnp.diag(jnp.diag(a)) + jnp.cos(a + a.T) * 2),),
         lambda g, a: (g * (jnp.diag(jnp.diag(a)) + jnp.cos(a + a.T) * 2),), lambda: (spd(523, 4),),
         "the diagonal counted once"),
]
# fmt: on
