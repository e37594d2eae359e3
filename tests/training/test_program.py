"""Parts of the compiled program by themselves, beside plain readings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jnn import levenberg_marquardt, mlp, objectives
from jnn.likelihoods import Gaussian
from jnn.training import program as programs
from jnn.training.problem import check_problem, lay_out
from jnn.training.program import Examples, Member, State
from jnn.training.settings import checked
from jnn.training.splitting import Rows

RNG = np.random.default_rng(3)
X, V = RNG.normal(size=(7, 2)), np.array([1.0, 2, 0.5, 3, 1, 0, 2])
Y = np.c_[X[:, 0] - X[:, 1], X[:, 1]]
NETWORK = mlp([2, 2])
DESIGN = np.c_[X, np.ones(7)]


def made(weights=None, validation=None, **settings):
    given = check_problem(NETWORK, Gaussian(0.5), Examples(X, Y, weights), validation, None)
    program, shared = lay_out(given, checked(settings, NETWORK, True, several=False))
    return program, jax.tree.map(jnp.asarray, shared)


def member(**more):
    given = dict.fromkeys(("key", "params", "optimizer", "rules", "initializer", "aside"))
    return Member(**{**given, "weight_decay": jnp.asarray(0.3), **more})


def state(epoch=0, held_out=None, rows=None):
    fields = dict.fromkeys(State._fields) | {"epoch": jnp.asarray(epoch), "held_out": held_out, "rows": rows}
    return State(**fields)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("present", [None, "some"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_gauss_newton_matrix_is_that_of_the_weighted_rows(reduction, present, decay) -> None:
    """(Σ v x xᵀ / s² + γ) ⊗ 1, over N by the mean; of weights that are not there, 0."""
    program, shared = made(V, optimizer=levenberg_marquardt(), weight_decay=decay, reduction=reduction)
    params = NETWORK.init(jax.random.key(0), dtype=jnp.float64)
    there, exists = np.ones(6), None
    if present == "some":
        exists = jax.tree.map(lambda leaf: jnp.ones_like(leaf).at[..., 1].set(0), params)
        there = np.asarray(ravel_pytree(exists)[0])
        assert there.sum() == 3
    total = jnp.asarray(V.sum())
    own = member(present=exists, weight_decay=jnp.asarray(decay))
    train = programs.training_examples(program, shared, own, state())
    counts = V / V.sum() if reduction == "mean" else V
    examples = train.examples._replace(weights=jnp.asarray(counts))  # as a step counts them
    gamma = decay / V.sum() if reduction == "mean" else decay
    expected = np.kron(DESIGN.T * counts @ DESIGN / 0.25, np.eye(2)) + gamma * np.eye(6)
    # In the order of ravel_pytree W comes first, row by row.
    expected = expected * there[:, None] * there
    found = programs._GaussNewton(program, shared, own, total, examples)
    np.testing.assert_allclose(found.matrix(params), expected, rtol=1e-12, atol=1e-14)
    flat, unravel = ravel_pytree(params)
    v = RNG.normal(size=6)
    product = ravel_pytree(found.product(params, unravel(jnp.asarray(v))))[0]
    np.testing.assert_allclose(product, expected @ v, rtol=1e-12, atol=1e-14)
    assert len(flat) == 6


def test_a_mask_says_which_weights_decay_in_it() -> None:
    mask = ({"W": np.array(True), "b": np.array(False)},)
    program, shared = made(weight_decay=0.3, mask=mask, batch_size=None)
    gamma, found = programs._decay(program, shared, member(), jnp.asarray(7.0))
    assert float(gamma) == pytest.approx(0.3 / 7, rel=1e-14)
    jax.tree.map(np.testing.assert_array_equal, found, mask)
    program, shared = made(weight_decay=0.3, reduction="sum")
    gamma, found = programs._decay(program, shared, member(), jnp.asarray(7.0))
    assert float(gamma) == 0.3
    jax.tree.map(np.testing.assert_array_equal, found, objectives.decay_mask(NETWORK, Gaussian()))


@pytest.mark.parametrize("batch_size", [3, None])
@pytest.mark.parametrize("weights", ["none", "of all", "the member's"])
@pytest.mark.parametrize("rows", [None, [4, 1, 6, 0]])
def test_what_to_train_on(batch_size, weights, rows) -> None:
    """The examples, or the member's rows of them, and the sum of their weights; nothing that fills arrays up."""
    program, shared = made(V if weights == "of all" else None, batch_size=batch_size)
    own = jnp.arange(len(shared.examples.x)) + 0.5 if weights == "the member's" else None
    v = {"none": np.ones(7), "of all": V, "the member's": np.arange(7) + 0.5}[weights]
    chosen = np.arange(7) if rows is None else np.array(rows)
    index = None if rows is None else Rows(jnp.array([*rows, 0, 0, 0, 0, 0]), jnp.asarray(4))
    train = programs.training_examples(program, shared, member(weights=own), state(rows=index))
    assert int(train.count) == len(chosen)
    assert float(train.total) == pytest.approx(v[chosen].sum(), rel=1e-14)
    place = np.arange(len(chosen)) if train.index is None else np.asarray(train.index)[: len(chosen)]
    np.testing.assert_array_equal(np.asarray(train.examples.x)[place], X[chosen])
    np.testing.assert_array_equal(np.asarray(train.examples.y)[place], Y[chosen])
    if weights == "none":
        assert train.examples.weights is None
    else:
        np.testing.assert_array_equal(np.asarray(train.examples.weights)[place], v[chosen])
    assert (train.index is None) == (rows is None or batch_size is None)


@pytest.mark.parametrize("weights", ["none", "of all", "the member's"])
def test_what_to_validate_on(weights) -> None:
    program, shared = made(V if weights == "of all" else None, batch_size=3)
    own = jnp.arange(len(shared.examples.x)) + 0.5 if weights == "the member's" else None
    v = {"none": np.ones(7), "of all": V, "the member's": np.arange(7) + 0.5}[weights]
    held_out = Rows(jnp.array([5, 2, 3, 3, 3]), jnp.asarray(3))
    found = programs.validation_examples(program, shared, member(weights=own), held_out)
    np.testing.assert_array_equal(np.asarray(found.x)[:3], X[[5, 2, 3]])
    np.testing.assert_array_equal(np.asarray(found.y)[:3], Y[[5, 2, 3]])
    np.testing.assert_array_equal(found.weights, [*v[[5, 2, 3]], 0, 0])
    program, shared = made(validation=(X[:3], Y[:3], V[:3]), batch_size=3)
    found = programs.validation_examples(program, shared, member(), None)
    np.testing.assert_array_equal(np.asarray(found.x)[:3], X[:3])
    np.testing.assert_array_equal(found.weights, [*V[:3], *13 * [0]])


@pytest.mark.parametrize("every", [1, 3])
def test_when_a_validation_is_due(every) -> None:
    """After every third epoch: the epoch that comes is one more than the state's."""
    program, shared = made(validation=(X, Y), validate_every=every)
    due = [bool(programs.is_due(program, shared, state(epoch))) for epoch in range(7)]
    assert due == [epoch % every == 0 for epoch in range(1, 8)]
    program, shared = made()
    assert programs.is_due(program, shared, state(2)) is False
    held_out = Rows(jnp.arange(2), jnp.asarray(2))
    assert bool(programs.is_due(program, shared, state(2, held_out)))


def test_the_order_of_an_epoch_is_the_keys_and_the_epochs_alone() -> None:
    program, _ = made(batch_size=3, shuffle=False)
    np.testing.assert_array_equal(programs.epoch_order(program, state(), 9, 7), np.arange(9))
    program, _ = made(batch_size=3)
    orders = {}
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        own = state(epoch)._replace(key=jax.random.key(seed))
        order = np.asarray(programs.epoch_order(program, own, 40, 30))
        np.testing.assert_array_equal(np.sort(order[:30]), np.arange(30))
        np.testing.assert_array_equal(order, programs.epoch_order(program, own, 40, 30))
        orders[seed, epoch] = tuple(order[:30])
    assert len(set(orders.values())) == 3
