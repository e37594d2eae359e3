"""Functions of JAX that the scan for custom rules does not call: linear algebra, solvers, random numbers, ODEs."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.ode import odeint
from jax.scipy import linalg, ndimage, stats
from jax.scipy.sparse import linalg as sparse

from .target import Target, at, bf16, f32, integers, normal, spd, uniform, vector

KEY = jax.random.key(0, impl="threefry2x32")


def matrices(seed: int, n: int = 3) -> dict:
    """A general, a well-conditioned, and an ill-conditioned square matrix."""
    return at(
        normal=normal(seed, n, n),
        dominant=normal(seed + 1, n, n) + 3 * jnp.eye(n),
        graded=normal(seed + 2, n, n) * vector(1.0, 1e-2, 1e-4)[None, :],
    )


def definite(seed: int) -> dict:
    return at(moderate=spd(seed, 3), close=jnp.diag(vector(1.0, 1.01, 3.0)) + 1e-3 * spd(seed, 3))


def symmetric(a: jax.Array) -> jax.Array:
    return 0.5 * (a + a.T)


def drawn(name: str, fun, inputs: dict) -> Target:
    """A random draw as a function of its parameters, the key held fixed."""
    return Target(f"jax.random.{name}", fun, inputs)


def iterative(solver) -> Target:
    return Target(
        f"jax.scipy.sparse.linalg.{solver.__name__}",
        lambda a, b: solver(lambda v: a @ v, b, tol=1e-7)[0],
        at(definite=(spd(20, 4), normal(21, 4))),
        check={"expected": ()},
    )


LINALG = {
    "inv": (jnp.linalg.inv, matrices(1)),
    "det": (jnp.linalg.det, matrices(2)),
    "slogdet": (lambda a: jnp.linalg.slogdet(a)[1], matrices(3)),
    "pinv": (jnp.linalg.pinv, at(tall=normal(4, 4, 2), wide=normal(5, 2, 4))),
    "svd(values)": (lambda a: jnp.linalg.svd(a, compute_uv=False), at(tall=normal(6, 4, 3))),
    "qr(r)": (lambda a: jnp.abs(jnp.linalg.qr(a)[1]), at(tall=normal(7, 4, 3), square=normal(8, 3, 3))),
    "cholesky": (lambda a: jnp.linalg.cholesky(symmetric(a)), definite(9)),
    "eigvalsh": (lambda a: jnp.linalg.eigvalsh(symmetric(a)), definite(10)),
    "eigh(projector)": (lambda a: (v := jnp.linalg.eigh(symmetric(a))[1][:, :1]) @ v.T, definite(11)),
    "eigvals": (lambda a: jnp.sum(jnp.abs(jnp.linalg.eigvals(a)) ** 2), matrices(12)),
    "solve": (
        jnp.linalg.solve,
        at(vector=(normal(13, 3, 3), normal(14, 3)), matrix=(normal(13, 3, 3), normal(15, 3, 2))),
    ),
    "lstsq": (lambda a, b: jnp.linalg.lstsq(a, b)[0], at(tall=(normal(16, 5, 2), normal(17, 5)))),
    "norm": (jnp.linalg.norm, at(vector=normal(18, 5), matrix=normal(19, 3, 2), zero=jnp.zeros(3, f32))),
    "norm(nuclear)": (lambda a: jnp.linalg.norm(a, "nuc"), at(tall=normal(20, 4, 3))),
    "norm(spectral)": (lambda a: jnp.linalg.norm(a, 2), at(tall=normal(21, 4, 3))),
    "matrix_power": (lambda a: jnp.linalg.matrix_power(a, 3), matrices(22)),
    "cond": (jnp.linalg.cond, matrices(23)),
}

SCIPY = {
    "linalg.expm": (linalg.expm, at(small=normal(30, 3, 3), large=3 * normal(31, 3, 3), zero=jnp.zeros((3, 3), f32))),
    "linalg.solve_triangular": (
        lambda a, b: linalg.solve_triangular(a, b, lower=True),
        at(dominant=(normal(32, 3, 3) + 2 * jnp.eye(3), normal(33, 3))),
    ),
    "linalg.lu(factors)": (lambda a: linalg.lu(a)[1:], matrices(34)),
    "linalg.cho_solve": (
        lambda a, b: linalg.cho_solve((jnp.linalg.cholesky(symmetric(a)), True), b),
        at(moderate=(spd(35, 3), normal(36, 3))),
    ),
    "linalg.block_diag": (lambda a, b: linalg.block_diag(a, b), at(two=(normal(37, 2, 2), normal(38, 1, 2)))),
    "linalg.toeplitz": (lambda c: linalg.toeplitz(c), at(column=normal(39, 4))),
    "linalg.polar": (lambda a: linalg.polar(a)[0], at(square=normal(40, 3, 3) + 2 * jnp.eye(3))),
    "linalg.hessenberg": (lambda a: jnp.abs(linalg.hessenberg(a, calc_q=False)), at(square=normal(41, 3, 3))),
    "linalg.sqrtm": (lambda a: jnp.real(linalg.sqrtm(symmetric(a))), definite(42)),
    "ndimage.map_coordinates": (
        lambda x, c: ndimage.map_coordinates(x, [c, c * 0.7], order=1),
        at(inside=(normal(43, 4, 4), uniform(44, 3, low=0.1, high=2.9))),
    ),
    "stats.norm.logcdf": (stats.norm.logcdf, at(middle=normal(45, 5), tail=vector(-30.0, -8.0, 9.0))),
    "stats.norm.ppf": (stats.norm.ppf, at(middle=uniform(46, 5, low=0.1, high=0.9), tail=vector(1e-5, 0.9999))),
    "stats.gamma.logcdf": (
        lambda x, a: stats.gamma.logcdf(x, a),
        at(middle=(uniform(47, 4, low=0.5, high=3.0), uniform(48, 4, low=0.5, high=3.0))),
    ),
    "stats.beta.cdf": (
        stats.beta.cdf,
        at(middle=(uniform(49, 4), uniform(50, 4, low=0.5, high=3.0), uniform(51, 4, low=0.5, high=3.0))),
    ),
    "stats.vonmises.logpdf": (stats.vonmises.logpdf, at(middle=(normal(52, 4), uniform(53, 4, low=0.2, high=5.0)))),
    "stats.t.logpdf": (stats.t.logpdf, at(middle=(normal(54, 4), uniform(55, 4, low=1.0, high=9.0)))),
    "stats.truncnorm.logpdf": (
        lambda x: stats.truncnorm.logpdf(x, -1.0, 2.0),
        at(inside=uniform(56, 4, low=-0.9, high=1.9)),
    ),
    "stats.gaussian_kde": (
        lambda d, x: stats.gaussian_kde(d)(x),
        at(points=(normal(57, 6), normal(58, 3))),
    ),
    "stats.multivariate_normal.logpdf": (
        stats.multivariate_normal.logpdf,
        at(three=(normal(59, 3), normal(60, 3), spd(61, 3))),
    ),
}

LAX = {
    "cumlogsumexp": (lax.cumlogsumexp, at(normal=normal(70, 6), large=normal(71, 6, scale=50.0))),
    "cummax": (lax.cummax, at(normal=normal(72, 6))),
    "cumprod": (lax.cumprod, at(normal=normal(73, 5), zero=vector(1.0, 0.0, 2.0))),
    "top_k": (lambda x: lax.top_k(x, 2)[0], at(normal=normal(74, 6))),
    "sort": (lax.sort, at(normal=normal(75, 6))),
    "reduce_window(max)": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (1, 1), "SAME"),
        at(normal=normal(76, 4, 4)),
    ),
    "conv_general_dilated": (
        lambda x, w: lax.conv_general_dilated(x, w, (2,), [(1, 2)], (2,), (2,), ("NWC", "WIO", "NWC")),
        at(
            float32=(normal(77, 1, 5, 2), normal(78, 3, 2, 2)),
            bfloat16=(normal(77, 1, 5, 2, dtype=bf16), normal(78, 3, 2, 2, dtype=bf16)),
        ),
    ),
    "igamma": (lax.igamma, at(middle=(uniform(79, 4, low=0.5, high=3.0), uniform(80, 4, low=0.2, high=4.0)))),
    "betainc": (
        jax.scipy.special.betainc,
        at(middle=(uniform(81, 4, low=0.5, high=3.0), uniform(82, 4, low=0.5, high=3.0), uniform(83, 4))),
    ),
    "linalg.tridiagonal_solve": (
        lambda d, b: lax.linalg.tridiagonal_solve(0.3 * d, d, -0.2 * d, b),
        at(dominant=(uniform(84, 4, low=1.0, high=2.0), normal(85, 4, 2))),
    ),
    "associative_scan": (lambda x: lax.associative_scan(jnp.multiply, x), at(normal=normal(86, 5))),
    "dot_general(bfloat16)": (
        lambda a, b: lax.dot_general(a, b, (((1,), (0,)), ((), ())), preferred_element_type=f32),
        at(mixed=(normal(87, 3, 8, dtype=bf16), normal(88, 8, 2, dtype=bf16))),
    ),
}

NUMPY = {
    "prod": (jnp.prod, at(normal=normal(90, 5), zero=vector(2.0, 0.0, 3.0))),
    "median": (jnp.median, at(odd=normal(91, 5), even=normal(92, 6))),
    "percentile": (lambda x: jnp.percentile(x, 30.0), at(normal=normal(93, 6))),
    "var": (jnp.var, at(normal=normal(94, 6), offset=normal(95, 6) + 1e3)),
    "interp": (lambda x, f: jnp.interp(x, jnp.arange(5, dtype=f32), f), at(inside=(vector(0.3, 2.2), normal(96, 5)))),
    "fft.irfft": (lambda x: jnp.fft.irfft(jnp.fft.rfft(x)[:3], n=6), at(normal=normal(97, 6))),
    "einsum": (lambda a, b: jnp.einsum("ij,jk,ik->i", a, b, a @ b), at(normal=(normal(98, 3, 4), normal(99, 4, 2)))),
    "convolve": (jnp.convolve, at(normal=(normal(100, 6), normal(101, 3)))),
    "roots(sum)": (lambda c: jnp.sum(jnp.abs(jnp.roots(c, strip_zeros=False)) ** 2), at(cubic=normal(102, 4))),
    "cross": (jnp.cross, at(normal=(normal(103, 3), normal(104, 3)))),
    "float_power": (jnp.float_power, at(positive=(uniform(105, 4, low=0.2, high=3.0), normal(106, 4)))),
    "nanmean": (jnp.nanmean, at(gaps=vector(1.0, jnp.nan, 3.0))),
}

RANDOM = [
    drawn(
        "gamma", lambda a: jax.random.gamma(KEY, a), at(middle=uniform(110, 4, low=0.5, high=5.0), small=vector(0.05))
    ),
    drawn(
        "loggamma",
        lambda a: jax.random.loggamma(KEY, a),
        at(middle=uniform(111, 4, low=0.5, high=5.0), small=vector(0.02)),
    ),
    drawn("beta", lambda a, b: jax.random.beta(KEY, a, b), at(middle=(vector(0.7, 2.0), vector(1.5, 0.9)))),
    drawn("dirichlet", lambda a: jax.random.dirichlet(KEY, a), at(middle=vector(0.7, 2.0, 1.2))),
    drawn("t", lambda a: jax.random.t(KEY, a), at(middle=vector(1.5, 4.0))),
    drawn("chisquare", lambda a: jax.random.chisquare(KEY, a), at(middle=vector(1.5, 4.0))),
    drawn(
        "truncated_normal",
        lambda a, b: jax.random.truncated_normal(KEY, a, b),
        at(middle=(vector(-1.0, 0.5), vector(0.5, 2.0))),
    ),
    drawn(
        "multivariate_normal",
        lambda m, c: jax.random.multivariate_normal(KEY, m, symmetric(c)),
        at(three=(normal(112, 3), spd(113, 3))),
    ),
]

ATTENTION = {
    "dot_product_attention": (
        lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True),
        at(
            float32=tuple(normal(s, 1, 4, 2, 4) for s in (120, 121, 122)),
            bfloat16=tuple(normal(s, 1, 4, 2, 4, dtype=bf16) for s in (120, 121, 122)),
        ),
    ),
    "logsumexp(weights)": (
        lambda x, b: jax.nn.logsumexp(x, b=b),
        at(positive=(normal(123, 5), uniform(124, 5)), zeros=(normal(125, 3), vector(1.0, 0.0, 2.0))),
    ),
    "standardize": (jax.nn.standardize, at(normal=normal(126, 3, 5), offset=normal(127, 3, 5) + 100)),
    "glu": (jax.nn.glu, at(float32=normal(128, 3, 6), bfloat16=normal(128, 3, 6, dtype=bf16))),
    "log_softmax(where)": (
        lambda x: jax.nn.log_softmax(x, where=x > -10.0),
        at(normal=normal(129, 2, 4)),
    ),
}

OTHERS = [
    Target(
        "jax.experimental.ode.odeint",
        lambda y, k: odeint(
            lambda y, t: -k * y * jnp.cos(t), y, jnp.linspace(0.0, 1.0, 3, dtype=y.dtype), rtol=1e-5, atol=1e-5
        ),
        at(decay=(vector(1.0, 0.5), f32(0.8))),
    ),
    Target(
        "jax.image.resize",
        lambda x: jax.image.resize(x, (5, 3), "cubic"),
        at(up=normal(130, 4, 4)),
    ),
    Target(
        "jax.image.scale_and_translate",
        lambda x, s, t: jax.image.scale_and_translate(x, (4, 4), (0, 1), s, t, "linear"),
        at(inside=(normal(131, 4, 4), vector(1.2, 0.8), vector(0.3, -0.1))),
    ),
    Target(
        "jax.ops.segment_max",
        lambda x, i: jax.ops.segment_max(x, i, num_segments=2),
        at(two=(normal(132, 5), integers(133, 2, 5))),
    ),
    Target(
        "jax.scipy.signal.convolve(fft)",
        lambda a, b: jax.scipy.signal.convolve(a, b, method="fft"),
        at(normal=(normal(134, 6), normal(135, 3))),
    ),
    Target(
        "jax.scipy.integrate.trapezoid",
        jax.scipy.integrate.trapezoid,
        at(normal=(normal(136, 5), jnp.sort(normal(137, 5)))),
    ),
    Target(
        "jax.scipy.cluster.vq.vq(distances)",
        lambda x, c: jax.scipy.cluster.vq.vq(x, c)[1],
        at(normal=(normal(138, 4, 2), normal(139, 3, 2))),
    ),
    *(iterative(solver) for solver in (sparse.cg, sparse.gmres, sparse.bicgstab)),
]


def named(prefix: str, table: dict) -> list[Target]:
    return [Target(prefix + name, fun, inputs) for name, (fun, inputs) in table.items()]


TARGETS = [
    *named("jax.numpy.linalg.", LINALG),
    *named("jax.scipy.", SCIPY),
    *named("jax.lax.", LAX),
    *named("jax.numpy.", NUMPY),
    *named("jax.nn.", ATTENTION),
    *RANDOM,
    *OTHERS,
]
