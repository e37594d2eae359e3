"""What a case of the corpus is, and the few helpers that keep the cases short."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

f32, f16, bf16, i32 = jnp.float32, jnp.float16, jnp.bfloat16, jnp.int32

PASS = frozenset({"pass"})
KINK = frozenset({"pass", "kink"})
FAIL = frozenset({"fail"})


@dataclass(frozen=True)
class Case:
    """A right function, and (for a pair) the same function with a wrong rule.

    `how` says where the wrong function differs from its twin, for the self-test: in the pullback ("vjp"), in the
    pushforward ("jvp"), in the Hessian-vector product ("order2"), under vmap ("vmap"), in the gradient by one leaf
    while the others are not perturbed ("alone"), or in the primal value that is returned under differentiation
    ("primal").
    """

    name: str
    family: str
    right: Callable[..., Any]
    args: Callable[[], tuple]
    wrong: Callable[..., Any] | None = None
    note: str = ""
    order: int = 1
    allowed: frozenset[str] = PASS
    # What may be said of the wrong function.
    caught: frozenset[str] = FAIL
    check_kwargs: Mapping[str, Any] = field(default_factory=dict)
    how: str = "vjp"
    # The function without any rule, for the self-test's float64 autodiff; None: `right` has no rule of its own.
    primal: Callable[..., Any] | None = None
    # Tolerance of the self-test in units of eps of the coarsest dtype times the leaf's largest gradient; None: no
    # float64 autodiff of the primal exists that could be compared (the note says why).
    self_test: float | None = 256.0
    torch: str | None = None


def plain(primal: Callable) -> Callable:
    """`primal` as a function of positional arguments only: custom rules would count optional ones among theirs."""

    def fun(*args):
        return primal(*args)

    fun.__name__ = getattr(primal, "__name__", "primal").strip("<>")
    return fun


def vjp(primal: Callable, pull: Callable, residuals: Callable | None = None) -> Callable:
    """`primal` with the rule `pull(g, *residuals) -> cotangents`; the residuals are the arguments unless given."""
    rule = jax.custom_vjp(plain(primal))
    save = residuals or (lambda *args: args)
    rule.defvjp(lambda *args: (primal(*args), save(*args)), lambda saved, g: pull(g, *saved))
    return rule


def vjp_fwd(primal: Callable, fwd: Callable, bwd: Callable) -> Callable:
    """`primal` with a forward and a backward function exactly as `custom_vjp` takes them."""
    rule = jax.custom_vjp(plain(primal))
    rule.defvjp(fwd, bwd)
    return rule


def jvp(primal: Callable, push: Callable) -> Callable:
    """`primal` with the rule `push(primals, tangents) -> tangent of the output`."""
    rule = jax.custom_jvp(plain(primal))
    rule.defjvp(lambda primals, tangents: (primal(*primals), push(primals, tangents)))
    return rule


def pair(
    name: str, family: str, primal: Callable, right: Callable, wrong: Callable, args: Callable, note: str, **more
) -> Case:
    """A case with two custom_vjp rules of the same primal, given by their pullbacks `pull(g, *args)`."""
    return Case(name, family, vjp(primal, right), args, vjp(primal, wrong), note, primal=primal, **more)


def jpair(
    name: str, family: str, primal: Callable, right: Callable, wrong: Callable, args: Callable, note: str, **more
) -> Case:
    """A case with two custom_jvp rules of the same primal, given by their pushforwards `push(primals, tangents)`."""
    more.setdefault("how", "jvp")
    return Case(name, family, jvp(primal, right), args, jvp(primal, wrong), note, primal=primal, **more)


def hard(name: str, fun: Callable, args: Callable, note: str, family: str = "hard", **more) -> Case:
    """A right function on its own."""
    return Case(name, family, fun, args, None, note, **more)


def normal(seed: int, *shape: int, scale: float = 1.0, dtype=f32) -> jax.Array:
    """Standard normal numbers times `scale`, the same whatever the JAX configuration is."""
    return jnp.asarray((np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32), dtype)


def uniform(seed: int, *shape: int, low: float = 0.0, high: float = 1.0, dtype=f32) -> jax.Array:
    """Uniform numbers between `low` and `high`."""
    return jnp.asarray(np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32), dtype)


def integers(seed: int, high: int, *shape: int) -> jax.Array:
    """Integers from 0 to high − 1, int32."""
    return jnp.asarray(np.random.default_rng(seed).integers(0, high, shape).astype(np.int32), i32)


def array(*values: float, dtype=f32) -> jax.Array:
    """The values as a vector."""
    return jnp.asarray(np.asarray(values, np.float64).astype(dtype))


def key(seed: int) -> jax.Array:
    """A key for the case's own random draws."""
    return jax.random.key(seed, impl="threefry2x32")


def spd(seed: int, n: int, shift: float = 0.5) -> jax.Array:
    """A symmetric positive definite matrix with a moderate condition number."""
    a = np.random.default_rng(seed).standard_normal((n, n))
    return jnp.asarray((a @ a.T / n + shift * np.eye(n)).astype(np.float32))
