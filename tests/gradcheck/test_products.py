"""Products that round their operands, as accelerators have them: measured, and allowed for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import gradcheck
from jnn.gradcheck.oracle import products


def coarse_product(bits: int):
    """A product of float32 matrices whose operands keep so many bits, the leading one included."""

    def product(a, b):
        a, b = (jax.lax.reduce_precision(m, exponent_bits=8, mantissa_bits=bits - 1) for m in (a, b))
        return jnp.matmul(a, b, precision="highest")

    return product


@pytest.mark.parametrize("bits", [8, 11, 16, 24])
def test_the_spacing_of_operands_is_measured(bits: int) -> None:
    expected = 0.0 if bits == 24 else 2.0 ** (1 - bits)
    assert products.spacing(coarse_product(bits)) == pytest.approx(expected, rel=0.01)


def layer(wrong: float):
    """tanh(x w) as a kernel might have it: its backward pass rounds other numbers than autodiff does."""
    product = coarse_product(8)

    @jax.custom_vjp
    def f(x, w):
        return jnp.tanh(product(x, w))

    def backward(residuals, g):
        x, w, z = residuals
        delta = 1.3 * g * (1 - z * z)
        return product(delta, w.T) / 1.3, (1 + wrong) * product(x.T, delta) / 1.3

    f.defvjp(lambda x, w: (f(x, w), (x, w, f(x, w))), backward)
    return f


@pytest.mark.parametrize(
    ("measured", "wrong", "verdict"), [(0.0, 0.0, "fail"), (2**-7, 0.0, "pass"), (2**-7, 0.1, "fail")]
)
def test_coarse_products_are_allowed_for_where_the_device_has_them(measured, wrong, verdict, monkeypatch) -> None:
    monkeypatch.setattr(products, "_measured", lambda precision, where: measured)
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((64, 128), (128, 32)))
    report = gradcheck.check(layer(wrong), x, w)
    assert report.verdict == verdict, str(report)


def test_nothing_is_measured_without_float32_products(monkeypatch) -> None:
    monkeypatch.setattr(products, "_measured", lambda precision, where: pytest.fail("measured"))
    assert gradcheck.check(lambda x: jnp.sin(x), jnp.ones(3, jnp.float32)).verdict == "pass"
    assert gradcheck.check(lambda x: x @ x, jnp.ones((3, 3))).verdict == "pass"


def test_gradients_beside_each_other_are_allowed_for_it_too(monkeypatch) -> None:
    rng = np.random.default_rng(1)
    x, w = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((64, 128), (128, 32)))
    product = coarse_product(8)

    def one(x, w):
        return product(x, w)

    def two(x, w):
        return product(1.3 * x, w) / 1.3

    verdicts = []
    for measured in (0.0, 2**-7):
        monkeypatch.setattr(products, "_measured", lambda precision, where, m=measured: m)
        verdicts.append(gradcheck.compare(one, two, x, w).verdict)
    assert verdicts == ["fail", "pass"]
