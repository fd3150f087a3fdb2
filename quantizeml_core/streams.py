"""Samples that come one after the other: generators, `tf.data.Dataset`, `keras.utils.PyDataset`, any iterable of samples or of batches.

A stream can be run through once only, and calibration looks twice: what is needed of it, `count` samples at most, is kept. An element is the
inputs, or a pair (inputs, labels); the inputs are an array (one input), a mapping by input name, or a sequence in the order of the inputs. An array
with as many axes as the model's input is a batch, with one axis less a single sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .errors import SampleError
from .hooks import InputSpec

Rows = dict[str, np.ndarray]


def is_stream(source: Any) -> bool:
    """Whether samples come one after the other, and not as arrays or files."""
    return not isinstance(source, (str, bytes, Mapping, list, tuple, np.ndarray)) and not hasattr(source, "__array__") and _elements(source) is not None


def collect(source: Any, specs: Sequence[InputSpec], count: int) -> Rows:
    """The first `count` samples of a stream, by input name."""
    parts: list[Rows] = []
    taken = 0
    elements = _elements(source)
    assert elements is not None
    for element in elements:
        rows = _rows(element, specs)
        parts.append({name: array[: count - taken] for name, array in rows.items()})
        taken += len(next(iter(rows.values())))
        if taken >= count:
            break
    if not parts:
        raise SampleError("the stream holds no sample", where="samples", allowed="at least one", do="Give a stream that has some")
    return {spec.name: np.concatenate([p[spec.name] for p in parts]) for spec in specs}


def _elements(source: Any) -> Iterable[Any] | None:
    if hasattr(source, "as_numpy_iterator"):
        return source.as_numpy_iterator()
    if hasattr(source, "__iter__") or isinstance(source, Iterator):
        return source
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return (source[index] for index in range(len(source)))
    return None


def _rows(element: Any, specs: Sequence[InputSpec]) -> Rows:
    inputs = element[0] if isinstance(element, (tuple, list)) and len(element) in (2, 3) and _is_labelled(element, specs) else element
    if isinstance(inputs, Mapping):
        arrays = [_of(inputs, spec) for spec in specs]
    elif len(specs) == 1 and not isinstance(inputs, (tuple, list)):
        arrays = [inputs]
    else:
        arrays = list(inputs)
    if len(arrays) != len(specs):
        raise SampleError(f"an element of the stream has {len(arrays)} arrays", where="samples", allowed=f"{len(specs)}: {', '.join(s.name for s in specs)}",
                          do="Give one array for each input")
    return {spec.name: _batch(np.asarray(array), spec) for spec, array in zip(specs, arrays, strict=True)}


def _is_labelled(element: Sequence[Any], specs: Sequence[InputSpec]) -> bool:
    """(inputs, labels[, weights]), not one array for each input."""
    return len(specs) == 1 or isinstance(element[0], (tuple, list, Mapping))


def _of(inputs: Mapping[str, Any], spec: InputSpec) -> Any:
    if spec.name not in inputs:
        raise SampleError(f"an element of the stream has {', '.join(map(str, inputs)) or 'nothing'}", where="samples", allowed=f"`{spec.name}` too",
                          do="Name the arrays as the model's inputs")
    return inputs[spec.name]


def _batch(array: np.ndarray, spec: InputSpec) -> np.ndarray:
    return array[None] if array.ndim == len(spec.shape) - 1 else array
