"""Streams of samples: batches or single ones, with labels or without, no more than needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from quantizeml_core.errors import SampleError
from quantizeml_core.hooks import InputSpec
from quantizeml_core.samples import Samples

ONE = (InputSpec("x", (None, 3), "float32"),)
TWO = (InputSpec("a", (None, 3), "float32"), InputSpec("b", (None, 2), "float32"))
X = np.arange(30, dtype=np.float32).reshape(10, 3)


class Dataset:
    """Looks like a tf.data.Dataset."""

    def as_numpy_iterator(self) -> Iterator[Any]:
        return iter([(X[:4], np.zeros(4)), (X[4:8], np.zeros(4))])


class ByIndex:
    """Looks like a keras.utils.PyDataset of the years before it could be iterated."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return X[index * 4:index * 4 + 4], np.zeros(4)


@pytest.mark.parametrize(("stream", "rows"), [
    (iter([X[:4], X[4:8]]), 8), ((row for row in X), 9), (Dataset(), 8), (ByIndex(), 8), (iter([(X[:4], np.zeros(4))]), 4),
    (iter([{"x": X[:5]}, {"x": X[5:]}]), 9),
], ids=["batches", "single", "dataset", "by index", "labelled", "mappings"])
def test_what_a_stream_may_be(stream: Any, rows: int) -> None:
    made = Samples.of(stream, ONE, 9)
    assert len(made) == rows
    assert np.array_equal(np.concatenate([b["x"] for b in made.batches(3)]), X[:rows])


@pytest.mark.parametrize("element", [
    ({"a": X, "b": X[:, :2]}, np.zeros(10)), (X, X[:, :2]), ((X, X[:, :2]), np.zeros(10)), {"a": X, "b": X[:, :2]},
], ids=["mapping, labels", "arrays", "arrays, labels", "mapping"])
def test_several_inputs(element: Any) -> None:
    made = Samples.of(iter([element]), TWO)
    assert {k: v.shape for k, v in next(made.batches(10)).items()} == {"a": (10, 3), "b": (10, 2)}


def test_no_more_is_taken_than_needed() -> None:
    taken = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            taken.append(1)
            yield X[:4]

    assert len(Samples.of(endless(), ONE, 10)) == 10 and len(taken) == 3


@pytest.mark.parametrize(("stream", "specs", "message"), [
    (iter([]), ONE, "holds no sample"), (iter([{"y": X}]), ONE, "`x` too"), (iter([(X, X, X, X)]), TWO, "has 4 arrays"),
    (iter([np.zeros((2, 7), np.float32)]), ONE, "shape"),
])
def test_streams_that_do_not_fit(stream: Any, specs: tuple[InputSpec, ...], message: str) -> None:
    with pytest.raises(SampleError, match=message):
        Samples.of(stream, specs)
