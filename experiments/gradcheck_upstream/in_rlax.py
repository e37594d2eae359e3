"""Losses of rlax."""

# pyright: reportMissingImports=false

import jax.numpy as jnp
import rlax

from .target import Target, at, normal, uniform, vector

T = (normal(1, 5), uniform(2, 5), normal(3, 5))

FUNCTIONS = {
    "clip_gradient": (lambda x: rlax.clip_gradient(x, -0.3, 0.3), at(normal=normal(4, 4))),
    "huber_loss": (rlax.huber_loss, at(normal=normal(5, 4), edge=vector(1.0, -1.0))),
    "l2_loss": (lambda x, t: rlax.l2_loss(x, t), at(normal=(normal(6, 4), normal(7, 4)))),
    "log_loss": (lambda x, t: rlax.log_loss(x, t), at(inside=(uniform(8, 4, low=0.1, high=0.9), uniform(9, 4)))),
    "softmax.entropy": (lambda z: rlax.softmax().entropy(z), at(normal=normal(10, 4), hard=vector(90.0, 0.0))),
    "softmax.kl": (lambda a, b: rlax.softmax().kl(a, b), at(normal=(normal(11, 4), normal(12, 4)))),
    "signed_hyperbolic": (rlax.signed_hyperbolic, at(normal=normal(14, 4), zero=vector(0.0), large=vector(1e5))),
    "signed_parabolic": (rlax.signed_parabolic, at(normal=normal(15, 4), large=vector(300.0, -900.0))),
    "transform_to_2hot": (lambda x: rlax.transform_to_2hot(x, -2.0, 2.0, 9), at(inside=vector(0.3, -1.1))),
    "quantile_regression_loss": (
        lambda d, t: rlax.quantile_regression_loss(d, vector(0.25, 0.75), t, 1.0),
        at(normal=(normal(16, 2), normal(17, 3))),
    ),
    "lambda_returns": (lambda r, d, v: rlax.lambda_returns(r, d, v, 0.9), at(normal=T)),
    "vtrace": (
        lambda v, r, p: rlax.vtrace(v, jnp.roll(v, 1), r, 0.9 * jnp.ones_like(r), p),
        at(normal=(normal(18, 4), normal(19, 4), uniform(20, 4, low=0.5, high=1.5))),
    ),
}
TARGETS = [Target("rlax." + name, fun, inputs) for name, (fun, inputs) in FUNCTIONS.items()]
