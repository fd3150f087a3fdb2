"""Padding and pooling of images, channels last.

Explicit padding costs a copy of the image: where the four amounts are those that 'same' means for the image's size, and the padding value is zero, the
convolution pads by itself. The amounts decide, never the output's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import ops

from quantizeml_core.blocks import Pool

from .. import backend

Tensor = Any
Pads = tuple[int, int, int, int]

#: Below every accumulator, and a float32: padding never wins a maximum.
LOWEST = -(2.0**60)


@dataclass(frozen=True)
class Window:
    """How a kernel meets the image.

    Arguments:
        pads: top, left, bottom, right, added before the convolution.
        padding: what the convolution does by itself, `same` or `valid`.
        value: (C,) padding value, None for zero.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    amounts: Pads
    pads: Pads
    padding: str
    value: np.ndarray | None = None

    @classmethod
    def of(cls, pads: Pads, kernel: Sequence[int], strides: tuple[int, int], size: Sequence[int | None], value: np.ndarray | None = None) -> Window:
        """`size`: height and width of the image."""
        height, width = kernel
        zero = value is None or not np.any(value)
        same = zero and any(pads) and strides[0] == strides[1] and pads == same_pads(size, (height, width), strides)
        return cls((height, width), strides, pads, (0, 0, 0, 0) if same else pads, "same" if same else "valid", None if zero else value)

    def output_size(self, size: Sequence[int | None]) -> tuple[int, ...]:
        """Height and width of the output; empty when the image's are unknown."""
        if None in size:
            return ()
        return tuple((int(s or 0) + self.amounts[i] + self.amounts[i + 2] - self.kernel[i]) // self.strides[i] + 1 for i, s in enumerate(size))

    def padded(self, x: Tensor) -> Tensor:
        if not any(self.pads):
            return x
        if self.value is None or (self.value == self.value[0]).all():
            return pad(x, self.pads, 0.0 if self.value is None else float(self.value[0]))
        value = ops.cast(self.value, x.dtype)
        return ops.add(pad(ops.subtract(x, value), self.pads, 0.0), value)

    def of_group(self, index: int, groups: int) -> Window:
        """The window of one group's channels."""
        return self if self.value is None else replace(self, value=np.split(self.value, groups)[index])


def same_pads(size: Sequence[int | None], kernel: tuple[int, int], strides: tuple[int, int]) -> Pads | None:
    """The four amounts of 'same' padding for an image of this size, None when the size is unknown."""
    if None in size:
        return None
    totals = [max((-(-int(s or 0) // strides[i]) - 1) * strides[i] + kernel[i] - int(s or 0), 0) for i, s in enumerate(size)]
    return totals[0] // 2, totals[1] // 2, totals[0] - totals[0] // 2, totals[1] - totals[1] // 2


def pad(x: Tensor, pads: Pads, value: float) -> Tensor:
    """Constant padding of height and width."""
    top, left, bottom, right = pads
    return ops.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value) if any(pads) else x


def depthwise(x: Tensor, weight: Tensor, strides: tuple[int, int], padding: str) -> Tensor:
    """Each channel convolved on its own. Frameworks know equal strides only: unequal ones compute every pixel and drop some."""
    down, across = strides
    if down == across:
        return ops.depthwise_conv(x, weight, strides=down, padding=padding, data_format="channels_last")
    full = ops.depthwise_conv(x, weight, strides=1, padding="valid", data_format="channels_last")
    return full[:, ::down, ::across]


def grouped_pixels(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """A convolution of one pixel in many groups, as one product."""
    channels, filters = weight.shape[2], weight.shape[3]
    parts = ops.reshape(x, (-1, *x.shape[1:3], groups, channels))
    y = ops.einsum("nhwgc,cgf->nhwgf", parts, ops.reshape(weight, (channels, groups, filters // groups)))
    return ops.reshape(y, (-1, *x.shape[1:3], filters))


def max_pool(x: Tensor, pool: Pool) -> Tensor:
    """Maximum over windows; padding never wins."""
    return backend.max_pool(pad(x, pool.pads, LOWEST), pool.size, pool.strides)
