"""Hypothesis strategies for the inputs that break derivative rules.

Most wrong rules are right on Gaussian numbers. They fail where values are equal (max, sort, norms of differences),
zero (division, abs, powers), constant (variances), saturated (exp, sigmoid), tiny or huge (overflow in a square), where
a mask leaves a row without entries, where an index repeats, or where a size is no multiple of a block. Each strategy
below yields one such kind; `arrays` draws from all of them::

    from hypothesis import given
    from jnn.gradcheck import check, strategies

    @given(x=strategies.arrays((4, 7), "bfloat16"))
    def test_softmax(x):
        check(softmax, x, power=False).raise_for_failure()

Hypothesis draws (and shrinks) one seed an array, from which NumPy makes the elements: cheap for large arrays, and a
failing example is found again from Hypothesis's database. Elements themselves are not shrunk; shapes are. Results are
JAX arrays of the dtype asked for.
Needs `hypothesis`, which the extra `jnn[test]` installs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "jnn.gradcheck.strategies needs hypothesis, which is not installed; "
        "install it with `pip install hypothesis` or `pip install 'jnn[test]'`"
    ) from error

Shape = Sequence[int]
Strategy = st.SearchStrategy

DTYPES = ("float64", "float32", "bfloat16", "float16")
# Sizes that are no multiple of a block, one, and powers of two with their neighbors.
ODD_SIZES = (1, 2, 3, 5, 7, 8, 9, 13, 15, 16, 17, 31, 33)


def normal(shape: Shape, dtype: Any = "float32", scale: float = 1.0) -> Strategy[jax.Array]:
    """Gaussian numbers: x = scale · n."""
    return _made(lambda rng: scale * rng.normal(size=shape), dtype)


def scales(shape: Shape, dtype: Any = "float32") -> Strategy[jax.Array]:
    """Gaussian numbers of one large or small scale: x = 10ᵏ n, with squares (just) within the range of the dtype."""
    info = _info(dtype)
    # A square of 10ᵏ and a sum of some of them must not overflow: that would be the function's fault, not the rule's.
    high = max(int(np.floor(np.log10(float(info.max)) / 2)) - 2, 0)
    low = int(np.ceil(np.log10(float(info.tiny)) / 2))
    return _made(lambda rng: 10.0 ** rng.integers(low, high + 1) * rng.normal(size=shape), dtype)


def mixed_scales(shape: Shape, dtype: Any = "float32") -> Strategy[jax.Array]:
    """Large beside small: each element has a scale of its own, between 10⁻⁴ and 10."""
    return _made(lambda rng: rng.normal(size=shape) * 10.0 ** rng.uniform(-4, 1, size=shape), dtype)


def ties(shape: Shape, dtype: Any = "float32") -> Strategy[jax.Array]:
    """Few distinct values (multiples of ½ in [−1, 1]), so that maxima, medians and sorted orders are shared."""
    return _made(lambda rng: rng.integers(-2, 3, size=shape) / 2, dtype)


def constants(shape: Shape, dtype: Any = "float32") -> Strategy[jax.Array]:
    """All elements equal: no variance, every element a maximum."""
    return st.sampled_from((1.0, -1.0, 0.5, -3.0, 0.0)).map(lambda c: jnp.full(tuple(shape), c, jnp.dtype(dtype)))


def near_duplicates(shape: Shape, dtype: Any = "float32") -> Strategy[jax.Array]:
    """Values that differ by a few units in the last place: c (1 + k ε), k in {0, 1, 2}; differences cancel."""
    eps = float(_info(dtype).eps)
    return _made(lambda rng: rng.choice([-1.5, 0.75, 1.0]) * (1 + eps * rng.integers(0, 3, size=shape)), dtype)


def zeros(shape: Shape, dtype: Any = "float32") -> Strategy[jax.Array]:
    """Gaussian numbers with zeros of both signs among them (about half)."""
    return _made(lambda rng: rng.choice([0.0, -0.0, 1.0, -1.0], size=shape) * np.abs(rng.normal(size=shape)), dtype)


def subnormals(shape: Shape, dtype: Any = "float32") -> Strategy[jax.Array]:
    """Gaussian numbers with subnormals of both signs among them (about a third); accelerators flush these to zero."""
    tiny = float(_info(dtype).tiny)

    def draw(rng: np.random.Generator) -> np.ndarray:
        small = tiny * rng.uniform(-1, 1, size=shape)
        return np.where(rng.random(size=shape) < 1 / 3, small, rng.normal(size=shape))

    return _made(draw, dtype)


def saturating(shape: Shape, dtype: Any = "float32") -> Strategy[jax.Array]:
    """Gaussian numbers with ±0.3 s and ±1.02 s among them, where exp(s) is the largest number of the dtype.

    So exp, sigmoid, tanh and softmax are at their ends: ±27 and ±90 in float32 and bfloat16, ±11 in float16.
    """
    end = float(np.log(float(_info(dtype).max)))

    def draw(rng: np.random.Generator) -> np.ndarray:
        ends = end * rng.choice([0.3, -0.3, 1.02, -1.02], size=shape)
        return np.where(rng.random(size=shape) < 0.3, ends, rng.normal(size=shape))

    return _made(draw, dtype)


def positive(shape: Shape, dtype: Any = "float32") -> Strategy[jax.Array]:
    """Positive numbers over several magnitudes, for logarithms, square roots, variances and rates: x = exp(2n)."""
    # Cut so that squares stay within float16.
    return _made(lambda rng: np.exp(2 * np.clip(rng.normal(size=shape), -2.5, 2.5)), dtype)


def arrays(shape: Shape, dtype: Any = "float32", *, extreme: bool = True) -> Strategy[jax.Array]:
    """Any of the kinds above, Gaussian numbers first.

    Args:
        shape: of the array.
        dtype: float64 (with x64 enabled), float32, bfloat16 or float16.
        extreme: include large and small scales, subnormals and saturation; without them, only ties, zeros, constants
            and near-duplicates, at which every function of ordinary range is finite.

    Raises:
        TypeError: the dtype is not a floating one.
        ValueError: the dtype is float64 and x64 is off.
    """
    kinds = [normal, ties, zeros, constants, near_duplicates, mixed_scales]
    kinds += [scales, subnormals, saturating] if extreme else []
    return st.one_of(*(kind(shape, dtype) for kind in kinds))


def shapes(rank: int, *, sizes: Sequence[int] = ODD_SIZES, most: int = 4096) -> Strategy[tuple[int, ...]]:
    """Shapes of odd sizes, with at most `most` elements."""
    chosen = st.tuples(*(st.sampled_from(tuple(sizes)) for _ in range(rank)))
    return chosen.filter(lambda shape: int(np.prod(shape)) <= most)


def dtypes(names: Sequence[str] = DTYPES) -> Strategy[np.dtype]:
    """Floating dtypes; float64 only where x64 is enabled."""
    usable = [n for n in names if n != "float64" or jnp.result_type(float) == jnp.float64]
    return st.sampled_from([jnp.dtype(n) for n in usable])


def masks(shape: Shape, *, empty_rows: bool = True) -> Strategy[jax.Array]:
    """Boolean masks: all, random, causal (lower triangle), padded (a prefix of each row).

    Args:
        shape: of the mask; a row is its last axis.
        empty_rows: let some masks have rows without any True, at which a softmax is 0/0.

    Raises:
        ValueError: the shape has no axis.
    """
    _at_least_one(len(shape), "a rank")
    n, rows = shape[-1], (*shape[:-1], 1)

    def draw(rng: np.random.Generator) -> np.ndarray:
        kind = rng.integers(4)
        if kind == 0:
            mask = np.ones(shape, bool)
        elif kind == 1:
            mask = rng.random(size=shape) < 0.5
        elif kind == 2 and len(rows) > 1:
            mask = np.broadcast_to(np.tril(np.ones((rows[-2], n), bool)), shape).copy()
        else:
            mask = np.arange(n) < rng.integers(1, n + 1, size=rows)
        if empty_rows and rng.random() < 0.5:
            mask &= rng.random(size=rows) < 0.7
        elif not empty_rows:
            mask[..., :1] |= ~mask.any(axis=-1, keepdims=True)
        return mask

    return _made(draw, bool)


def indices(shape: Shape, size: int, *, dtype: Any = "int32") -> Strategy[jax.Array]:
    """Indices in [0, size) with repeats, the first and the last among them: gathers, embeddings, labels."""
    _at_least_one(size, "size")

    def draw(rng: np.random.Generator) -> np.ndarray:
        few = rng.choice(size, size=min(size, 3), replace=False)
        return rng.choice([0, size - 1, *few], size=shape)

    return _made(draw, dtype)


def segment_ids(shape: Shape, segments: int, *, ordered: bool = True) -> Strategy[jax.Array]:
    """Segment ids in [0, segments), some segments long and some empty; sorted, or in any order."""
    _at_least_one(segments, "segments")

    def draw(rng: np.random.Generator) -> np.ndarray:
        present = rng.choice(segments, size=rng.integers(1, segments + 1), replace=False)
        ids = rng.choice(present, size=shape)
        return np.sort(ids, axis=-1) if ordered else ids

    return _made(draw, "int32")


def keys() -> Strategy[jax.Array]:
    """Random keys."""
    return _SEEDS.map(jax.random.key)


_SEEDS = st.integers(0, 2**31 - 1)


def _made(draw: Callable[[np.random.Generator], Any], dtype: Any) -> Strategy[jax.Array]:
    """Arrays made by NumPy from a seed that Hypothesis draws."""
    kind = jnp.dtype(dtype)
    if kind.itemsize == 8 and jnp.result_type(float) != jnp.float64:
        raise ValueError(f"expected a dtype of at most 32 bits because x64 is off, got {kind}; enable jax_enable_x64")

    # A composite rather than a map: Hypothesis then prints the array itself.
    @st.composite
    def made(draw_seed: Callable[..., Any]) -> jax.Array:
        rng = np.random.default_rng(draw_seed(_SEEDS))
        return jnp.asarray(np.asarray(draw(rng)).astype(kind))

    return made()


def _info(dtype: Any) -> Any:
    if not jnp.issubdtype(jnp.dtype(dtype), jnp.floating):
        raise TypeError(f"expected a floating dtype, got {jnp.dtype(dtype)}; for integers use indices or segment_ids")
    return jnp.finfo(jnp.dtype(dtype))


def _at_least_one(count: int, name: str) -> None:
    if count < 1:
        raise ValueError(f"expected {name} of at least 1, got {count}")
