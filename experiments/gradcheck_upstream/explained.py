"""What did not pass in the table, looked at by hand: by function and inputs, whose fault it is, and why.

`exact` shows what the library says beside the exact value; `whose` is "theirs" (the library's derivative is wrong, or
is not there), "no derivative" (none exists at the point, or none that is finite), "deliberate" (the library says so),
or "ours" (the checker cannot decide, or should have).
"""

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass

from experiments.gradcheck_upstream import exact


@dataclass(frozen=True)
class Explanation:
    """Of results whose function and inputs match the patterns."""

    function: str
    inputs: str
    whose: str
    text: str
    shown: Callable[[], exact.Shown] | None = None

    def fits(self, function: str, inputs: str) -> bool:
        """Whether it is about this result."""
        return fnmatch.fnmatchcase(function, self.function) and fnmatch.fnmatchcase(inputs, self.inputs)


S = "jax.scipy.special."

# Of the scan (JAX 0.12.0.1, optax 0.2.8).
SCANNED = (
    Explanation(
        S + "hyp1f1",
        "*",
        "theirs",
        "by a at 0, −1, ...: 0 or NaN, where the series has a finite derivative",
        exact.hyp1f1,
    ),
    Explanation(
        S + "hyp2f1",
        "*",
        "theirs",
        "by a at 0, −1, ...: 0 or NaN; near x = 1 accurate to 80 ulps; wrong where the value is wrong already",
        exact.hyp2f1,
    ),
    Explanation(
        "optax*.sigmoid_focal_loss",
        "*",
        "theirs",
        "by labels of 0 or 1: logsumexp loses the derivative by b where b = 0 (jax#22398, open since 2024)",
        exact.focal_loss,
    ),
    Explanation(
        "optax.projections.*", "*bfloat16", "theirs", "raises in bfloat16, where the value exists", exact.simplex
    ),
    Explanation("optax.losses.multiclass_sparsemax_loss", "*bfloat16", "theirs", "raises in bfloat16"),
    Explanation("jax.numpy.linalg.det", "*bfloat16", "theirs", "raises in bfloat16, where the value exists", exact.det),
    Explanation(
        S + "wofz", "*", "theirs", "its formula cancels at large arguments: 20 times too large at 1e4", exact.wofz
    ),
    Explanation(S + "fresnel", "*bfloat16", "theirs", "the phase is rounded to bfloat16", exact.fresnel),
    Explanation("jax.numpy.hypot", "special*", "no derivative", "at (0, 0); JAX says NaN"),
    Explanation(S + "poch", "special*", "no derivative", "at 0; JAX says NaN"),
    Explanation(S + "entr", "special*", "no derivative", "infinite at 0"),
    Explanation(S + "xlogy", "special*", "no derivative", "infinite at y = 0"),
    Explanation("optax.scale_gradient", "*", "deliberate", "a gradient that is scaled is what it is for"),
    Explanation(
        S + "owens_t",
        "special, bfloat16",
        "ours",
        "right at a = ±1: the pieces of which the value is made miss each other by more than the checker puts up with",
    ),
)

# Of the lists, by library.
LISTED = (
    Explanation("jax.numpy.linalg.norm", "zero", "no derivative", "a norm has none at 0; JAX says NaN"),
    Explanation(
        "jax.nn.logsumexp(weights)",
        "zeros",
        "theirs",
        "loses the derivative by b where b = 0 (jax#22398, open since 2024)",
        exact.logsumexp,
    ),
    Explanation("jax.scipy.linalg.hessenberg", "*", "theirs", "has no derivative in JAX"),
    Explanation("jax.scipy.linalg.sqrtm", "*", "theirs", "has no derivative in JAX: the Schur decomposition has none"),
    Explanation("jax.scipy.stats.beta.cdf", "*", "theirs", "raises by a and b, as betainc does", exact.beta_cdf),
    Explanation("jax.lax.betainc", "*", "theirs", "raises by a and b", exact.beta_cdf),
    *(
        Explanation(
            f"jax.random.{name}",
            "*",
            "deliberate",
            "implicit reparameterization: right in the mean, not the derivative of the draw with this key",
            exact.gamma_draw,
        )
        for name in ("gamma", "loggamma", "beta", "dirichlet", "chisquare", "t")
    ),
    Explanation(
        "jax.experimental.ode.odeint",
        "*",
        "theirs",
        "the adjoint takes adaptive steps of its own: neither it nor its linearity is better than the tolerance",
        exact.odeint,
    ),
    Explanation(
        "optax.perturbations.make_perturbed_fun",
        "*",
        "deliberate",
        "the gradient is an estimate of that of the smoothed function, not the derivative of the value with this key",
    ),
    Explanation(
        "tfp.math.*bessel*",
        "*",
        "theirs",
        "by the order: 0, which the documentation calls not defined",
        exact.bessel,
    ),
    Explanation(
        "distrax.VonMises.sample",
        "*",
        "deliberate",
        "implicit reparameterization, as of jax.random.gamma",
        exact.von_mises_draw,
    ),
    Explanation(
        "distrax.Categorical(probs)",
        "zero",
        "theirs",
        "NaN in all elements beside a probability of 0, in the log-probability of another category",
        exact.categorical_zero,
    ),
    Explanation(
        "distrax.Sigmoid",
        "far",
        "theirs",
        "NaN below −88: the branch that is not taken overflows",
        exact.sigmoid_log_det,
    ),
    Explanation(
        "lineax.linear_solve(BiCGStab)",
        "dominant",
        "theirs",
        "it breaks down here: the value is wrong already, and the derivative raises in spite of throw=False",
        exact.bicgstab,
    ),
    Explanation(
        "optimistix.*(BFGS)",
        "normal",
        "theirs",
        "in float32 it stops 1e-4 off the minimum, where the implicit function theorem is applied all the same",
        exact.optimistix_bfgs,
    ),
    Explanation("optimistix.*LBFGS)", "normal", "theirs", "it stops 1e-4 off the minimum, as above"),
    Explanation(
        "optimistix.*NelderMead)",
        "normal",
        "theirs",
        "it stops 1e-2 off the minimum: the simplex is small before it is there",
        exact.nelder_mead,
    ),
    Explanation(
        "jaxopt.LevenbergMarquardt",
        "normal",
        "theirs",
        "it stops 1e-4 off the minimum, as above",
        exact.jaxopt_levenberg,
    ),
    Explanation(
        "jaxopt.GradientDescent",
        "normal",
        "theirs",
        "it stops 1e-4 off the minimum, and its linear system is solved to 1e-5 only: under vmap, to another end",
        exact.jaxopt_descent,
    ),
    *(
        Explanation(
            f"jaxopt.projection.projection_{name}", "*", "theirs", "no gradient arrives at all", exact.transport
        )
        for name in ("transport", "birkhoff")
    ),
    Explanation(
        "jaxopt.projection.projection_box_section",
        "normal",
        "ours",
        "right: a bisection whose bracket moves with its arguments cannot be decided by its own derivative",
    ),
    *(
        Explanation(f"optimistix.{name}", inputs, "no derivative", "a norm has none there; a subgradient comes out")
        for name, inputs in (("two_norm", "zero"), ("rms_norm", "zero"), ("max_norm", "tie"))
    ),
    Explanation(
        "numpyro.distributions.DoublyTruncatedPowerLaw",
        "near_minus_one",
        "theirs",
        "its formula cancels close to a = −1",
        exact.power_law,
    ),
    Explanation("optax.losses.kl_divergence", "zero", "no derivative", "infinite by a target of 0; JAX says NaN"),
    Explanation(
        "diffrax.diffeqsolve(ImplicitEuler, adaptive)",
        "pendulum",
        "deliberate",
        "PIDController stops the gradient of the step sizes: what comes out is the derivative at given steps, and not "
        "that of the value, whose steps depend on the arguments",
        exact.implicit_euler,
    ),
    Explanation(
        "jax.experimental.pallas.ops.gpu.attention.mha",
        "more_keys",
        "theirs",
        "raises where the keys are in more blocks than the queries, and says so",
    ),
    Explanation(
        "jax.experimental.pallas.ops.tpu.megablox.gmm(existing_out)",
        "*",
        "theirs",
        "existing_out gets the cotangent of the rows that are overwritten, too",
        exact.gmm_existing_out,
    ),
    Explanation(
        "jax.experimental.pallas.ops.tpu.megablox.gmm",
        "*",
        "theirs",
        "by b, under vmap and interpreted: the last group is not written",
        exact.gmm_vmap,
    ),
    Explanation("e3nn_jax.norm", "zero", "no derivative", "a norm has none there; 0 comes out"),
    Explanation(
        "e3nn_jax.norm_activation",
        "zero",
        "theirs",
        "σ(1) in place of σ(0): the norm of 0 is set to 1 where the root is guarded",
        exact.norm_activation,
    ),
    Explanation("rlax.clip_gradient", "*", "deliberate", "a gradient that is clipped is what it is for"),
    Explanation(
        "rlax.signed_hyperbolic",
        "zero",
        "theirs",
        "smooth at 0, but sign and abs have the derivative 0 there",
        exact.signed_hyperbolic,
    ),
    Explanation("rlax.vtrace", "*", "deliberate", "stops the gradient of its target, unless told otherwise"),
    Explanation(
        "rlax.softmax.entropy", "hard", "ours", "e⁻⁹⁰ underflows float32: nothing of this size would be noticed"
    ),
    Explanation(
        "tfp.math.hpsd_quadratic_form_solve",
        "*",
        "theirs",
        "by b: 2 A⁻¹ b g for A⁻¹ b (g + gᵀ), wrong unless the cotangent is symmetric",
        exact.hpsd_quadratic_form,
    ),
    *(
        Explanation(
            f"ott.{name}",
            inputs,
            "theirs",
            "the value under differentiation is that of the norm of ones, where it is the norm of zero",
            exact.ott_norm,
        )
        for name, inputs in (("math.utils.norm", "zero"), ("geometry.costs.*P", "equal"), ("*.Euclidean", "equal"))
    ),
    Explanation("ott.math.utils.norm(rows)", "one_zero", "theirs", "NaN in a row of zeros, though safe for all zeros"),
    Explanation("ott.math.utils.softmin", "*", "theirs", "no gradient arrives at γ", exact.ott_softmin),
    Explanation("ott.math.utils.safe_log", "zero", "theirs", "NaN at 0, by the branch that is not taken"),
    Explanation("ott.geometry.costs.Arccos", "equal", "theirs", "NaN where the angle is 0", exact.ott_arccos),
    Explanation(
        "ott.geometry.costs.Cosine", "equal", "ours", "zero but for a ridge of 1e-8: too ill-conditioned to be judged"
    ),
    *(
        Explanation(
            f"ott.{name}",
            "*",
            "theirs",
            "its linear system is singular: raises, or NaN for some cotangents",
        )
        for name in ("solvers.linear.sinkhorn(p*", "tools.soft_sort.ranks", "tools.soft_sort.topk_mask")
    ),
    Explanation(
        "ott.tools.sinkhorn_divergence",
        "*",
        "theirs",
        "it stops at 1e-3, its default, where the envelope is 1e-3 off; differences of the value say so",
    ),
    Explanation("ott.tools.soft_sort.sort", "*", "theirs", "raises: no reverse mode under jit, and singular"),
    Explanation(
        "ott.solvers.linear.sinkhorn(clouds)", "*", "deliberate", "its linear solver stops at a residual of 1e-6"
    ),
    Explanation("tfp.math.soft_sorting_matrix", "*", "theirs", "cannot be traced by jit"),
    Explanation("tfp.math.lu_solve", "*", "theirs", "cannot be traced by jit"),
    Explanation("distrax.Laplace", "centre", "no derivative", "the density has a kink at its centre"),
    Explanation("diffrax.LinearInterpolation", "node", "no derivative", "a polygon has a kink at its nodes"),
    Explanation("interpax.interp1d(linear)", "node", "no derivative", "a polygon has a kink at its nodes"),
    Explanation(
        "optimistix.minimise(GoldenSearch)",
        "middle",
        "ours",
        "a search by values knows its argument to the root of the rounding only: nothing decides",
    ),
)

# Solvers of which the primal has no reverse mode: forward mode through the loop, and through further iterations, takes
# more than `jnn.gradcheck.oracle.numerical.MOST` equations.
LONG = tuple(
    Explanation(name, "*", "ours", "a solver that takes more equations than a check may evaluate")
    for name in (
        "optimistix.minimise(NonlinearCG)",
        "jaxopt.LBFGS",
        "jaxopt.ProximalGradient(lasso)",
        "tfp.math.hypergeometric.hyp2f1_small_argument",
    )
)

EXPLANATIONS: tuple[Explanation, ...] = (*SCANNED, *LISTED, *LONG)


def explanation(function: str, inputs: str) -> Explanation | None:
    """The first explanation of a result, if there is one."""
    return next((e for e in EXPLANATIONS if e.fits(function, inputs)), None)
