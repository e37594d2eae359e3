"""Compiling with XLA's optimizations, which `conftest` turns off."""

from collections.abc import Callable
from typing import Any

import jax


def optimized(function: Callable[..., Any]) -> Any:
    """`jax.jit` as users have it, for tests that judge the last bits; inside of another program, the function."""
    compiled = jax.jit(function, compiler_options={"xla_backend_optimization_level": 3})

    def call(*arguments: Any) -> Any:
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments))
        return (function if traced else compiled)(*arguments)

    return call
