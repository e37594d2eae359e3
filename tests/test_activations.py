"""Every activation against high-precision decimals, autodiff, jax.nn, and limits written by hand."""

import functools
import inspect
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import activations
from jnn.activations import ACTIVATIONS, ALIASES, Activation, get
from tests.compiling import optimized

NAMES = tuple(ACTIVATIONS)
DTYPES = ("float64", "float32", "float16", "bfloat16")
INF, NAN = np.inf, np.nan

# An oracle that shares nothing with the code under test: h in 400-digit decimals, h' and h'' as central differences of
# it. With the step 10⁻⁴⁰ these are right to about 10⁻⁸⁰; exp(-600) beside 1 costs 261 digits.

STEP = Decimal(10) ** -40
PI = Decimal(
    "3.1415926535897932384626433832795028841971693993751058209749445923078164062862089986280348253421170679821"
)


def _logistic(a: Decimal) -> Decimal:
    return 1 / (1 + (-a).exp())


def _softplus(a: Decimal) -> Decimal:
    return (1 + a.exp()).ln()


def _tanh(a: Decimal) -> Decimal:
    return 1 - 2 / (1 + (2 * a).exp())


def _normal_cdf(a: Decimal) -> Decimal:
    density = (-a * a / 2).exp() / (2 * PI).sqrt()
    if abs(a) > 6:  # Laplace's continued fraction for the tail
        fraction = abs(a)
        for k in range(400, 0, -1):
            fraction = abs(a) + k / fraction
        return density / fraction if a < 0 else 1 - density / fraction
    term, total, k = a, a, 1
    while abs(term) > Decimal(10) ** -150:
        k += 2
        term *= a * a / k
        total += term
    return Decimal("0.5") + density * total


def _clip(a: Decimal, low: int, high: int) -> Decimal:
    return min(max(a, Decimal(low)), Decimal(high))


def _elu(a: Decimal) -> Decimal:
    return a if a > 0 else a.exp() - 1


SELU_ALPHA, SELU_LAMBDA = Decimal("1.6732632423543772848170429916717"), Decimal("1.0507009873554804934193349852946")

REFERENCE = {
    "step": lambda a: Decimal(a > 0),
    "logistic": _logistic,
    "tanh": _tanh,
    "relu": lambda a: max(a, Decimal(0)),
    "softsign": lambda a: a / (1 + abs(a)),
    "identity": lambda a: a,
    "leaky_relu": lambda a: a if a > 0 else a / 100,
    "relu6": lambda a: _clip(a, 0, 6),
    "hard_tanh": lambda a: _clip(a, -1, 1),
    "hard_sigmoid": lambda a: _clip((a + 3) / 6, 0, 1),
    "hard_silu": lambda a: a * _clip((a + 3) / 6, 0, 1),
    "elu": _elu,
    "celu": _elu,
    "selu": lambda a: SELU_LAMBDA * (a if a > 0 else SELU_ALPHA * _elu(a)),
    "softplus": _softplus,
    "log_sigmoid": lambda a: -_softplus(-a),
    "silu": lambda a: a * _logistic(a),
    "mish": lambda a: a * _tanh(_softplus(a)),
    "gelu": lambda a: a * (1 + _tanh((2 / PI).sqrt() * (a + Decimal("0.044715") * a**3))) / 2,
    "gelu_exact": lambda a: a * _normal_cdf(a),
    "squareplus": lambda a: (a + (a * a + 4).sqrt()) / 2,
}

MAGNITUDES = (1e-30, 1e-9, 3e-5, 0.004, 0.03, 0.1, 0.37, 0.8, 1.1, 1.3, 1.9, 2.7, 3.2, 4.5, 5.9, 6.1, 7.7, 9.3)
MAGNITUDES += (11.0, 14.0, 17.0, 36.0, 85.0, 200.0, 600.0)
POINTS = np.array([sign * m for m in MAGNITUDES for sign in (1, -1)])


def _rounded(points: np.ndarray, dtype: str) -> np.ndarray:
    """The points of `dtype` next to the given ones, but without 0: kinks are tested by hand."""
    points = np.asarray(jnp.asarray(points, jnp.float64).astype(dtype).astype(jnp.float64))
    return points[points != 0]


@functools.cache
def oracle(name: str, a: float) -> tuple[float, float, float, float]:
    """h, h', h'' and h''' at `a`."""
    f = REFERENCE[name]
    with localcontext(Context(prec=400, Emax=MAX_EMAX, Emin=MIN_EMIN)):
        x = Decimal(a)
        far_left, left, middle, right, far_right = (f(x + k * STEP) for k in (-2, -1, 0, 1, 2))
        second = (right - 2 * middle + left) / STEP**2
        third = (far_right - far_left - 2 * (right - left)) / (2 * STEP**3)
        return float(middle), float((right - left) / (2 * STEP)), float(second), float(third)


@functools.cache
def evaluated(dtype: str) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, ...]]]:
    """The points, then edges; there, as float64, h, h', autodiff of both and h'' of every activation in one program."""
    largest, tiny = float(jnp.finfo(dtype).max), float(jnp.finfo(dtype).tiny)
    edges = [0.0, 1.0, 3.0, 6.0, 999.0, 1001.0, tiny, tiny / 4, largest, largest / 8, INF]
    points = np.array([*_rounded(POINTS, dtype), *edges, *(-np.array(edges))])

    @optimized
    def table(a):
        def both(f):
            value, pullback = jax.vjp(f, a)
            return value, pullback(jnp.ones_like(a))[0]

        return {name: (*both(f.h), *both(f.derivative), f.second_derivative(a)) for name, f in ACTIVATIONS.items()}

    values = table(jnp.asarray(points, jnp.float64).astype(dtype))
    for name, outputs in values.items():
        assert all(out.dtype == dtype and out.shape == points.shape for out in outputs), name
    return points, jax.tree.map(lambda out: np.asarray(out.astype(jnp.float64)), values)


def test_the_oracle_covers_every_activation():
    assert set(REFERENCE) == set(NAMES) == {v.name for v in vars(activations).values() if isinstance(v, Activation)}
    for name in NAMES:
        assert getattr(activations, name) is ACTIVATIONS[name]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_values_and_derivatives(name, dtype):
    # Allowed: a few roundings of the result and of the argument, eps (|f| + |a f'|), and, since the compiler flushes
    # them, any subnormal. Half precision is computed in float32 and rounded once. tanh' = 1 - tanh² is right to
    # roundings of 1, and tanh'' = -2 tanh tanh' to those of 2; h'' by autodiff of h', too, where the tails cancel.
    points = _rounded(POINTS, dtype)
    h, _, derivative, autodiff, second = (out[: points.size] for out in evaluated(dtype)[1][name])
    exact = np.array([oracle(name, float(a)) for a in points]).T
    half = dtype.endswith("float16")
    eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny)
    roundings = 1 if half else 4
    scale = np.abs(exact[0]) + np.abs(points * exact[1])
    np.testing.assert_array_less(np.abs(h - exact[0]), roundings * (eps * scale + tiny))
    scale = 1.0 if name == "tanh" else np.abs(exact[1]) + np.abs(points * exact[2])
    np.testing.assert_array_less(np.abs(derivative - exact[1]), roundings * (eps * scale + tiny))
    np.testing.assert_array_less(np.abs(autodiff - exact[2]), 8 * eps)
    scale = 2.0 if name == "tanh" else np.abs(exact[2]) + np.abs(points * exact[3])
    np.testing.assert_array_less(np.abs(second - exact[2]), roundings * (eps * scale + tiny))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_autodiff_agrees_and_is_finite_everywhere(name, dtype):
    points, values = evaluated(dtype)
    h, autodiff, derivative, by_autodiff, second = values[name]
    assert not np.isnan(h).any()
    assert np.isfinite(h[np.isfinite(points)]).all() or name == "selu"  # λ > 1 times the largest number overflows
    for out in (derivative, autodiff, by_autodiff, second):
        assert np.isfinite(out).all()
    # In roundings of 1, since autodiff cancels in the tails: most in mish, a (1 - t²).
    tolerance = {"rtol": 0, "atol": 32 * float(jnp.finfo(dtype).eps)}
    np.testing.assert_allclose(derivative, autodiff, **tolerance)
    np.testing.assert_allclose(second, by_autodiff, **tolerance)  # at kinks, too


SPECIAL = {  # h(-∞), h(0), h(∞); h'(-∞), h'(0), h'(∞); then h' at kinks
    "step": ((0, 0, 1), (0, 0, 0), {}),
    "logistic": ((0, 0.5, 1), (0, 0.25, 0), {}),
    "tanh": ((-1, 0, 1), (0, 1, 0), {}),
    "relu": ((0, 0, INF), (0, 0, 1), {}),
    "softsign": ((-1, 0, 1), (0, 1, 0), {}),
    "identity": ((-INF, 0, INF), (1, 1, 1), {}),
    "leaky_relu": ((-INF, 0, INF), (0.01, 1, 1), {}),
    "relu6": ((0, 0, 6), (0, 0, 0), {6: 0}),
    "hard_tanh": ((-1, 0, 1), (0, 1, 0), {-1: 1, 1: 1}),
    "hard_sigmoid": ((0, 0.5, 1), (0, 1 / 6, 0), {-3: 0, 3: 0}),
    "hard_silu": ((0, 0, INF), (0, 0.5, 1), {-3: 0, 3: 1}),
    "elu": ((-1, 0, INF), (0, 1, 1), {}),
    "celu": ((-1, 0, INF), (0, 1, 1), {}),
    "selu": ((-1.7580993408473766, 0, INF), (0, 1.7580993408473766, 1.0507009873554805), {}),
    "softplus": ((0, 0.6931471805599453, INF), (0, 0.5, 1), {}),
    "log_sigmoid": ((-INF, -0.6931471805599453, 0), (1, 0.5, 0), {}),
    "silu": ((0, 0, INF), (0, 0.5, 1), {}),
    "mish": ((0, 0, INF), (0, 0.6, 1), {}),
    "gelu": ((0, 0, INF), (0, 0.5, 1), {}),
    "gelu_exact": ((0, 0, INF), (0, 0.5, 1), {}),
    "squareplus": ((0, 1, INF), (0, 0.5, 1), {}),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_limits_zeros_kinks_and_nan(name, dtype):
    f = ACTIVATIONS[name]
    (low, zero, high), (slope_low, slope_zero, slope_high), kinks = SPECIAL[name]
    a = jnp.array([-INF, -0.0, 0.0, INF, NAN, *kinks], dtype)
    # One rounding: the values that are not exact in binary come from an exponential or a quotient.
    tolerance = {"rtol": float(jnp.finfo(dtype).eps), "atol": 0}
    np.testing.assert_allclose(f(a).astype(jnp.float64)[:5], [low, zero, zero, high, NAN], **tolerance)
    slopes = [slope_low, slope_zero, slope_zero, slope_high, NAN, *kinks.values()]
    np.testing.assert_allclose(f.derivative(a).astype(jnp.float64), slopes, **tolerance)
    second = f.second_derivative(a).astype(jnp.float64)
    assert (second[0], second[3], bool(jnp.isnan(second[4]))) == (0, 0, True)  # h' goes to its limits smoothly


JAX_NN = {
    "logistic": jax.nn.sigmoid,
    "softsign": jax.nn.soft_sign,
    "identity": jax.nn.identity,
    "gelu": functools.partial(jax.nn.gelu, approximate=True),
    "gelu_exact": functools.partial(jax.nn.gelu, approximate=False),
}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "step"])
def test_same_function_and_same_slope_at_kinks_as_jax_nn(name):
    theirs = JAX_NN.get(name) or getattr(jax.nn, name)
    a = jnp.array([-50.0, -6.0, -3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0, 6.0, 50.0])
    f = ACTIVATIONS[name]
    # Absolute, 64 roundings of 1: jax.nn's versions and their gradients cancel in the tails.
    np.testing.assert_allclose(f(a), theirs(a), rtol=1e-15, atol=1.4e-14)
    np.testing.assert_allclose(f.derivative(a), jax.vmap(jax.grad(theirs))(a), rtol=1e-15, atol=1.4e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, lambda f: jax.jit(jax.vmap(f))])
def test_subnormals_have_a_sign(dtype, transform):
    # The compiler reads subnormals as 0 in comparisons; where the sign decides, the bits are read instead.
    small = float(jnp.finfo(dtype).smallest_subnormal) * 4
    a = jnp.asarray(np.array([small, -small]).astype(jnp.dtype(dtype)))
    expected = {  # h (None: the arithmetic may flush), h'
        "step": ([1, 0], [0, 0]),
        "relu": ([small, 0], [1, 0]),
        "relu6": ([small, 0], [1, 0]),
        "leaky_relu": (None, [1, 0.01]),
        "identity": ([small, -small], [1, 1]),
        "hard_tanh": (None, [1, 1]),
    }
    both = transform(lambda a: {name: (f.h(a), f.derivative(a)) for name, f in ACTIVATIONS.items()})
    table, at_zero = both(a), both(jnp.zeros_like(a))
    for name, (values, slopes) in expected.items():
        h, derivative = (np.asarray(out) for out in table[name])
        if values is not None:
            np.testing.assert_array_equal(h.astype(np.float64), values, err_msg=name)
        np.testing.assert_array_equal(derivative, np.asarray(slopes).astype(jnp.dtype(dtype)), err_msg=name)
    for name, (h, _) in table.items():  # elsewhere at most the subnormal itself is lost
        if name != "step":
            h, zero = (np.asarray(out).astype(np.float64) for out in (h, at_zero[name][0]))
            np.testing.assert_allclose(h, zero, rtol=0, atol=2 * small, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_vmap(name):
    f = ACTIVATIONS[name]
    a = jnp.linspace(-4.0, 4.0, 6).reshape(2, 1, 3)
    for g in (f.h, f.derivative, f.second_derivative):
        assert g(a).shape == (2, 1, 3)
        assert g(a[0, 0, 0]).shape == ()
        assert g(a[:0]).shape == (0, 1, 3)
        np.testing.assert_allclose(jax.vmap(jax.vmap(g), in_axes=1)(a), jnp.swapaxes(g(a), 0, 1), rtol=1e-15)


def test_the_logistic_passes_at_most_a_quarter():
    for dtype in DTYPES:
        a = jnp.concatenate([jnp.linspace(-15.0, 15.0, 2001), jnp.linspace(-1e-2, 1e-2, 2001)]).astype(dtype)
        slopes = activations.logistic.derivative(a)
        assert slopes.max() <= 0.25  # to the last bit
        assert slopes.min() > 0


def test_gains():
    gains = {name: f.gain for name, f in ACTIVATIONS.items()}
    for name in ("tanh", "softsign", "identity", "hard_tanh", "selu", "step"):
        assert gains.pop(name) == 1
    # a logistic (hard_sigmoid) neuron with weights 2w (3w) is the tanh (hard_tanh) neuron with weights w
    a = jnp.linspace(-3.0, 3.0, 13)
    for name, twin in (("logistic", "tanh"), ("hard_sigmoid", "hard_tanh")):
        gain, h, other = gains.pop(name), ACTIVATIONS[name], ACTIVATIONS[twin]
        scaled, own = optimized(lambda a, gain=gain, h=h, other=other: (2 * h(gain * a) - 1, other(a)))(a)
        np.testing.assert_allclose(scaled, own, rtol=0, atol=4e-16)
    # He: gain² E[h(a)²] = 1 for a ~ N(0, 1), by Gauss-Hermite quadrature on each half line
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    moment = np.sum(weights * np.asarray(activations.leaky_relu(nodes)) ** 2) / np.sum(weights)
    assert gains.pop("leaky_relu") ** 2 * moment == pytest.approx(1, rel=1e-12)
    assert all(gain == np.sqrt(2) for gain in gains.values())


def test_gradient_passes():
    assert [name for name, f in ACTIVATIONS.items() if not f.gradient_passes] == ["step"]
    assert not get((jnp.sign, jnp.zeros_like)).gradient_passes
    assert not get((jnp.floor, lambda a: 0 * a)).gradient_passes
    on_the_left = get((lambda a: jnp.minimum(a, 0), lambda a: jnp.where(a < 0, jnp.ones_like(a), jnp.zeros_like(a))))
    assert on_the_left.gradient_passes
    assert get((jnp.sin, jnp.cos)).gradient_passes
    assert get((jnp.sign, lambda a: jnp.where(a == 0, jnp.ones_like(a), jnp.zeros_like(a)))).gradient_passes
    assert get((lambda a: jnp.maximum(a - 50, 0), lambda a: (a > 50) * 1.0)).gradient_passes

    @jax.jit
    def inside(x):  # a custom pair may first be asked about while a program is traced
        return x + get((jnp.sinh, jnp.cosh)).gradient_passes

    assert inside(1.0) == 2


@pytest.mark.parametrize("name", NAMES)
def test_get_by_name(name):
    assert get(name) is ACTIVATIONS[name]
    assert get(get(name)) is ACTIVATIONS[name]
    assert ACTIVATIONS[name].name == name
    assert len({hash(f) for f in ACTIVATIONS.values()}) == len(NAMES)


def test_get_other_names_and_pairs():
    for alias, name in ALIASES.items():
        assert get(alias) is ACTIVATIONS[name]
    pair = get((jnp.sin, jnp.cos))
    assert pair == get((jnp.sin, jnp.cos))  # equal and hashable: a compiled program is found again
    assert hash(pair) == hash(get((jnp.sin, jnp.cos)))
    assert (pair.h, pair.derivative, pair.gain, pair.name) == (jnp.sin, jnp.cos, 1.0, "sin")
    assert pair(0.0) == 0
    with pytest.raises(ValueError, match=r"second derivatives need h'' of the activation sin: give it as"):
        pair.second_derivative(jnp.zeros(()))
    assert Activation("sine", jnp.sin, jnp.cos).gain == 1
    three = get((jnp.sin, jnp.cos, lambda a: -jnp.sin(a)))
    assert three.second_derivative(jnp.ones(())) == -jnp.sin(1.0)


@pytest.mark.parametrize("bad", ["", "Tanh", "sigmoidal", "no such thing"])
def test_get_unknown(bad):
    with pytest.raises(ValueError, match="The names are celu, elu, gelu") as error:
        get(bad)
    hints = {"Tanh": "did you mean 'tanh'", "sigmoidal": "'sigmoid'"}
    assert hints.get(bad, repr(bad)) in str(error.value)


@pytest.mark.parametrize("bad", [jnp.tanh, None, (jnp.tanh,), (jnp.tanh, 1.0), (jnp.sin, jnp.cos, 1.0), (jnp.sin,) * 4])
def test_get_refuses(bad):
    unchecked = inspect.unwrap(get)  # without the tests' run-time type checks, as users have it
    with pytest.raises(TypeError, match=r"expected an activation's name.*needs its derivative"):
        unchecked(bad)


def test_calls_take_numbers():
    assert activations.relu(2) == 2
    assert activations.relu(2).dtype == jnp.float64
    assert activations.step(np.float32(-1)).dtype == jnp.float32
    assert activations.tanh(jnp.arange(3)).dtype == jnp.float64
    with pytest.raises(TypeError, match="expected tanh's pre-activations of real numbers, got dtype complex128"):
        activations.tanh(1j)


def test_registry_is_read_only():
    with pytest.raises(TypeError):
        ACTIVATIONS["mine"] = activations.tanh
