"""Pixels that are neighbours in a row as channels of one: channels last, that is a Reshape, and a convolution of images has channels and filters enough to be fast.

With g pixels in one, l pads on the left and stride s, tap t of output o = (g / s) m + j is pixel p of the joined pixel m + e:

    s o + t - l = g (m + e) + p         W[(j, f), (p, c), e] = w[f, c, g e + p - s j + l], or nothing

The same in both directions is the space-to-depth of Ying et al., Image Classification at Supercomputer Scale (arXiv 1811.06992, section 3.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from quantizeml_core.blocks import Block
from quantizeml_core.geometry import convolved_size

from .graph import Graph

WORD = 4
"""Channels that onnxruntime reads at a time; where it does not divide them, they are copied."""
SPARED = 1000
"""Products of zeros for each output and row of the kernel that take less time than what is saved."""


@dataclass(frozen=True)
class Neighbours:
    """How a convolution reads rows of pixels, several in one.

    Arguments:
        taps: (g / s, taps, g) the tap of the kernel for each output, tap and pixel of one, or the kernel's width where there is none.
        begin, end: pads of the rows.
    """

    taps: np.ndarray
    begin: int
    end: int

    @property
    def pixels(self) -> int:
        """In one."""
        return self.taps.shape[2]

    @property
    def outputs(self) -> int:
        """Of one."""
        return len(self.taps)

    def pads(self, pads: tuple[int, ...]) -> tuple[int, ...]:
        """Those of the joined pixels."""
        return pads[0], self.begin, pads[2], self.end

    def around(self, pads: tuple[int, ...]) -> tuple[int, ...]:
        """The same in pixels."""
        return pads[0], self.begin * self.pixels, pads[2], self.end * self.pixels

    def filters(self, weight: np.ndarray) -> np.ndarray:
        """(F, C, H, W) as those of all outputs, (outputs F, pixels C, H, taps)."""
        several = np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, 1)))[..., self.taps].transpose(3, 0, 5, 1, 2, 4)
        return several.reshape(self.outputs * len(weight), -1, *several.shape[4:])

    def joined(self, g: Graph, x: str, channels: int, width: int) -> str:
        """(N, C, H, W) as (N, pixels C, H, W / pixels)."""
        return _reshaped(g, x, width // self.pixels, self.pixels * channels)

    def apart(self, g: Graph, y: str, filters: int, width: int) -> str:
        """(N, outputs F, H, W / outputs) as (N, F, H, W)."""
        return _reshaped(g, y, width, filters)


def found(block: Block, size: tuple[int | None, ...]) -> Neighbours | None:
    """As many pixels in one as make whole words; None where a row does not consist of such, or too many of the products are of zeros.

    Arguments:
        size: height and width of what the convolution reads.
    """
    filters, channels, rows, kernel = block.arrays["weight"].shape
    width, stride, words = size[1], block.strides[1], math.gcd(channels, WORD)
    pixels = math.lcm(stride, WORD // words)
    if block.groups > 1 or words == WORD or block.dilations[1] > 1 or width is None or width % pixels:
        return None
    if convolved_size(block, (size[0] or rows, width))[1] * stride != width:
        return None
    result = _neighbours(kernel, stride, block.pads[1], pixels)
    spared = filters * (result.taps[0].size * channels - kernel * (WORD if channels == WORD - 1 else channels))
    return result if min(result.begin, result.end) >= 0 and spared <= SPARED else None


def _neighbours(kernel: int, stride: int, left: int, pixels: int) -> Neighbours:
    first, last = -left // pixels, (pixels - stride + kernel - 1 - left) // pixels
    tap, output, pixel = np.arange(first, last + 1)[:, None], stride * np.arange(pixels // stride)[:, None, None], np.arange(pixels)
    taps = pixels * tap + pixel - output + left
    return Neighbours(np.where((taps >= 0) & (taps < kernel), taps, kernel), -first, last)


def _reshaped(g: Graph, x: str, width: int, channels: int) -> str:
    rows = g.node("Reshape", g.node("Transpose", x, perm=[0, 2, 3, 1]), g.ints((0, 0, width, channels)))
    return g.node("Transpose", rows, perm=[0, 3, 1, 2])
