"""Samples of networks with memory: sequences of frames, kept in order.

    (S, frames, ...)     S sequences of one length: the memory is emptied before each
    (frames, ...)        one sequence; each array of a file, and each file, is one

A batch holds consecutive frames of one sequence as its rows, and says whether they begin it. So calibration runs many frames at once, and
what a network remembers at row n are rows n - 1, n - 2 ..., then the rows of the batch before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import SampleError
from .hooks import Batch, InputSpec
from .sources import Source


class Frames(dict[str, np.ndarray]):
    """A batch whose rows are consecutive frames; `starts` when the first one begins a sequence."""

    def __init__(self, arrays: Mapping[str, np.ndarray], starts: bool) -> None:
        super().__init__(arrays)
        self.starts = starts


def starts_sequence(batch: Batch) -> bool:
    """Whether nothing is remembered before a batch; a batch of independent rows remembers nothing."""
    return not isinstance(batch, Frames) or batch.starts


@dataclass(frozen=True)
class FrameSource:
    """The frames of an array of sequences (S, frames, ...), one row each."""

    whole: Source

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def dtype(self) -> np.dtype:
        return self.whole.dtype

    @property
    def length(self) -> int:
        return self.whole.shape[1]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.whole.shape[0] * self.length, *self.whole.shape[2:])

    def chunks(self, size: int) -> Iterator[np.ndarray]:
        for sequences in self.whole.chunks(max(1, size // max(self.length, 1))):
            rows = sequences.reshape(-1, *sequences.shape[2:])
            yield from (rows[i : i + size] for i in range(0, len(rows), size))


def as_frames(source: Source, spec: InputSpec) -> Source:
    """A source of rows: one of sequences is taken apart, any other is what it is."""
    return FrameSource(source) if spec.ordered and len(source.shape) == len(spec.shape) + 1 else source


def beginnings(specs: Sequence[InputSpec], sources: Mapping[str, Sequence[Source]]) -> frozenset[int]:
    """The rows that begin a sequence; SampleError when the inputs disagree."""
    found = {spec.name: _beginnings(sources[spec.name]) for spec in specs}
    if len(set(found.values())) > 1:
        raise SampleError("the inputs have sequences of different lengths", where="samples", do="Give as many frames for each input")
    return next(iter(found.values()))


def _beginnings(sources: Sequence[Source]) -> frozenset[int]:
    rows: list[int] = []
    first = 0
    for source in sources:
        rows += range(first, first + source.shape[0], source.length) if isinstance(source, FrameSource) else [first]
        first += source.shape[0]
    return frozenset(rows)


def cut(batches: Iterator[Batch], begin: frozenset[int]) -> Iterator[Frames]:
    """Batches of consecutive rows, cut where a sequence begins."""
    first = 0
    for batch in batches:
        rows = len(next(iter(batch.values())))
        edges = [0, *(i for i in range(1, rows) if first + i in begin), rows]
        for low, high in zip(edges, edges[1:], strict=False):
            yield Frames({name: array[low:high] for name, array in batch.items()}, first + low in begin)
        first += rows
