"""What second derivatives cost, and what Levenberg-Marquardt gains by them.

    python -m experiments.benchmarks.second_order [--restarts 40] [--only sine sinc ...]

First, products with the Hessian and the Gauss-Newton matrix, in gradients: by hand, and autodiff's of the same
objective (in turn, processor time, float32). Then, for each problem, `jnn.levenberg_marquardt` from Nguyen and Widrow's
weights until the mean squared error reaches a target: iterations, and processor time beside optimistix's
(if it is installed; from the same weights, to the same target) and SciPy's L-BFGS-B on jnn's gradient. One process, one
problem after another, contestants in turn for each restart. Set OPENBLAS_NUM_THREADS=1 on a busy machine, where
LAPACK's threads wait for each other; it holds for all of them.
"""

import argparse
import functools
import importlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree

import jnn
from jnn import backprop, curvature, objectives
from jnn.likelihoods import Gaussian
from jnn.networks import Network, nguyen_widrow

MOST = 100
"""Iterations a restart of Levenberg-Marquardt may take."""


@dataclass(frozen=True)
class Problem:
    """Examples, a network, and the mean squared error to reach."""

    name: str
    x: np.ndarray
    y: np.ndarray
    network: Network
    target: float


def mackey_glass(count: int) -> np.ndarray:
    """The Mackey-Glass series, τ = 17, a sample a time unit after a transient, by Runge and Kutta's rule, step 0.1."""
    delay, step = 170, 0.1
    history = [1.2] * (delay + 1)
    for _ in range(10 * (count + 300)):
        x, late = history[-1], history[-1 - delay]
        gain = 0.2 * late / (1 + late**10)
        k1 = gain - 0.1 * x
        k2 = gain - 0.1 * (x + step * k1 / 2)
        k3 = gain - 0.1 * (x + step * k2 / 2)
        k4 = gain - 0.1 * (x + step * k3)
        history.append(x + step * (k1 + 2 * k2 + 2 * k3 + k4) / 6)
    return np.array(history[::10])[-count:]


def problems() -> dict[str, Problem]:
    """Small smooth regressions."""

    def made(name: str, x: np.ndarray, y: np.ndarray, sizes: list[int], target: float) -> Problem:
        return Problem(name, x.astype(np.float32), y.astype(np.float32), jnn.mlp(sizes), target)

    sine, sinc = np.linspace(-1, 1, 41)[:, None], np.linspace(-1, 1, 2000)[:, None]
    series = mackey_glass(624)
    place = np.arange(18, 618)
    past = np.stack([series[place - lag] for lag in (18, 12, 6, 0)], axis=1)
    later = series[place + 6][:, None]
    return {
        "sine": made("sine", sine, np.sin(np.pi * sine), [1, 5, 1], 4.9e-5),
        "sinc": made("sinc", sinc, np.sinc(10 * sinc / np.pi), [1, 20, 1], 1e-6),
        "mackey_glass": made(
            "mackey_glass",
            (past - past.mean(axis=0)) / past.std(axis=0),
            (later - later.mean()) / later.std(),
            [4, 20, 10, 1],
            1e-4,
        ),
    }


def processor_time(function: Callable[[], Any], repeats: int) -> float:
    """Seconds of processor time a call."""
    start = time.process_time()
    for _ in range(repeats):
        jax.block_until_ready(function())
    return (time.process_time() - start) / repeats


# --- products


def costs(rounds: int = 9) -> None:
    """Print what products cost."""
    print(
        f"{'network, examples':28}{'gradient':>12}{'Hessian':>10}{'autodiff':>10}{'G':>8}{'autodiff':>10}  (gradients)"
    )
    for sizes, count in (([20, 100, 100, 10], 512), ([4, 20, 10, 1], 600), ([64, 256, 10], 1000)):
        network, likelihood = jnn.mlp(sizes), Gaussian()
        keys = jax.random.split(jax.random.key(0), 4)
        params, v = network.init(keys[0]), network.init(keys[1])
        x = jax.random.normal(keys[2], (count, sizes[0]))
        y = jax.random.normal(keys[3], (count, sizes[-1]))
        objective = objectives.objective(network, likelihood)

        def by_autodiff(params: Any, v: Any, x: Any, y: Any, objective: Any = objective) -> Any:
            return jax.jvp(jax.grad(lambda params: objective(params, x, y)), (params,), (v,))[1]

        def g_by_autodiff(params: Any, v: Any, x: Any, y: Any, network: Any = network) -> Any:
            outputs = functools.partial(network.apply, x=x)
            _, moved = jax.jvp(outputs, (params,), (v,))
            return jax.vjp(outputs, params)[1](moved / len(x))

        by_hand = curvature.hessian_vector_product(network, likelihood)
        g_by_hand = curvature.gauss_newton_vector_product(network, likelihood)
        gradient = backprop.value_and_grad(network, likelihood)
        contestants = [
            jax.jit(lambda params, v, x, y, f=gradient: f(params, x, y)[1]),
            jax.jit(by_hand),
            jax.jit(by_autodiff),
            jax.jit(lambda params, v, x, y, f=g_by_hand: f(params, v, x)),
            jax.jit(g_by_autodiff),
        ]
        for contestant in contestants:
            jax.block_until_ready(contestant(params, v, x, y))
        seconds: list[list[float]] = [[] for _ in contestants]
        for _ in range(rounds):
            for own, contestant in zip(seconds, contestants, strict=True):
                own.append(processor_time(functools.partial(contestant, params, v, x, y), 20))
        once, *others = (statistics.median(own) for own in seconds)
        shown = "".join(f"{o / once:{w}.2f}" for o, w in zip(others, (10, 10, 8, 10), strict=True))
        print(f"{'-'.join(map(str, sizes)) + f', {count}':28}{1e3 * once:9.2f} ms{shown}", flush=True)


# --- Levenberg-Marquardt


def reached(problem: Problem, error: np.ndarray) -> int | None:
    """How many iterations until the target; errors are half the mean square, before each iteration."""
    below = np.flatnonzero(2 * error <= problem.target)
    return int(below[0]) if len(below) else None


def first_weights(problem: Problem, seed: int) -> Any:
    """The same for all contestants."""
    return problem.network.init(jax.random.key(seed), weights=nguyen_widrow)


def jnn_contestant(problem: Problem) -> Callable[[Any], tuple[Callable[[], Any], int | None]]:
    """A training, for as many iterations as the target takes."""

    @functools.partial(jax.jit, static_argnames="epochs")
    def run(params: Any, x: Any, y: Any, epochs: int) -> Any:
        optimizer = jnn.levenberg_marquardt(gradient_tolerance=0, step_tolerance=0)
        settings: dict[str, Any] = {
            "optimizer": optimizer,
            "epochs": epochs,
            "stopping": jnn.stopping.GradientNorm(1e-30),
        }
        return jnn.fit(problem.network, Gaussian(), x, y, key=jax.random.key(0), params=params, **settings)

    def restart(params: Any) -> tuple[Callable[[], Any], int | None]:
        result = run(params, problem.x, problem.y, MOST)
        count = reached(problem, np.asarray(result.history.train_error))
        return lambda: run(params, problem.x, problem.y, count or MOST), count

    return restart


def optimistix_contestant(problem: Problem) -> Callable[[Any], tuple[Callable[[], Any], int | None]] | None:
    """Its Levenberg-Marquardt, ended by the target."""
    try:
        optimistix: Any = importlib.import_module("optimistix")
    except ImportError:
        return None

    class Until(optimistix.LevenbergMarquardt):
        """Stops at the target."""

        def terminate(self, fn: Any, y: Any, args: Any, options: Any, state: Any, tags: Any) -> Any:
            error = 2 * state.f_info.as_min() / len(problem.x)  # 0 before the first step
            enough = (error > 0) & (error <= problem.target)
            done, result = super().terminate(fn, y, args, options, state, tags)
            return done | enough, result

    solver = Until(rtol=1e-12, atol=1e-12)

    def residuals(params: Any, data: Any) -> Any:
        return problem.network.apply(params, data[0]) - data[1]

    @jax.jit
    def run(params: Any, x: Any, y: Any) -> Any:
        found = optimistix.least_squares(residuals, solver, params, (x, y), max_steps=300, throw=False)
        error = jnp.mean(jnp.square(residuals(found.value, (x, y))))
        return found.stats["num_steps"], error

    def restart(params: Any) -> tuple[Callable[[], Any], int | None]:
        steps, error = run(params, problem.x, problem.y)
        count = int(steps) if float(error) <= 1.01 * problem.target else None
        return lambda: run(params, problem.x, problem.y), count

    return restart


def scipy_contestant(problem: Problem) -> Callable[[Any], tuple[Callable[[], Any], int | None]]:
    """L-BFGS-B on jnn's gradient, ended by the target."""
    evaluate = jax.jit(backprop.value_and_grad(problem.network, Gaussian()))

    def restart(params: Any) -> tuple[Callable[[], Any], int | None]:
        flat, unravel = ravel_pytree(params)
        count = 0
        best = float("inf")

        def run() -> float:
            nonlocal count, best
            count, best = 0, float("inf")

            def function(w: np.ndarray) -> tuple[float, np.ndarray]:
                nonlocal best
                value, gradient = evaluate(unravel(jnp.asarray(w, np.float32)), problem.x, problem.y)
                best = min(best, float(value))
                return float(value), np.asarray(ravel_pytree(gradient)[0], np.float64)

            def after(_: Any) -> None:
                nonlocal count
                count += 1
                if 2 * best <= problem.target:
                    raise StopIteration

            options = {"maxiter": 5000, "maxfun": 10_000, "ftol": 0, "gtol": 0}
            scipy.optimize.minimize(
                function, np.asarray(flat, np.float64), jac=True, method="L-BFGS-B", callback=after, options=options
            )
            return best

        return run, (count if 2 * run() <= problem.target else None)

    return restart


def race(problem: Problem, restarts: int) -> None:
    """Print medians over the restarts."""
    made = {
        "jnn.levenberg_marquardt": jnn_contestant(problem),
        "optimistix": optimistix_contestant(problem),
        "SciPy's L-BFGS": scipy_contestant(problem),
    }
    contestants = {name: contestant for name, contestant in made.items() if contestant is not None}
    counts: dict[str, list[int | None]] = {name: [] for name in contestants}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for seed in range(restarts):
        params = first_weights(problem, seed)
        for name, contestant in contestants.items():
            run, count = contestant(params)
            counts[name].append(count)
            if count is not None and seed < 10:  # (the first call of a number of iterations compiles)
                run()
                seconds[name].append(processor_time(run, 5))
    own = statistics.median(seconds["jnn.levenberg_marquardt"])
    for name, found in counts.items():
        there = sorted(c for c in found if c is not None)
        limit = {"sine": 15, "sinc": 15}.get(problem.name, 30)
        within = sum(c <= limit for c in there)
        spent = statistics.median(seconds[name]) if seconds[name] else float("nan")
        print(
            f"{problem.name:14}{name:26}{len(there):3} of {restarts} reach {problem.target:.1e}, "
            f"{within} within {limit} iterations; median {statistics.median(there) if there else '-':>5} iterations, "
            f"{1e3 * spent:8.2f} ms ({spent / own:.1f} times jnn's)",
            flush=True,
        )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=40)
    parser.add_argument("--only", nargs="*", default=None, help="products, sine, sinc, mackey_glass")
    arguments = parser.parse_args()
    wanted = arguments.only or ["products", *problems()]
    if "products" in wanted:
        costs()
    for name, problem in problems().items():
        if name in wanted:
            race(problem, arguments.restarts)


if __name__ == "__main__":
    main()
