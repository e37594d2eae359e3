"""One training on many devices: the examples of each mini-batch divided among them, everything else done by all alike.

Each device sums error and gradient over its part, and one reduction of one vector adds the parts up: as every device
then holds the same sum, all make the same step, and there is nothing to send around but that.

Sums of other parts are rounded otherwise. With `shards`, a mini-batch has the same parts on any number of devices: each
device takes several, one after another, and the sums are added in pairs, ((s₀ + s₁) + (s₂ + s₃)) + ..., first those of
a device, then between devices d and d ⊕ 1, d ⊕ 2, d ⊕ 4, ...; so the result is the same to the last bit.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.core
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

AXIS = "devices"
T = TypeVar("T")


@dataclass(frozen=True)
class Division:
    """Among which devices mini-batches are divided, and into how many parts: one for each device, or `shards`."""

    devices: tuple[Any, ...]
    shards: int | None = None

    @property
    def parts(self) -> int:
        """How many parts a mini-batch has."""
        return len(self.devices) if self.shards is None else self.shards

    @property
    def own(self) -> int:
        """How many parts are a device's own."""
        return self.parts // len(self.devices)

    @functools.cached_property
    def mesh(self) -> Mesh:
        """The devices, in a line."""
        return Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))

    @property
    def several_processes(self) -> bool:
        """Whether other processes have some of the devices."""
        return len({device.process_index for device in self.devices}) > 1

    def everywhere(self, tree: T) -> T:
        """Arrays that all devices have in whole."""
        if not self.several_processes:
            return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

        def put(leaf: Any) -> Any:
            if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
            if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
                return leaf
            values = np.asarray(leaf)
            sharding = NamedSharding(self.mesh, PartitionSpec())
            return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

        return jax.tree.map(put, tree)

    def cut(self, batches: np.ndarray) -> np.ndarray:
        """Each row, a mini-batch, in its parts: `(steps, size)` as `(steps, parts, places)`, filled up by the last."""
        steps, size = batches.shape
        wide = np.pad(batches, ((0, 0), (0, -size % self.parts)), mode="edge")
        return wide.reshape(steps, self.parts, -1)

    def spread(self, take: Callable[[Any], np.ndarray], parts: np.ndarray, like: Any) -> Array:
        """The rows `take(numbers)` of an array `like`, numbered as `cut` has them; on each device its own parts."""
        sharding = NamedSharding(self.mesh, PartitionSpec(None, AXIS))
        shape = (*parts.shape, *like.shape[1:])
        return jax.make_array_from_callback(shape, sharding, lambda index: take(parts[(index or ())[:3]]))


def together(division: Division | None, *values: int) -> tuple[int, ...]:
    """What the hosts decide at a visit, the same on all of them: the largest value that any of them has.

    So Ctrl-C, a callback or the clock of one of them counts for all.
    """
    if division is None or not division.several_processes:
        return values
    from jax.experimental import multihost_utils

    return tuple(np.max(multihost_utils.process_allgather(np.array(values)), axis=0).tolist())


def exchanged(division: Division | None, tree: T) -> T:
    """NumPy arrays of which each process has rows of its own, p, p + P, p + 2P, ... of P processes: all rows, in all.

    As bytes, in one message: whatever they are, they arrive to the last bit.
    """
    if division is None or not division.several_processes:
        return tree
    from jax.experimental import multihost_utils

    leaves, structure = jax.tree.flatten(tree)
    count, processes = len(leaves[0]), jax.process_count()
    own = np.arange(-(-count // processes)) * processes + jax.process_index()
    own = np.minimum(own, count - 1)  # all send as many; who has no more repeats the last
    columns = [np.ascontiguousarray(leaf[own]).reshape(-1).view(np.uint8).reshape(len(own), -1) for leaf in leaves]
    sent = np.asarray(multihost_utils.process_allgather(np.concatenate(columns, axis=1)))
    rows = np.swapaxes(sent, 0, 1).reshape(len(own) * processes, -1)[:count]
    parts = np.split(rows, np.cumsum([column.shape[1] for column in columns])[:-1], axis=1)
    pairs = zip(parts, leaves, strict=True)
    return structure.unflatten(  # copies, that may be written to
        [np.array(part, order="C").reshape(-1).view(leaf.dtype).reshape(leaf.shape) for part, leaf in pairs]
    )


def check_alike(division: Division | None, problem: Mapping[str, str]) -> None:
    """Raise ValueError unless all processes were given the same problem, in the words of `fingerprint`."""
    numbers = [int(hashlib.blake2b(words.encode(), digest_size=3).hexdigest(), 16) for words in problem.values()]
    largest, smallest = (together(division, *(sign * number for number in numbers)) for sign in (1, -1))
    pairs = zip(problem, largest, smallest, strict=True)
    if differ := [name for name, most, least in pairs if most != -least]:
        raise ValueError(
            f"expected the same call in every process, but {', '.join(differ)} differ. Rows that each process has of "
            "its own make one array by jax.make_array_from_process_local_data, or are read by jnn.data"
        )


def listed(devices: Sequence[Any]) -> tuple[Any, ...]:
    """The devices that an argument names; TypeError for what is none, ValueError for no devices."""
    given = tuple(devices) if isinstance(devices, Sequence | np.ndarray) else (devices,)
    if isinstance(devices, jax.Device) or not all(isinstance(device, jax.Device) for device in given):
        raise TypeError(f"expected devices as a list, as in devices=jax.devices(), got {devices!r}")
    if not given:
        raise ValueError("expected at least one device, as in devices=jax.devices(), got none")
    return given


def divided(devices: Sequence[Any] | None, shards: int | None) -> Division | None:
    """The division that the arguments of `fit` ask for; None for none, as on one device.

    Raises:
        TypeError: for what is no list of devices.
        ValueError: for devices of several kinds or numbers that do not fit each other.
    """
    if devices is None and shards is None:
        return None
    chosen = listed(jax.local_devices()[:1] if devices is None else devices)
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"expected each device once, as in devices=jax.devices(); got {chosen}")
    if len({device.platform for device in chosen}) > 1:
        raise ValueError(f"expected devices of one kind, got {sorted({device.platform for device in chosen})}")
    if len(has := {device.process_index for device in chosen}) not in (1, jax.process_count()):
        raise ValueError(
            f"expected devices of all {jax.process_count()} processes, as jax.devices(), or of this one alone, as "
            f"jax.local_devices(); got those of {sorted(has)}"
        )
    if shards is None:
        return Division(chosen) if len(chosen) > 1 else None
    count = len(chosen)
    if isinstance(shards, bool) or not isinstance(shards, (int, np.integer)) or shards < 2 * count:
        raise ValueError(f"expected shards of at least two for each of the {count} devices, got {shards!r}")
    if (shards & (shards - 1)) or (count & (count - 1)):
        raise ValueError(
            f"expected shards and the number of devices as powers of two, so that sums are added in the same pairs on "
            f"any number of devices; got {shards} shards on {count} devices. Leave shards out if rounding may differ"
        )
    return Division(chosen, int(shards))


def gathered(inputs: Mapping[str, Any], division: Division | None, device: Any = None) -> dict[str, Any]:
    """Inputs that may lie divided over devices, where this process can read all of each; or all on one device.

    Raises:
        ValueError: if one is divided, and the training is not.
    """

    def one(name: str, leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer):
            return leaf
        if len(leaf.devices()) == 1:
            return leaf if device is None else jax.device_put(leaf, device)
        if division is None and device is None:
            raise ValueError(
                f"{name} lies on {len(leaf.devices())} devices. To divide each mini-batch among them pass devices=, as "
                f"jax.devices(); to train on one, jax.device_put(..., jax.devices()[0]) brings {name} there"
            )
        if not leaf.is_fully_addressable:
            mesh = leaf.sharding.mesh  # type: ignore[union-attr]
            leaf = jax.jit(lambda a: a, out_shardings=NamedSharding(mesh, PartitionSpec()))(leaf)
        return jax.device_put(np.asarray(leaf), device)

    return {name: jax.tree.map(functools.partial(one, name), value) for name, value in inputs.items()}


def here(tree: T) -> T:
    """What all devices have, from one of this process."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0) if len(leaf.devices()) > 1 else leaf, tree)


# --- inside the compiled program


def on_each(division: Division | None, function: Callable[..., T], *specs: Any) -> Callable[..., T]:
    """A function as each device runs it. What it returns, all have alike; so they do its arguments without `specs`."""
    if division is None:
        return function
    return jax.shard_map(
        function, mesh=division.mesh, in_specs=specs or PartitionSpec(), out_specs=PartitionSpec(), check_vma=False
    )


def places(division: Division | None, size: int) -> Int[Array, "..."]:
    """Which places of a mini-batch are worked on here: `(size,)`, or divided `(own, places)`, also beyond the last."""
    if division is None:
        return jnp.arange(size)
    each = -(-size // division.parts)
    first = jax.lax.axis_index(AXIS) * division.own * each
    return first + jnp.arange(division.own * each).reshape(division.own, each)


def part(division: Division | None, array: Array) -> Array:
    """What is worked on here of an array over a mini-batch's places; beyond the last place, the last again."""
    if division is None:
        return array
    return jnp.asarray(array).at[places(division, len(array))].get(mode="clip")


def summed(division: Division | None, evaluate: Callable[[Any], T], examples: Any) -> T:
    """Σ over the parts of a mini-batch of what `evaluate` makes of each."""
    if division is None:
        return evaluate(examples)
    first = jax.tree.map(lambda leaf: leaf[0], examples)
    like = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(evaluate, first))
    zeros, restored = jax.flatten_util.ravel_pytree(like)

    def vector(part: Any) -> Array:
        # Written piece by piece: on a CPU, XLA concatenates a large network's gradients six times as slowly, and would
        # do so again if it saw that these are zeros.
        whole, at = jax.lax.optimization_barrier(zeros), 0
        for leaf in jax.tree.leaves(evaluate(part)):
            whole = jax.lax.dynamic_update_slice(whole, leaf.reshape(-1).astype(whole.dtype), (at,))
            at += leaf.size
        return whole

    if division.shards is None:
        return restored(jax.lax.psum(vector(first), AXIS))
    sums, count, distance = jax.lax.map(vector, examples), len(division.devices), 1
    while len(sums) > 2 or (len(sums) == 2 and count > 1):
        sums = sums[::2] + sums[1::2]
    while distance < count:
        mine = sums[0] if len(sums) == 1 else sums[0] + sums[1]
        other = jax.lax.ppermute(mine, AXIS, [(i, i ^ distance) for i in range(count)])
        sums, distance = jnp.stack([mine, other]), 2 * distance
    # The last addition in a loop, on any number of devices: what follows is then compiled alike, not fused with sums
    # that differ, by which its own products would be rounded otherwise.
    return restored(jax.lax.fori_loop(0, 2, lambda i, total: total + sums[i], jnp.zeros_like(sums[0])))
