"""A causal network over whole clips, (N, C, frames, H, W), as the network that computes the same frame by frame.

    Conv (1, h, w)                                               Conv (h, w)
    frames - 1 frames of zeros in front, Conv (frames, h, w)     FrameBuffer (`frames`), then Conv (h, w): kernel (F, C, frames, h, w) as (F, C frames, h, w)
    pooling, padding and means in space                          the same on one frame
    normalizations, activations, sums, products                  the same on one frame

Everything that looks ahead in time, or mixes frames otherwise, is refused by name. What is remembered are inputs and outputs of the graph. Frame t of the
clip's output is what the t-th call computes. The model given is not modified.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from quantizeml_core.errors import ModelError

from .frames import DOMAIN, NAME, function
from .normalize import prepare
from .rewrites import sanitize
from .rewrites.constant_folding import REWRITE as FOLD
from .rewrites.functions import ACTIVATIONS
from .rewrites.graph import attributes, constant, dims, ints, is_constant, operand, stored
from .rewrites.known_sizes import REWRITE as SIZES
from .rewrites.noop import REWRITE as NOTHING
from .rewrites.static_reshape import REWRITE as SHAPES


@dataclass(frozen=True)
class Clip:
    """A tensor over all frames: the name of one frame's, the axis of time, how many frames of zeros stand in front, and what a convolution pads around."""

    frame: str
    time: int = 2
    ahead: int = 0
    around: tuple[int, int, int, int] = (0, 0, 0, 0)


def replace_conv3d(model: onnx.ModelProto) -> onnx.ModelProto:
    """The streaming model. ModelError names the operation that cannot be computed frame by frame."""
    graph, _, _ = sanitize(prepare(model), (NOTHING, FOLD, SIZES, SHAPES))
    return _Streaming(graph).model()


class _Streaming:
    def __init__(self, clips: ir.Model) -> None:
        self.clips, self.nodes, self.initializers, self.states = clips, [], [], []
        self.values: dict[ir.Value, Clip] = {v: self._entry(v) for v in clips.graph.inputs}
        for node in clips.graph:
            self.values[node.outputs[0]] = self._node(node)

    def _entry(self, value: ir.Value) -> Clip:
        if len(dims(value) or ()) != 5:
            raise ModelError(f"an input has the shape {dims(value)}", where=f"`{value.name}`", allowed="(batch, channels, frames, height, width)")
        return Clip(value.name)

    def _node(self, node: ir.Node) -> Clip:
        make = MADE.get(node.op_type) if not node.domain else None
        clips = [self.values[v] for v in node.inputs if v is not None and not is_constant(v)]
        if make is None or not clips:
            raise ModelError(f"{node.op_type} cannot be computed frame by frame here", where=f"`{node.name}`", allowed=", ".join(sorted(MADE)))
        if node.op_type not in ("Conv", "Pad", "Identity"):
            refuse(node, "frames of zeros that no convolution over time takes", any(c.ahead for c in clips))
        return make(self, node, clips)

    def write(self, node: ir.Node, op: str, inputs: list[str], at: Mapping[str, Any]) -> str:
        """A node of the new graph, named as that which it stands for."""
        name = node.outputs[0].name
        self.nodes.append(helper.make_node(op, inputs, [name], name=node.name, **at))
        return name

    def array(self, name: str, value: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def buffered(self, node: ir.Node, clip: Clip, frames: int, shape: list[int]) -> str:
        """The window of a convolution over time."""
        name = f"{node.name}/buffer"
        state, window, following = f"{name}_state", f"{name}_window", f"{name}_state_next"
        self.nodes.append(helper.make_node(NAME, [clip.frame, state], [window, following], name=name, domain=DOMAIN))
        info = helper.make_tensor_value_info
        kept = ["N", shape[0], frames - 1, *shape[1:]]
        self.states.append((info(state, onnx.TensorProto.FLOAT, kept), info(following, onnx.TensorProto.FLOAT, kept)))
        return window

    def model(self) -> onnx.ModelProto:
        graph, opset = self.clips.graph, self.clips.opset_imports[""]
        inputs = [_info(v, v.name, 2) for v in graph.inputs]
        outputs = [self._output(v) for v in graph.outputs]
        whole = helper.make_graph(self.nodes, graph.name or "frames", [*inputs, *(s for s, _ in self.states)], [*outputs, *(n for _, n in self.states)],
                                  self.initializers)
        domains = [helper.make_opsetid("", opset), *([helper.make_opsetid(DOMAIN, 1)] if self.states else [])]
        made = helper.make_model(whole, opset_imports=domains, functions=[function(opset)] if self.states else [], ir_version=10)
        onnx.checker.check_model(made)
        return made

    def _output(self, value: ir.Value) -> onnx.ValueInfoProto:
        clip = self.values.get(value)
        if clip is None or clip.ahead:
            raise ModelError("an output is no tensor over frames", where=f"`{value.name}`", allowed="an output for each frame")
        return _info(value, value.name, clip.time)


def _info(value: ir.Value, name: str, time: int) -> onnx.ValueInfoProto:
    shape = ["N" if i == 0 else d for i, d in enumerate(dims(value) or ()) if i != time]
    return helper.make_tensor_value_info(name, value.dtype.value, shape)


def refuse(node: ir.Node, what: str, holds: bool) -> None:
    if holds:
        raise ModelError(f"{what} cannot be computed frame by frame", where=f"`{node.name}` ({node.op_type})",
                         allowed="zeros in front of the frames, and kernels over time that end with the newest")


# ---- operations: (graph, node, clips) -> clip

def _conv(net: _Streaming, node: ir.Node, clips: list[Clip]) -> Clip:
    weight, bias, at = stored(operand(node, 1)), stored(operand(node, 2)), attributes(node)
    refuse(node, "a convolution whose weight is computed, or that is not over clips", weight is None or weight.ndim != 5 or clips[0].time != 2)
    pads, strides, dilations = (tuple(at.get(k, d)) for k, d in (("pads", (0,) * 6), ("strides", (1,) * 3), ("dilations", (1,) * 3)))
    frames = weight.shape[2]
    refuse(node, "a stride or a dilation in time", strides[0] != 1 or frames > 1 and dilations[0] != 1)
    refuse(node, f"a kernel over {frames} frames with {clips[0].ahead + pads[0]} of zeros in front and {pads[3]} behind",
           clips[0].ahead + pads[0] != frames - 1 or pads[3] != 0)
    refuse(node, "padding by auto_pad", at.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"))
    (_, channels, _, height, width), (top, left, bottom, right) = dims(node.inputs[0]), clips[0].around
    x = clips[0].frame if frames == 1 else net.buffered(node, clips[0], frames, [channels, height - top - bottom, width - left - right])
    kernel = weight.reshape(len(weight), -1, *weight.shape[3:])
    inputs = [x, net.array(f"{node.name}/weight", kernel), *([] if bias is None else [net.array(f"{node.name}/bias", bias)])]
    padded = [p + more for p, more in zip((*pads[1:3], *pads[4:]), clips[0].around, strict=True)]
    spatial = {"kernel_shape": kernel.shape[2:], "pads": padded, "strides": strides[1:], "dilations": dilations[1:]}
    return Clip(net.write(node, "Conv", inputs, {**spatial, "group": at.get("group", 1)}))


def _pad(net: _Streaming, node: ir.Node, clips: list[Clip]) -> Clip:
    pads, value, clip = ints(node, "pads", 1), operand(node, 2), clips[0]
    rank = len(dims(node.inputs[0]))
    plain = attributes(node).get("mode", "constant") == "constant" and (value is None or constant(value) is not None and not constant(value).any())
    refuse(node, "padding by something else than zeros", pads is None or not plain or operand(node, 3) is not None)
    refuse(node, "padding behind the frames", pads[clip.time + rank] != 0)
    rest = [p for i, p in enumerate(pads) if i % rank != clip.time]
    clip = replace(clip, ahead=clip.ahead + pads[clip.time])
    if not any(rest):
        return clip
    if rank == 5 and not any((*rest[:2], *rest[4:6])) and all(n.op_type == "Conv" for n in node.outputs[0].consumers()):
        return replace(clip, around=(*rest[2:4], *rest[6:]))
    return replace(clip, frame=net.write(node, "Pad", [clip.frame, net.array(f"{node.name}/pads", np.array(rest, np.int64))], {}))


def _same(net: _Streaming, node: ir.Node, clips: list[Clip]) -> Clip:
    """An operation that looks at no neighbour: constants that vary along time are refused, others lose that axis."""
    refuse(node, "tensors over frames in different places", len({c.time for c in clips}) > 1)
    rank, waiting = len(dims(node.outputs[0])), list(clips)
    inputs = [waiting.pop(0).frame if v is not None and not is_constant(v) else _without_time(net, node, v, clips[0].time, rank) for v in node.inputs]
    return replace(clips[0], frame=net.write(node, node.op_type, inputs, attributes(node)))


def _without_time(net: _Streaming, node: ir.Node, value: ir.Value | None, time: int, rank: int) -> str:
    if value is None:
        return ""
    array = stored(value)
    axis = time - rank + array.ndim
    if array.ndim > 1 and axis >= 0:
        refuse(node, "a constant that varies along time", array.shape[axis] != 1)
        array = array.squeeze(axis)
    return net.array(f"{node.name}/{value.name}", array)


def _concat(net: _Streaming, node: ir.Node, clips: list[Clip]) -> Clip:
    axis = attributes(node)["axis"] % len(dims(node.outputs[0]))
    refuse(node, "frames one behind the other, or a constant beside them", axis == clips[0].time or len(clips) != len(node.inputs))
    return replace(clips[0], frame=net.write(node, "Concat", [c.frame for c in clips], {"axis": axis - (axis > clips[0].time)}))


def _reduced(net: _Streaming, node: ir.Node, clips: list[Clip]) -> Clip:
    rank, time, keep = len(dims(node.inputs[0])), clips[0].time, attributes(node).get("keepdims", 1)
    axes = sorted(a % rank for a in ints(node, "axes", 1) or range(rank))
    refuse(node, "a mean over frames", time in axes)
    fewer = [a - (a > time) for a in axes]
    at = {"keepdims": keep, **({"axes": fewer} if "axes" in attributes(node) else {})}
    inputs = [clips[0].frame, *([] if "axes" in at else [net.array(f"{node.name}/axes", np.array(fewer, np.int64))])]
    return Clip(net.write(node, node.op_type, inputs, at), time if keep else time - sum(a < time for a in axes))


def _pooled(net: _Streaming, node: ir.Node, clips: list[Clip]) -> Clip:
    at = {k: v for k, v in attributes(node).items() if k not in ("kernel_shape", "strides", "pads", "dilations")}
    windows = {k: tuple(attributes(node).get(k, d)) for k, d in (("kernel_shape", ()), ("strides", (1,) * 3), ("pads", (0,) * 6), ("dilations", (1,) * 3))}
    kernel, strides, pads, dilations = windows.values()
    refuse(node, "pooling over time", len(kernel) != 3 or kernel[0] != 1 or strides[0] != 1 or pads[0] != 0 or pads[3] != 0)
    spatial = {"kernel_shape": kernel[1:], "strides": strides[1:], "pads": (*pads[1:3], *pads[4:])}
    return Clip(net.write(node, node.op_type, [clips[0].frame], {**at, **spatial, **({"dilations": dilations[1:]} if set(dilations) != {1} else {})}))


def _transposed(net: _Streaming, node: ir.Node, clips: list[Clip]) -> Clip:
    time = clips[0].time
    perm = list(attributes(node).get("perm", reversed(range(len(dims(node.inputs[0]))))))
    rest = [a - (a > time) for a in perm if a != time]
    moved = ("Transpose", {"perm": rest}) if rest != sorted(rest) else ("Identity", {})
    return Clip(net.write(node, moved[0], [clips[0].frame], moved[1]), perm.index(time))


def _regrouped(net: _Streaming, node: ir.Node, clips: list[Clip]) -> Clip:
    """A reshape that leaves the frames alone: as many numbers in front of them, and behind, as before."""
    before, after, time = dims(node.inputs[0]), dims(node.outputs[0]), clips[0].time
    known = after is not None and None not in (*before[1:], *after[1:])
    front = math.prod(before[1:time])
    places = [i for i in range(1, len(after)) if after[i] == before[time] and math.prod(after[1:i]) == front] if known else []
    refuse(node, f"a reshape from {before} to {after}", not places)
    target = np.array([0, *(d for i, d in enumerate(after) if i not in (0, places[0]))], np.int64)
    return Clip(net.write(node, "Reshape", [clips[0].frame, net.array(f"{node.name}/shape", target)], {}), places[0])


def _matmul(net: _Streaming, node: ir.Node, clips: list[Clip]) -> Clip:
    weight, rank = stored(node.inputs[1]), len(dims(node.inputs[0]))
    refuse(node, "a product along the frames, or of two tensors", weight is None or weight.ndim != 2 or clips[0].time == rank - 1)
    return replace(clips[0], frame=net.write(node, "MatMul", [clips[0].frame, net.array(f"{node.name}/weight", weight)], {}))


MADE: Mapping[str, Callable[[_Streaming, ir.Node, list[Clip]], Clip]] = {
    **dict.fromkeys(("Add", "BatchNormalization", "Div", "Identity", "Mul", "Sub", *ACTIVATIONS), _same),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _regrouped),
    "AveragePool": _pooled, "Concat": _concat, "Conv": _conv, "MatMul": _matmul, "MaxPool": _pooled, "Pad": _pad, "ReduceMean": _reduced,
    "Transpose": _transposed,
}
