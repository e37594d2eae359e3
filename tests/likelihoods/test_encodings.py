"""One-hot encoding of labels of any type, and back."""

import enum

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn.likelihoods import Categorical, OneHot


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"


LABELS = {
    "ints": ([3, -1, 7, 3], (-1, 3, 7)),
    "int8 array": (np.array([3, -1, 7, 3], np.int8), (-1, 3, 7)),
    "jax array": (jnp.asarray([3, 1, 3]), (1, 3)),
    "strings": (["dog", "ant", "cow", "ant"], ("ant", "cow", "dog")),
    "string array": (np.array(["dog", "ant"]), ("ant", "dog")),
    "strings as objects": (np.array(["dog", "ant", "longer"], object), ("ant", "dog", "longer")),
    "booleans": ([True, False, True], (False, True)),
    "boolean array": (np.array([True, False]), (False, True)),
    "floats": ([0.5, -2.0, 0.5], (-2.0, 0.5)),
    "ints and floats": ([2, 0.5], (0.5, 2)),
    "bytes": ([b"x", b"a"], (b"a", b"x")),
    "tuples": ([(1, 2), (0, 5), (1, 2)], ((0, 5), (1, 2))),
    "enumeration, in order of appearance": ([Color.RED, Color.BLUE, Color.RED], (Color.RED, Color.BLUE)),
    "NumPy scalars": ([np.int64(4), np.float32(2)], (2.0, 4)),
    "generator": ("consumed once", ("e", "o")),
    "one class": (["only", "only"], ("only",)),
}


@pytest.mark.parametrize("name", LABELS)
def test_round_trip(name):
    labels, classes = LABELS[name]
    if name == "generator":
        labels = ["e", "o"]
        encoding = OneHot.fit(label for label in labels)
    else:
        encoding = OneHot.fit(labels)
    assert encoding.classes == classes
    expected = np.array([classes.index(label) for label in (labels.tolist() if hasattr(labels, "shape") else labels)])
    one_hot = encoding.encode(labels)
    assert isinstance(one_hot, jax.Array)
    assert one_hot.dtype == jnp.float64  # the default under x64
    np.testing.assert_array_equal(one_hot, np.eye(len(classes))[expected])
    np.testing.assert_array_equal(encoding.indices(labels), expected)
    for decoded in (encoding.decode(one_hot), encoding.labels(expected), encoding.decode(0.3 + 0.1 * one_hot)):
        assert list(decoded) == list(labels)
        if hasattr(labels, "dtype"):
            assert decoded.dtype == labels.dtype
    assert encoding == OneHot.fit(labels)
    assert hash(encoding) == hash(OneHot.fit(labels))
    if len(classes) > 1:
        assert Categorical().check_targets(one_hot, len(classes)).shape == one_hot.shape
        assert Categorical().check_targets(encoding.indices(labels), len(classes)).shape == (len(labels),)


def test_the_example_of_the_lecture():
    """K = 4, third class: (0, 0, 1, 0)."""
    assert OneHot.fit([1, 2, 3, 4]).encode([3]).tolist() == [[0, 0, 1, 0]]


def test_decode_shapes_and_ties():
    encoding = OneHot.fit("abc"[i] for i in range(3))
    assert encoding.decode([0, 1, 0]).tolist() == "b"
    assert encoding.decode(np.eye(3)[[[0, 1], [2, 0]]]).tolist() == [["a", "b"], ["c", "a"]]
    assert encoding.decode([[0.4, 0.4, 0.2]]).tolist() == ["a"]
    assert encoding.decode(jnp.zeros((0, 3))).shape == (0,)
    assert encoding.indices([]).shape == (0,)
    assert encoding.encode([]).shape == (0, 3)


def test_classes_of_long_strings_are_not_cut():
    encoding = OneHot.fit(["a", "much longer"])
    assert encoding.decode([[0, 1]]).tolist() == ["much longer"]


REJECTED = [
    ([], ValueError, "expected at least one label, got none"),
    ("abc", ValueError, "got the single value 'abc'"),
    (3, ValueError, "got the single value 3"),
    (np.ones((3, 1), int), ValueError, r"expected shape \(n,\), got \(3, 1\); use labels\[:, 0\]"),
    (np.ones((3, 2), int), ValueError, r"expected shape \(n,\), got \(3, 2\); give one label per example"),
    (np.array(3), ValueError, r"expected shape \(n,\), got \(\)|iteration"),
    ([[1, 2], [3, 4]], TypeError, r"expected hashable values, one per example, got \[1, 2\] at position 0"),
    ([1, "a"], TypeError, r"expected one type, got number \(1\), str \('a'\); convert them"),
    ([True, 2], TypeError, r"expected one type, got bool \(True\), number \(2\)"),
    (np.array([1, "a"], object), TypeError, "expected one type, got number"),
    (["a", None], ValueError, "expected no missing ones, got None at position 1; drop"),
    ([1.0, float("nan")], ValueError, "expected no missing ones, got nan at position 1"),
    (np.array([np.nan]), ValueError, "expected no missing ones, got nan at position 0"),
]


@pytest.mark.parametrize(("labels", "error", "message"), REJECTED, ids=lambda x: str(x)[:20])
def test_rejected_labels(labels, error, message):
    with pytest.raises(error, match=message):
        OneHot.fit(labels)


def test_unseen_labels_are_named():
    encoding = OneHot.fit(["a", "b"])
    for method in (encoding.encode, encoding.indices):
        with pytest.raises(ValueError, match=r"expected the classes seen by fit \('a', 'b'\), got 'q', 'z'; fit the"):
            method(["q", "a", "z", "q"])
    with pytest.raises(ValueError, match=r"\(0, 1, 2, 3, 4, ...\), got 10, 11, 12, 13, 14, ...;"):
        OneHot.fit(range(9)).indices(range(10, 20))
    with pytest.raises(ValueError, match="got '1'"):
        OneHot.fit([1, 2]).indices(["1"])


def test_rejected_rows_and_numbers():
    encoding = OneHot.fit(["a", "b", "c"])
    with pytest.raises(
        ValueError, match=r"OneHot.decode: expected shape \(..., 3\), a component per class, got \(2, 2\)"
    ):
        encoding.decode(np.eye(2))
    with pytest.raises(ValueError, match=r"got \(\)"):
        encoding.decode(1.0)
    with pytest.raises(ValueError, match="expected numbers, got NaN"):
        encoding.decode([[0.0, np.nan, 1.0]])
    with pytest.raises(ValueError, match=r"expected numbers 0, ..., 2, got 3"):
        encoding.labels([0, 3])
    with pytest.raises(ValueError, match=r"expected numbers 0, ..., 2, got -1"):
        encoding.labels([-1, 9])
    with pytest.raises(TypeError, match="expected integers, got dtype float64; for rows use decode"):
        encoding.labels([0.0])
