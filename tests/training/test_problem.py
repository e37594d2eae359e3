"""How examples are laid out: what a program is compiled for, and arrays that hold the examples and nothing else."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import levenberg_marquardt, mlp
from jnn.likelihoods import Bernoulli, Categorical, Gaussian, Poisson
from jnn.training.problem import Examples, _finite_rows, aside, check_problem, fill, filled, lay_out
from jnn.training.settings import checked
from jnn.training.splitting import Rows

from .. import typechecker

RNG = np.random.default_rng(0)


def problem(n=13, likelihood=None, y=None, weights=None, validation=None, outputs=1, **more):
    x = np.random.default_rng(n).normal(size=(n, 3))
    y = x[:, :1] if y is None else y
    return check_problem(mlp([3, outputs]), likelihood or Gaussian(), Examples(x, y, weights), validation, None, **more)


def laid_out(given, rows=None, division=None, on_host=False, **settings):
    several = rows is not None
    with typechecker.off():
        return lay_out(
            given,
            checked(settings, given.network, True, several=several),
            rows=rows,
            division=division,
            on_host=on_host,
        )


# --- what is compiled for


def test_what_was_asked_for_is_compiled_for() -> None:
    given = problem()
    program, shared = laid_out(given, batch_size=4)
    assert (program.network, program.likelihood, program.batch_size) == (given.network, Gaussian(), 4)
    assert (program.gradient, program.reduction, program.shuffle) == ("backprop", "mean", True)
    assert (program.decays, program.curvature, program.split, program.steps) == (False, False, "none", None)
    assert (program.axis, program.division, program.dtype, program.room) == (None, None, np.float64, 128)
    assert [int(value) for value in (shared.count, shared.epochs, shared.validate_every)] == [13, 100, 1]
    assert shared.mask is None
    program, shared = laid_out(
        given, batch_size=4, gradient="autodiff", reduction="sum", shuffle=False, weight_decay=0.1, epochs=7,
        validate_every=3,
    )  # fmt: skip
    assert (program.gradient, program.reduction, program.shuffle, program.decays) == ("autodiff", "sum", False, True)
    assert (program.room, int(shared.epochs), int(shared.validate_every)) == (64, 7, 3)
    assert laid_out(given, weight_decay=np.zeros(()))[0].decays  # an array is not known to be 0
    program, _ = laid_out(given, optimizer=levenberg_marquardt())
    assert (program.curvature, program.batch_size) == (True, None)


@pytest.mark.parametrize(("batch_size", "compiled"), [(None, None), (12, 12), (13, None), (14, None)])
def test_a_mini_batch_of_all_is_batch_learning(batch_size, compiled) -> None:
    program, shared = laid_out(problem(), batch_size=batch_size)
    assert program.batch_size == compiled
    assert len(shared.examples.x) == (13 if compiled is None else 256)  # padding takes no time where one draws from it


def test_nearly_as_many_examples_share_a_program() -> None:
    def shared(counts, **settings):
        made = [laid_out(problem(n, validation=settings.pop("validation", None)), **settings) for n in counts]
        assert len({len(one.examples.x) for _, one in made}) == len({program for program, _ in made}) == 1
        return made[0]

    _, one = shared((290, 300, 320))
    assert len(one.examples.x) == 320  # by eighths of 256
    for n in (290, 320):
        program, _ = laid_out(problem(n, validation=0.25))
        assert program.places == (240, 80)
        program, _ = laid_out(problem(n, validation=0.25), batch_size=None)
        trained, held_out = n - round(0.25 * n), round(0.25 * n)
        assert (program.places[0] >= trained, program.places[1] >= held_out) == (True, True)
    program, _ = laid_out(problem(13, validation=0.9), batch_size=None)
    assert program.places == (1, 12)
    assert laid_out(problem(13))[0].places == (13, 0)
    assert laid_out(problem(100), batch_size=None)[1].examples.x.shape[0] == 100


@pytest.mark.parametrize(
    ("likelihood", "outputs", "split"),
    [(Categorical(), 2, "stratified"), (Bernoulli(), 1, "stratified"), (Bernoulli(), 2, "plain"),
     (Gaussian(), 2, "plain"), (Poisson(), 1, "plain")],
)  # fmt: skip
def test_examples_of_classes_are_set_aside_class_by_class(likelihood, outputs, split) -> None:
    labels = np.arange(13) % 2
    y = labels if isinstance(likelihood, Categorical) else np.tile(labels[:, None], (1, outputs))
    for validation, expected in ((0.25, split), (None, "none")):
        given = problem(likelihood=likelihood, y=y, outputs=outputs, validation=validation)
        assert laid_out(given, batch_size=4)[0].split == expected


@pytest.mark.parametrize(
    ("counts", "validation", "ragged"),
    [
        ([10, 10], None, False),
        ([9, 16], None, False),
        ([10, 25], None, True),
        ([10, 12], 0.25, True),
        ([10, 9], 0.25, False),
    ],
)
def test_members_with_other_numbers_of_mini_batches_are_told(counts, validation, ragged) -> None:
    """Of 8 examples each; of 10 and 12, 8 and 9 are left where a quarter is set aside."""
    rows = Rows(np.zeros((2, 32), np.int32), np.array(counts))
    program, shared = laid_out(problem(30, validation=validation), rows=rows, batch_size=8)
    assert program.ragged == ragged
    assert program.places[0] <= 32  # of a member's own rows
    assert len(shared.examples.x) == 256
    whole, shared = laid_out(problem(30), rows=rows, batch_size=25)
    assert (whole.batch_size, whole.ragged) == (None if max(counts) <= 25 else 25, False)
    assert len(shared.examples.x) == 30 if whole.batch_size is None else 256


def test_accelerators_are_told_the_number_of_steps() -> None:
    gpu = types.SimpleNamespace(devices=(types.SimpleNamespace(platform="gpu"),))
    rows = Rows(np.zeros((2, 32), np.int32), np.array([10, 25]))
    assert laid_out(problem(30), rows=rows, division=gpu, batch_size=8)[0].steps == 4
    assert laid_out(problem(30), division=gpu, batch_size=8)[0].steps == 4
    assert laid_out(problem(32), division=gpu, batch_size=8)[0].steps == 4
    assert laid_out(problem(30, validation=0.25), division=gpu, batch_size=8)[0].steps == 3
    assert laid_out(problem(30), division=gpu, batch_size=None)[0].steps is None
    assert laid_out(problem(30), division=gpu, batch_size=8)[0].platform == "gpu"


def test_how_many_are_set_aside() -> None:
    each = np.array([[10, 13], [2, 30]])
    np.testing.assert_array_equal(aside(problem(), each), np.zeros((2, 2), int))
    np.testing.assert_array_equal(aside(problem(validation=0.3), each), [[3, 4], [1, 9]])
    with pytest.raises(ValueError, match="leaves 1 for training and 0"):
        aside(problem(validation=0.3), np.array([10, 1]))


# --- arrays


def test_rows_that_fill_up_are_the_last_one_again() -> None:
    x, y = np.arange(6.0).reshape(3, 2), np.arange(3)
    for make in (np.asarray, jnp.asarray):
        found = filled(Examples(make(x), make(y), None), 5)
        assert found.weights is None
        np.testing.assert_array_equal(found.x, x[[0, 1, 2, 2, 2]])
        np.testing.assert_array_equal(found.y, y[[0, 1, 2, 2, 2]])
        same = fill(make(x), 3)
        np.testing.assert_array_equal(same, x)
        assert isinstance(same, jax.Array)
        np.testing.assert_array_equal(fill(make(x), 4, axis=1), x[:, [0, 1, 1, 1]])
    np.testing.assert_array_equal(jax.jit(lambda a: fill(a, 4, axis=1))(x), x[:, [0, 1, 1, 1]])


@pytest.mark.parametrize("weights", [None, "numpy", "jax"])
def test_ones_own_validation_examples_are_filled_up_by_some_that_weigh_nothing(weights) -> None:
    n = 19
    x, v = RNG.normal(size=(n, 3)), RNG.uniform(1, 2, size=n)
    given = (x, x[:, :1]) if weights is None else (x, x[:, :1], v if weights == "numpy" else jnp.asarray(v))
    _, shared = laid_out(problem(validation=given), batch_size=4)
    own = shared.validation
    assert len(own.x) == len(own.y) == len(own.weights) == 20
    np.testing.assert_array_equal(own.x, x[[*range(n), n - 1]])
    np.testing.assert_array_equal(own.y, x[[*range(n), n - 1], :1])
    np.testing.assert_array_equal(own.weights, [*(np.ones(n) if weights is None else v), 0])
    assert laid_out(problem(validation=(x[:3], x[:3, :1])))[1].validation.x.shape == (16, 3)
    assert laid_out(problem())[1].validation is None


def test_of_examples_that_stay_on_the_host_the_device_gets_classes_at_most() -> None:
    labels = np.arange(13) % 3
    for y in (labels, np.eye(3)[labels]):
        given = problem(likelihood=Categorical(), y=y, outputs=3, validation=0.25, on_host=True)
        _, shared = laid_out(given, on_host=True, batch_size=4)
        assert shared.examples.x.shape == (256, 0)
        assert shared.examples.weights is None
        np.testing.assert_array_equal(shared.examples.y[:13], labels)
    binary = problem(likelihood=Bernoulli(), y=(labels[:, None] > 0).astype(float), validation=0.25, on_host=True)
    np.testing.assert_array_equal(laid_out(binary, on_host=True, batch_size=4)[1].examples.y[:13, 0], labels > 0)
    _, shared = laid_out(problem(validation=0.25, on_host=True), on_host=True, batch_size=4)
    assert shared.examples.y.shape == (256, 0)


def test_what_is_checked_is_kept_as_it_is() -> None:
    v = np.arange(13.0)
    given = problem(weights=v, validation=(np.ones((2, 3)), np.ones((2, 1)), np.array([1.0, 2])))
    assert (given.count, given.fraction, given.dtype) == (13, None, np.float64)
    np.testing.assert_array_equal(given.examples.weights, v)
    np.testing.assert_array_equal(given.validation.weights, [1, 2])
    assert problem(validation=(np.ones((2, 3)), np.ones((2, 1)))).validation.weights is None
    assert problem(validation=np.float32(0.25)).fraction == 0.25
    assert isinstance(problem(on_host=True).examples.x, np.ndarray)


def test_a_row_with_any_number_that_is_none_is_named() -> None:
    x = np.ones((4, 3))
    x[2, 1], x[3] = np.nan, np.inf
    for made in (x, jnp.asarray(x)):
        with pytest.raises(ValueError, match=r"^x has NaN or infinite values .* in 2 rows, the first is row 2"):
            check_problem(mlp([3, 1]), Gaussian(), Examples(made, np.ones((4, 1)), None), None, None)
    np.testing.assert_array_equal(np.asarray(_finite_rows(jnp.asarray(x), np.dtype(np.float64))), [1, 1, 0, 0])


def test_parameters_are_of_the_examples_precision() -> None:
    """Of whole numbers in float32; and of parameters that are there in theirs."""
    network, y = mlp([3, 1]), np.ones((2, 1))
    for dtype, expected in ((np.int64, np.float32), (np.float32, np.float32), (np.float64, np.float64)):
        given = Examples(np.ones((2, 3), dtype), y, None)
        assert check_problem(network, Gaussian(), given, None, None).dtype == expected
        checked_x = check_problem(network, Gaussian(), given, None, None).examples.x
        assert checked_x.dtype == expected
        kept = check_problem(network, Gaussian(), given, None, None, on_host=True).examples
        assert (type(kept.x), kept.x.dtype, type(kept.y)) == (np.ndarray, dtype, np.ndarray)
        assert kept.weights is None
        weighted = check_problem(network, Gaussian(), given._replace(weights=[1, 3]), None, None, on_host=True)
        assert isinstance(weighted.examples.weights, np.ndarray)
        assert weighted.examples.weights.tolist() == [1, 3]
    params = network.init(jax.random.key(0), dtype=jnp.float32)
    assert check_problem(network, Gaussian(), Examples(np.ones((2, 3)), y, None), None, params).dtype == np.float32


def test_what_is_whole_is_put_on_the_device() -> None:
    for array in (np.ones(3), jnp.ones(3)):
        assert isinstance(fill(array, 3), jax.Array)
        assert isinstance(fill(array, 5), jax.Array)
