"""Strict settings for every test: x64, no silent rank promotion, run-time type checks, two simulated CPU devices."""

import os
from collections.abc import Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is spent compiling programs that run for milliseconds: LLVM is to take its time for none.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=2"
    " --xla_backend_optimization_level=1"
    " --xla_llvm_disable_expensive_passes=true"
)

import jax
import pytest
from jaxtyping import install_import_hook

import tests.typechecker  # noqa: F401  (named below; must be a known module by then)

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Every annotated function of jnn checks its arguments' shapes and dtypes while the tests run (never for users).
install_import_hook("jnn", "tests.typechecker.check")


@pytest.fixture
def key(request: pytest.FixtureRequest) -> jax.Array:
    """A key of its own for each test, the same in every run: derived from the test's name."""
    seed = sum(ord(c) * 31**i for i, c in enumerate(request.node.nodeid)) % 2**31
    return jax.random.key(seed)


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs() -> Iterator[None]:
    """Files share few compiled programs, and thousands of them take gigabytes."""
    yield
    jax.clear_caches()
