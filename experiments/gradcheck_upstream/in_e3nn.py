"""Equivariant functions of e3nn-jax."""

# pyright: reportMissingImports=false

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp

from .target import Target, at, f32, normal, vector

V = normal(1, 4, 3)
ANGLES = (f32(0.3), f32(1.1), f32(-0.7))


def arrays(irreps: str, seed: int):
    return normal(seed, e3nn.Irreps(irreps).dim)


def harmonics(degree, normalize: bool, algorithm=None):
    def fun(x):
        return e3nn.spherical_harmonics(degree, e3nn.IrrepsArray("1o", x), normalize, algorithm=algorithm).array

    return fun


def product(x, y):
    a, b = e3nn.IrrepsArray("2x0e + 1o", x), e3nn.IrrepsArray("0e + 1o", y)
    return e3nn.tensor_product(a, b).array


POINTS = at(normal=V, axis=vector(0.0, 0.0, 1.0), origin=jnp.zeros(3, f32))

TARGETS = [
    Target("e3nn_jax.spherical_harmonics(3)", harmonics([0, 1, 2, 3], False), POINTS),
    Target(
        "e3nn_jax.spherical_harmonics(3, normalized)",
        harmonics([1, 2, 3], True),
        at(normal=V, axis=vector(0.0, 0.0, 2.0)),
    ),
    Target(
        "e3nn_jax.spherical_harmonics(recursive, custom_jvp)",
        harmonics([4], False, ("recursive", "sparse", "custom_jvp")),
        POINTS,
    ),
    Target(
        "e3nn_jax.spherical_harmonics(legendre, custom_jvp)",
        harmonics([4], False, ("legendre", "sparse", "custom_jvp")),
        POINTS,
    ),
    Target(
        "e3nn_jax.norm",
        lambda x: e3nn.norm(e3nn.IrrepsArray("0e + 1o", x)).array,
        at(normal=normal(2, 4), zero=jnp.zeros(4, f32)),
    ),
    Target(
        "e3nn_jax.norm(squared)",
        lambda x: e3nn.norm(e3nn.IrrepsArray("1o", x), squared=True).array,
        at(normal=normal(3, 3)),
    ),
    Target("e3nn_jax.tensor_product", product, at(normal=(arrays("2x0e + 1o", 4), arrays("0e + 1o", 5)))),
    Target(
        "e3nn_jax.tensor_square",
        lambda x: e3nn.tensor_square(e3nn.IrrepsArray("0e + 1o", x)).array,
        at(normal=normal(6, 4)),
    ),
    Target(
        "e3nn_jax.gate",
        lambda x: e3nn.gate(e3nn.IrrepsArray("2x0e + 1o", x)).array,
        at(normal=normal(7, 5)),
    ),
    Target(
        "e3nn_jax.scalar_activation",
        lambda x: e3nn.scalar_activation(e3nn.IrrepsArray("2x0e + 1o", x), [jnp.tanh, None]).array,
        at(normal=normal(8, 5)),
    ),
    Target(
        "e3nn_jax.norm_activation",
        lambda x: e3nn.norm_activation(e3nn.IrrepsArray("1o", x), [jax.nn.sigmoid]).array,
        at(normal=normal(9, 3), zero=jnp.zeros(3, f32)),
    ),
    Target(
        "e3nn_jax.cross",
        lambda x, y: e3nn.cross(e3nn.IrrepsArray("1o", x), e3nn.IrrepsArray("1o", y)).array,
        at(normal=(normal(10, 3), normal(11, 3))),
    ),
    Target("e3nn_jax.bessel", lambda x: e3nn.bessel(x, 3, 2.0), at(inside=vector(0.3, 1.2), origin=vector(0.0))),
    Target("e3nn_jax.sus", e3nn.sus, at(normal=vector(-1.0, 0.3, 2.0), small=vector(1e-3, 0.05))),
    Target(
        "e3nn_jax.soft_envelope",
        lambda x: e3nn.soft_envelope(x, 2.0),
        at(inside=vector(0.3, 1.2, 1.9), outside=vector(2.5)),
    ),
    Target("e3nn_jax.poly_envelope", e3nn.poly_envelope(2, 2), at(inside=vector(0.3, 0.9), outside=vector(1.5))),
    Target(
        "e3nn_jax.soft_one_hot_linspace",
        lambda x: e3nn.soft_one_hot_linspace(x, start=0.0, end=2.0, number=3, basis="smooth_finite", cutoff=True),
        at(inside=vector(0.3, 1.2), outside=vector(3.0)),
    ),
    Target("e3nn_jax.soft_odd", e3nn.soft_odd, at(normal=vector(-1.0, 0.3), zero=vector(0.0))),
    Target("e3nn_jax.angles_to_matrix", e3nn.angles_to_matrix, at(angles=ANGLES)),
    Target("e3nn_jax.matrix_to_angles", lambda *a: e3nn.matrix_to_angles(e3nn.angles_to_matrix(*a)), at(angles=ANGLES)),
    Target("e3nn_jax.angles_to_quaternion", e3nn.angles_to_quaternion, at(angles=ANGLES)),
    Target(
        "e3nn_jax.matrix_to_quaternion",
        lambda *a: e3nn.matrix_to_quaternion(e3nn.angles_to_matrix(*a)),
        at(angles=ANGLES),
    ),
    Target(
        "e3nn_jax.log_coordinates_to_matrix",
        e3nn.log_coordinates_to_matrix,
        at(normal=normal(12, 3), zero=jnp.zeros(3, f32)),
    ),
    Target(
        "e3nn_jax.axis_angle_to_quaternion",
        lambda x, t: e3nn.axis_angle_to_quaternion(x / jnp.sqrt(jnp.sum(x**2)), t),
        at(normal=(normal(13, 3), f32(0.4))),
    ),
    Target("e3nn_jax.xyz_to_angles", e3nn.xyz_to_angles, at(normal=normal(14, 3))),
    Target(
        "e3nn_jax.Irreps.D_from_angles", lambda a, b, c: e3nn.Irreps("2e").D_from_angles(a, b, c), at(angles=ANGLES)
    ),
    Target(
        "e3nn_jax.to_s2grid",
        lambda x: e3nn.to_s2grid(e3nn.IrrepsArray("0e + 1o", x), 6, 5, quadrature="soft").grid_values,
        at(normal=normal(15, 4)),
    ),
]
