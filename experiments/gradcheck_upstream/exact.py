"""What a library says, beside the exact value: the explained failures, in a few lines each.

Each function returns (what comes out, what is right); the latter is analytic, or by mpmath with 40 digits.
"""

# pyright: reportMissingImports=false

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Shown = tuple[Any, Any]


def f32(value: Any) -> jax.Array:
    """Numbers in float32."""
    return jnp.asarray(value, jnp.float32)


def slope(fun: Callable[[Any], Any], at: float) -> float:
    """A derivative by mpmath."""
    import mpmath

    with mpmath.workdps(40):
        return float(mpmath.re(mpmath.diff(fun, at)))


def raised(fun: Callable[[], Any]) -> Any:
    """What comes out, or the error that is raised."""
    try:
        return fun()
    except Exception as error:  # what a library raises is what is shown
        return type(error).__name__


def hyp1f1() -> Shown:
    """By a at 0, with b = 1.5, x = 0.7."""
    import mpmath

    got = jax.grad(jax.scipy.special.hyp1f1)(f32(0.0), f32(1.5), f32(0.7))
    return got, slope(lambda a: mpmath.hyp1f1(a, 1.5, 0.7), 0.0)


def hyp2f1() -> Shown:
    """By a at −1, with b = 0.5, c = 1.5, x = 0.3."""
    import mpmath

    got = jax.grad(jax.scipy.special.hyp2f1)(f32(-1.0), f32(0.5), f32(1.5), f32(0.3))
    return got, slope(lambda a: mpmath.hyp2f1(a, 0.5, 1.5, 0.3), -1.0)


def focal_loss() -> Shown:
    """By a label at 0, with the logit 0.4."""
    import mpmath
    import optax

    def loss(y: Any) -> Any:
        p = 1 / (1 + mpmath.exp(-mpmath.mpf(0.4)))
        entropy = -y * mpmath.log(p) - (1 - y) * mpmath.log(1 - p)
        return entropy * (1 - (p * y + (1 - p) * (1 - y))) ** 2

    return jax.grad(lambda y: optax.sigmoid_focal_loss(f32(0.4), y))(f32(0.0)), slope(loss, 0.0)


def logsumexp() -> Shown:
    """log Σ b eˣ by b₁ at x = (0.3, −0.2), b = (1, 0)."""
    got = jax.grad(lambda b: jax.nn.logsumexp(f32([0.3, -0.2]), b=b))(f32([1.0, 0.0]))
    return got[1], float(np.exp(-0.5))


def wofz() -> Shown:
    """The imaginary part at 10⁴; the derivative of w is 2i/√π − 2 z w, of which almost all cancels."""
    import mpmath

    got = jax.jvp(lambda x: jnp.imag(jax.scipy.special.wofz(x)), (f32(1e4),), (f32(1.0),))[1]
    with mpmath.workdps(40):
        z = mpmath.mpf(10000)
        w = mpmath.exp(-z * z) * mpmath.erfc(-1j * z)
        return got, float(mpmath.im(2j / mpmath.sqrt(mpmath.pi) - 2 * z * w))


def fresnel() -> Shown:
    """S at 47.25 in bfloat16, whose phase π x²/2 is rounded."""
    got = jax.grad(lambda x: jax.scipy.special.fresnel(x)[0])(jnp.bfloat16(47.25))
    return got, float(np.sin(np.pi * 47.25**2 / 2))


def det() -> Shown:
    """Of twice the identity in bfloat16, by its first element."""
    return raised(lambda: jax.grad(jnp.linalg.det)(2 * jnp.eye(2, dtype=jnp.bfloat16))[0, 0]), 2.0


def simplex() -> Shown:
    """∂ out[0] / ∂ x[0] of the projection of (0.5, 0.25) onto the simplex, in bfloat16."""
    import optax

    x = jnp.asarray([0.5, 0.25], jnp.bfloat16)
    return raised(lambda: jax.grad(lambda x: optax.projections.projection_simplex(x)[0])(x)[0]), 0.5


def beta_cdf() -> Shown:
    """By a, at x = 0.4, a = 2, b = 3."""
    import mpmath

    got = raised(lambda: jax.grad(jax.scipy.special.betainc)(f32(2.0), f32(3.0), f32(0.4)))
    return got, slope(lambda a: mpmath.betainc(a, 3, 0, 0.4, regularized=True), 2.0)


def odeint() -> Shown:
    """y(1) by y(0), of y' = −0.8 y cos t with tolerances of 10⁻⁵."""
    from jax.experimental.ode import odeint as solve

    times = f32([0.0, 1.0])
    got = jax.grad(lambda y: solve(lambda y, t: -0.8 * y * jnp.cos(t), y, times, rtol=1e-5, atol=1e-5)[1])(f32(1.0))
    return got, float(np.exp(-0.8 * np.sin(1.0)))


def bessel() -> Shown:
    """Iᵥ(2) e⁻² by v at 1.5."""
    import mpmath
    import tensorflow_probability.substrates.jax as tfp

    got = jax.grad(tfp.math.bessel_ive)(f32(1.5), f32(2.0))
    return got, slope(lambda v: mpmath.besseli(v, 2) * mpmath.exp(-2), 1.5)


def gamma_draw() -> Shown:
    """Implicit reparameterization, −∂F/∂a / p, of a draw with a = 1.5; the draw itself is another function of a."""
    import mpmath

    key = jax.random.key(0, impl="threefry2x32")
    x, got = jax.value_and_grad(lambda a: jax.random.gamma(key, a))(f32(1.5))
    density = float(x) ** 0.5 * np.exp(-float(x)) / float(mpmath.gamma(1.5))
    return got, -slope(lambda a: mpmath.gammainc(a, 0, float(x), regularized=True), 1.5) / density


def sigmoid_log_det() -> Shown:
    """distrax' log |σ'| at −90."""
    import distrax

    return jax.grad(distrax.Sigmoid().forward_log_det_jacobian)(f32(-90.0)), 1.0


def categorical_zero() -> Shown:
    """log p₁ − log Σ p at p = (½, ½, 0)."""
    import distrax

    got = jax.grad(lambda p: distrax.Categorical(probs=p / p.sum()).log_prob(1))(f32([0.5, 0.5, 0.0]))
    return np.asarray(got), np.asarray([-1.0, 1.0, -1.0])


def von_mises_draw() -> Shown:
    """Implicit reparameterization, −∂F/∂κ / p, of a draw with κ = 1.5."""
    import distrax
    import mpmath

    key = jax.random.key(0, impl="threefry2x32")
    x, got = jax.value_and_grad(lambda k: distrax.VonMises(f32(0.0), k).sample(seed=key))(f32(1.5))

    def density(t: Any, k: Any) -> Any:
        return mpmath.exp(k * mpmath.cos(t)) / (2 * mpmath.pi * mpmath.besseli(0, k))

    distribution = slope(lambda k: mpmath.quad(lambda t: density(t, k), [-mpmath.pi, float(x)]), 1.5)
    return got, -distribution / float(density(float(x), 1.5))


def bicgstab() -> Shown:
    """The solution itself, by numpy.linalg.solve."""
    import lineax

    from experiments.gradcheck_upstream import in_lineax

    a, b = in_lineax.BREAKDOWN
    got = lineax.linear_solve(lineax.MatrixLinearOperator(a), b, lineax.BiCGStab(1e-6, 1e-6), throw=False).value
    return np.asarray(got), np.linalg.solve(np.float64(a), np.float64(b))


def power_law() -> Shown:
    """log p(1.3) of the power a = −1.0001 between ½ and 3, by a."""
    import mpmath
    import numpyro.distributions

    a = f32(-1.0001)
    got = jax.grad(lambda a: numpyro.distributions.DoublyTruncatedPowerLaw(a, 0.5, 3.0).log_prob(f32(1.3)))(a)

    def density(a: Any) -> Any:
        return a * mpmath.log(1.3) + mpmath.log((a + 1) / (3 ** (a + 1) - mpmath.mpf(0.5) ** (a + 1)))

    return got, slope(density, float(a))


def minimum(fun: Callable[..., Any], objective: Callable[..., Any], a: Any, b: Any) -> Shown:
    """∂ argmin / ∂ a as a solver has it, and at the minimum itself, by Newton's iteration in float64: the element that
    is farthest off, of the cotangent (1, −2, ½).
    """
    w = f32([1.0, -2.0, 0.5])
    y, back = jax.vjp(fun, a, b)
    got, y = np.asarray(back(w)[0], np.float64), np.float64(y)
    with jax.enable_x64(True):
        a64, b64 = np.float64(a), np.float64(b)
        slope_of, curvature = jax.grad(objective), jax.hessian(objective)
        for _ in range(50):
            y = y - np.linalg.solve(curvature(y, a64, b64), slope_of(y, a64, b64))
        weights = np.linalg.solve(curvature(y, a64, b64), np.float64(w))
        right = -np.asarray(jax.grad(lambda a: jnp.vdot(weights, slope_of(y, a, b64)))(a64))
    at = np.unravel_index(np.argmax(np.abs(got - right)), got.shape)
    return got[at], right[at]


def optimistix_bfgs() -> Shown:
    """∂ argmin / ∂ a, at the minimum itself by Newton's iteration in float64; the element that is farthest off."""
    from experiments.gradcheck_upstream import in_optimistix as listed

    target = next(t for t in listed.TARGETS if t.name == "optimistix.minimise(BFGS)")
    return minimum(target.fun, lambda y, a, b: listed.bowl(y, (a, b)), *target.inputs["normal"]())


def jaxopt_levenberg() -> Shown:
    """∂ argmin / ∂ a, likewise."""
    from experiments.gradcheck_upstream import in_jaxopt as listed

    target = next(t for t in listed.TARGETS if t.name == "jaxopt.LevenbergMarquardt")
    return minimum(
        target.fun, lambda y, a, b: 0.5 * jnp.sum(listed.residuals(y, a, b) ** 2), *target.inputs["normal"]()
    )


def jaxopt_descent() -> Shown:
    """∂ argmin / ∂ a, likewise."""
    from experiments.gradcheck_upstream import in_jaxopt as listed

    target = next(t for t in listed.TARGETS if t.name == "jaxopt.GradientDescent")
    return minimum(target.fun, listed.bowl, *target.inputs["normal"]())


def implicit_euler() -> Shown:
    """By the friction, of y₁ + 2 y₂ at the end, solved and differentiated in float64; exact by differences."""
    import diffrax

    from experiments.gradcheck_upstream import in_diffrax as listed

    controller = diffrax.PIDController(rtol=1e-3, atol=1e-3)
    solver = diffrax.ImplicitEuler(diffrax.VeryChord(1e-9, 1e-9), 60)
    run = listed.solved("", solver, controller, adjoint=diffrax.ForwardMode()).fun
    with jax.enable_x64(True):

        @jax.jit
        def end(k: Any) -> Any:
            return jnp.dot(run(jnp.asarray([1.0, -0.5]), k), jnp.asarray([1.0, 2.0]))

        k, h = jnp.float64(0.8), 1e-4
        return jax.jvp(end, (k,), (jnp.ones_like(k),))[1], (end(k + h) - end(k - h)) / (2 * h)


def norm_activation() -> Shown:
    """∂ out[0] / ∂ x[0] of x σ(|x|) at 0: σ(0)."""
    import e3nn_jax as e3nn

    def out(x: Any) -> Any:
        return e3nn.norm_activation(e3nn.IrrepsArray("1o", x), [jax.nn.sigmoid]).array[0]

    return jax.grad(out)(f32([0.0, 0.0, 0.0]))[0], 0.5


def signed_hyperbolic() -> Shown:
    """Of sign(x) (√(|x| + 1) − 1) + x/1000 at 0."""
    import rlax

    return jax.grad(rlax.signed_hyperbolic)(f32(0.0)), 0.501


def gmm_existing_out() -> Shown:
    """By a row that is overwritten, of the sum of what comes out."""
    from experiments.gradcheck_upstream import in_pallas as listed

    target = next(t for t in listed.TARGETS if t.name.endswith("gmm(existing_out)"))
    a, b, sizes, out = target.inputs["float32"]()
    return jax.grad(lambda out: jnp.sum(target.fun(a, b, sizes, out)))(out)[15, 0], 0.0


def gmm_vmap() -> Shown:
    """By b, an element of the last group, of the sum over a batch of two equal a, interpreted."""
    from experiments.gradcheck_upstream import in_pallas as listed

    target = next(t for t in listed.TARGETS if t.name.endswith("gmm"))
    a, b, sizes = target.inputs["float32"]()

    batch = jax.vmap(lambda a, b: target.fun(a, b, sizes), (0, None))
    got = jax.grad(lambda b: jnp.sum(batch(jnp.stack([a, a]), b)))(b)[2, 0, 0]
    return got, 2 * float(np.sum(np.float64(a[-sizes[2] :, 0])))


def hpsd_quadratic_form() -> Shown:
    """bᵀ A⁻¹ b by b₁₀, with a cotangent g that is not symmetric: A⁻¹ b (g + gᵀ)."""
    from experiments.gradcheck_upstream import in_tfp as listed
    from experiments.gradcheck_upstream.target import normal

    target = next(t for t in listed.TARGETS if t.name == "tfp.math.hpsd_quadratic_form_solve")
    a, b = target.inputs["definite"]()
    g = normal(1, 2, 2)
    got = jax.vjp(lambda b: target.fun(a, b), b)[1](g)[0]
    a64, b64, g64 = (np.asarray(v, np.float64) for v in (a, b, g))
    return got[1, 0], (np.linalg.solve(a64, b64) @ (g64 + g64.T))[1, 0]


def ott_norm() -> Shown:
    """The value of p-norm^p / p of x − x, p = 1.5, as value_and_grad returns it."""
    from ott.geometry import costs

    x = f32([1.0, 2.0])
    return jax.value_and_grad(lambda y: costs.PNormP(1.5)(x, y))(x)[0], 0.0


def ott_arccos() -> Shown:
    """By x₀ at x = y = (1, 2), where it is −log(|x| |y|)."""
    from ott.geometry import costs

    x = f32([1.0, 2.0])
    return jax.grad(lambda x, y: costs.Arccos(1)(x, y))(x, x)[0], -0.2


def ott_softmin() -> Shown:
    """By γ = 0.7, of the first sample that is listed."""
    import mpmath
    from ott.math import utils

    from experiments.gradcheck_upstream import in_ott as listed

    def softmin(gamma: Any) -> Any:
        return -gamma * mpmath.log(mpmath.fsum(mpmath.exp(-float(v) / gamma) for v in listed.X))

    return jax.grad(lambda g: utils.softmin(listed.X, g))(f32(0.7)), slope(softmin, float(np.float32(0.7)))


def nelder_mead() -> Shown:
    """∂ argmin / ∂ a, at the minimum itself by Newton's iteration in float64; the element that is farthest off."""
    from experiments.gradcheck_upstream import in_optimistix as listed

    target = next(t for t in listed.TARGETS if t.name == "optimistix.minimise(NelderMead)")
    return minimum(target.fun, lambda y, a, b: listed.bowl(y, (a, b)), *target.inputs["normal"]())


def transport() -> Shown:
    """∂ plan₀₁ / ∂ x₀₁ where three of nine elements are 0: what is left to move is the one cycle of the other six."""
    from experiments.gradcheck_upstream import in_jaxopt as listed

    target = next(t for t in listed.TARGETS if t.name == "jaxopt.projection.projection_transport")
    return jax.grad(lambda x: target.fun(x)[0, 1])(*target.inputs["normal"]())[0, 1], 1 / 6
