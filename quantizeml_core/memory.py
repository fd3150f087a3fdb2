"""What blocks remember from frame to frame, by kind: the shape and the type of a state, and what a frame makes of it. Every sequence begins with zeros."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .blocks import Block
from .kernels import advance, push_frame
from .numerics import Ints

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Memory:
    """The memory of a kind.

    Arguments:
        dtype: of a state outside the program.
        shape: block, shape of a frame without its batch -> shape of a state without its batch.
        step: block, frame, state -> output, the state for the next frame.
    """

    dtype: np.dtype
    shape: Callable[[Block, Shape], Shape]
    step: Callable[[Block, Ints, Ints], tuple[Ints, Ints]]


MEMORIES: Mapping[str, Memory] = {
    "buffer": Memory(np.dtype(np.int8), lambda block, frame: (frame[0], block.frames - 1, *frame[1:]), push_frame),
    "recurrent": Memory(np.dtype(np.int32), lambda block, frame: (frame[0], 2, *frame[1:]), advance),
}
