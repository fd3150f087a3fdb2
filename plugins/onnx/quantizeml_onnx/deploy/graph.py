"""A graph under construction: nodes, constants, and the zero point of every byte tensor.

An integer q of the program is kept as the byte q + zero, zero 128 where q may be negative and 0 elsewhere; tensors that one operator joins or moves share it. The bytes of an
unsigned model input are its integers. Accumulators are int32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantizeml_core.names import Names
from quantizeml_core.program import Program, reach

from .. import addition, pairs
from ..unchanged import unchanged

MIDDLE = pairs.MIDDLE
JOINED = frozenset({"add", "concat", "select", "upsample2d"})


def zero_points(program: Program) -> dict[str, int]:
    """By tensor of the program, 0 or 128, where it or what pads it may be negative; none for accumulators."""
    bytes_only = {t for t, f in program.formats.items() if f.bits <= 8}
    padded = {b.inputs[0] for b in program.blocks if "pad_value" in b.arrays and (b.arrays["pad_value"] < 0).any()}
    zeros = {t: MIDDLE if t in padded or reach(program, t)[0] < 0 else 0 for t in bytes_only}
    ties = [[t for t in (*b.inputs, *(() if b.kind == "add" else (b.output,))) if t in bytes_only] for b in program.blocks
            if b.kind in JOINED and not (b.kind == "add" and addition.plain(b)) or unchanged(program, b)]
    while raised := {t for tie in ties if any(zeros[t] for t in tie) for t in tie if not zeros[t]}:
        zeros |= dict.fromkeys(raised, MIDDLE)
    return zeros


@dataclass
class Graph:
    """What is emitted so far.

    Arguments:
        names: by tensor of the program, its name in the file.
        zeros: by tensor of the program.
        flat: tensors (N, C, 1, 1) of the program that are written as (N, C).
        written: tensors that an earlier block's form wrote.
        sums: by tensor of accumulators, what writes them times a step to a name, as floats.
    """

    program: Program
    names: Mapping[str, str]
    zeros: Mapping[str, int]
    free: Names
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    flat: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    sums: dict[str, Callable[[np.ndarray, str], None]] = field(default_factory=dict)
    _asked: str = ""

    def node(self, op: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any) -> str:
        """One node with one output; its name."""
        name = output or self.free(f"{inputs[0]}/{op}")
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{name}/{op}", domain=domain, **attributes))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        """A constant of its own."""
        made = self.free(name)
        self.constants[made] = numpy_helper.from_array(np.asarray(value, order="C"), made)
        return made

    def scalar(self, value: float, dtype: type) -> str:
        """A number that everybody shares."""
        name = f"quantizeml/{np.dtype(dtype).name}_{value:g}"
        self.constants.setdefault(name, numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def zero(self, tensor: str) -> str:
        return self.scalar(self.zeros[tensor], np.uint8)

    def only_flattened(self, tensor: str) -> bool:
        """Whether nobody reads a tensor but dense layers that flatten it."""
        return tensor not in self.program.outputs and all(b.flatten for b in self.program.blocks if tensor in b.inputs)

    def ints(self, values: Sequence[int]) -> str:
        name = "quantizeml/ints_" + "_".join(map(str, values))
        self.constants.setdefault(name, numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def repeated(self, scalar: str, count: int) -> str:
        """A shared number as a vector."""
        return self.constant(f"{scalar}_{count}", np.repeat(numpy_helper.to_array(self.constants[scalar]), count))

    def nil(self, name: str) -> str:
        """The zero point of signed weights. Each has its own: told to be precise (`session.x64quantprecision`), onnxruntime replaces it with them, and fails where it is shared."""
        return self.constant(f"{name}/nil", np.zeros((), np.int8))

    def product(self, op: str, name: str, integers: np.ndarray, top: int, inputs: Callable[[str, str], Sequence[str]],
                kind: int = onnx.TensorProto.UINT8, groups: int = 1, **more: Any) -> str:
        """An operator on bytes up to `top` and these weights: both ways of `pairs` where products could saturate.

        Arguments:
            inputs: given the names of the weights and of their zero point.
            kind: element type of the result.
        """
        weight = self.constant(f"{name}/weight", integers.astype(np.int8))
        if not pairs.saturate(integers, groups, top):
            return self.node(op, *inputs(weight, self.nil(name)), **more)
        ways = {"then_branch": self._way("signed", kind, lambda: self.node(op, *inputs(weight, self.nil(name)), **more)),
                "else_branch": self._way("unsigned", kind, lambda: self.node(op, *inputs(self._moved(weight), self.scalar(MIDDLE, np.uint8)), **more))}
        return self.node("If", self._exact(), **ways)

    def _way(self, name: str, kind: int, build: Callable[[], str]) -> onnx.GraphProto:
        """The nodes that `build` adds, as a graph of their own."""
        before, self.nodes = self.nodes, []
        result = build()
        nodes, self.nodes = self.nodes, before
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(result, kind, None)])

    def _moved(self, weight: str) -> str:
        return self.node("Add", self.node("Cast", weight, to=onnx.TensorProto.UINT8), self.scalar(MIDDLE, np.uint8))

    def _exact(self) -> str:
        """Whether the machine adds products of signed weights exactly, asked once."""
        if not self._asked:
            side = self.ints((pairs.SIDE, pairs.SIDE))
            data, weights = (self.node("Expand", self.scalar(end, kind), side) for end, kind in zip(pairs.LARGEST, (np.uint8, np.int8), strict=True))
            least = self.node("ReduceMin", self.node("MatMulInteger", data, weights), keepdims=0)
            self._asked = self.node("Equal", least, self.scalar(pairs.SUM, np.int32))
        return self._asked
