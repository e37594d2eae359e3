"""`jnn.gradcheck` on the hand-written backward pass: right for every network and likelihood, and faults are located.

The faults are edits of the source of `jnn.backprop` and `jnn.networks`: one fragment is replaced, the function
compiled anew and put in its place. Which leaves (and which of their elements) each fault must spoil, and
which it must leave alone, is worked out by hand from the equations; the report has to name exactly those.
"""

import functools
import inspect
import math
import sys
import textwrap
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jnn
from experiments import crosscheck
from jnn import backprop, gradcheck, objectives
from jnn.activations import Activation
from jnn.likelihoods import Gaussian
from jnn.networks import Dag, Layered, Network
from jnn.networks.graph import Blocks
from jnn.networks.sweep import Sweep

EXAMPLES = 3
LIKELIHOODS = crosscheck.LIKELIHOODS

# --- right ---------------------------------------------------------------------------------------------------------


def problem(network, key, dtype):
    """Parameters, inputs, targets for each likelihood, and weights of the examples."""
    keys = jax.random.split(key, 4)
    params = network.init(keys[0], bias=0.1, dtype=dtype)
    x = jax.random.normal(keys[1], (EXAMPLES, network.inputs), dtype)
    a = jax.random.normal(keys[2], (EXAMPLES, network.outputs), dtype)
    y = {title: likelihood.sample(keys[3], a) for title, likelihood in LIKELIHOODS.items()}
    one_hot = "Categorical, one-hot"
    y[one_hot] = jax.nn.one_hot(y[one_hot], network.outputs, dtype=dtype)
    return params, x, y, jnp.linspace(0.5, 2, EXAMPLES, dtype=dtype)


def slow(*values):
    """Parameters for which compiling takes tens of seconds; the planted faults below are on every kind of network."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "activation", "dtype"),
    [
        ("linear", "tanh", jnp.float64),
        ("one layer", "gelu", jnp.float64),
        slow("two layers", "softplus", jnp.float64),
        ("shortcuts", "silu", jnp.float64),
        ("general, blocks", "logistic", jnp.float64),
        slow("general, sweep", "squareplus", jnp.float64),
        ("one layer", "mish", jnp.float32),
        slow("shortcuts", "log_sigmoid", jnp.float32),
    ],
)
def test_the_rule_is_right_for_every_network_and_likelihood(name, activation, dtype, key):
    """One loss for each likelihood behind one rule: of up to eight outputs, gradcheck also probes each one alone."""
    network = crosscheck.build(name, activation)
    params, x, y, v = problem(network, key, dtype)

    def losses(params, x):
        a = backprop.apply(network, params, x)
        return {title: jnp.sum(v * likelihood.nll(a, y[title])) for title, likelihood in LIKELIHOODS.items()}

    report = gradcheck.check(losses, params, x, power=False)
    assert report.verdict == "pass", str(report)
    assert {leaf.dtype for leaf in report.leaves} == {jnp.dtype(dtype).name}
    assert len(report.leaves) == len(jax.tree.leaves(params)) + 1
    assert any("_apply" in rule for rule in report.removed)  # the rule under test was there
    elements = sum(leaf.comparisons for leaf in report.leaves)
    # Two random cotangents and one for each likelihood alone.
    assert elements == (2 + len(LIKELIHOODS)) * (network.weight_count + x.size)


@pytest.mark.parametrize(
    ("name", "activation", "dtype"),
    [
        ("linear", "tanh", jnp.float32),
        slow("one layer", "softsign", jnp.float64),
        ("two layers", "logistic", jnp.float32),  # has sums that cancel to a hundredth of their terms
        ("shortcuts", "softplus", jnp.float64),
        slow("general, blocks", "tanh", jnp.float32),
        slow("general, sweep", "tanh", jnp.float64),
    ],
)
def test_value_and_grad_is_autodiff_for_every_network_and_likelihood(name, activation, dtype, key):
    network = crosscheck.build(name, activation)
    params, x, y, v = problem(network, key, dtype)

    def by_hand(params, x):
        evaluate = functools.partial(backprop.value_and_grad, network, weight_decay=0.3)
        return {title: evaluate(likelihood)(params, x, y[title], v)[1] for title, likelihood in LIKELIHOODS.items()}

    def autodiff(params, x):
        objective = functools.partial(objectives.objective, network, weight_decay=0.3)
        return {
            title: jax.grad(objective(likelihood))(params, x, y[title], v) for title, likelihood in LIKELIHOODS.items()
        }

    report = gradcheck.compare(by_hand, autodiff, params, x)
    assert report.verdict == "pass", str(report)
    assert len(report.leaves) == len(LIKELIHOODS) * len(jax.tree.leaves(params))
    assert {leaf.dtype for leaf in report.leaves} == {jnp.dtype(dtype).name}


# --- wrong ---------------------------------------------------------------------------------------------------------

# Equal sizes of the hidden layers let mistaken layers and transposed matrices pass unnoticed by their shapes.
# Neurons of the general network: inputs 1, 2; hidden 3, 4, 5; outputs 6, 7. Neuron 4 has no bias.
EDGES = [(1, 3), (2, 3), (1, 4), (3, 5), (4, 5), (4, 6), (5, 6), (2, 7), (3, 7)]
BIASES = [(0, 3), (0, 5), (0, 6), (0, 7)]
NETWORKS: dict[str, Network] = {
    "chain": jnn.mlp([3, 4, 4, 2], ["tanh", "softplus"]),
    "shortcuts": jnn.mlp([3, 4, 4, 2], ["tanh", "softplus"], shortcuts=True),
    "blocks": jnn.dag(2, 2, EDGES + BIASES, "tanh", evaluation="blocks"),
    "sweep": jnn.dag(2, 2, EDGES + BIASES, "tanh", evaluation="sweep"),
}
W0, B0, W1, B1, W2, B2 = (f"params[{k}]['{leaf}']" for k in range(3) for leaf in "Wb")
W, B, X = "params['w']", "params['b']", "x"
EVERY_X = range(EXAMPLES * 2)


@dataclass(frozen=True)
class Fault:
    """One edit of one function, and what it must spoil: the leaves, and where given the flat indices in them."""

    name: str
    network: str
    module: ModuleType | type
    function: str
    old: str
    new: str
    leaves: tuple[str, ...]
    elements: Any = None


PRODUCT = 'laid_out(params[number - 1]["W"][rows]) @ found[number - 1]'
OUTER = '{"W": jnp.concatenate([delta @ kept.z[s].T for s in layer.sources], axis=1).T, "b": jnp.sum(delta, axis=1)}'
SECOND, FIRST = "layer is self.layers[1]", "layer is self.layers[0]"


def outer(weights="delta @ kept.z[s].T", bias="jnp.sum(delta, axis=1)", after=""):
    return f'{{"W": jnp.concatenate([{weights} for s in layer.sources], axis=1).T{after}, "b": {bias}}}'


def in_deltas(name, network, old, new, *leaves):
    return Fault(name, network, Layered, "backward", old, new, leaves)


def in_gradients(name, new, *leaves, elements=None):
    return Fault(name, "chain", Layered, "gradients", OUTER, new, leaves, elements)


FAULTS = [
    # δ_l = h_l'(a_l) Σ_k W_kl δ_k in layers: a wrong δ_l spoils W_l and b_l, and everything below.
    in_deltas("h' missing", "chain", "slope * pulled[number]", "pulled[number]", W0, B0, W1, B1, X),
    in_deltas("h' at z instead of a", "chain", "kept.a[number - 1]", "kept.z[number]", W0, B0, W1, B1, X),
    in_deltas("h' at the second layer's a everywhere", "chain", "kept.a[number - 1]", "kept.a[1]", W0, B0, X),
    in_deltas(
        "δ pulled back before h'", "chain", PRODUCT,
        'params[number - 1]["W"][rows] @ (found[number - 1] if number == count else pulled[number])', W0, B0, X,
    ),
    in_deltas(
        "second layer's W transposed", "chain", PRODUCT,
        '(params[1]["W"].T if number == 2 else params[number - 1]["W"][rows]) @ found[number - 1]', W0, B0, X,
    ),
    in_deltas("derivative by the inputs zero", "chain", "pulled[0] if 0 in", "0 * pulled[0] if 0 in", X),
    in_deltas(
        "shortcut from the inputs to the outputs dropped", "shortcuts", "self.blocks(layer):",
        "self.blocks(layer)[1 if number == count else 0 :]:", X,
    ),
    in_deltas("sum over the readers lost", "shortcuts", "pulled[source] + product", "product", W0, B0, X),
    in_deltas("one reader counted twice", "shortcuts", "[source] + product", "[source] + 2 * product", W0, B0, X),
    # ∂E/∂w_ij = Σ_n δ_i z_j: a wrong product spoils its own leaf only.
    in_gradients("sign of the second layer's W", outer(after=f" * (-1 if {SECOND} else 1)"), W1),
    in_gradients(
        "second layer's gradient transposed",
        outer(f"(kept.z[s] @ delta.T if {SECOND} else delta @ kept.z[s].T)"), W1,
    ),
    in_gradients("biases averaged over the examples", outer(bias="jnp.mean(delta, axis=1)"), B0, B1, B2),
    in_gradients("second layer's bias dead", outer(bias=f"jnp.sum(delta, axis=1) * (0 if {SECOND} else 1)"), B1),
    in_gradients("first layer's W too large by 0.1%", outer(after=f" * (1.001 if {FIRST} else 1)"), W0),
    in_gradients("last example lost", outer("delta[:, :-1] @ kept.z[s][:, :-1].T"), W0, W1, W2),
    in_gradients("outputs' W with the first layer's z", outer("delta @ kept.z[min(s, 1)].T"), W2),
    in_gradients("first layer with the next one's δ", outer(f"(deltas[1] if {FIRST} else delta) @ kept.z[s].T"), W0),
    in_gradients(
        "one element too large by 1e-6",
        outer(after=f".at[1, 1].multiply(1 + 1e-6 if {SECOND} else 1)"), W1, elements={W1: {5}},
    ),
    # The rule itself: what it spoils is everything that the cotangent reaches.
    Fault(
        "cotangent ignored", "chain", backprop, "_apply_backward", "kept, delta)", "kept, jnp.ones_like(delta))",
        (W0, B0, W1, B1, W2, B2, X),
    ),
    # The general network, by element: w[e] belongs to EDGES[e], b[i - 3] to neuron i, x[n, j - 1] to input j.
    Fault(
        "sweep without h'", "sweep", Sweep, "backward",
        'self._slope(kind, everything.at[finished].get(mode="clip")) * total', "total",
        (W, B, X), {W: {0, 1, 2, 3, 4}, B: {0, 2}, X: set(EVERY_X)},
    ),
    # The last step finishes neurons 3 and 4, whose δ stays zero: the edges into them, 3's bias, and all inputs.
    Fault(
        "sweep's last step lost", "sweep", Sweep, "backward", "_sums(self.back,",
        "_sums(Schedule(*(table[:-1] for table in self.back)),",
        (W, B, X), {W: {0, 1, 2}, B: {0}, X: set(EVERY_X)},
    ),
    # The last edge from an input is 2 → 7.
    Fault(
        "one reader of an input lost", "sweep", Sweep, "backward", "np.flatnonzero(self.source < self.inputs)",
        "np.flatnonzero(self.source < self.inputs)[:-1]", (X,), {X: set(EVERY_X[1::2])},
    ),
    Fault(
        "edge gradients with the reader's δ of the edge before", "sweep", Sweep, "gradients",
        "deltas[self.reader])", "deltas[np.roll(self.reader, 1)])",
        # Unspoilt are the edges whose predecessor has the same reader.
        (W,), {W: {0, 2, 3, 5, 7}},
    ),
    Fault(
        "places of the edges reversed", "blocks", Blocks, "_by_edge", "flat[self._places]",
        "flat[self._places[::-1]]", (W,), {W: set(range(9)) - {4}},
    ),
    Fault(
        "bias gradient where there is no bias", "blocks", Dag, "gradients", "self._where_biased(b)", "b",
        (B,), {B: {1}},
    ),
]  # fmt: skip


def install(fault, monkeypatch):
    """Put the edited function in its module, and a new rule in `backprop.apply`, so that nothing traced is reused."""
    function = inspect.unwrap(getattr(fault.module, fault.function))
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(fault.old) == 1, f"{fault.old!r} is not in {fault.function} once: adapt the fault"
    scope = dict(vars(sys.modules[getattr(fault.module, "__module__", fault.module.__name__)]))
    exec(compile(source.replace(fault.old, fault.new), f"<{fault.name}>", "exec"), scope)
    monkeypatch.setattr(fault.module, fault.function, scope[fault.function])
    fresh_rule(monkeypatch)


def fresh_rule(monkeypatch):
    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def rule(network, params, x):
        return network.forward(params, x)[0]

    rule.defvjp(backprop._apply_forward, backprop._apply_backward)
    monkeypatch.setattr(backprop, "_apply", rule)


def checked(network, dtype=jnp.float64):
    params, x, y, v = problem(network, jax.random.key(3), dtype)

    def loss(params, x):
        return jnp.sum(v * Gaussian().nll(backprop.apply(network, params, x), y["Gaussian"]))

    return gradcheck.check(loss, params, x, power=False)


def assert_named(report, leaves):
    """The verdict is fail, in exactly these leaves, the others pass, and whoever prints the report reads which."""
    assert report.verdict == "fail", str(report)
    assert {leaf.path: leaf.verdict for leaf in report.leaves} == {
        leaf.path: "fail" if leaf.path in leaves else "pass" for leaf in report.leaves
    }, str(report)
    assert set(leaves) <= {leaf.path for leaf in report.leaves}
    lines = str(report).splitlines()
    assert all(any(line.strip().startswith(f"{path}[") for line in lines) for path in leaves)
    assert any(path in report.summary for path in leaves)


def wrong_elements(leaf):
    """By their flat indices; an error of a number that should be zero may be infinite in ulps, as is its allowance."""
    errors = leaf.errors
    assert not errors.sampled
    each = zip(errors.indices, errors.ulps, errors.allowed, strict=True)
    return {k for k, ulps, allowed in each if ulps > allowed or math.isinf(ulps)}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found_and_the_right_leaves_are_named(fault, monkeypatch):
    install(fault, monkeypatch)
    report = checked(NETWORKS[fault.network])
    assert_named(report, fault.leaves)
    found = {leaf.path: leaf for leaf in report.leaves}
    for path, elements in (fault.elements or {}).items():
        assert wrong_elements(found[path]) == elements, str(report)


@pytest.mark.parametrize("name", ["first layer's W too large by 0.1%", "last example lost"])
def test_in_float32_too(name, monkeypatch):
    fault = next(fault for fault in FAULTS if fault.name == name)
    install(fault, monkeypatch)
    assert_named(checked(NETWORKS[fault.network], jnp.float32), fault.leaves)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_a_fault_the_same_networks_pass(name, monkeypatch):
    fresh_rule(monkeypatch)
    report = checked(NETWORKS[name])
    assert report.verdict == "pass", str(report)


def test_a_wrong_derivative_of_an_activation_spoils_what_lies_below():
    """h_2' enters δ_2 and all below; h_1' enters δ_1 only. W_3 and b_3 see neither."""
    tanh, softplus = jnn.activations.tanh, jnn.activations.softplus
    other = Activation("softplus with the derivative of tanh", softplus.h, tanh.derivative)
    close = Activation("tanh, derivative too large by 1e-6", tanh.h, lambda a: (1 + 1e-6) * tanh.derivative(a))
    assert_named(checked(jnn.mlp([3, 4, 4, 2], ["tanh", other])), (W0, B0, W1, B1, X))
    assert_named(checked(jnn.mlp([3, 4, 4, 2], [close, "softplus"])), (W0, B0, X))


# Gaussian outputs are linear: their weights do not decay, and neither do biases.
OBJECTIVE_FAULTS = [
    Fault(
        "decay of everything", "chain", backprop, "value_and_grad",
        "decay = objectives.penalty_gradient(params, mask)", "decay = params", (B0, B1, W2, B2),
    ),
    Fault(
        "decay not divided by N", "chain", backprop, "value_and_grad",
        "jnp.asarray(gamma, w.dtype)", "jnp.asarray(weight_decay, w.dtype)", (W0, W1),
    ),
    Fault(
        "examples not weighted in δ", "chain", backprop, "_forward_and_deltas",
        "delta = jnp.broadcast_to(counts, nll.shape)[:, None] * delta", "delta = jnp.mean(counts) * delta",
        (W0, B0, W1, B1, W2, B2),
    ),
]  # fmt: skip


@pytest.mark.parametrize("fault", OBJECTIVE_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_in_the_objectives_gradient_is_named(fault, monkeypatch):
    install(fault, monkeypatch)
    network = NETWORKS[fault.network]
    params, x, y, v = problem(network, jax.random.key(3), jnp.float64)

    def by_hand(params):
        return backprop.value_and_grad(network, Gaussian(), weight_decay=0.3)(params, x, y["Gaussian"], v)[1]

    def autodiff(params):
        return jax.grad(objectives.objective(network, Gaussian(), weight_decay=0.3))(params, x, y["Gaussian"], v)

    report = gradcheck.compare(by_hand, autodiff, params)
    assert_named(report, tuple(path.replace("params", "out") for path in fault.leaves))
