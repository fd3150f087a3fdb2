"""Samples: what is read, in which batches, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantizeml_core.errors import SampleError, UsageError
from quantizeml_core.hooks import InputSpec
from quantizeml_core.samples import Samples

ROW = InputSpec("x", (None, 3, 4), "float32")
LAST = InputSpec("x", (None, 28, 28, 1), "float32")
FIRST = InputSpec("x", (None, 3, 8, 6), "float32")
A = np.arange(60, dtype=np.float32).reshape(5, 3, 4)
B = A[:2] + 100


def rows(samples: Samples, size: int, name: str = "x") -> np.ndarray:
    return np.concatenate([batch[name] for batch in samples.batches(size)])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_arrays_are_concatenated_in_file_order(tmp_path: Path, save: Callable[..., Any]) -> None:
    save(tmp_path / "s.npz", z=A, a=B)
    samples = Samples.from_path(tmp_path / "s.npz", [ROW])
    assert len(samples) == 7
    assert np.array_equal(rows(samples, 3), np.concatenate([A, B]))


def test_batches_do_not_depend_on_how_a_file_is_cut(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", a=A, b=B)
    assert [len(batch["x"]) for batch in Samples.from_path(tmp_path / "s.npz", [ROW]).batches(3)] == [3, 3, 1]


@pytest.mark.parametrize("array", [A, np.asfortranarray(A), A.astype(np.float64), A.astype(np.int16), A.astype(">f4")],
                         ids=["float32", "fortran", "float64", "int16", "big-endian"])
def test_npy_is_read_in_the_dtype_of_the_input(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "s.npy", array)
    read = rows(Samples.from_path(tmp_path / "s.npy", [ROW]), 2)
    assert read.dtype == np.float32 and np.array_equal(read, A)


def test_samples_are_read_twice_alike(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", a=A)
    samples = Samples.from_path(tmp_path / "s.npz", [ROW])
    assert np.array_equal(rows(samples, 2), rows(samples, 5))


def test_several_inputs_take_arrays_by_name(tmp_path: Path) -> None:
    specs = [InputSpec("left", (None, 2), "float32"), InputSpec("right", (None, 3), "float32")]
    np.savez(tmp_path / "s.npz", right=np.ones((4, 3)), left=np.zeros((4, 2)))
    batch = next(Samples.from_path(tmp_path / "s.npz", specs).batches(4))
    assert (batch["left"].shape, batch["right"].shape) == ((4, 2), (4, 3))


@pytest.mark.parametrize(("given", "message"), [
    ({"left": np.zeros((4, 2))}, "one array for each input of the model: left, right"),
    ({"left": np.zeros((4, 2)), "right": np.zeros((3, 3))}, "different numbers of samples"),
    (np.zeros((4, 2)), "a mapping with the names left, right"),
])
def test_several_inputs_refuse(given: Any, message: str) -> None:
    specs = [InputSpec("left", (None, 2), "float32"), InputSpec("right", (None, 3), "float32")]
    with pytest.raises(SampleError, match=message):
        Samples.of(given, specs)


@pytest.mark.parametrize(("array", "spec", "message"), [
    (np.zeros((4, 1, 28, 28)), LAST, r"channel-first, the model takes channel-last: give `samples.transpose\(0, 2, 3, 1\)`"),
    (np.zeros((4, 8, 6, 3)), FIRST, r"channel-last, the model takes channel-first: give `samples.transpose\(0, 3, 1, 2\)`"),
    (np.zeros((4, 28, 28)), LAST, r"channel axis is missing: give `samples\[\.\.\., None\]`"),
    (np.zeros((28, 28, 1)), LAST, r"batch axis is missing: give `samples\[None\]`"),
    (np.zeros((4, 784)), LAST, r"give `samples.reshape\(-1, 28, 28, 1\)`"),
    (np.zeros((4, 28, 28, 3)), LAST, r"has shape \(28, 28, 3\)\. Allowed: \(28, 28, 1\)"),
    (np.zeros((0, 28, 28, 1)), LAST, "holds no sample"),
    (np.zeros((4, 0, 28, 1)), InputSpec("x", (None, None, 28, 1), "float32"), "a size of zero"),
    (np.float32(1), LAST, "holds no sample"),
    (np.array(["a"]), LAST, "integers or floats"),
    (np.zeros((4, 28, 28, 1), complex), LAST, "integers or floats"),
])
def test_what_does_not_fit_is_refused_at_once(array: np.ndarray, spec: InputSpec, message: str) -> None:
    with pytest.raises(SampleError, match=message):
        Samples.of(array, [spec])


@pytest.mark.parametrize(("value", "dtype", "message"), [
    (np.nan, "float32", "sample 5 holds nan"),
    (np.inf, "float32", "sample 5 holds inf"),
    (1e300, "float32", r"sample 5 holds 1e\+300"),
    (256, "uint8", "sample 5 holds 256.*values of uint8"),
    (0.5, "int8", "sample 5 holds 0.5.*values of int8"),
])
def test_values_are_checked_while_they_are_read(value: float, dtype: str, message: str) -> None:
    array = np.zeros((8, 2))
    array[5, 1] = value
    with pytest.raises(SampleError, match=message):
        list(Samples.of(array, [InputSpec("x", (None, 2), dtype)]).batches(3))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", a=A)
    np.save(tmp_path / "good.npy", A)
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    damaged = {
        "cut.npz": (tmp_path / "good.npz").read_bytes()[:-30],
        "cut.npy": (tmp_path / "good.npy").read_bytes()[:-30],
        "empty.npy": b"",
        "text.npz": b"not an archive",
        "object.npy": (tmp_path / "object.npy").read_bytes(),
        "flipped.npz": bytes(byte ^ 255 if i == 200 else byte for i, byte in enumerate((tmp_path / "good.npz").read_bytes())),
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SampleError):
            list(Samples.from_path(tmp_path / name, [ROW]).batches(2))


def test_missing_file_and_empty_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz")
    for name, message in {"absent.npz": "there is no such file", "none.npz": "holds no array"}.items():
        with pytest.raises(SampleError, match=message):
            Samples.from_path(tmp_path / name, [ROW])


def test_random_samples_depend_on_the_seed_only() -> None:
    one, same, other = (Samples.random([LAST], 10, seed) for seed in (3, 3, 4))
    assert one.is_random and np.array_equal(rows(one, 3), rows(same, 10))
    assert not np.array_equal(rows(one, 10), rows(other, 10))


@pytest.mark.parametrize(("spec", "low", "high"), [
    (LAST, 0, 255), (FIRST, 0, 255), (InputSpec("x", (None, 4000), "uint8"), 0, 255), (InputSpec("x", (None, 4000), "int8"), -128, 127),
])
def test_random_images_and_integers_fill_their_range(spec: InputSpec, low: int, high: int) -> None:
    values = rows(Samples.random([spec], 16), 16)
    assert values.dtype == np.dtype(spec.dtype) and (values.min(), values.max()) == (low, high)
    assert np.array_equal(values, np.round(values))


def test_other_random_samples_are_normal() -> None:
    values = rows(Samples.random([InputSpec("x", (None, 100), "float32")], 100), 100)
    # 10 000 draws: the standard error of mean and deviation is 0.01, the bound is five times that.
    assert abs(values.mean()) < 0.05 and abs(values.std() - 1) < 0.05


def test_open_shapes_need_one() -> None:
    spec = InputSpec("x", (None, None, None, 3), "float32")
    with pytest.raises(UsageError, match=r"leaves its shape \(any, any, 3\) open.*--input_shape"):
        Samples.random([spec])
    assert Samples.random([spec], 2, input_shape=(4, 5, 3)).shapes == {"x": (4, 5, 3)}


@pytest.mark.parametrize("call", [lambda: Samples.random([LAST], 0), lambda: next(Samples.of(A, [ROW]).batches(0))])
def test_counts_are_positive(call: Callable[[], Any]) -> None:
    with pytest.raises(UsageError, match="a positive integer"):
        call()
