"""The mistakes that `experiments.planted_faults` plants, each with the tests that should notice it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A mistake: in `file`, `old` becomes `new`; `tests` should fail."""

    what: str
    file: str
    old: str
    new: str
    tests: str


ACTIVATIONS = "tests/test_activations.py"
LIKELIHOODS = "tests/likelihoods/test_likelihoods.py"
RULE = "tests/likelihoods/test_general_rule.py"
LAYERED = "tests/networks/test_layered.py"
GRAPH = "tests/networks/test_graph.py"
GRADIENTS = "tests/backprop/test_gradients.py"
OPTIMIZERS = "tests/test_optimizers.py"
RPROP = "tests/test_rprop.py"
FIT = "tests/training/test_fit.py"
STOPPING = "tests/training/test_stopping.py"
ENSEMBLES = "tests/ensembles/test_fit.py"
TRANSFORMS = "tests/test_transforms.py"
OBJECTIVES = "tests/test_objectives.py"

FAULTS = [
    Fault(
        "logistic': the factor 1 − h missing",
        "jnn/activations.py",
        "jnp.where(lost, 0, h) * jnp.where(a < 1, 1 - h, e * h)",
        "jnp.where(lost, 0, h)",
        f"{ACTIVATIONS}::test_values_and_derivatives -k logistic",
    ),
    Fault(
        "tanh': 1 − z instead of 1 − z²",
        "jnn/activations.py",
        "return (1 - z) * (1 + z)",
        "return 1 - z",
        f"{ACTIVATIONS}::test_values_and_derivatives -k tanh",
    ),
    Fault(
        "softsign': not squared",
        "jnn/activations.py",
        "    r = 1 / (1 + jnp.abs(a))\n    return r * r",
        "    r = 1 / (1 + jnp.abs(a))\n    return r",
        f"{ACTIVATIONS}::test_values_and_derivatives -k softsign",
    ),
    Fault(
        "step: 1 at 0 as well",
        "jnn/activations.py",
        '_by_cases("step", _positive,',
        '_by_cases("step", lambda a: a >= 0,',
        f"{ACTIVATIONS}::test_limits_zeros_kinks_and_nan -k step",
    ),
    Fault(
        "Gaussian: ½ missing",
        "jnn/likelihoods/gaussian.py",
        "value = 0.5 * jnp.sum(jnp.square((y - a) / s), axis=-1)",
        "value = jnp.sum(jnp.square((y - a) / s), axis=-1)",
        f"{LIKELIHOODS}::test_sum_of_squares_and_maximum_likelihood",
    ),
    Fault(
        "Gaussian: ln s missing in N ln(s√2π)",
        "jnn/likelihoods/gaussian.py",
        "value + a.shape[-1] * (jnp.log(s) + HALF_LOG_TWO_PI)",
        "value + a.shape[-1] * HALF_LOG_TWO_PI",
        f"{LIKELIHOODS}::test_complete_density_against_scipy -k Gaussian",
    ),
    Fault(
        "Gaussian: δ not divided by s²",
        "jnn/likelihoods/gaussian.py",
        "        return self.s * self.s",
        "        return 1.0",
        f"{LIKELIHOODS}::test_delta_is_the_gradient_by_autodiff -k Gaussian",
    ),
    Fault(
        "learned variance: ½ missing in ∂/∂ρ",
        "jnn/likelihoods/gaussian.py",
        "0.5 * (1 - u) * (1 + u)",
        "(1 - u) * (1 + u)",
        f"{LIKELIHOODS}::test_delta_is_the_gradient_by_autodiff -k Gaussian",
    ),
    Fault(
        "Bernoulli: y and 1 − y swapped",
        "jnn/likelihoods/canonical.py",
        "(1 - t) * jax.nn.softplus(a) + t * jax.nn.softplus(-a)",
        "t * jax.nn.softplus(a) + (1 - t) * jax.nn.softplus(-a)",
        f"{LIKELIHOODS}::test_cross_entropies_of_the_slides",
    ),
    Fault(
        "Bernoulli: the sign of δ",
        "jnn/likelihoods/canonical.py",
        "(1 - t) * jax.nn.sigmoid(a) - t * jax.nn.sigmoid(-a)",
        "t * jax.nn.sigmoid(-a) - (1 - t) * jax.nn.sigmoid(a)",
        f"{LIKELIHOODS}::test_delta_is_the_gradient_by_autodiff -k Bernoulli",
    ),
    Fault(
        "Categorical: one class missing in ln Σ exp",
        "jnn/likelihoods/canonical.py",
        "return jnp.log1p(rest) - jnp.sum(t * d, axis=-1)",
        "return jnp.log1p(rest - jnp.exp(d[..., 0])) - jnp.sum(t * d, axis=-1)",
        f"{LIKELIHOODS}::test_cross_entropies_of_the_slides",
    ),
    Fault(
        "canonical: δ = z + y",
        "jnn/likelihoods/canonical.py",
        "        return self.mean(a) - t",
        "        return self.mean(a) + t",
        f"{LIKELIHOODS}::test_delta_is_the_gradient_by_autodiff -k Poisson",
    ),
    Fault(
        "Poisson: ln y! for ln Γ(y) in the complete density",
        "jnn/likelihoods/canonical.py",
        "gammaln(t + 1)",
        "gammaln(t)",
        f"{LIKELIHOODS}::test_complete_density_against_scipy -k Poisson",
    ),
    Fault(
        "softmax: only the diagonal of the Jacobian",
        "jnn/likelihoods/general_rule.py",
        "z * (g - jnp.sum(g * z, axis=-1, keepdims=True))",
        "z * (1 - z) * g",
        f"{RULE}::test_softmax_vjp_is_the_product_with_the_full_jacobian",
    ),
    Fault(
        "general rule: σ' missing",
        "jnn/likelihoods/general_rule.py",
        "return self.activation.derivative(a) * g",
        "return g",
        f"{RULE}::test_logistic_with_cross_entropy_is_bernoulli",
    ),
    Fault(
        "forward: bias missing",
        "jnn/networks/layered.py",
        "sum(products, start=bias)",
        "sum(products, start=0 * bias)",
        f"{LAYERED}::test_forward_is_the_slides",
    ),
    Fault(
        "shortcuts: the inputs' dropped",
        "jnn/networks/layered.py",
        "tuple(range(layer)) if shortcuts",
        "tuple(range(min(1, layer - 1), layer)) if shortcuts",
        f"{LAYERED}::test_forward_is_the_slides",
    ),
    Fault(
        "forward: the next layer's activation",
        "jnn/networks/layered.py",
        "self.layers[len(a) - 1].activation.h(a[-1])",
        "layer.activation.h(a[-1])",
        f"{LAYERED}::test_forward_is_the_slides",
    ),
    Fault(
        "initial weights: fan-in without the root",
        "jnn/networks/initialization.py",
        "gain / jnp.sqrt(jnp.maximum(jnp.asarray(fan_in), 1))",
        "gain / jnp.maximum(jnp.asarray(fan_in), 1)",
        f"{LAYERED}::test_initial_weights_are_small_scaled_by_fan_in_and_gain",
    ),
    Fault(
        "general network: a bias where none is connected",
        "jnn/networks/graph.py",
        'return self._where_biased(params["b"])',
        'return params["b"]',
        f"{GRAPH}::test_both_evaluations_are_the_slides",
    ),
    Fault(
        "sweep: a neuron finished before its last row",
        "jnn/networks/sweep.py",
        "last[np.cumsum(rows_of) - 1] = True",
        "last[np.cumsum(rows_of) - rows_of] = True",
        f"{GRAPH}::test_rows_longer_than_a_step_are_summed_in_parts",
    ),
    Fault(
        "converter: W not transposed",
        "jnn/networks/connections.py",
        'weights.append(p["W"].T.reshape(-1))',
        'weights.append(p["W"].reshape(-1))',
        f"{GRAPH}::test_converters_are_exact",
    ),
    Fault(
        "backprop: h' missing",
        "jnn/networks/layered.py",
        "slope * pulled[number]",
        "pulled[number]",
        f"{GRADIENTS}::test_deltas_are_derivatives_by_the_weighted_sums",
    ),
    Fault(
        "backprop: h' at z instead of a",
        "jnn/networks/layered.py",
        "layer.activation.derivative(kept.a[number - 1])",
        "layer.activation.derivative(kept.z[number])",
        f"{GRADIENTS}::test_deltas_are_derivatives_by_the_weighted_sums",
    ),
    Fault(
        "backprop: δ of shortcuts not summed",
        "jnn/networks/layered.py",
        "pulled[source] = pulled[source] + product if source in pulled else product",
        "pulled[source] = product",
        f"{GRADIENTS}::test_deltas_are_derivatives_by_the_weighted_sums",
    ),
    Fault(
        "backprop: the bias gradient averaged",
        "jnn/networks/layered.py",
        '"b": jnp.sum(delta, axis=1)}',
        '"b": jnp.mean(delta, axis=1)}',
        f"{GRADIENTS}::test_per_example_gradients_and_norms",
    ),
    Fault(
        "backprop: the bias left out of the example's norm",
        "jnn/networks/layered.py",
        "* (1 + sum(squares[s] for s in layer.sources))",
        "* sum(squares[s] for s in layer.sources)",
        f"{GRADIENTS}::test_per_example_gradients_and_norms",
    ),
    Fault(
        "backprop, general: edges of absent biases trained",
        "jnn/networks/graph.py",
        'return {"w": w, "b": self._where_biased(b)}',
        'return {"w": w, "b": b}',
        f"{GRADIENTS}::test_per_example_gradients_and_norms",
    ),
    Fault(
        "backprop, sweep: along the forward schedule's weights",
        "jnn/networks/sweep.py",
        'return _by_kind(slope, kind, everything.at[finished].get(mode="clip")) * total',
        "return _by_kind(slope, kind, total) * total",
        f"{GRADIENTS}::test_deltas_are_derivatives_by_the_weighted_sums -k sweep",
    ),
    Fault(
        "custom rule: nothing for the inputs",
        "jnn/backprop.py",
        "return like(grads, params), like(by_inputs, x)",
        "return like(grads, params), like(0 * by_inputs, x)",
        f"{GRADIENTS}::test_custom_rule_carries_any_loss_to_weights_and_inputs",
    ),
    Fault(
        "example weights: in the error only, not in δ",
        "jnn/backprop.py",
        "delta = jnp.broadcast_to(counts, nll.shape)[:, None] * delta",
        "delta = jnp.mean(counts) * delta",
        f"{GRADIENTS}::test_weights_are_repetitions",
    ),
    Fault(
        "weight decay: ½ missing",
        "jnn/objectives.py",
        "return 0.5 * sum(",
        "return 1.0 * sum(",
        f"{GRADIENTS}::test_value_is_the_objective",
    ),
    Fault(
        "weight decay: linear outputs not spared",
        "jnn/networks/layered.py",
        'layers[-1]["W"] = counted[None, :]',
        'layers[-1]["W"] = np.array(True)',
        f"{FIT}::test_linear_outputs_are_spared_by_default",
    ),
    Fault(
        "mean: divided by the number of examples, not by their weights",
        "jnn/objectives.py",
        "value = value / (columns.shape[1] if weights is None else jnp.sum(weights))",
        "value = value / columns.shape[1]",
        f"{OBJECTIVES}::test_the_objective_is_the_lectures",
    ),
    Fault(
        "Adam: bias correction off by one",
        "jnn/optimizers.py",
        "m / (1 - b1**t)",
        "m / (1 - b1 ** (t + 1))",
        f"{OPTIMIZERS}::test_adam_is_algorithm_1",
    ),
    Fault(
        "Adam: no bias correction of v",
        "jnn/optimizers.py",
        "lambda v: v / (1 - b2**t), v",
        "lambda v: v, v",
        f"{OPTIMIZERS}::test_adam_is_algorithm_1",
    ),
    Fault(
        "Adam: ε inside the root",
        "jnn/optimizers.py",
        "(jnp.sqrt(v_hat) + eps)",
        "jnp.sqrt(v_hat + eps)",
        f"{OPTIMIZERS}::test_adam_is_algorithm_1",
    ),
    Fault(
        "momentum: the sign of the last step",
        "jnn/optimizers.py",
        "lambda step, old: step + momentum * old",
        "lambda step, old: step - momentum * old",
        f"{OPTIMIZERS}::test_steepest_descent_is_sgd_at_a_constant_rate",
    ),
    Fault(
        "Rprop+: no step taken back",
        "jnn/optimizers.py",
        "(agreement < 0) & grew, old_sign * old_step, delta",
        "(agreement < 0) & grew, 0 * old_sign * old_step, delta",
        f"{RPROP}::test_rprop_is_the_paper",
    ),
    Fault(
        "iRprop+: taken back although the error fell",
        "jnn/optimizers.py",
        "grew = True if error is None or state.error is None else error > state.error",
        "grew = True",
        f"{RPROP}::test_rprop_is_the_paper",
    ),
    Fault(
        "fit: the last, smaller batch dropped",
        "jnn/training/program.py",
        "present = jnp.clip(block.count - (block.first + number) * size, 0, size)",
        "present = jnp.where(block.count - (block.first + number) * size < size, 0, size)",
        f"{FIT}::test_every_example_counts_once_an_epoch",
    ),
    Fault(
        "fit: the last batch filled with examples counted twice",
        "jnn/training/program.py",
        "counts = jnp.where(places(division, size) < present, scale, 0).astype(program.dtype)",
        "counts = jnp.full(size, scale).astype(program.dtype)",
        f"{FIT}::test_every_example_counts_once_an_epoch",
    ),
    Fault(
        "fit: the same order in every epoch",
        "jnn/training/program.py",
        "return shuffled(jax.random.fold_in(state.key, state.epoch), places, count)",
        "return shuffled(state.key, places, count)",
        f"{FIT}::test_shuffling_differs_by_epoch_and_key_and_is_reproducible",
    ),
    Fault(
        "fit: the last hypothesis instead of the best",
        "jnn/training/result.py",
        "return self.state.best.params",
        "return self.state.params",
        f"{STOPPING}::test_the_hypothesis_with_the_lowest_validation_risk_is_returned",
    ),
    Fault(
        "patience: one epoch too long",
        "jnn/training/stopping.py",
        "seen.epoch - state.epoch >= self.epochs",
        "seen.epoch - state.epoch > self.epochs",
        f"{STOPPING}::test_rules_are_prechelts",
    ),
    Fault(
        "GL: not in percent",
        "jnn/training/stopping.py",
        "return 100 * (risk - lowest.risk)",
        "return risk - lowest.risk",
        f"{STOPPING}::test_rules_are_prechelts",
    ),
    Fault(
        "validation on examples that are trained on",
        "jnn/training/splitting.py",
        "train = line[jnp.argsort(rank, stable=True)][: places[0]]",
        "train = line[: places[0]]",
        f"{FIT}::test_held_out_examples_are_never_trained_on",
    ),
    Fault(
        "stratified validation on examples that are trained on",
        "jnn/training/splitting.py",
        "out = rest + held_out >= count",
        "out = rest + held_out > count",
        "tests/training/test_splitting.py::test_each_class_gives_its_share_up_to_rounding",
    ),
    Fault(
        "divergence: the diverged weights kept",
        "jnn/training/program.py",
        "good = finite & active",
        "good = active",
        "tests/training/test_interruption.py::test_divergence_is_told_and_the_last_good_hypothesis_kept",
    ),
    Fault(
        "ensembles: members that have ended go on",
        "jnn/training/program.py",
        "good = finite & active",
        "good = finite",
        f"{ENSEMBLES}::test_members_are_what_fit_makes_of_them_alone",
    ),
    Fault(
        "ensembles: a step for a batch without examples",
        "jnn/training/program.py",
        "_select(present > 0, after",
        "_select(present >= 0, after",
        f"{ENSEMBLES}::test_a_batch_that_is_missing_makes_no_step",
    ),
    Fault(
        "ensembles: neurons that a narrow member does not have are trained",
        "jnn/training/program.py",
        "grads = jax.tree.map(lambda g, there: g * there, grads, member.present)",
        "pass",
        f"{ENSEMBLES}::test_a_padded_unit_never_changes_anything",
    ),
    Fault(
        "ensembles: examples that are none are validated on",
        "jnn/training/program.py",
        "counts = there.astype(program.dtype) if weights is None",
        "counts = jnp.ones_like(there, program.dtype) if weights is None",
        f"{ENSEMBLES}::test_rows_by_member_are_a_data_set_of_their_own",
    ),
    Fault(
        "ensembles: the variance of the means forgotten",
        "jnn/model.py",
        "likelihood.variance(a) + (likelihood.mean(a) - mean) ** 2",
        "likelihood.variance(a)",
        f"{ENSEMBLES}::test_mean_and_moments_of_the_mixture",
    ),
    Fault(
        "standardize: the variance instead of its root",
        "jnn/transforms.py",
        "scale = unit * xp.sqrt(average(",
        "scale = unit * (average(",
        f"{TRANSFORMS}::test_standardize_is_scikit_learns_scaler",
    ),
    Fault(
        "fold: the sign of the mean",
        "jnn/networks/layered.py",
        "b = b - mean.astype(b.dtype) @ w",
        "b = b + mean.astype(b.dtype) @ w",
        f"{TRANSFORMS}::test_a_folded_network_takes_raw_inputs",
    ),
    Fault(
        "fold: the first layer only, shortcuts forgotten",
        "jnn/networks/layered.py",
        "                if source == 0:",
        "                if source == 0 and len(layer.sources) == 1:",
        f"{TRANSFORMS}::test_a_folded_network_takes_raw_inputs",
    ),
]
