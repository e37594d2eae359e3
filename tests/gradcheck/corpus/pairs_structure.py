"""Pairs that move data: convolution, pooling, gather and scatter, sort, permutation, padding, matrix products, FFT."""

import jax
import jax.numpy as jnp
from jax import lax

from .case import array, f32, i32, integers, jpair, normal, pair, spd, uniform

FAMILY = "structure"
LINALG = "linalg"


def conv(x, w, left, right):
    """y_t = Σ_j w_j x_{t+j−left}: correlation with zero padding."""
    padded = jnp.pad(x, (left, right))
    n = x.shape[0] + left + right - w.shape[0] + 1
    return sum(w[j] * lax.dynamic_slice_in_dim(padded, j, n) for j in range(w.shape[0]))


def conv_rule(flip=True, left=1, dw_left=1):
    def pull(g, x, w):
        k = w.shape[0]
        dx = conv(g, jnp.flip(w) if flip else w, k - 1 - left, left)
        padded = jnp.pad(x, (dw_left, k - 1 - dw_left))
        return dx, jnp.stack([jnp.sum(g * padded[j : j + g.shape[0]]) for j in range(k)])

    return pull


def same3(x, w):
    return conv(x, w, 1, 1)


def same4(x, w):
    return conv(x, w, 1, 2)


def conv2d(x, w):
    """x (n, h, w, c), w (3, 3, c, o), stride 2, padding 1."""
    return lax.conv_general_dilated(x, w, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))


def conv2d_rule(border):
    def pull(g, x, w):
        _, back = jax.vjp(conv2d, x, w)
        dx, dw = back(g)
        return dx.at[:, -1, :, :].multiply(border).at[:, :, -1, :].multiply(border), dw

    return pull


def average_pool(x):
    """Windows of 3, stride 1, zero padding of 1; padded elements are not counted."""
    ones = jnp.ones_like(x)
    total = lambda v: conv(v, jnp.ones((3,), v.dtype), 1, 1)  # noqa: E731
    return total(x) / total(ones)


def average_pool_rule(count):
    def pull(g, x):
        n = conv(jnp.ones_like(x), jnp.ones((3,), x.dtype), 1, 1) if count else 3.0
        return (conv(g / n, jnp.ones((3,), x.dtype), 1, 1),)

    return pull


def max_pool(x):
    return jnp.max(x.reshape(-1, 2), axis=1)


def max_pool_rule(which):
    def pull(g, x):
        hot = jax.nn.one_hot(which(x.reshape(-1, 2), axis=1), 2, dtype=x.dtype)
        return ((g[:, None] * hot).reshape(x.shape),)

    return pull


def embed(table, ids):
    return table[ids]


def embed_rule(add=True, padding=None):
    def pull(g, table, ids):
        if padding is not None:
            g = jnp.where((ids == padding)[:, None], 0, g)
        zero = jnp.zeros_like(table)
        return (zero.at[ids].add(g) if add else zero.at[ids].set(g)), None

    return pull


def some_ids():
    return normal(401, 6, 3), jnp.asarray([0, 2, 2, 5, 0, 1, 2], i32)


def scatter(x, u, ids):
    return x.at[ids].add(u)


def overwrite(x, u, ids):
    return x.at[ids].set(u)


def sort_rule(inverse):
    def pull(g, x):
        order = jnp.argsort(x)
        return (g[jnp.argsort(order)] if inverse else g[order],)

    return pull


def cycle(x):
    return jnp.transpose(x, (1, 2, 0))


def reflect(x):
    return jnp.concatenate([x[2:0:-1], x, x[-2:-4:-1]])


def reflect_rule(fold):
    def pull(g, x):
        n = x.shape[0]
        d = jnp.asarray(g)[2 : 2 + n]
        if fold:
            d = d.at[1:3].add(jnp.flip(g[:2])).at[n - 3 : n - 1].add(jnp.flip(g[2 + n :]))
        return (d,)

    return pull


def matmul_rule(a_side, b_side):
    return lambda g, a, b: (a_side(g, b), b_side(a, g))


def shared(x, w):
    return jnp.einsum("bij,jk->bik", x, w)


def split_heads(x):
    return x[:, :3], x[:, 3:]


def circular(x, w):
    """Circular convolution by real FFT."""
    return jnp.fft.irfft(jnp.fft.rfft(x) * jnp.fft.rfft(w), n=x.shape[0])


def circular_rule(conjugate):
    def pull(g, x, w):
        turn = jnp.conj if conjugate else (lambda z: z)
        against = lambda v: jnp.fft.irfft(jnp.fft.rfft(g) * turn(jnp.fft.rfft(v)), n=g.shape[0])  # noqa: E731
        return against(w), against(x)

    return pull


def interpolate(table, u):
    i = jnp.clip(jnp.floor(u), 0, table.shape[0] - 2).astype(i32)
    t = u - i.astype(u.dtype)
    return (1 - t) * table[i] + t * table[i + 1]


def interpolate_rule(ends):
    def pull(g, table, u):
        i = jnp.clip(jnp.floor(u), 0, table.shape[0] - 2).astype(i32)
        t = u - i.astype(u.dtype)
        d = jnp.zeros_like(table).at[i].add(g * (1 - t))
        return (d.at[i + 1].add(g * t) if ends else d), g * (table[i + 1] - table[i])

    return pull


def median_rule(offset):
    def pull(g, x):
        hot = jax.nn.one_hot(jnp.argsort(x)[x.shape[0] // 2 - offset], x.shape[0], dtype=x.dtype)
        return (g * hot,)

    return pull


def symmetric_part(m):
    return 0.5 * (m + m.T)


def cholesky(a):
    return jnp.linalg.cholesky(symmetric_part(a), symmetrize_input=False)


def half_diagonal(m, half=0.5):
    return jnp.tril(m) - (1 - half) * jnp.diag(jnp.diag(m))


def cholesky_push(half):
    def push(p, t):
        c = cholesky(p[0])
        left = lax.linalg.triangular_solve(c, symmetric_part(t[0]), left_side=True, lower=True)
        inner = lax.linalg.triangular_solve(c, left.T, left_side=True, lower=True).T
        return c @ half_diagonal(inner, half)

    return push


def inverse_rule(transpose):
    def pull(g, a):
        b = jnp.linalg.inv(a)
        return (-(b.T @ g @ b.T if transpose else b @ g @ b),)

    return pull


def solve_rule(sign):
    def pull(g, a, b):
        db = jnp.linalg.solve(a.T, g)
        return sign * jnp.outer(db, jnp.linalg.solve(a, b)), db

    return pull


def eigenvalues(a):
    return jnp.linalg.eigvalsh(symmetric_part(a))


def eigenvalues_rule(columns):
    def pull(g, a):
        v = jnp.linalg.eigh(symmetric_part(a))[1]
        v = v if columns else v.T
        return ((v * g[None, :]) @ v.T,)

    return pull


def square(seed, n=4):
    return lambda: (normal(seed, n, n) + 3 * jnp.eye(n, dtype=f32),)


# fmt: off
CASES = [
    pair("conv_kernel_not_flipped", FAMILY, same3, conv_rule(), conv_rule(flip=False),
         lambda: (normal(402, 9), array(0.5, -1.0, 2.0)), "dX correlates with the kernel instead of convolving; equal "
         "for symmetric kernels", torch="conv_kernel_not_flipped"),
    pair("conv_even_padding", FAMILY, same4, conv_rule(), conv_rule(dw_left=2),
         lambda: (normal(403, 9), normal(404, 4)), "an even kernel pads 1 and 2; the backward pass 2 and 1"),
    pair("conv2d_border", FAMILY, conv2d, conv2d_rule(1.0), conv2d_rule(0.0),
         lambda: (normal(405, 2, 5, 5, 2), normal(406, 3, 3, 2, 3)), "stride 2: the last row and column of dX missing"),
    pair("average_pool_border", FAMILY, average_pool, average_pool_rule(True), average_pool_rule(False),
         lambda: (normal(407, 8),), "the padding counted in the backward pass only: wrong at the border"),
    pair("max_pool_argmin", FAMILY, max_pool, max_pool_rule(jnp.argmax), max_pool_rule(jnp.argmin),
         lambda: (normal(408, 10),), "the other element of the window receives the gradient"),
    pair("embedding_set", FAMILY, embed, embed_rule(), embed_rule(add=False), some_ids,
         "rows that are looked up more than once keep one cotangent only", torch="embedding_set"),
    pair("embedding_padding_row", FAMILY, embed, embed_rule(), embed_rule(padding=2), some_ids,
         "the row of the padding token is frozen, though it is read"),
    pair("scatter_add_updates", FAMILY, scatter, lambda g, x, u, i: (g, g[i], None),
         lambda g, x, u, i: (g, g[: u.shape[0]], None),
         lambda: (normal(409, 6), normal(410, 4), jnp.asarray([5, 0, 3, 3], i32)),
         "the indices not applied to the cotangent of the updates"),
    pair("scatter_set_operand", FAMILY, overwrite, lambda g, x, u, i: (jnp.asarray(g).at[i].set(0), g[i], None),
         lambda g, x, u, i: (g, g[i], None), lambda: (normal(411, 6), normal(412, 3), jnp.asarray([5, 0, 3], i32)),
         "overwritten elements still receive a gradient"),
    pair("sort_inverse", FAMILY, jnp.sort, sort_rule(True), sort_rule(False), lambda: (normal(413, 9),),
         "the permutation applied where its inverse is due", torch="sort_inverse"),
    pair("transpose_inverse", FAMILY, cycle, lambda g, x: (jnp.transpose(g, (2, 0, 1)),),
         lambda g, x: (jnp.transpose(g, (1, 2, 0)),), lambda: (normal(414, 3, 3, 3),),
         "a cyclic permutation of axes is not its own inverse"),
    pair("roll_direction", FAMILY, lambda x: jnp.roll(x, 2), lambda g, x: (jnp.roll(g, -2),),
         lambda g, x: (jnp.roll(g, 2),), lambda: (normal(415, 7),), "rolled on instead of back"),
    pair("reflect_padding", FAMILY, reflect, reflect_rule(True), reflect_rule(False), lambda: (normal(416, 8),),
         "the reflected border's cotangents dropped"),
    pair("matmul_missing_transpose", FAMILY, jnp.matmul, matmul_rule(lambda g, b: g @ b.T, lambda a, g: a.T @ g),
         matmul_rule(lambda g, b: g @ b, lambda a, g: a.T @ g), lambda: (normal(417, 4, 4), normal(418, 4, 4)),
         "square matrices hide a missing transpose", torch="matmul_missing_transpose"),
    pair("matmul_result_transposed", FAMILY, jnp.matmul, matmul_rule(lambda g, b: g @ b.T, lambda a, g: a.T @ g),
         matmul_rule(lambda g, b: g @ b.T, lambda a, g: g.T @ a), lambda: (normal(419, 4, 4), normal(420, 4, 4)),
         "the gradient comes out transposed"),
    pair("einsum_shared_weight", FAMILY, shared,
         lambda g, x, w: (jnp.einsum("bik,jk->bij", g, w), jnp.einsum("bij,bik->jk", x, g)),
         lambda g, x, w: (jnp.einsum("bik,jk->bij", g, w), jnp.einsum("ij,ik->jk", x[-1], g[-1])),
         lambda: (normal(421, 3, 4, 2), normal(422, 2, 5)), "the weight's gradient of the last example only"),
    pair("split_swapped", FAMILY, split_heads, lambda g, x: (jnp.concatenate(g, 1),),
         lambda g, x: (jnp.concatenate(g[::-1], 1),), lambda: (normal(423, 4, 6),),
         "two outputs concatenated in the wrong order"),
    pair("circular_convolution_conjugate", FAMILY, circular, circular_rule(True), circular_rule(False),
         lambda: (normal(424, 8), normal(425, 8)), "the conjugate of the spectrum forgotten"),
    pair("interpolation_right_neighbour", FAMILY, interpolate, interpolate_rule(True), interpolate_rule(False),
         lambda: (normal(426, 6), uniform(427, 5, low=0.1, high=4.9)), "the right neighbour's share dropped"),
    pair("median_off_by_one", FAMILY, lambda x: jnp.sort(x)[x.shape[0] // 2], median_rule(0), median_rule(1),
         lambda: (normal(428, 9),), "the neighbour of the median receives the gradient"),
    pair("take_first_index", FAMILY, lambda x, i: jnp.take_along_axis(x, i[:, None], 1)[:, 0],
         lambda g, x, i: (jax.nn.one_hot(i, x.shape[1], dtype=x.dtype) * g[:, None], None),
         lambda g, x, i: (jnp.zeros_like(x).at[:, 0].set(g), None), lambda: (normal(429, 5, 4), integers(430, 4, 5)),
         "the integer argument dropped: column 0 always"),
    jpair("cholesky_half_diagonal", LINALG, cholesky, cholesky_push(0.5), cholesky_push(1.0), lambda: (spd(431, 4),),
          "Φ halves the diagonal; without it the symmetric part of the JVP is wrong"),
    pair("inverse_transposes", LINALG, jnp.linalg.inv, inverse_rule(True), inverse_rule(False), square(432),
         "A⁻ᵀ g A⁻ᵀ: without the transposes right for symmetric matrices only", self_test=1e4),
    pair("solve_sign", LINALG, jnp.linalg.solve, solve_rule(-1.0), solve_rule(1.0),
         lambda: (*square(433)(), normal(434, 4)), "the sign of dA", self_test=1e4),
    pair("logdet_transpose", LINALG, lambda a: jnp.linalg.slogdet(a)[1], lambda g, a: (g * jnp.linalg.inv(a).T,),
         lambda g, a: (g * jnp.linalg.inv(a),), square(435), "A⁻¹ for A⁻ᵀ", self_test=1e4),
    pair("quadratic_form", LINALG, lambda a, x: x @ a @ x, lambda g, a, x: (g * jnp.outer(x, x), g * (a + a.T) @ x),
         lambda g, a, x: (g * jnp.outer(x, x), 2 * g * a @ x), lambda: (normal(436, 4, 4), normal(437, 4)),
         "2 A x for (A + Aᵀ) x", torch="quadratic_form"),
    pair("eigenvalues_rows", LINALG, eigenvalues, eigenvalues_rule(True), eigenvalues_rule(False),
         lambda: (jnp.diag(array(1.0, 2.0, 4.0, 7.0)) + 0.2 * normal(438, 4, 4),), "eigenvectors taken from the rows",
         self_test=1e4),
    jpair("trace_of_power", LINALG, lambda a: jnp.trace(a @ a @ a), lambda p, t: 3 * jnp.sum((p[0] @ p[0]).T * t[0]),
          lambda p, t: 3 * jnp.sum((p[0] @ p[0]) * t[0]), lambda: (normal(439, 3, 3),), "a transpose in a pushforward"),
]
# fmt: on
