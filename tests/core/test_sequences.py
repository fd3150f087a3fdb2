"""Samples of networks with a memory: frames in order, batches that end where a sequence does."""

from __future__ import annotations

import numpy as np
import pytest

from quantizeml_core.errors import SampleError
from quantizeml_core.hooks import InputSpec
from quantizeml_core.samples import Samples
from quantizeml_core.sequences import starts_sequence

SPEC = InputSpec("x", (None, 2, 1, 1), "float32", ordered=True)


def numbered(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(*shape, 1, 1).repeat(2, axis=-2)[..., None].reshape(*shape, 2, 1, 1)


def walked(samples: Samples, size: int) -> list[tuple[list[int], bool]]:
    return [(batch["x"][:, 0, 0, 0].astype(int).tolist(), starts_sequence(batch)) for batch in samples.batches(size)]


@pytest.mark.parametrize(("shape", "size", "expected"), [
    ((2, 3), 8, [([0, 1, 2], True), ([3, 4, 5], True)]),
    ((2, 3), 2, [([0, 1], True), ([2], False), ([3], True), ([4, 5], False)]),
    ((2, 3), 1, [([0], True), ([1], False), ([2], False), ([3], True), ([4], False), ([5], False)]),
    ((5,), 2, [([0, 1], True), ([2, 3], False), ([4], False)]),
    ((1, 5), 3, [([0, 1, 2], True), ([3, 4], False)]),
])
def test_batches_are_consecutive_frames_of_one_sequence(shape: tuple[int, ...], size: int, expected: list[tuple[list[int], bool]]) -> None:
    samples = Samples.of(numbered(*shape), (SPEC,))
    assert walked(samples, size) == expected
    assert len(samples) == np.prod(shape) and samples.shapes == {"x": (2, 1, 1)}


def test_each_array_of_a_file_is_a_sequence(tmp_path: object) -> None:
    np.savez(f"{tmp_path}/clips.npz", a=numbered(3), b=numbered(2) + 10)
    assert walked(Samples.of(f"{tmp_path}/clips.npz", (SPEC,)), 4) == [([0, 1, 2], True), ([10], True), ([11], False)]


def test_a_file_of_sequences_is_read_frame_by_frame(tmp_path: object) -> None:
    np.save(f"{tmp_path}/clips.npy", numbered(3, 2))
    assert walked(Samples.of(f"{tmp_path}/clips.npy", (SPEC,)), 3) == [([0, 1], True), ([2], True), ([3], False), ([4, 5], True)]


def test_frames_of_another_shape_are_refused() -> None:
    with pytest.raises(SampleError):
        Samples.of(np.zeros((2, 3, 4, 1, 1), np.float32), (SPEC,))


def test_inputs_with_other_sequences_are_refused() -> None:
    specs = (SPEC, InputSpec("y", (None, 2, 1, 1), "float32", ordered=True))
    samples = Samples.of({"x": numbered(2, 3), "y": numbered(3, 2)}, specs)
    with pytest.raises(SampleError, match="sequences of different lengths"):
        next(samples.batches(4))


def test_rows_of_a_network_without_memory_stay_independent() -> None:
    spec = InputSpec("x", (None, 2, 1, 1), "float32")
    batches = list(Samples.of(numbered(4), (spec,)).batches(2))
    assert [type(b) for b in batches] == [dict, dict] and all(map(starts_sequence, batches))
