"""A graph under construction: nodes, constants, and the zero point of every byte tensor.

An integer q of the program is kept as the byte q + zero, zero 128 where q may be negative and 0 elsewhere; tensors that one operator joins or moves share it. The bytes of an
unsigned model input are its integers. Accumulators are int32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantizeml_core.names import Names
from quantizeml_core.program import Program, reach

from .. import addition, body
from ..unchanged import unchanged

MIDDLE = 128
JOINED = frozenset({"add", "concat", "select", "upsample2d"})


def zero_points(program: Program) -> dict[str, int]:
    """By tensor of the program, 0 or 128; none for accumulators."""
    bytes_only = {t for t, f in program.formats.items() if f.bits <= 8}
    zeros = {t: MIDDLE if reach(program, t)[0] < 0 else 0 for t in bytes_only}
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
        unsigned_weights: weights as unsigned bytes around 128 where a kernel that adds pairs of products in 16 bits could saturate.
    """

    program: Program
    names: Mapping[str, str]
    zeros: Mapping[str, int]
    free: Names
    unsigned_weights: bool = False
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def node(self, op: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any) -> str:
        """One node with one output; its name."""
        name = output or self.free(f"{inputs[0]}/{op}")
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{name}/{op}", domain=domain, **attributes))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        """A constant of its own."""
        made = self.free(name)
        self.constants[made] = numpy_helper.from_array(np.ascontiguousarray(value), made)
        return made

    def scalar(self, value: float, dtype: type) -> str:
        """A number that everybody shares."""
        name = f"quantizeml/{np.dtype(dtype).name}_{value:g}"
        self.constants.setdefault(name, numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def zero(self, tensor: str) -> str:
        return self.scalar(self.zeros[tensor], np.uint8)

    def ints(self, values: Sequence[int]) -> str:
        name = "quantizeml/ints_" + "_".join(map(str, values))
        self.constants.setdefault(name, numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def weight(self, name: str, integers: np.ndarray, top: int, groups: int = 1) -> tuple[str, str]:
        """Weights for bytes up to `top`, and their zero point."""
        if self.unsigned_weights and body.pairs_saturate(integers, groups, top):
            return self.constant(name, (integers.astype(np.int16) + MIDDLE).astype(np.uint8)), self.scalar(MIDDLE, np.uint8)
        return self.constant(name, integers.astype(np.int8)), self.scalar(0, np.int8)
