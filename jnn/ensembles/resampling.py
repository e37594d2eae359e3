"""Which examples each member trains on and is judged by, as arrays of row numbers; −1 stands for no example."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from jnn import checks
from jnn.checks import one_key, real_array


def k_fold(
    key: Key[Array, ""], count: int, folds: int, classes: Int[Array | np.ndarray, "count"] | None = None
) -> tuple[Int[Array, "folds train"], Int[Array, "folds held_out"]]:
    """Divide the examples into folds; each in turn is held out, and the others are trained on.

    Folds differ in size by at most one example (places that are too many hold −1). Stratified if classes are given:
    then also the number of a class's examples differs by at most one from fold to fold.

    Args:
        key: decides who is in which fold.
        count: number of examples, N.
        folds: k; ValueError unless from 2 to N.
        classes: each example's class, as integers; ValueError unless there are N.

    Returns the rows to train on, `(k, N − ⌊N / k⌋)`, and those held out, `(k, ⌈N / k⌉)`.
    """
    one_key(key)
    count, folds = checks.count("count", count), checks.count("folds", folds)
    if not 2 <= folds <= count:
        raise ValueError(f"expected from 2 to {count} folds, one example each at least; got {folds}")
    # On the host, like all of this: for every number of examples JAX would compile some ten programs.
    line = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist()).permutation(count)
    if classes is not None:
        classes = np.asarray(real_array(classes, "classes", "number them, as OneHot.fit(labels).indices(labels) does"))
        if classes.shape != (count,):
            raise ValueError(f"expected a class for each of the {count} examples, got shape {classes.shape}")
        line = line[np.argsort(classes[line], kind="stable")]
    fold = np.arange(count) % folds  # dealt out like cards, class by class
    train = np.full((folds, count - count // folds), -1)
    held_out = np.full((folds, -(-count // folds)), -1)
    for f in range(folds):
        out = fold == f
        train[f, : np.sum(~out)] = line[~out]
        held_out[f, : np.sum(out)] = line[out]
    return jax.device_put((train, held_out))  # jnp.asarray would compile a program for each shape


def bootstrap(
    key: Key[Array, ""], count: int, members: int
) -> tuple[Int[Array, "members count"], Int[Array, "members count"]]:
    """Draw `count` examples with replacement for each member (Breiman 1996, "Bagging predictors").

    Returns the rows to train on, and those that were not drawn ("out of bag", some e⁻¹ = 37% of them), each filled up
    with −1: both `(members, count)`. Raises ValueError if there are no examples or no members.
    """
    one_key(key)
    count, members = checks.count("count", count), checks.count("members", members)
    rows = jax.random.randint(key, (members, count), 0, count)
    drawn = jnp.zeros((members, count), bool).at[jnp.arange(members)[:, None], rows].set(True)
    return rows, jnp.where(drawn, -1, jnp.arange(count)[None, :])
