"""Emit: an integer program as ONNX nodes, initializers and model-local functions, in the converter's contract.

One `Dequantizer` ends the integer part, or one for each of its outputs where integers go on behind float operations. Graph outputs
keep their names, the integer tensor behind one is called `<name>/int`. Callees stand before callers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantizeml_core.blocks import ENTRIES, Block
from quantizeml_core.memory import MEMORIES
from quantizeml_core.names import Names
from quantizeml_core.program import Format, Program

from . import contract, functions, states
from .body import is_dilated

#: Storage type of each parameter, where it differs from the program's array.
_DTYPES = {"bias": np.int32, "max_value": np.int32, "LUT_values": np.int32, "Xs": np.int32, "Ys": np.int32, "Scale": np.uint8, "ActScale": np.uint8,
           "W": np.int8, "x_pad_value": np.int32, "Turn": np.int32}
SHIFTS = ("Shift", "ActShift", "ScoreShift", "SquareShift")
"""Parameters that hold 2^f for f."""
_TENSOR_TYPES = {"int8": onnx.TensorProto.INT8, "uint8": onnx.TensorProto.UINT8, "int32": onnx.TensorProto.INT32}


@dataclass(frozen=True)
class Emitted:
    """The pieces of a quantized graph, for each block that could not use the fast body the reason, and the graph inputs and outputs of
    what it remembers."""

    nodes: tuple[onnx.NodeProto, ...]
    initializers: tuple[onnx.TensorProto, ...]
    functions: tuple[onnx.FunctionProto, ...]
    value_infos: tuple[onnx.ValueInfoProto, ...]
    slow: Mapping[str, str]
    states: tuple[tuple[onnx.ValueInfoProto, ...], tuple[onnx.ValueInfoProto, ...]] = ((), ())


def emit(program: Program, opset: int, taken: Iterable[str] = (), written: Collection[str] = ()) -> Emitted:
    """Nodes for every block and the Dequantizer.

    Arguments:
        opset: version of the default domain, the same for functions and graph.
        taken: names of the tensors and nodes that stay float, never reused for something else.
        written: those of the tensors that float operations write, a rescaled input among them: its integers are called otherwise.
    """
    free = Names({*taken, *program.shapes, *(b.name for b in program.blocks)})
    names = {t: free(f"{t}/int") if t in program.outputs or t in written else t for t in program.formats}
    nodes, initializers, bodies, slow = [], [], {}, {}
    for block in program.blocks:
        call = contract.call(program, block)
        body = _of_its_own(functions.body(program, block), call, bodies)
        values = {free(block.name + contract.PARAMETERS[p][1]): initializer(program, block, p) for p in call.parameters}
        initializers += [numpy_helper.from_array(v, k) for k, v in values.items()]
        nodes.append(_node(program, block, call, body, names, tuple(values)))
        data = ("X", "State") if block.kind in MEMORIES else ("X", "Y", "V")[: len(block.inputs)]
        bodies.setdefault((call.domain, call.op_type, body.overload), (call, body, (*data, *call.parameters)))
        slow |= {block.name: body.slow} if body.slow else {}
    groups = [(t,) for t in program.outputs] if program.resumed else [program.outputs]
    ends = [_dequantizer(program, names, free, group, f"_{i}" if len(groups) > 1 else "") for i, group in enumerate(groups, 1)]
    protos = [functions.function(call, body, inputs, opset) for call, body, inputs in bodies.values()]
    protos += [functions.dequantizer(kinds, opset) for kinds in dict.fromkeys(_kinds(program, group) for group in groups)]
    infos = (*(_value_info(names[t], program, t) for t in program.formats), *(_float_info(program, t) for t in program.resumed))
    nodes, initializers = [*nodes, *(node for node, _ in ends)], [*initializers, *(scale for _, scales in ends for scale in scales)]
    return Emitted(tuple(nodes), tuple(initializers), tuple(protos), infos, slow, states.infos(program))


def _of_its_own(body: functions.Body, call: contract.Call, bodies: Mapping[tuple[str, str, str], tuple[contract.Call, functions.Body, tuple[str, ...]]]) -> functions.Body:
    """The body under an overload that no other one has: bodies of one operation may differ by more than their keys tell."""
    names = chain((body.overload,), (f"{body.overload}_{i}" for i in count(2)))

    def fits(name: str) -> bool:
        other = bodies.get((call.domain, call.op_type, name))
        return other is None or other[1].lines == body.lines
    return replace(body, overload=next(filter(fits, names)))


def _node(program: Program, block: Block, call: contract.Call, body: functions.Body, names: Mapping[str, str], values: tuple[str, ...]) -> onnx.NodeProto:
    inputs = [t if block.kind in ENTRIES else names[t] for t in block.inputs]
    before, after = ([n] if block.kind in MEMORIES else [] for n in states.names(block.name))
    node = helper.make_node(call.op_type, [*inputs, *before, *values], [names[block.output], *after], name=block.name, domain=call.domain,
                            overload=body.overload)
    node.attribute.extend(helper.make_attribute(k, v) for k, v in _attributes(program, block, call).items())
    node.attribute.append(helper.make_attribute("scale", numpy_helper.from_array(1.0 / program.formats[block.output].step)))
    if call.domain == contract.OWN:
        fmt = program.formats[block.output]
        node.attribute.extend([helper.make_attribute("output_bits", fmt.bits), helper.make_attribute("output_signed", int(fmt.signed))])
    return node


def _attributes(program: Program, block: Block, call: contract.Call) -> dict[str, object]:
    attributes: dict[str, object] = {}
    if block.kind == "resume":
        return {}
    if block.kind == "input":
        return {"perm": list(block.perm or range(len(program.shapes[block.output])))}
    if "pads" in call.parameters or block.kind == "upsample2d":
        attributes["strides"] = list(block.strides)
    if is_dilated(block):
        attributes["dilations"] = list(block.dilations)
    if block.kind == "depthwise2d" or block.groups != 1:
        attributes["groups"] = block.groups
    if block.kind == "local_response":
        attributes["window"] = block.window
    if block.kind == "matmul" and block.perm:
        attributes["perm"] = list(block.perm)
    if block.kind == "lookup" and block.activation is not None:
        attributes |= {name: value for name, value in vars(block.activation).items() if value is not None}
        attributes |= {"zeros": [int(z) for z in block.arrays["zeros"]]} if "zeros" in block.arrays else {}
    if block.kind == "buffer":
        attributes["frames"] = block.frames
    if block.pool and block.pool.kind != "gap":
        attributes |= {"pool_size": list(block.pool.size), "pool_strides": list(block.pool.strides), "pool_pads": list(block.pool.pads)}
        attributes |= {} if block.pool.padded else {"pool_padded": 0}
    return attributes


def initializer(program: Program, block: Block, parameter: str) -> np.ndarray:
    """A parameter's array in the contract's dtype and layout."""
    rank = len(program.shapes[block.output])
    wide = (1, -1, *(1,) * (rank - 2))
    array = contract.PARAMETERS[parameter][0]
    if parameter == "pads":
        top, left, bottom, right = block.pads
        return np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
    if parameter == "x_pad_value":
        channels = block.arrays["weight"].shape[1] * block.groups
        return block.arrays.get("pad_value", np.zeros(channels, np.int32)).astype(np.int32)
    if parameter == "Table":
        return block.arrays[array].astype(np.int32)[None, :, None]
    if parameter == "Mask":
        return block.arrays[array].astype(np.int32)[None]
    if parameter in SHIFTS:
        power = np.exp2(block.arrays[array].astype(np.float64)).astype(np.float32)
        return _broadcast(block, power).reshape(wide)
    value = block.arrays[array].astype(_DTYPES.get(parameter, block.arrays[array].dtype))
    return _broadcast(block, value).reshape(wide) if parameter in ("Scale", "ActScale", "max_value", "Xs", "Ys") else value


def _broadcast(block: Block, vector: np.ndarray) -> np.ndarray:
    """One value per filter, also where the program keeps a single one."""
    return np.broadcast_to(vector, (len(block.arrays["weight"]),)) if "weight" in block.arrays else vector


def _dequantizer(program: Program, names: Mapping[str, str], free: Names, outputs: Sequence[str],
                 number: str) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    count = len(outputs)
    suffixes = [number] if count == 1 else [f"_{i + 1}" for i in range(count)]
    steps = [program.formats[t].step.astype(np.float32) for t in outputs]
    scales = [numpy_helper.from_array(step, free(f"dequantizer_scale{s}")) for step, s in zip(steps, suffixes, strict=True)]
    inputs = [x for t, scale in zip(outputs, scales, strict=True) for x in (names[t], scale.name)]
    kind = "Dequantizer" if count == 1 else f"Dequantizer{count}"
    return helper.make_node(kind, inputs, list(outputs), name=free(f"dequantizer{number}"), domain=contract.CONVERTIBLE,
                            overload=functions.dequantizer_overload(_kinds(program, outputs))), scales


def _kinds(program: Program, outputs: Sequence[str]) -> str:
    """For each output what `functions.dequantizer` makes a difference of."""
    formats = [program.formats[t] for t in outputs]
    return "".join("b" if f.dtype == np.int8 else "s" if f.step.size == 1 else "a" for f in formats)


def _value_info(name: str, program: Program, tensor: str) -> onnx.ValueInfoProto:
    fmt: Format = program.formats[tensor]
    shape = ["N", *program.shapes[tensor][1:]]
    return helper.make_tensor_value_info(name, _TENSOR_TYPES[fmt.dtype.name], shape)


def _float_info(program: Program, tensor: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, ["N", *program.shapes[tensor][1:]])
