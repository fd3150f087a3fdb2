"""A Keras network as a graph of simple operations, channels last: what rewrites change, rules match and observers run.

    op                   attributes (arrays in Keras layout)                            inputs
    Conv2D               kernel (kh, kw, C / groups, F), bias, strides, pads, groups,
                         pad_value (C,) where it is not zero                            (B, H, W, C)
    DepthwiseConv2D      kernel (kh, kw, C, M), bias, strides, pads                     (B, H, W, C)
    Conv2DTranspose      kernel (kh, kw, F, C), bias, strides, padding, crops           (B, H, W, C)
    Dense                kernel (Cin, F), bias                                          (B, Cin)
    Affine               scale, offset: (C,) or (1,), on the last axis                  any
    Embed                table (T, C): zeros in front where it is longer, plus it      (B, H, W, C) to (B, 1, T, C)
    MadNormalize         x / mean|x| over the last axis                              any
    Normalize            epsilon: layer normalization over the last axis, no weights    any
    Pad                  pads, with zeros                                               (B, H, W, C)
    ReLU                 bound, or None                                                 any
    Table                function (a name of `quantizeml_core.tables`), alpha           any
    MaxPool, AveragePool size, strides, pads                                            (B, H, W, C)
    GlobalAveragePool    keeps its axes: (B, 1, 1, C)                                   (B, H, W, C)
    UpSampling2D         size, nearest                                                  (B, H, W, C)
    Buffer               frames: the last ones, channel c * frames + t, t = 0 the oldest   (B, H, W, C)
    Softmax              over the last axis                                              any
    MatMul               turned: rows times rows; of two sequences as images of one row  two of (B, 1, T, C)
    Recurrent            coefficients (2, C): s <- A s + x; its parts are channels 2 c and 2 c + 1     any
    Permute              dims: of the axes behind the batch, which counts as 0          any
    Reshape, Flatten     shape, without the batch                                       any
    Add, Multiply        two operands of one shape (Multiply: or of one pixel)          any
    Attention            heads, scale: softmax(q k^T scale) v; queries, keys, values    three of (B, H, W, C)
    ShiftAttention       the same with powers of two for a softmax                      three of (B, H, W, C)
    Concatenate          two operands, on the last axis                                 any

Pads are top, left, bottom, right. Every other operation is opaque: its class name behind `keras::`, attribute `reason` when one is known. A node that
stands for one whole Keras call holds it as attributes `operation` and `call`, so that it can be rebuilt from a copy of its layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from quantizeml_core.match import Node

Shape = tuple[int | None, ...]

OPAQUE = "keras::"
"""In front of the class name of an operation without an integer form."""

ARITHMETIC_FREE = frozenset({"Reshape", "Flatten", "Permute"})
"""Operations that carry no arithmetic: not counted, and no stop when nothing but them follows."""


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order. A tensor is named by the layer that writes it; inside a nested model by the path, joined with slashes.

    Arguments:
        entries: the model's inputs: native name -> native shape.
        results: the tensors that leave the model.
        shapes: native shape of every tensor, the batch first.
        name: of the model.
    """

    members: tuple[Node, ...]
    entries: tuple[str, ...]
    results: tuple[str, ...]
    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, str] = field(default_factory=dict)
    name: str = "model"

    def inputs(self) -> tuple[str, ...]:
        return self.entries

    def outputs(self) -> tuple[str, ...]:
        return self.results

    def nodes(self) -> tuple[Node, ...]:
        return self.members

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        return self._readers.get(tensor, ())

    def producer(self, tensor: str) -> Node | None:
        return self._writers.get(tensor)

    @cached_property
    def _readers(self) -> Mapping[str, tuple[Node, ...]]:
        found: dict[str, tuple[Node, ...]] = {}
        for node in self.members:
            for tensor in dict.fromkeys(node.inputs):
                found[tensor] = (*found.get(tensor, ()), node)
        return found

    @cached_property
    def _writers(self) -> Mapping[str, Node]:
        return {t: n for n in self.members for t in n.outputs}

    def only_reader(self, tensor: str) -> Node | None:
        """The one node that reads a tensor nobody else sees."""
        readers = self.consumers(tensor)
        return readers[0] if len(readers) == 1 and tensor not in self.results else None

    def swap(self, old: Iterable[Node], new: Iterable[Node], shapes: Mapping[str, Shape]) -> Graph:
        """The graph with a few nodes replaced, the new ones where the last old one stood."""
        gone, put = tuple(old), tuple(new)
        members: list[Node] = []
        for node in self.members:
            if node is gone[-1]:
                members += put
            elif not any(node is g for g in gone):
                members.append(node)
        return replace(self, members=tuple(members), shapes={**self.shapes, **shapes})


def changed(node: Node, **attributes: Any) -> Node:
    """A node with other attributes: it stands for its Keras call no more."""
    kept = {k: v for k, v in node.native.items() if k not in ("operation", "call")}
    return replace(node, native={**kept, **attributes})
