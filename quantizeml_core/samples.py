"""Calibration samples: read in batches, checked against the model's inputs, never held in memory as a whole.

    .npy              one array, axis 0 the samples
    .npz              one input: all its arrays, concatenated on axis 0 in file order; several inputs: one array for each, under its name
    array, mapping    the same, in memory
    random            sample i comes from `default_rng([seed, i])`, so it does not depend on the batch size: for an image (four axes, 1 or 3
                      channels) integers 0 ... 255, for an integer input all its values, else the standard normal distribution

A batch maps each input's name to an array of that input's dtype, in the native layout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .errors import SampleError, UsageError
from .hooks import Batch, InputShape, InputSpec
from .sequences import as_frames, beginnings, cut
from .sources import ArraySource, Source, open_file
from .streams import collect, is_stream


@dataclass(frozen=True)
class RandomSource:
    """Seeded random samples of one input."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    seed: int

    def chunks(self, size: int) -> Iterator[np.ndarray]:
        """Batches of `size` rows, the last one shorter."""
        for start in range(0, self.shape[0], size):
            stop = min(start + size, self.shape[0])
            yield np.stack([self._draw(np.random.default_rng([self.seed, i])) for i in range(start, stop)])

    def _draw(self, generator: np.random.Generator) -> np.ndarray:
        one = self.shape[1:]
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            return generator.integers(limits.min, limits.max, one, self.dtype, endpoint=True)
        if _is_image(one):
            return generator.integers(0, 255, one, np.uint8, endpoint=True).astype(self.dtype)
        return generator.standard_normal(one).astype(self.dtype)


@dataclass(frozen=True)
class Samples:
    """Samples for the inputs of one model.

    Arguments:
        specs: the model's inputs.
        sources: for each of them, where its rows come from, in order.
        is_random: nobody gave them, so calibration is a guess.
    """

    specs: tuple[InputSpec, ...]
    sources: Mapping[str, tuple[Source, ...]]
    is_random: bool = False

    def __post_init__(self) -> None:
        rows = {spec.name: tuple(as_frames(source, spec) for source in self.sources[spec.name]) for spec in self.specs}
        object.__setattr__(self, "sources", rows)
        for spec in self.specs:
            for source in self.sources[spec.name]:
                _check_source(source, spec)
        counts = {name: _rows(sources) for name, sources in self.sources.items()}
        if len(set(counts.values())) > 1:
            raise SampleError(f"the inputs have different numbers of samples: {counts}", where="samples", do="Give as many for each input")
        if not len(self):
            raise SampleError("there is no sample", where="samples", allowed="at least one", do="Give a file or an array that holds some")

    def __len__(self) -> int:
        return _rows(self.sources[self.specs[0].name])

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Native shape of one sample of each input, without the batch axis."""
        return {name: sources[0].shape[1:] for name, sources in self.sources.items()}

    def batches(self, size: int) -> Iterator[Batch]:
        """All samples once, in order, `size` at a time; SampleError at the first one that the input's dtype cannot hold.

        Of a network with a memory, a batch ends where a sequence does.
        """
        if size < 1:
            raise UsageError(f"{size} samples make no batch", where="batch_size (-bs)", allowed="a positive integer", do="Give one")
        streams = [_checked(spec, _regroup(self.sources[spec.name], size)) for spec in self.specs]
        rows = ({spec.name: array for spec, array in zip(self.specs, arrays, strict=True)} for arrays in zip(*streams, strict=True))
        yield from cut(rows, beginnings(self.specs, self.sources)) if any(spec.ordered for spec in self.specs) else rows

    @classmethod
    def of(cls, source: Any, specs: Sequence[InputSpec], count: int = 1024) -> Samples:
        """Samples from whatever a user may give: a path, an array, a mapping from input name to array, a stream, or samples already made.

        Arguments:
            count: how many are taken of a stream; of anything else all are.
        """
        if isinstance(source, Samples):
            return source
        if is_stream(source):
            rows = collect(source, specs, count)
            return cls.from_array(rows if len(specs) > 1 else rows[specs[0].name], specs)
        return cls.from_path(source, specs) if isinstance(source, (str, PathLike)) else cls.from_array(source, specs)

    @classmethod
    def from_path(cls, path: str | PathLike[str], specs: Sequence[InputSpec]) -> Samples:
        """Samples of a `.npz` or `.npy` file; SampleError when it cannot be read or does not fit the inputs."""
        found = open_file(Path(path))
        if len(specs) == 1:
            return cls(tuple(specs), {specs[0].name: found})
        return cls(tuple(specs), _by_name({source.name: source for source in found}, specs, f"`{path}`"))

    @classmethod
    def from_array(cls, data: Any, specs: Sequence[InputSpec]) -> Samples:
        """Samples of an array (one input) or of a mapping from input name to array."""
        if isinstance(data, Mapping):
            given = {name: ArraySource(name, np.asarray(array)) for name, array in data.items()}
            return cls(tuple(specs), _by_name(given, specs, "samples"))
        if len(specs) != 1:
            raise SampleError("one array is given", where="samples", allowed=f"a mapping with the names {_names(specs)}",
                              do="Give one array for each input")
        return cls(tuple(specs), {specs[0].name: (ArraySource("samples", np.asarray(data)),)})

    @classmethod
    def random(cls, specs: Sequence[InputSpec], count: int = 1024, seed: int = 0, input_shape: InputShape = None) -> Samples:
        """Seeded random samples; `input_shape` is the native shape of one sample when the model leaves it open."""
        if count < 1:
            raise UsageError(f"{count} samples cannot calibrate", where="num_samples (-ns)", allowed="a positive integer", do="Give one")
        made = (RandomSource("random samples", (count, *_fixed(spec, input_shape)), np.dtype(spec.dtype), seed) for spec in specs)
        return cls(tuple(specs), {spec.name: (source,) for spec, source in zip(specs, made, strict=True)}, is_random=True)


def _rows(sources: Sequence[Source]) -> int:
    return sum(source.shape[0] if source.shape else 0 for source in sources)


def _names(specs: Sequence[InputSpec]) -> str:
    return ", ".join(spec.name for spec in specs)


def _by_name(given: Mapping[str, Source], specs: Sequence[InputSpec], where: str) -> dict[str, tuple[Source, ...]]:
    if set(given) != {spec.name for spec in specs}:
        raise SampleError(f"its arrays are called {', '.join(given) or 'nothing'}", where=where,
                          allowed=f"one array for each input of the model: {_names(specs)}", do="Name them so")
    return {spec.name: (given[spec.name],) for spec in specs}


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and (shape[0] in (1, 3) or shape[-1] in (1, 3))


def _fixed(spec: InputSpec, input_shape: InputShape) -> tuple[int, ...]:
    given = input_shape.get(spec.name) if isinstance(input_shape, Mapping) else input_shape
    shape = tuple(given) if given else spec.shape[1:]
    if any(size is None for size in shape):
        raise UsageError(f"the model leaves its shape {_text(shape)} open", where=f"input `{spec.name}`",
                         do="Give samples with -sa/--samples, or the shape of one sample with --input_shape")
    return tuple(int(size or 0) for size in shape)


def _check_source(source: Source, spec: InputSpec) -> None:
    if source.dtype.kind not in "fiub":
        raise SampleError(f"`{source.name}` holds {source.dtype}", where="samples", allowed="integers or floats", do="Convert to float32")
    if not source.shape or 0 in source.shape[:1]:
        raise SampleError(f"`{source.name}` has shape {source.shape} and holds no sample", where="samples", do="Give at least one")
    got, wanted = source.shape[1:], spec.shape[1:]
    if 0 in got:
        raise SampleError(f"a sample of `{source.name}` has shape {got}, with a size of zero", where="samples", do="Remove the empty axis")
    if not _fits(got, wanted):
        raise SampleError(f"a sample of `{source.name}` has shape {got}", where=f"input `{spec.name}`", allowed=_text(wanted),
                          do=_advice(source.shape, wanted))


def _fits(got: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(got) == len(wanted) and all(want in (None, size) for size, want in zip(got, wanted, strict=True))


def _text(shape: Sequence[int | None]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)}{',' if len(shape) == 1 else ''})"


def _advice(shape: tuple[int, ...], wanted: Sequence[int | None]) -> str:
    """The edit that makes samples of a shape (batch axis included) fit, when there is a simple one."""
    got = shape[1:]
    if _fits(shape, wanted):
        return "The batch axis is missing: give `samples[None]`"
    if len(got) == 3 and _fits((got[1], got[2], got[0]), wanted):
        return "The samples are channel-first, the model takes channel-last: give `samples.transpose(0, 2, 3, 1)`"
    if len(got) == 3 and _fits((got[2], got[0], got[1]), wanted):
        return "The samples are channel-last, the model takes channel-first: give `samples.transpose(0, 3, 1, 2)`"
    if _fits((*got, 1), wanted):
        return "The channel axis is missing: give `samples[..., None]`"
    if _fits((1, *got), wanted):
        return "The channel axis is missing: give `samples[:, None]`"
    if None not in wanted and math.prod(got) == math.prod(size or 0 for size in wanted):
        return f"The number of values is right: give `samples.reshape(-1, {', '.join(map(str, wanted))})`"
    return "Give samples preprocessed as for the float model"


def _regroup(sources: Sequence[Source], size: int) -> Iterator[np.ndarray]:
    """Rows of all sources, `size` at a time across their borders, so that batches do not depend on how a file is cut."""
    rest: list[np.ndarray] = []
    for chunk in (chunk for source in sources for chunk in source.chunks(size)):
        rest.append(chunk)
        if sum(map(len, rest)) >= size:
            rows = np.concatenate(rest)
            yield rows[:size]
            rest = [rows[size:]]
    if sum(map(len, rest)):
        yield np.concatenate(rest)


def _checked(spec: InputSpec, arrays: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Each array in the input's dtype, its values proven finite and representable."""
    dtype, first = np.dtype(spec.dtype), 0
    for array in arrays:
        with np.errstate(over="ignore", invalid="ignore"):
            values = array.astype(dtype)
        good = np.isfinite(values) if dtype.kind == "f" else values == array
        if not good.all():
            index = tuple(np.argwhere(~good)[0])
            raise SampleError(f"sample {first + index[0]} holds {array[index]}", where=f"input `{spec.name}`",
                              allowed="finite numbers" if dtype.kind == "f" else f"values of {dtype}", do="Remove or repair that sample")
        yield values
        first += len(array)
