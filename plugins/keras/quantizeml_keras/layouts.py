"""Weight layouts: Keras on the left, the blocks' channel-first layout on the right.

    conv2d        (kh, kw, C / groups, F)        (F, C / groups, kh, kw)
    conv_transpose2d  (kh, kw, F, C)             (F, C, kh, kw)
    depthwise2d   (kh, kw, C, M)                 (C * M, 1, kh, kw), filter c * M + m
    dense         (Cin, F)                       (F, Cin); behind a flatten Cin counts H, W, C in Keras and C, H, W in the block
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quantizeml_core.blocks import Block


def to_native(block: Block, weight: np.ndarray, source: Sequence[int | None]) -> np.ndarray:
    """A block's weight as a Keras kernel. `source`: channel-first shape of the block's input."""
    if block.kind == "conv2d":
        return weight.transpose(2, 3, 1, 0)
    if block.kind == "conv_transpose2d":
        return weight.transpose(2, 3, 0, 1)
    if block.kind == "depthwise2d":
        return weight.reshape(block.groups, -1, *weight.shape[2:]).transpose(2, 3, 0, 1)
    if not block.flatten:
        return weight.T
    unfolded = weight.reshape(len(weight), *_extent(source))
    return np.moveaxis(unfolded, 1, -1).reshape(len(weight), -1).T


def to_canonical(block: Block, kernel: np.ndarray, source: Sequence[int | None]) -> np.ndarray:
    """The inverse of `to_native`."""
    if block.kind == "conv2d":
        return kernel.transpose(3, 2, 0, 1)
    if block.kind == "conv_transpose2d":
        return kernel.transpose(2, 3, 0, 1)
    if block.kind == "depthwise2d":
        return kernel.transpose(2, 3, 0, 1).reshape(-1, 1, *kernel.shape[:2])
    if not block.flatten:
        return kernel.T
    channels, *spatial = _extent(source)
    unfolded = kernel.T.reshape(-1, *spatial, channels)
    return np.moveaxis(unfolded, -1, 1).reshape(kernel.shape[1], -1)


def native_shape(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """A channel-first shape with its channels last."""
    return (shape[0], *shape[2:], shape[1]) if len(shape) > 2 else tuple(shape)


def channels_last(rank: int) -> tuple[int, ...]:
    """The transposition from channel-first to channels last."""
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


def channels_first(rank: int) -> tuple[int, ...]:
    """The transposition from channels last to channel-first."""
    return (0, rank - 1, *range(1, rank - 1)) if rank > 2 else tuple(range(rank))


def _extent(source: Sequence[int | None]) -> tuple[int, ...]:
    return tuple(int(size or 0) for size in source[1:])
