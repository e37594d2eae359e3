"""Which tests are for which module, the quickest first; and which mutants are no fault, with the reason."""

TRAINING = "tests/training"
FIT = f"{TRAINING}/test_fit.py"
GRADIENTS = "tests/backprop/test_gradients.py"
MATRICES = "tests/curvature/test_matrices.py"
NETWORKS = f"tests/networks {GRADIENTS}"
LIKELIHOODS = (
    "tests/likelihoods/test_likelihoods.py tests/likelihoods/test_second_derivatives.py "
    "tests/likelihoods/test_likelihood_accuracy.py"
)
ENSEMBLES = "tests/ensembles"
ESTIMATORS = "tests/sklearn/test_estimators.py"
POSTERIOR = "tests/laplace/test_posterior.py"
DEFAULTS = "tests/test_defaults.py"

TESTS = {
    "activations.py": "tests/test_activations.py",
    "likelihoods/base.py": f"{DEFAULTS} {LIKELIHOODS} tests/likelihoods/test_targets.py",
    "likelihoods/canonical.py": f"{DEFAULTS} {LIKELIHOODS} tests/likelihoods/test_targets.py",
    "likelihoods/encodings.py": "tests/likelihoods/test_encodings.py",
    "likelihoods/gaussian.py": f"{DEFAULTS} {LIKELIHOODS} tests/likelihoods/test_targets.py",
    "likelihoods/general_rule.py": f"{DEFAULTS} tests/likelihoods/test_general_rule.py "
    "tests/likelihoods/test_second_derivatives.py tests/likelihoods/test_likelihoods.py",
    "networks/base.py": f"{DEFAULTS} {NETWORKS}",
    "networks/connections.py": f"{DEFAULTS} tests/networks {GRADIENTS}",
    "networks/graph.py": f"{DEFAULTS} tests/networks/test_base.py tests/networks/test_graph.py "
    f"tests/networks/test_connections.py {GRADIENTS} {MATRICES} tests/test_transforms.py tests/test_objectives.py",
    "networks/initialization.py": f"tests/networks {TRAINING}/test_levenberg_marquardt.py",
    "networks/layered.py": f"{DEFAULTS} tests/networks/test_base.py tests/networks/test_layered.py {GRADIENTS} "
    f"{MATRICES} tests/networks/test_connections.py tests/test_transforms.py tests/test_objectives.py",
    "networks/sweep.py": f"tests/networks/test_graph.py {GRADIENTS} {MATRICES}",
    "transforms.py": f"{DEFAULTS} tests/test_transforms.py tests/test_tables.py",
    "tables.py": "tests/test_tables.py",
    "data.py": f"{DEFAULTS} tests/test_data.py",
    "objectives.py": f"{DEFAULTS} tests/test_objectives.py {GRADIENTS}",
    "backprop.py": f"{DEFAULTS} {GRADIENTS} tests/test_objectives.py",
    "curvature.py": f"{DEFAULTS} {MATRICES}",
    "posterior.py": f"{DEFAULTS} {POSTERIOR}",
    "model.py": f"{DEFAULTS} tests/test_model.py {POSTERIOR} {ENSEMBLES}/test_fit.py "
    "tests/persistence/test_round_trip.py",
    "schedules.py": f"{DEFAULTS} tests/test_schedules.py",
    "optimizers.py": f"{DEFAULTS} tests/test_optimizers.py tests/test_rprop.py {TRAINING}/test_levenberg_marquardt.py",
    "training/problem.py": f"{TRAINING}/test_problem.py {TRAINING}/test_stopping.py {FIT} {TRAINING}/test_fit_input.py",
    "training/program.py": f"{TRAINING}/test_program.py {FIT} {TRAINING}/test_stopping.py "
    f"{TRAINING}/test_splitting.py {TRAINING}/test_levenberg_marquardt.py {TRAINING}/test_dividing.py "
    f"{ENSEMBLES}/test_fit.py",
    "training/result.py": f"{TRAINING}/test_result.py {FIT} {TRAINING}/test_stopping.py {ENSEMBLES}/test_fit.py",
    "training/observers.py": f"{TRAINING}/test_observers.py {TRAINING}/test_stopping.py {FIT}",
    "training/packing.py": f"{TRAINING}/test_packing.py",
    "training/splitting.py": f"{TRAINING}/test_splitting.py",
    "training/stopping.py": f"{TRAINING}/test_stopping.py",
    "training/structure.py": f"{TRAINING}/test_structure.py {TRAINING}/test_fit_compiled.py {FIT}",
    "training/dividing.py": f"{TRAINING}/test_dividing.py {TRAINING}/test_hosts.py",
    "training/streaming.py": f"{TRAINING}/test_streaming.py",
    "training/visiting.py": f"{TRAINING}/test_visiting.py {TRAINING}/test_interruption.py",
    "ensembles/ensemble.py": f"{ENSEMBLES}/test_fit.py",
    "ensembles/fitting.py": f"{DEFAULTS} {ENSEMBLES}/test_members.py {ENSEMBLES}/test_fit.py",
    "ensembles/resampling.py": f"{ENSEMBLES}/test_resampling.py",
    "ensembles/scheduling.py": f"{ENSEMBLES}/test_members.py {ENSEMBLES}/test_fit.py",
    "ensembles/search.py": f"{DEFAULTS} {ENSEMBLES}/test_search.py",
    "ensembles/widths.py": f"{ENSEMBLES}/test_members.py {ENSEMBLES}/test_fit.py {ENSEMBLES}/test_search.py",
    "laplace.py": f"{DEFAULTS} {POSTERIOR}",
    "sklearn/classifier.py": f"tests/sklearn/test_targets.py {ESTIMATORS}",
    "sklearn/leverages.py": f"{DEFAULTS} tests/sklearn/test_leverages.py",
    "sklearn/linear.py": f"{DEFAULTS} tests/sklearn/test_linear.py",
    "sklearn/lbfgs.py": f"tests/sklearn/test_lbfgs.py {ESTIMATORS} tests/sklearn/test_documentation.py",
    "sklearn/recipe.py": f"{DEFAULTS} tests/sklearn/test_recipe.py {ESTIMATORS} tests/sklearn/test_tables.py",
    "sklearn/regressor.py": f"tests/sklearn/test_targets.py {ESTIMATORS}",
}
"""Modules of `jnn`, with what pytest is to run."""

PLANTED: dict[str, list[tuple[str, str]]] = {
    "likelihoods/canonical.py": [
        (
            "(1 - t) * jax.nn.softplus(a) + t * jax.nn.softplus(-a)",
            "t * jax.nn.softplus(a) + (1 - t) * jax.nn.softplus(-a)",
        ),
        ("return d, jnp.log1p(rest)", "return d, jnp.log1p(rest - jnp.exp(d[..., 0]))"),
    ],
    "likelihoods/gaussian.py": [
        ("        return self.s * self.s", "        return 1.0"),
        (
            "return jnp.square(self._root(a)) * v",
            "return self.hessian_product(a, 0 * a[..., : a.shape[-1] // 2], v)",
        ),
    ],
    "likelihoods/general_rule.py": [("z * (g - jnp.sum(g * z, axis=-1, keepdims=True))", "z * (1 - z) * g")],
    "networks/layered.py": [
        ("tuple(range(layer)) if shortcuts", "tuple(range(min(1, layer - 1), layer)) if shortcuts"),
        ("self.layers[len(a) - 1].activation.h(a[-1])", "layer.activation.h(a[-1])"),
        ("layer.activation.derivative(kept.a[number - 1])", "layer.activation.derivative(kept.z[number])"),
        ('bias: Array = p["b"][:, None]', 'bias: Array = 0 * p["b"][:, None]'),
        ('            bias: Array = v["b"][:, None]', '            bias: Array = 0 * v["b"][:, None]'),
        ('layers[-1]["W"] = counted[None, :]', 'layers[-1]["W"] = np.array(True)'),
        (
            "                if source == 0:\n                    w = matrix",
            "                if source == 0 and len(layer.sources) == 1:\n                    w = matrix",
        ),
    ],
    "networks/sweep.py": [
        (
            'return self._slope(kind, everything.at[finished].get(mode="clip")) * total\n\n        _, swept',
            "return self._slope(kind, total) * total\n\n        _, swept",
        ),
        ("last[np.cumsum(rows_of) - 1] = True", "last[np.cumsum(rows_of) - rows_of] = True"),
    ],
    "backprop.py": [
        ("return like(grads, params), like(by_inputs, x)", "return like(grads, params), like(0 * by_inputs, x)"),
        (
            "delta = jnp.broadcast_to(counts, nll.shape)[:, None] * delta",
            "delta = jnp.mean(counts) * delta",
        ),
    ],
    "curvature.py": [
        ("likelihood.hessian_product(rows, y, moved_a.T)).T)", "likelihood.fisher_product(rows, moved_a.T)).T)"),
        (
            "jnp.pad(counts, (0, missing)).reshape(blocks, size)",
            'jnp.pad(counts, (0, missing), mode="edge").reshape(blocks, size)',
        ),
    ],
    "optimizers.py": [
        ("(jnp.sqrt(v_hat) + eps)", "jnp.sqrt(v_hat + eps)"),
        (
            "(agreement < 0) & grew, old_sign * old_step, delta",
            "(agreement < 0) & grew, 0 * old_sign * old_step, delta",
        ),
        ("            moved=accepted,", "            moved=~accepted,"),
    ],
    "training/program.py": [
        (
            "present = jnp.clip(block.count - (block.first + number) * size, 0, size)",
            "present = jnp.where(block.count - (block.first + number) * size < size, 0, size)",
        ),
        ("grads = jax.tree.map(lambda g, there: g * there, grads, member.present)", "pass"),
        (
            "counts = there.astype(program.dtype) if weights is None",
            "counts = jnp.ones_like(there, program.dtype) if weights is None",
        ),
        ("matrix += jnp.diag(ravel_pytree(self._decayed(", "matrix += 0 * jnp.diag(ravel_pytree(self._decayed("),
        (
            "counts = jnp.where(places(division, size) < present, scale, 0).astype(program.dtype)",
            "counts = jnp.full(size, scale).astype(program.dtype)",
        ),
        ("return jax.random.fold_in(state.key, state.epoch)", "return state.key"),
    ],
    "training/result.py": [("return self.state.best.params", "return self.state.params")],
    "training/splitting.py": [("train = line[in_order(rank, 2)][: places[0]]", "train = line[: places[0]]")],
    "posterior.py": [
        (
            "return self.noise / gamma * (flat @ flat.T - less @ less.T)",
            "return self.noise / gamma * (less @ less.T)",
        )
    ],
    "laplace.py": [
        (
            "scaled = np.asarray(gradients) / np.maximum(1 - leverage, 1e-3)[:, None]",
            "scaled = np.asarray(gradients) / np.sqrt(np.maximum(1 - leverage, 1e-3))[:, None]",
        )
    ],
}
"""Mistakes that no single change makes."""

NO_FAULTS: dict[str, list[tuple[str, str, str]]] = {
    "how many members are trained at once, where and when, changes the speed alone": [
        ("ensembles/scheduling.py", "lanes_for", "*"),
        ("ensembles/scheduling.py", "cpu_workers", "*"),
        ("ensembles/scheduling.py", "_Worker.compile", "*"),
        ("ensembles/scheduling.py", "_Queue._due", "time.monotonic() - self._met → time.monotonic()"),
        (
            "ensembles/scheduling.py",
            "_Queue._due",
            "time.monotonic() - self._met >= SECONDS_BETWEEN_MEETINGS → "
            "time.monotonic() - self._met > SECONDS_BETWEEN_MEETINGS",
        ),
        (
            "ensembles/scheduling.py",
            "train",
            "[:max(1, -(-len(work.own) // lanes))] → [:max(1, -(-len(work.own) // lanes)) + 1]",
        ),
        ("ensembles/scheduling.py", "train", "max(1, -(-len(work.own) // lanes)) → 1"),
        (
            "ensembles/scheduling.py",
            "train",
            "len(work.own) > lanes * len(workers) → len(work.own) >= lanes * len(workers)",
        ),
        ("ensembles/scheduling.py", "train", "lanes * len(workers) → lanes"),
        ("ensembles/scheduling.py", "train", "lanes * len(workers) → len(workers)"),
    ],
    "which program is taken, and how much of it at a time, changes time and memory alone": [
        ("networks/sweep.py", "_shape", "*"),
        ("networks/sweep.py", "_shape.cost", "*"),
        ("networks/graph.py", "", "24 → 48"),
        ("networks/graph.py", "", "0.05 → 0.1"),
        (
            "networks/graph.py",
            "choose_evaluation",
            "len(network.groups) > MOST_BLOCK_LAYERS → len(network.groups) >= MOST_BLOCK_LAYERS",
        ),
        (
            "networks/graph.py",
            "choose_evaluation",
            "len(network.edges) >= LEAST_BLOCK_DENSITY * places → len(network.edges) > LEAST_BLOCK_DENSITY * places",
        ),
        ("data.py", "Transformed.__init__", "1 → 0 #1"),
        ("data.py", "Grouped.read", "1 → 2 #4"),
        ("training/splitting.py", "shuffled", "*"),
        ("training/splitting.py", "in_order", "32 → 64 #1"),
        ("training/splitting.py", "in_order", "len(numbers) - 1 → len(numbers) + 1"),
        ("training/splitting.py", "in_order", "len(numbers) - 1 → len(numbers)"),
        ("training/streaming.py", "_Buffers._next", "63 → 126 #1"),
        ("training/streaming.py", "_Buffers._next", "63 → 126 #2"),
        (
            "training/streaming.py",
            "_Buffers._next",
            "len(block[self._used]) < size + 63 → len(block[self._used]) <= size + 63",
        ),
        ("data.py", "", "2 ** 24 → 2 ** (24 + 1)"),
        ("data.py", "", "2 ** 24 → 2"),
        ("data.py", "", "2 → 3"),
        ("data.py", "", "2 → 1"),
        ("data.py", "", "24 → 48"),
        ("data.py", "", "256 → 512"),
        ("transforms.py", "Whiten.fit", "False → True"),
        ("curvature.py", "", "2 ** 24 → 2 ** (24 + 1)"),
        ("curvature.py", "", "2 ** 24 → 2"),
        ("curvature.py", "", "2 → 3"),
        ("curvature.py", "", "2 → 1"),
        ("curvature.py", "", "24 → 48"),
        ("curvature.py", "_in_blocks", "n <= size → n < size"),
        (
            "curvature.py",
            "_in_blocks",
            "max(1, BLOCK // (network.weight_count * network.outputs)) → 1",
        ),
        ("curvature.py", "_in_blocks", "network.weight_count * network.outputs → network.weight_count"),
        ("curvature.py", "_in_blocks", "network.weight_count * network.outputs → network.outputs"),
        (
            "curvature.py",
            "_in_blocks",
            "BLOCK // (network.weight_count * network.outputs) → BLOCK // (network.weight_count * network.outputs) + 1",
        ),
        ("training/structure.py", "", "3 → 4"),
        ("training/structure.py", "", "3 → 2"),
        ("training/structure.py", "", "6 → 12"),
        ("training/structure.py", "", "256 → 512"),
        ("training/structure.py", "", "16 → 32"),
        ("model.py", "", "16 → 32"),
        ("model.py", "", "128 → 256"),
        ("model.py", "", "1024 → 2048"),
        ("model.py", "", "16384 → 32768"),
        ("model.py", "Model._part", "len(z) <= size → len(z) < size"),
        (
            "model.py",
            "Model._predicted",
            "SIZES[-1] if len(z) > SIZES[-1] // 4 else SIZES[-2] → SIZES[-1]",
        ),
        (
            "model.py",
            "Model._predicted",
            "SIZES[-1] if len(z) > SIZES[-1] // 4 else SIZES[-2] → SIZES[-2]",
        ),
        ("model.py", "Model._predicted", "len(z) > SIZES[-1] // 4 → len(z) >= SIZES[-1] // 4"),
        ("model.py", "Model._predicted", "SIZES[-1] // 4 → SIZES[-1] // 4 + 1"),
        ("model.py", "Model._predicted", "4 → 5"),
        ("model.py", "Model._predicted", "4 → 3"),
        ("model.py", "Model._predicted", "2 → 3"),
        ("model.py", "Model._predicted", "2 → 1"),
        ("model.py", "Model._predicted", "compute.__wrapped__ if inside else compute → compute"),
        ("model.py", "_posterior_moments.one", "min(256, len(z)) → 256"),
        ("model.py", "_posterior_moments.one", "min(256, len(z)) → max(256, len(z))"),
        ("model.py", "_posterior_moments.one", "256 → 512"),
        ("training/stopping.py", "StoppingRule", "False → True"),
        (
            "training/program.py",
            "take.step",
            "_select(present > 0, after, before) if program.ragged else after → _select(present > 0, after, before)",
        ),
        (
            "laplace.py",
            "_basis",
            "len(x) * network.outputs < count - start → len(x) * network.outputs <= count - start",
        ),
        ("laplace.py", "_basis", "len(x) * network.outputs → len(x)"),
        ("laplace.py", "_basis", "len(x) * network.outputs → network.outputs"),
        ("laplace.py", "_basis", "len(x) * network.outputs → len(x) / network.outputs"),
        ("laplace.py", "_basis", "count - start → count"),
        ("laplace.py", "_basis", "count - start → count + start"),
        ("laplace.py", "_basis_of_rows", "len(rows) >= rows.shape[1] → len(rows) > rows.shape[1]"),
        ("posterior.py", "Diagonal.complete", "True → False"),
        ("posterior.py", "Kronecker.complete", "True → False"),
    ],
    "where a search begins, or how far beyond need it goes: it ends at the same place": [
        ("laplace.py", "train", "restarts > 1 → restarts >= 1"),
        ("laplace.py", "train", "3 → 2"),
        ("laplace.py", "train", "0.1 → 0.2"),
        ("laplace.py", "_log_count", "0.3 → 0.6"),
        ("laplace.py", "_log_count", "1.0 → 2.0"),
        ("laplace.py", "_log_count", "2.5 → 5.0"),
        ("posterior.py", "predictive", "24 → 48"),
        ("model.py", "mixture_quantiles", "60 → 120"),
        ("model.py", "mixture_quantiles", "60 if len(means) > 1 else 0 → 60"),
        ("model.py", "mixture_quantiles", "len(means) > 1 → len(means) >= 1"),
        (
            "model.py",
            "mixture_quantiles",
            "range(60 if len(means) > 1 else 0) → range((60 if len(means) > 1 else 0) - 1)",
        ),
        ("model.py", "mixture_quantiles", "below < p → below <= p"),
        ("optimizers.py", "_levenberg_marquardt.update", "0.001 → 0.002"),
        ("optimizers.py", "_levenberg_marquardt.update", "200 → 400"),
    ],
    "what is added to its mirror image or drawn from a symmetric distribution has no sign": [
        (
            "posterior.py",
            "Posterior.sample",
            "1 - jnp.sqrt(gamma / (values + gamma)) → 1 + jnp.sqrt(gamma / (values + gamma))",
        ),
        (
            "posterior.py",
            "Posterior.sample",
            "flat + jnp.sqrt(self.noise) * moved → flat - jnp.sqrt(self.noise) * moved",
        ),
        (
            "posterior.py",
            "Posterior.sample",
            "unit - self.basis.vector(shrunk, len(flat)) → self.basis.vector(shrunk, len(flat)) - unit",
        ),
        (
            "posterior.py",
            "predictive",
            "a[None, :] + nodes[:, None] * jnp.sqrt(spread)[None, :] → "
            "a[None, :] - nodes[:, None] * jnp.sqrt(spread)[None, :]",
        ),
        ("laplace.py", "sampling_covariance", "hessian.T → hessian"),
    ],
    "written before it is read, or read with weight 0": [
        (
            "networks/sweep.py",
            "Sweep.backward",
            "jnp.zeros((self.inputs + self.hidden, n), delta.dtype) → "
            "jnp.ones((self.inputs + self.hidden, n), delta.dtype)",
        ),
        ("networks/layered.py", "Layered.moved_forward", "s > 0 → s >= 0"),
        ("networks/layered.py", "Layered.moved_gradients.block", "s > 0 → s >= 0"),
        (
            "networks/layered.py",
            "Layered.moved_gradients.block",
            "product + delta @ moved.z[s].T if s > 0 else product → product + delta @ moved.z[s].T",
        ),
        (
            "model.py",
            "Model._part",
            "np.zeros((missing, z.shape[1]), z.dtype) → np.ones((missing, z.shape[1]), z.dtype)",
        ),
        ("sklearn/recipe.py", "adaptive_descent.init", "jnp.zeros(()) → jnp.ones(())"),
        (
            "optimizers.py",
            "_rprop.init",
            "jnp.zeros((), jnp.result_type(float)) → jnp.ones((), jnp.result_type(float))",
        ),
        (
            "optimizers.py",
            "_levenberg_marquardt.init",
            "jnp.zeros((len(flat), len(flat)), zero.dtype) → jnp.ones((len(flat), len(flat)), zero.dtype)",
        ),
        ("training/stopping.py", "_AtStrips.init", "jnp.zeros(self.strip, dtype) → jnp.ones(self.strip, dtype)"),
        ("training/stopping.py", "_lowest", "jnp.zeros((), dtype) → jnp.ones((), dtype)"),
        ("training/stopping.py", "_lowest", "jnp.zeros((), int) → jnp.ones((), int)"),
        ("networks/sweep.py", "_schedule", "0 → 1 #3"),
        ("transforms.py", "Pieces.fit", "0.0 → 1.0 #1"),
        ("activations.py", "_exp_minus", "0 → 1"),
        ("activations.py", "_within.limited", "0 → 1"),
        ("activations.py", "_within.limited", "a > 0 → a >= 0"),
    ],
    "sizes are 384 or 416, never 400": [
        ("sklearn/recipe.py", "make_plan", "size <= FEW → size < FEW"),
    ],
    "a ring's places are all filled, whichever is the first": [
        ("training/stopping.py", "_AtStrips.update", "seen.epoch - 1 → seen.epoch"),
        ("training/stopping.py", "_AtStrips.update", "seen.epoch - 1 → seen.epoch + 1"),
        ("training/stopping.py", "_AtStrips.update", "seen.epoch - 1 → 1 - seen.epoch"),
        ("training/stopping.py", "_AtStrips.update", "1 → 2"),
        ("training/stopping.py", "_AtStrips.update", "1 → 0"),
    ],
    "any bound does that floating-point numbers reach only where the rest of the formula no longer sees them": [
        ("transforms.py", "_root", "2 → 1"),
        ("transforms.py", "_root", "np.sqrt(jnp.finfo(ratio.dtype).max) / 2 → np.sqrt(jnp.finfo(ratio.dtype).max)"),
        ("activations.py", "_rectifier", "1000.0 → 2000.0"),
        ("sklearn/recipe.py", "adaptive_descent.update", "1e-20 → 2e-20"),
        (
            "activations.py",
            "_exp_minus",
            "a < math.log(jnp.finfo(a.dtype).tiny) → a <= math.log(jnp.finfo(a.dtype).tiny)",
        ),
        (
            "likelihoods/gaussian.py",
            "HeteroscedasticGaussian._standardized",
            "math.log(float(jnp.finfo(a.dtype).max)) → math.log1p(float(jnp.finfo(a.dtype).max))",
        ),
        (
            "likelihoods/canonical.py",
            "Bernoulli.sample",
            "jax.random.logistic(key, a.shape, a.dtype) < a → jax.random.logistic(key, a.shape, a.dtype) <= a",
        ),
    ],
    "where a piecewise formula is looked at for its slopes: any grid as wide and as fine does": [
        ("activations.py", "Activation.gradient_passes", "0.001 → 0.002"),
        ("activations.py", "Activation.gradient_passes", "1000.0 → 2000.0"),
        ("activations.py", "Activation.gradient_passes", "121 → 242"),
    ],
}
"""By reason, mutants that no test of results can tell: module, function and change ("*": all of the function's).

" #2" is the second place in the function at which that is the change."""

EQUIVALENT = {mutant: reason for reason, those in NO_FAULTS.items() for mutant in those}


def excused(module: str, where: str, what: str, number: int) -> str | None:
    """Why a mutant that survives is no fault; None if it is one."""
    keys = ((module, where, change) for change in (f"{what} #{number}", what, "*"))
    return next((EQUIVALENT[key] for key in keys if key in EQUIVALENT), None)
