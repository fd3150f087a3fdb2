"""How a model input enters the quantized region: Cast, Transpose, the Unsqueeze of a series, and arithmetic with constants, in any order, become one
`input` block.

    region value = raw * scale + offset       scale, offset (C,), raw transposed by `perm` to channel-first

The block is called `quantize` (`<input>/quantize` when the model has several inputs). Its output is the last absorbed tensor, or the
block's own name when nothing is absorbed, or when the model gives that tensor as an output too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from quantizeml_core.blocks import Block
from quantizeml_core.match import Node

from .view import OnnxView, ints, operand, operands

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


@dataclass(frozen=True)
class Entry:
    """An `input` block, the names of the nodes it absorbs, and the native tensor that its consumers read."""

    block: Block
    nodes: tuple[str, ...]
    tensor: str


@dataclass(frozen=True)
class Affine:
    """raw * scale + offset. `perm[i]` is the native axis of axis i; `axes` are the native axes along which a constant varies."""

    perm: tuple[int, ...]
    scale: np.ndarray
    offset: np.ndarray
    axes: frozenset[int] = frozenset()

    @property
    def touched(self) -> bool:
        return bool((self.scale != 1).any() or (self.offset != 0).any())

    @property
    def invertible(self) -> bool:
        """A raw value exists for every real one: zero padding behind the rescaling is padding raw with -offset / scale."""
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.offset).all() and self.scale.all())


def entry(view: OnnxView, tensor: str, name: str, until: str | None) -> Entry | None:
    """The longest chain behind a model input that one block can hold; None when the input has no channel axis."""
    shape = view.shape(tensor)
    if shape is None or len(shape) < 2:
        return None
    chain = _chain(view, tensor, until)
    lengths = range(len(chain), -1, -1)
    return next(found for n in lengths if (found := _absorbed(view, tensor, name, chain[:n])))


def _chain(view: OnnxView, tensor: str, until: str | None) -> tuple[Node, ...]:
    nodes: tuple[Node, ...] = ()
    while tensor != until and tensor not in view.outputs() and len(readers := view.consumers(tensor)) == 1 and readers[0].op in STEPS:
        nodes += readers
        tensor = readers[0].outputs[0]
    return nodes


def _absorbed(view: OnnxView, tensor: str, name: str, chain: tuple[Node, ...]) -> Entry | None:
    shape = view.shape(tensor)
    state: Affine | None = Affine(tuple(range(len(shape))), np.ones(1), np.zeros(1))
    for node in chain:
        state = STEPS[node.op](view, node, state)
        if state is None:
            return None
    wide = shape if len(state.perm) == len(shape) else (shape[0], 1, *shape[1:])
    channels = wide[state.perm[1]]
    if not state.axes <= {state.perm[1]} or not state.invertible or (state.touched and channels is None):
        return None
    arrays = {k: np.broadcast_to(v, channels) for k, v in (("scale", state.scale), ("offset", state.offset))} if state.touched else {}
    perm = state.perm if state.perm != tuple(range(len(shape))) else ()
    last = chain[-1].outputs[0] if chain else tensor
    own = not chain or last in view.outputs()
    block = Block(name, "input", (tensor,), name if own else last, perm=perm, arrays=arrays)
    return Entry(block, tuple(n.name for n in chain), last)


def _cast(view: OnnxView, node: Node, state: Affine) -> Affine | None:
    return state if node.native.attributes.get_int("to", 0) in FLOATS else None


def _transpose(view: OnnxView, node: Node, state: Affine) -> Affine | None:
    perm = ints(node, "perm", tuple(reversed(range(len(state.perm)))))
    return replace(state, perm=tuple(state.perm[i] for i in perm)) if perm[0] == 0 else None


def _unsqueeze(view: OnnxView, node: Node, state: Affine) -> Affine | None:
    """A series (N, C, L) as an image of one row: the new axis is the native axis 1, those behind it move on."""
    axes = operand(view, node, 1)
    if state.perm != (0, 1, 2) or axes is None or axes.tolist() not in ([2], [-2]):
        return None
    return replace(state, perm=(0, 2, 1, 3), axes=frozenset(a + (a > 0) for a in state.axes))


def _arithmetic(update: Callable[[Affine, np.ndarray, bool], Affine | None]) -> Callable[[OnnxView, Node, Affine], Affine | None]:
    """A step that combines the tensor with one constant, which may vary along one axis only."""
    def step(view: OnnxView, node: Node, state: Affine) -> Affine | None:
        swapped = view.constant(operands(node)[0]) is not None
        constant = operand(view, node, 0 if swapped else 1)
        if constant is None or constant.ndim > len(state.perm):
            return None
        wide = constant.reshape((1,) * (len(state.perm) - constant.ndim) + constant.shape)
        axes = {state.perm[i] for i, size in enumerate(wide.shape) if size != 1}
        new = update(replace(state, axes=state.axes | axes), constant.astype(np.float64).reshape(-1), swapped)
        return new if new and len(new.axes) <= 1 else None

    return step


def _mul(s: Affine, c: np.ndarray, swapped: bool) -> Affine:
    return replace(s, scale=s.scale * c, offset=s.offset * c)


def _div(s: Affine, c: np.ndarray, swapped: bool) -> Affine | None:
    return None if swapped or not c.all() else replace(s, scale=s.scale / c, offset=s.offset / c)


def _add(s: Affine, c: np.ndarray, swapped: bool) -> Affine:
    return replace(s, offset=s.offset + c)


def _sub(s: Affine, c: np.ndarray, swapped: bool) -> Affine:
    return replace(s, scale=-s.scale, offset=c - s.offset) if swapped else replace(s, offset=s.offset - c)


STEPS: Mapping[str, Callable[[OnnxView, Node, Affine], Affine | None]] = {
    "Cast": _cast, "Transpose": _transpose, "Unsqueeze": _unsqueeze,
    "Mul": _arithmetic(_mul), "Div": _arithmetic(_div), "Add": _arithmetic(_add), "Sub": _arithmetic(_sub),
}
