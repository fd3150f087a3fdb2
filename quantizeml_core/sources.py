"""Where the rows of samples come from: arrays in memory, or arrays in `.npy` and `.npz` files read a few rows at a time.

A `.npz` is a zip of `.npy` members. Each member is a header (shape, dtype, order) and then its rows: only the header is read to check a
file, and rows are read in order when they are asked for.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.lib import format as npy

from .errors import SampleError

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError)


class Source(Protocol):
    """Rows of one array: axis 0 of `shape` counts them."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def chunks(self, size: int) -> Iterator[np.ndarray]:
        """All rows in order, `size` at a time, the last chunk shorter."""


@dataclass(frozen=True)
class ArraySource:
    """Rows of an array in memory."""

    name: str
    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def chunks(self, size: int) -> Iterator[np.ndarray]:
        for start in range(0, len(self.array), size):
            yield self.array[start:start + size]


@dataclass(frozen=True)
class FileSource:
    """Rows of one stored array; `open` gives a stream that stands before its header."""

    name: str
    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    open: Callable[[], IO[bytes]] = field(compare=False, repr=False)

    def chunks(self, size: int) -> Iterator[np.ndarray]:
        try:
            with self.open() as stream:
                yield from self._whole(stream, size) if self.fortran else self._rows(stream, size)
        except _UNREADABLE as error:
            raise _refusal(self.path, str(error), self.name) from error

    def _rows(self, stream: IO[bytes], size: int) -> Iterator[np.ndarray]:
        _header(stream)
        row = self.shape[1:]
        for start in range(0, self.shape[0], size):
            count = min(size, self.shape[0] - start)
            data = stream.read(count * math.prod(row) * self.dtype.itemsize)
            yield np.frombuffer(data, self.dtype).reshape(count, *row)

    def _whole(self, stream: IO[bytes], size: int) -> Iterator[np.ndarray]:
        """Columns first: the rows are not contiguous in the file, so it is read at once."""
        yield from ArraySource(self.name, npy.read_array(io.BytesIO(stream.read()), allow_pickle=False)).chunks(size)


def open_file(path: Path) -> tuple[FileSource, ...]:
    """The arrays of a `.npy` or `.npz` file in file order, their headers read; SampleError when that is not what it is."""
    if not path.is_file():
        raise SampleError("there is no such file", where=f"`{path}`", do="Correct the path given with -sa/--samples")
    try:
        if zipfile.is_zipfile(path):
            return _members(path)
        return (_source(path.name, path, lambda: path.open("rb")),)
    except _UNREADABLE as error:
        raise _refusal(path, str(error)) from error


def _members(path: Path) -> tuple[FileSource, ...]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if not names:
        raise SampleError("the file holds no array", where=f"`{path}`", do="Save at least one array with numpy.savez")
    return tuple(_source(name.removesuffix(".npy"), path, _opener(path, name)) for name in names)


def _opener(path: Path, member: str) -> Callable[[], IO[bytes]]:
    # ZipFile closes the file it opened itself once its last member is closed.
    def opened() -> IO[bytes]:
        with zipfile.ZipFile(path) as archive:
            return archive.open(member)

    return opened


def _source(name: str, path: Path, opened: Callable[[], IO[bytes]]) -> FileSource:
    with opened() as stream:
        shape, fortran, dtype = _header(stream)
    return FileSource(name, path, shape, dtype, fortran and len(shape) > 1, opened)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"numpy format {version} holds no plain array")
    return _HEADERS[version](stream)


def _refusal(path: Path, reason: str, array: str = "") -> SampleError:
    detail = f"array `{array}` cannot be read" if array else "the samples cannot be read"
    return SampleError(f"{detail}: {' '.join(reason.split())}", where=f"`{path}`", allowed="a .npz or .npy file written by numpy",
                       do="Write it again with numpy.savez or numpy.save")
