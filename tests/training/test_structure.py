"""Structure and numbers told apart and put together again; sizes that are few, and hardly too large."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnn import adam, stopping
from jnn.training.structure import COARSE, FINE, Static, as_data, is_traced, restored, room_for, rounded_up


def test_numbers_become_arrays_of_one_dtype_a_kind_and_the_rest_is_structure() -> None:
    given = {"python": (1, 0.5, True), "numpy": (np.int8(3), np.float64(2), np.bool_(False), np.arange(2)), "word": "a"}
    given |= {"jax": jnp.float32(0.25), "rule": optax.sgd(0.1), "none": None}
    for dtype in (jnp.float32, jnp.float64):
        made = as_data(given, dtype)
        kinds = [leaf.dtype for leaf in (*made["python"], *made["numpy"], made["jax"])]
        assert kinds == [int, dtype, bool, int, dtype, bool, int, dtype]
        assert made["word"] == Static("a")
        assert [*made["python"]] == [1, 0.5, True]
        assert restored(made)["rule"].update is given["rule"].update
        assert restored(made)["none"] is None
    assert as_data(adam(0.1), jnp.float32) == as_data(adam(np.float64(0.1)), jnp.float32)

    @jax.jit
    def inside(rate, epochs):
        made = as_data((adam(rate), stopping.Patience(epochs)), jnp.float32)
        assert is_traced(made)
        return [
            leaf.dtype == expected
            for leaf, expected in zip(jax.tree.leaves(made), [*4 * [jnp.float32], int], strict=False)
        ]

    assert not is_traced(given, 3)
    assert all(map(bool, inside(0.1, 3)))


@pytest.mark.parametrize("steps", [0, COARSE, FINE])
def test_sizes_are_at_least_as_large_and_few_an_octave(steps) -> None:
    """Of numbers above 2^k, 2^steps sizes up to 2^(k + 1): multiples of 2^(k − steps), or of 1."""
    for n in range(1, 2100):
        power = 0 if n < 3 else (n - 1).bit_length() - 1
        step = max(1, 2 ** (power - steps))
        assert rounded_up(n, steps) == -(-n // step) * step
    assert rounded_up(0, steps) == 1
    assert [rounded_up(n, steps, 16) for n in (1, 16)] == [16, 16]
    assert rounded_up(10) == rounded_up(10, COARSE, 1)
    assert rounded_up(100) == 104  # by eighths
    assert rounded_up(1000, FINE) == 1000
    assert rounded_up(1001, FINE) == 1008  # by 64ths


def test_a_history_has_room_for_a_power_of_two_of_epochs() -> None:
    sizes = {1: 64, 63: 64, 64: 64, 65: 128, 128: 128, 129: 256, 1000: 1024, 1024: 1024, 1025: 2048}
    assert {epochs: room_for(epochs) for epochs in sizes} == sizes
