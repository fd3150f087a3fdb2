"""What reshapes and transpositions make of a sequence (N, T, C): a picture, axes that are lists of factors (dimension, size, stride) of the sequence.

    (N, T, C)                       ((n), (t), (c, C, 1))
    reshaped to (N, T, h, d)        ((n), (t), (c, h, d), (c, d, 1))
    transposed to (N, h, T, d)      ((n), (c, h, d), (t), (c, d, 1)): what the queries of an attention look like

An index of an axis adds index * stride to the index of the dimension; an axis of several factors counts the last one fastest.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

BATCH = 1_000_003
"""Stands for an open batch: a prime that divides no other size."""

Factor = tuple[str, int, int]
Axis = tuple[Factor, ...]
Axes = tuple[Axis, ...]


def sequence_axes(batch: int | None, length: int, channels: int) -> Axes:
    """The picture that is the sequence itself."""
    return _plain(((("n", batch or BATCH, 1),), (("t", length, 1),), (("c", channels, 1),)))


def regroup(axes: Axes, sizes: Sequence[int | None]) -> Axes | None:
    """The factors dealt out to axes of these sizes, in order; a factor that spans two axes is split. None where a size divides none.

    Arguments:
        sizes: one that is not known is what the others leave.
    """
    waiting, found = [f for axis in axes for f in axis], []
    rest = prod(f[1] for f in waiting) // prod(s for s in sizes if s)
    for wanted in sizes:
        size, axis = wanted or rest, []
        while size > 1:
            if not waiting:
                return None
            name, extent, stride = waiting.pop(0)
            if size % extent and extent % size:
                return None
            taken = min(size, extent)
            axis.append((name, taken, stride * (extent // taken)))
            waiting[:0] = [(name, extent // taken, stride)] if extent > taken else []
            size //= taken
        found.append(tuple(axis))
    return None if waiting else merged(tuple(found))


def merged(axes: Axes) -> Axes:
    """Neighbouring factors that count on as one are one."""
    return tuple(_merged(axis) for axis in axes)


def _merged(axis: Axis) -> Axis:
    out: list[Factor] = []
    for name, size, stride in axis:
        if out and out[-1][0] == name and out[-1][2] == size * stride:
            out[-1] = (name, out[-1][1] * size, stride)
        else:
            out.append((name, size, stride))
    return tuple(out)


def _plain(axes: Axes) -> Axes:
    """Without factors of size one, which count nothing."""
    return tuple(tuple(f for f in axis if f[1] != 1) for axis in axes)


def channels(axes: Axes) -> int:
    """How many channels a picture shows."""
    found = 1
    for axis in axes:
        for name, size, _ in axis:
            found *= size if name == "c" else 1
    return found


def heads(q: Axes, k: Axes, v: Axes, batch: int | None, lengths: tuple[int, int]) -> int | None:
    """Number of heads when (N, h, T, d), (N, h, d, T), (N, h, T, d) is what queries, keys and values are pictures of; None when they are others.

    Arguments:
        lengths: tokens of the queries, and of keys and values.
    """
    split = [f for f in q[1] if f[0] == "c"] if len(q) == 4 else []
    count = split[0][1] if split else 1

    def wanted(axes: Axes, length: int, keys: bool) -> bool:
        size = channels(axes) // count
        batches, head, row, channel = ("n", batch or BATCH, 1), ("c", count, size), ("t", length, 1), ("c", size, 1)
        return _plain(axes) == _plain(((batches,), (head,), *(((channel,), (row,)) if keys else ((row,), (channel,)))))

    fits = wanted(q, lengths[0], False) and wanted(k, lengths[1], True) and wanted(v, lengths[1], False)
    return count if fits else None
