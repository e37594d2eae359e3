"""Strict settings for every test: x64, no silent rank promotion, run-time type checks, two simulated CPU devices."""

import os
import signal
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is spent compiling programs that run for milliseconds: XLA is to take no trouble over them.
# Where ulps are judged, `optimized` asks for it (tests/compiling.py). The last flag is fatal after 0.10.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=2"
    " --xla_backend_optimization_level=0"
    " --xla_llvm_disable_expensive_passes=true"
    + " --xla_cpu_use_fusion_emitters=false"
    * version("jaxlib").startswith("0.10.")
)

# What a shell starts in the background ignores Ctrl-C, and so does what that starts; the tests press it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax
import pytest
from jaxtyping import install_import_hook

import tests.typechecker  # noqa: F401  (named below; must be a known module by then)

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Every annotated function of jnn checks its arguments' shapes and dtypes while the tests run (never for users). Not so
# in the oracles of gradcheck, whose interpreter calls small functions so often that this would take most of the time.
jnn = Path(__file__).parents[1] / "jnn"
modules = [".".join(path.relative_to(jnn.parent).with_suffix("").parts) for path in jnn.rglob("*.py")]
install_import_hook(
    [name for name in modules if not name.startswith("jnn.gradcheck.oracle")], "tests.typechecker.check"
)


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
