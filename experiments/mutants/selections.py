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
    "data.py": "tests/test_data.py",
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
    f"{TRAINING}/test_splitting.py {TRAINING}/test_levenberg_marquardt.py {ENSEMBLES}/test_fit.py",
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
    "sklearn/leverages.py": "tests/sklearn/test_leverages.py",
    "sklearn/linear.py": "tests/sklearn/test_linear.py",
    "sklearn/lbfgs.py": f"{ESTIMATORS} tests/sklearn/test_documentation.py",
    "sklearn/recipe.py": f"tests/sklearn/test_recipe.py {ESTIMATORS} tests/sklearn/test_tables.py",
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
        (
            "return shuffled(jax.random.fold_in(state.key, state.epoch), places, count)",
            "return shuffled(state.key, places, count)",
        ),
    ],
    "training/result.py": [("return self.state.best.params", "return self.state.params")],
    "training/splitting.py": [
        ("train = line[jnp.argsort(rank, stable=True)][: places[0]]", "train = line[: places[0]]")
    ],
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

EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("ensembles/scheduling.py", "lanes_for", "*"): "how many members are trained at once changes the speed alone",
    (
        "laplace.py",
        "train",
        "restarts > 1 → restarts >= 1",
    ): "where the search for the decay of a single network begins; it ends where the evidence is largest",
    (
        "training/program.py",
        "take.step",
        "_select(present > 0, after, before) if program.ragged else after → _select(present > 0, after, before)",
    ): "where members have equally many mini-batches, each has examples: the choice costs time alone",
    ("training/stopping.py", "StoppingRule", "False → True"): "a gradient's norm that no rule reads costs time alone",
    ("laplace.py", "train", "3 → 2"): "where the search for the decays begins",
    (
        "posterior.py",
        "Posterior.sample",
        "1 - jnp.sqrt(gamma / (values + gamma)) → 1 + jnp.sqrt(gamma / (values + gamma))",
    ): "a draw's part along each eigenvector changes its sign, which its distribution does not see",
    ("networks/sweep.py", "_shape", "*"): "which shape of a step is taken changes the speed alone",
    ("networks/sweep.py", "_shape.cost", "*"): "which shape of a step is taken changes the speed alone",
    (
        "training/structure.py",
        "rounded_up",
        "count - 1 → 1 - count",
    ): "an integer's bit_length is that of its magnitude",
    (
        "transforms.py",
        "_root",
        "2 → 1",
    ): "any bound does whose square is finite, and ratio² beside 1 is all that counts",
    (
        "networks/sweep.py",
        "Sweep.backward",
        "jnp.zeros((self.inputs + self.hidden, n), delta.dtype) → "
        "jnp.ones((self.inputs + self.hidden, n), delta.dtype)",
    ): "every δ is written before it is read, and what fills up a row is read with weight 0",
}
"""By module, function and change ("*" for all of the function's): why no test of results can tell the mutant."""


def excused(module: str, where: str, what: str) -> str | None:
    """Why a mutant that survives is no fault; None if it is one."""
    return EQUIVALENT.get((module, where, what)) or EQUIVALENT.get((module, where, "*"))
