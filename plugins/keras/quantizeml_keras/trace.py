"""Trace: a symbolic Keras model (functional, sequential, nested, with shared layers) as a `Graph`.

A sequence (batch, length, channels) is read as an image of one row: the layers that work on sequences become those on images, with a reshape in front
and behind that nobody needs between them. Every call of a layer becomes one or a few nodes, by the table of `readers`; nested models are opened; a layer that
is called twice gives nodes twice. No layer is run; what a Lambda does is read from its function (`functions`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from quantizeml_core.attention import whole_mask
from quantizeml_core.errors import ModelError
from quantizeml_core.hooks import InputShape
from quantizeml_core.match import Node
from quantizeml_core.pictures import channels, heads, regroup, sequence_axes

from .functions import inlined
from .graph import OPAQUE, Graph, Shape
from .layers.frames import Buffered
from .multi_head import attended, mask, output_projection, projections
from .readers import ON_ANY_SHAPE, SEQUENCES, TOKENS, Step, read
from .spelled import Met, Picture, followed, is_transposition, multiplied


def trace(model: keras.Model, input_shape: InputShape = None) -> Graph:
    """The graph of a model. ModelError when it has none (a subclassed or unbuilt model).

    Arguments:
        input_shape: shape of one sample, for a model of one input that leaves it open.
    """
    refuse_without_graph(model)
    return _Trace(_fixed(model, input_shape)).graph


def _fixed(model: Any, shape: InputShape) -> Any:
    """The model, or a copy whose open input shape is filled in."""
    if shape is None or len(model.inputs) > 1 or None not in model.inputs[0].shape[1:]:
        return model
    old = model.inputs[0]
    copy = keras.models.clone_model(model, input_tensors=keras.Input(shape, dtype=old.dtype, name=old.name))
    copy.set_weights(model.get_weights())
    return copy


def refuse_without_graph(model: Any) -> None:
    """ModelError for a model that shows no tensors between its inputs and outputs."""
    if getattr(model, "outputs", None):
        return
    if isinstance(model, keras.Sequential):
        raise ModelError("the model is not built: its input shape is unknown", where=f"`{model.name}`",
                         do="Add keras.Input(shape) as its first layer, or call model.build(input_shape)")
    raise ModelError("a subclassed model shows no graph of layers", where=f"`{model.name}`", allowed="functional and sequential models",
                     do="Rebuild it with keras.Input and keras.Model(inputs, outputs)")


class _Trace:
    def __init__(self, model: Any) -> None:
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {t.name: tuple(t.shape) for t in model.inputs}
        self.taken: set[str] = set(self.shapes)
        self.images: dict[str, str] = {}
        self.spelled: dict[str, Any] = {}
        self.transposed: dict[str, str] = {}
        self.remembering: set[int] = set()
        for entry, shape in list(self.shapes.items()):
            if len(shape) == 3:
                self.image(entry)
        results = self.model(model, [t.name for t in model.inputs], "")
        entries = tuple(t.name for t in model.inputs)
        self.graph = Graph(_alive(self.nodes, results), entries, tuple(results), self.shapes, {t.name: t.dtype for t in model.inputs}, model.name)

    def model(self, model: Any, inputs: Sequence[str], prefix: str) -> list[str]:
        """Trace a model, or a nested one; the names of its outputs."""
        names = {id(tensor): name for tensor, name in zip(model.inputs, inputs, strict=True)}
        for call in calls(model):
            operation, given = call.operation, [names[id(t)] for t in call.input_tensors]
            if _is_nested(operation):
                results = self.model(operation, given, f"{prefix}{operation.name}/")
            else:
                results = self.layer(call, given, self.free(f"{prefix}{operation.name}"))
            names |= {id(tensor): name for tensor, name in zip(call.output_tensors, results, strict=True)}
        return [names[id(t)] for t in model.outputs]

    def layer(self, call: Any, inputs: list[str], name: str) -> list[str]:
        """The nodes of one call; the names of its outputs. What its output is known to be goes by its name."""
        results = self.read(call, inputs, name)
        if name in self.spelled:
            self.spelled[results[0]] = self.spelled[name]
        return results

    def read(self, call: Any, inputs: list[str], name: str) -> list[str]:
        """The nodes of one call; the names of its outputs. A layer that does nothing at inference leaves its input as it is."""
        if type(call.operation).__name__ in ("Lambda", "FunctionLayer") and (inside := inlined(call)) is not None:
            only = list(calls(inside))
            return self.layer(only[0], inputs, name) if len(only) == 1 else self.model(inside, inputs, f"{name}/")
        if type(call.operation).__name__ == "MultiHeadAttention" and attended(call) is None and all(self.is_row(t) for t in inputs):
            return self.attention(call, inputs, name)
        if type(call.operation).__name__ == "Attention" and hasattr(call.operation, "num_heads") and len(inputs) == 3 and all(self.is_row(t) for t in inputs):
            return self.bare_attention(call.operation, inputs, name)
        if (sequence := self.follow(call, inputs, name)) is not None:
            return [sequence]
        if (turned := multiplied(call)) is not None and (operands := self.operands(inputs, turned)):
            return self.product(call, operands, name)
        if self.is_sequence(call, inputs):
            return self.on_images(call, inputs, name)
        self.refuse_shared_memory(call.operation)
        steps = read(call.operation, call, [self.shapes[t] for t in inputs])
        whole = {"operation": call.operation, "call": call, "layer": type(call.operation).__name__}
        if isinstance(steps, str):
            return self.opaque(call, inputs, name, {**whole, "reason": steps})
        if not steps:
            return inputs[:1]
        if len(steps) == 1 and "first_pads" not in steps[0].attributes:
            steps = [replace(steps[0], attributes={**whole, **steps[0].attributes})]
        return [self.chain(steps, inputs, name, {"layer": whole["layer"]})]

    def refuse_shared_memory(self, operation: Any) -> None:
        """Two calls of a layer push their frames into one memory: no two blocks do that."""
        if isinstance(operation, Buffered) and id(operation) in self.remembering:
            raise ModelError("a layer that remembers frames is called twice", where=f"`{operation.name}`",
                             do="Use a layer of its own for each call")
        self.remembering |= {id(operation)} if isinstance(operation, Buffered) else set()

    def is_sequence(self, call: Any, inputs: Sequence[str]) -> bool:
        """Whether a layer reads sequences, and would know what to do with images of one row instead."""
        kind = type(call.operation).__name__
        known = kind in SEQUENCES or (kind in {*ON_ANY_SHAPE, *TOKENS} and all(self.is_row(t) for t in inputs))
        return known and all(len(self.shapes[t]) == 3 for t in inputs)

    def on_images(self, call: Any, inputs: list[str], name: str) -> list[str]:
        """The nodes of a layer on sequences, run on images of one row."""
        images = [self.image(t) for t in inputs]
        steps = read(call.operation, call, [self.shapes[t] for t in images])
        if isinstance(steps, str):
            return self.opaque(call, inputs, name, {"operation": call.operation, "call": call, "layer": type(call.operation).__name__, "reason": steps})
        result = self.chain(steps, images, name, {"layer": type(call.operation).__name__}) if steps else images[0]
        if len(call.output_tensors[0].shape) != 3:
            return [result]
        batch, _, length, channels = self.shapes[result]
        sequence = self.reshape(result, f"{name}/sequence", (batch, length, channels))
        self.images[sequence] = result
        return [sequence]

    def attention(self, call: Any, inputs: list[str], name: str) -> list[str]:
        """Four dense layers on images of one row, and the attention between them."""
        query, value, key = (self.image(t) for t in (inputs[0], inputs[1], inputs[-1]))
        tensors = [self.projected(f"{name}/{part}", source, *weights) for part, source, weights in projections(call.operation, query, key, value)]
        mixed = self.free(f"{name}/attention")
        self.shapes[mixed] = (*self.shapes[tensors[0]][:3], self.shapes[tensors[2]][3])
        layer = call.operation
        heads = {"heads": layer.num_heads, "scale": 1 / np.sqrt(layer.key_dim), "mask": mask(call), "layer": "MultiHeadAttention"}
        self.nodes.append(Node(mixed, "Attention", tuple(tensors), (mixed,), heads))
        result = self.projected(name, mixed, *output_projection(layer))
        sequence = self.reshape(result, f"{name}/sequence", (self.shapes[result][0], *self.shapes[result][2:]))
        self.images[sequence] = result
        return [sequence]

    def bare_attention(self, layer: Any, inputs: list[str], name: str) -> list[str]:
        """An attention without projections: its context; whoever reads its mask finds an operation without an integer form."""
        images = tuple(self.image(t) for t in inputs)
        mixed, heads = self.free(f"{name}/attention"), {"heads": layer.num_heads, "scale": layer.scale, "layer": "Attention"}
        self.shapes[mixed] = (*self.shapes[images[0]][:3], self.shapes[images[2]][3])
        self.nodes.append(Node(mixed, "Attention" if layer.softmax == "softmax" else "ShiftAttention", images, (mixed,), heads))
        sequence = self.reshape(mixed, name, (self.shapes[mixed][0], *self.shapes[mixed][2:]))
        self.images[sequence] = mixed
        mask = self.free(f"{name}/mask")
        self.shapes[mask] = (self.shapes[mixed][0], layer.num_heads, self.shapes[images[0]][2], self.shapes[images[1]][2])
        why = {"reason": "the mask of an attention is not computed in integers", "layer": "Attention"}
        self.nodes.append(Node(mask, f"{OPAQUE}Attention", tuple(inputs), (mask,), why))
        return [sequence, mask]

    def operands(self, inputs: Sequence[str], turned: bool) -> tuple[str, str, bool] | None:
        """Two sequences that are multiplied, and whether rows by rows: a second one that was only transposed is read as it was before."""
        second = self.transposed.get(inputs[1])
        if second is not None and not turned and self.is_row(inputs[0]):
            return inputs[0], second, True
        return (inputs[0], inputs[1], turned) if all(self.is_row(t) for t in inputs) else None

    def product(self, call: Any, operands: tuple[str, str, bool], name: str) -> list[str]:
        """The product of two sequences, on their images of one row."""
        found, (batch, length, channels) = self.free(f"{name}/product"), call.output_tensors[0].shape
        self.shapes[found] = (batch, 1, length, channels)
        images = tuple(self.image(t) for t in operands[:2])
        self.nodes.append(Node(found, "MatMul", images, (found,), {"turned": operands[2], "layer": type(call.operation).__name__}))
        sequence = self.reshape(found, name, (batch, length, channels))
        self.images[sequence] = found
        return [sequence]

    def follow(self, call: Any, inputs: list[str], name: str) -> str | None:
        """Keep what a call shows of sequences; the sequence that an attention spelled out leads back to."""
        if is_transposition(call) and self.is_row(inputs[0]):
            self.transposed[name] = inputs[0]
        value = followed(call, [self.shown(t) for t in inputs])
        value = self.met(value, name) if isinstance(value, Met) else value
        if value is not None:
            self.spelled[name] = value
        if not isinstance(value, Picture) or not value.image.endswith("/spelled"):
            return None
        batch, _, length, channels = self.shapes[value.image]
        if value.axes != sequence_axes(batch, length, channels) or len(call.output_tensors[0].shape) != 3:
            return None
        sequence = self.reshape(value.image, name, (batch, length, channels))
        self.images[sequence] = value.image
        return sequence

    def shown(self, tensor: str) -> Any:
        """What a tensor is known to be: a picture, scores, or a sequence, which is its own picture."""
        if tensor in self.spelled or not self.is_row(tensor) or None in self.shapes[tensor][1:]:
            return self.spelled.get(tensor)
        return Picture(self.image(tensor), sequence_axes(*self.shapes[tensor]))

    def met(self, found: Met, name: str) -> Picture | None:
        """The attention where a softmax meets its values, and the picture that their product is of it."""
        parts = (found.scores.queries, found.scores.keys, found.values)
        shapes = [self.shapes[p.image] for p in parts]
        count = heads(*(p.axes for p in parts), shapes[0][0], (shapes[0][2], shapes[1][2])) if shapes[1][2] == shapes[2][2] else None
        if count is None or parts[2].scale != 1 or any(channels(p.axes) != s[3] for p, s in zip(parts, shapes, strict=True)):
            return None
        added = None if found.scores.mask is None else whole_mask(found.scores.mask, count, shapes[0][2], shapes[1][2])
        if isinstance(added, str):
            return None
        mixed, width = self.free(f"{name}/spelled"), shapes[2][3]
        self.shapes[mixed] = (*shapes[0][:3], width)
        scale = found.scores.scale * parts[0].scale * parts[1].scale
        self.nodes.append(Node(mixed, "Attention", tuple(p.image for p in parts), (mixed,), {"heads": count, "scale": scale, "mask": added, "layer": "Softmax"}))
        axes = regroup(sequence_axes(shapes[0][0], shapes[0][2], width), (shapes[0][0], shapes[0][2], count, width // count))
        matrix = (axes[0], axes[2], axes[1], axes[3]) if len(found.order) == 4 else (axes[0], axes[1], axes[3])
        return Picture(mixed, tuple(matrix[i] for i in found.order))

    def projected(self, name: str, source: str, kernel: np.ndarray, bias: np.ndarray | None) -> str:
        found = self.free(name)
        self.shapes[found] = (*self.shapes[source][:3], kernel.shape[-1])
        at = {"kernel": kernel[None, None], "bias": bias, "strides": (1, 1), "pads": (0, 0, 0, 0), "groups": 1, "layer": "MultiHeadAttention"}
        self.nodes.append(Node(found, "Conv2D", (source,), (found,), at))
        return found

    def image(self, tensor: str) -> str:
        """The image of one row that a sequence is."""
        source = self.pixels(tensor)
        if tensor not in self.images and source is not None:
            self.images[tensor] = self.embedded(source, f"{tensor}/tokens")
        elif tensor not in self.images:
            batch, length, channels = self.shapes[tensor]
            self.images[tensor] = self.reshape(tensor, f"{tensor}/image", (batch, 1, length, channels))
        return self.images[tensor]

    def is_row(self, tensor: str) -> bool:
        """Whether a sequence is known as an image of one row, or is made of the pixels of an image."""
        return tensor in self.images or self.pixels(tensor) is not None

    def pixels(self, tensor: str) -> str | None:
        """The image (B, H, W, C) whose pixels in reading order are this sequence (B, H W, C)."""
        node = next((n for n in reversed(self.nodes) if tensor in n.outputs), None)
        if node is None or node.op != "Reshape" or len(self.shapes[node.inputs[0]]) != 4:
            return None
        (_, height, width, channels), sequence = self.shapes[node.inputs[0]], self.shapes[tensor]
        known = height is not None and width is not None and len(sequence) == 3
        return node.inputs[0] if known and sequence[1:] == (height * width, channels) else None

    def embedded(self, source: str, name: str) -> str:
        found, (batch, height, width, channels) = self.free(name), self.shapes[source]
        self.shapes[found] = (batch, 1, height * width, channels)
        self.nodes.append(Node(found, "Embed", (source,), (found,), {"table": np.zeros((height * width, channels)), "layer": "Reshape"}))
        return found

    def reshape(self, tensor: str, name: str, shape: Shape) -> str:
        found = self.free(name)
        self.shapes[found] = shape
        self.nodes.append(Node(found, "Reshape", (tensor,), (found,), {"shape": shape[1:], "layer": "Reshape"}))
        return found

    def chain(self, steps: Sequence[Step], inputs: list[str], name: str, common: dict[str, Any]) -> str:
        """Steps one behind the other; those that take a second operand take the next input."""
        waiting = list(inputs)
        value = waiting.pop(0)
        main = next((i for i, s in enumerate(steps) if not s.suffix), 0)
        for index, step in enumerate(steps):
            operands = (value, waiting.pop(0)) if step.binary else (value,)
            operands = tuple(self.padded(t, step, name, common) for t, name in zip(operands, (f"{name}/first", f"{name}/second")))
            last = index == len(steps) - 1
            value = name if last else self.free(f"{name}/{step.suffix or 'linear'}")
            own = name if index == main else self.free(f"{name}/{step.suffix}", note=False) if last else value
            self.shapes[value] = step.shape
            self.nodes.append(Node(own, step.op, operands, (value,), {**common, **step.attributes}))
        return value

    def padded(self, tensor: str, step: Step, name: str, common: dict[str, Any]) -> str:
        """An operand with the zeros that a step wants around it: `first_pads`, `second_pads`."""
        pads = step.attributes.get(f"{name.rpartition('/')[2]}_pads")
        if pads is None:
            return tensor
        own = self.free(name)
        self.shapes[own] = tuple(None if s is None else s + p for s, p in zip(self.shapes[tensor], (0, pads[0] + pads[2], pads[1] + pads[3], 0), strict=True))
        self.nodes.append(Node(own, "Pad", (tensor,), (own,), {**common, "pads": pads}))
        return own

    def opaque(self, call: Any, inputs: list[str], name: str, attributes: dict[str, Any]) -> list[str]:
        results = [name, *(self.free(f"{name}/output") for _ in call.output_tensors[1:])]
        self.shapes |= {n: tuple(t.shape) for n, t in zip(results, call.output_tensors, strict=True)}
        self.nodes.append(Node(name, f"{OPAQUE}{type(call.operation).__name__}", tuple(inputs), tuple(results), attributes))
        return results

    def free(self, name: str, note: bool = True) -> str:
        """The name, or the next one with a number that nobody has."""
        found, number = name, 0
        while found in self.taken:
            number += 1
            found = f"{name}_{number}"
        if note:
            self.taken.add(found)
        return found


def _alive(nodes: Sequence[Node], results: Sequence[str]) -> tuple[Node, ...]:
    """The nodes that lead to a result."""
    wanted, alive = set(results), []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            alive.append(node)
            wanted.update(node.inputs)
    return tuple(reversed(alive))


def calls(model: Any) -> Iterator[Any]:
    """Every call between a model's inputs and outputs, inputs first. Deep networks need no deep recursion."""
    done, known = set(), {id(t) for t in model.inputs}
    waiting = list(reversed(model.outputs))
    while waiting:
        tensor = waiting[-1]
        call = None if id(tensor) in known else _call(tensor)
        missing = [] if call is None or id(call) in done else [t for t in call.input_tensors if id(t) not in known and id(_call(t)) not in done]
        if missing:
            waiting += reversed(missing)
            continue
        waiting.pop()
        if call is not None and id(call) not in done:
            done.add(id(call))
            yield call


def _call(tensor: Any) -> Any:
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def _is_nested(operation: Any) -> bool:
    return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))
