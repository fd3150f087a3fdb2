"""Read a quantized ONNX file back into the integer program it carries: the inverse of `emit`, by the same tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantizeml_core.blocks import ENTRIES, MOVES, Activation, Block, Pool
from quantizeml_core.program import Format, Program

from . import contract
from .emit import SHIFTS
from .quantized import dequantized, dequantizers, quantized_nodes

_KINDS = {base: kind.replace("input_conv2d", "conv2d") for kind, base in contract.BASES.items()}
_BY_LENGTH = sorted(_KINDS, key=len, reverse=True)


def program(model: onnx.ModelProto) -> Program | None:
    """The program of a quantized model, None when the model holds no quantized node."""
    return _Reader(model).read() if quantized_nodes(model) else None


class _Reader:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes, self.ends, self.renamed = quantized_nodes(model), dequantizers(model), dequantized(model)
        self.arrays = {i.name: i for i in model.graph.initializer}
        self.parameters = {(f.domain, f.name, f.overload): list(f.input) for f in model.functions}
        known = (*model.graph.output, *model.graph.value_info, *model.graph.input)
        self.shapes = {v.name: tuple(d.dim_value or None for d in v.type.tensor_type.shape.dim) for v in known}

    def read(self) -> Program:
        steps = {t: self._array(n) for end in self.ends for t, n in zip(end.output, end.input[1::2], strict=True)}
        blocks, formats, shapes = [], {}, {}
        for node in self.nodes:
            block, fmt = self._block(node, formats)
            blocks.append(block)
            formats[block.output] = Format(fmt.bits, fmt.signed, steps.get(block.output, fmt.step), fmt.zero_point)
            shapes |= {t: self._shape(t) for t in (*block.inputs, block.output)}
        outputs = tuple(steps) if len(self.ends) == 1 else tuple(t for t in formats if t in steps)
        return Program(tuple(blocks), formats, outputs, shapes)

    def _shape(self, tensor: str) -> tuple[int | None, ...]:
        native = next((k for k, v in self.renamed.items() if v == tensor), tensor)
        shape = self.shapes.get(native) or self.shapes.get(tensor, ())
        return (None, *shape[1:])

    def _array(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self.arrays[name])

    def _block(self, node: onnx.NodeProto, formats: Mapping[str, Format]) -> tuple[Block, Format]:
        renamed, names = self.renamed, self.parameters[node.domain, node.op_type, node.overload]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        base = next(b for b in _BY_LENGTH if node.op_type.startswith(b))
        tail = node.op_type.removeprefix(base)
        given = {p: self._array(n) for p, n in zip(names, node.input, strict=True) if p in contract.PARAMETERS}
        pads = given.pop("pads", np.zeros(8, np.int64))
        fmt = _format(tail, attributes, given, _KINDS[base], [formats[renamed.get(i, i)] for i in node.input if renamed.get(i, i) in formats])
        block = Block(
            node.name, _KINDS[base], tuple(renamed.get(i, i) for i, p in zip(node.input, names, strict=True) if p in ("X", "Y", "V")),
            renamed.get(node.output[0], node.output[0]), strides=tuple(attributes.get("strides", (1, 1))),
            dilations=tuple(attributes.get("dilations", (1, 1))), pads=tuple(int(pads[i]) for i in (2, 3, 6, 7)),
            groups=int(attributes.get("groups", 1)), frames=int(attributes.get("frames", 1)), window=int(attributes.get("window", 1)),
            flatten="Flatten" in tail, perm=tuple(attributes.get("perm", ())), activation=_activation(tail, attributes),
            pool=_pool(tail, attributes, _KINDS[base]), arrays=_arrays(given, fmt, "Scaled" in tail) | _zeros(attributes),
        )
        return block, fmt


def _format(tail: str, attributes: Mapping[str, Any], given: Mapping[str, np.ndarray], kind: str, sources: list[Format]) -> Format:
    step = 1.0 / numpy_helper.to_array(attributes["scale"])
    if kind in ENTRIES:
        return Format(8, given["zp"].dtype == np.int8, step, given["zp"])
    if kind in MOVES:
        signed = any(f.signed for f in sources)
        return Format(max(f.bits + (signed and not f.signed) for f in sources), signed, step)
    bits = int(attributes.get("output_bits", 8 if "Scaled" in tail else 32))
    return Format(bits, bool(attributes.get("output_signed", 1)), step)


def _activation(tail: str, attributes: Mapping[str, Any]) -> Activation | None:
    if "name" in attributes:
        return Activation(attributes["name"].decode(), attributes.get("bound"), attributes.get("alpha"))
    if "LUT" in tail:
        return Activation("table")
    return Activation("relu") if "ReLU" in tail else None


def _zeros(attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {"zeros": np.array(attributes["zeros"], np.int64)} if "zeros" in attributes else {}


def _pool(tail: str, attributes: Mapping[str, Any], kind: str) -> Pool | None:
    if "GlobalAvgPool" in tail:
        return Pool("gap")
    if "MaxPool" not in tail and kind != "pool2d":
        return None
    windows = (tuple(attributes[k]) for k in ("pool_size", "pool_strides", "pool_pads"))
    return Pool("avg" if kind == "pool2d" else "max", *windows, padded=bool(attributes.get("pool_padded", 1)))


def _arrays(given: Mapping[str, np.ndarray], fmt: Format, scaled: bool) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for parameter, value in given.items():
        name = contract.PARAMETERS[parameter][0]
        if parameter in SHIFTS:
            value = np.log2(value.astype(np.float64)).astype(np.int32)
        value = value[0, :, 0] if parameter == "Table" else value[0] if parameter == "Mask" else value
        arrays[name] = value if name in ("weight", "scale", "zero_point", "entries", "mask", "coefficients") else value.ravel()
    if scaled:
        arrays["range"] = np.array(fmt.range, np.int64)
    return arrays
