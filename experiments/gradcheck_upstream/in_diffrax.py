"""Differential equations of diffrax: solvers, adjoints and interpolations as functions of the start and a parameter."""

# pyright: reportMissingImports=false

import diffrax
import jax
import jax.numpy as jnp
import optimistix

from .target import Target, at, f32, normal, vector

START = (vector(1.0, -0.5), f32(0.8))


def field(t, y, k):
    """A damped pendulum."""
    return jnp.stack([y[1], -jnp.sin(y[0]) - k * y[1]])


def solved(name: str, solver, controller=None, adjoint=None, terms=None, steps: float | None = 0.1) -> Target:
    def run(y, k):
        solution = diffrax.diffeqsolve(
            terms or diffrax.ODETerm(field),
            solver,
            0.0,
            0.5,
            steps,
            y,
            args=k,
            stepsize_controller=controller or diffrax.ConstantStepSize(),
            adjoint=adjoint or diffrax.RecursiveCheckpointAdjoint(),
            max_steps=64,
        )
        return solution.ys[-1]

    return Target(f"diffrax.diffeqsolve({name})", run, at(pendulum=START))


def hamiltonian(y, k):
    p, q = diffrax.ODETerm(lambda t, q, k: -k * q**3), diffrax.ODETerm(lambda t, p, k: p)
    solution = diffrax.diffeqsolve((p, q), diffrax.SemiImplicitEuler(), 0.0, 0.5, 0.1, (y[:1], y[1:]), args=k)
    return jnp.concatenate([v[-1] for v in solution.ys])


def stochastic(solver, levy=diffrax.BrownianIncrement):
    def run(y, k):
        path = diffrax.VirtualBrownianTree(0.0, 0.5, 1e-2, (), jax.random.key(0, impl="threefry2x32"), levy)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, y, k: -k * y),
            diffrax.ControlTerm(lambda t, y, k: 0.2 * y, path),
        )
        return diffrax.diffeqsolve(terms, solver, 0.0, 0.5, 0.1, y, args=k).ys[-1]

    return run


def interpolated(make):
    def run(ys, t):
        return make(jnp.linspace(0.0, 1.0, 5, dtype=ys.dtype), ys).evaluate(t)

    return run


def hermite(ts, ys):
    return diffrax.CubicInterpolation(ts, diffrax.backward_hermite_coefficients(ts, ys))


def event_time(y, k):
    """The time at which the pendulum passes through zero, by a root find."""
    event = diffrax.Event(lambda t, y, args, **_: y[0] - 0.7, optimistix.Newton(1e-6, 1e-6))
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field), diffrax.Tsit5(), 0.0, 3.0, 0.1, y, args=k, event=event, max_steps=64
    )
    return solution.ts[-1]


TABLE = at(inside=(normal(1, 5), f32(0.37)), node=(normal(2, 5), f32(0.5)))
PID = diffrax.PIDController(rtol=1e-5, atol=1e-5)

TARGETS = [
    *(
        solved(type(solver).__name__, solver)
        for solver in (
            diffrax.Euler(),
            diffrax.Heun(),
            diffrax.Midpoint(),
            diffrax.Ralston(),
            diffrax.Bosh3(),
            diffrax.Tsit5(),
            diffrax.Dopri5(),
            diffrax.Dopri8(),
            diffrax.LeapfrogMidpoint(),
            diffrax.ReversibleHeun(),
        )
    ),
    solved("Tsit5, adaptive", diffrax.Tsit5(), PID),
    solved("ImplicitEuler, adaptive", diffrax.ImplicitEuler(), diffrax.PIDController(rtol=1e-3, atol=1e-3)),
    solved("Kvaerno3, adaptive", diffrax.Kvaerno3(), diffrax.PIDController(rtol=1e-4, atol=1e-4)),
    solved("Tsit5, DirectAdjoint", diffrax.Tsit5(), adjoint=diffrax.DirectAdjoint()),
    solved("Tsit5, ForwardMode", diffrax.Tsit5(), adjoint=diffrax.ForwardMode()),
    solved("Tsit5, BacksolveAdjoint", diffrax.Tsit5(), adjoint=diffrax.BacksolveAdjoint()),
    Target("diffrax.diffeqsolve(SemiImplicitEuler)", hamiltonian, at(pendulum=START)),
    Target("diffrax.diffeqsolve(EulerHeun)", stochastic(diffrax.EulerHeun()), at(pendulum=START)),
    Target("diffrax.diffeqsolve(ItoMilstein)", stochastic(diffrax.ItoMilstein()), at(pendulum=START)),
    Target("diffrax.LinearInterpolation", interpolated(diffrax.LinearInterpolation), TABLE),
    Target("diffrax.CubicInterpolation", interpolated(hermite), TABLE),
    Target("diffrax.Event(root)", event_time, at(pendulum=START)),
]
