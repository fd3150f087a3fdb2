"""Rebuild: Keras layers for the nodes of a graph, behind tensors that are computed elsewhere. It serves `sanitize` and what stays float.

A node that stands for a whole Keras call is a copy of that layer, with its weights; a layer that is called several times is copied once, so that its
weights stay shared. A node that a rewrite has made is a standard Keras layer with the node's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from quantizeml_core.match import Node

from .copies import Copies
from .float_layers import PaddedConv2D, UnequalDepthwiseConv2D
from .graph import OPAQUE, Graph
from .layers.windows import same_pads
from .operations import Operation
from .temporal import FrameBuffer, StatefulRecurrent

Tensor = Any
Layer = Any


def rebuild(graph: Graph) -> keras.Model:
    """A whole Keras model that computes what the graph says."""
    inputs = model_inputs(graph)
    outputs = Remainder(graph).outputs({t.name: t for t in inputs})
    return assemble(inputs, outputs, graph.name)


def assemble(inputs: list[Tensor], outputs: list[Tensor], name: str) -> keras.Model:
    """A model; one input or output is no list."""
    return keras.Model(*(tensors[0] if len(tensors) == 1 else tensors for tensors in (inputs, outputs)), name=name)


def model_inputs(graph: Graph) -> list[Tensor]:
    """New inputs, named and shaped as the model's."""
    return [keras.Input(batch_shape=graph.shapes[name], dtype=graph.dtypes[name], name=name) for name in graph.entries]


class Remainder:
    """The part of a graph behind known tensors."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.copies = Copies()

    def outputs(self, known: Mapping[str, Tensor]) -> list[Tensor]:
        """The results of the graph, computed from known tensors."""
        values = dict(known)
        for node in self._needed(values):
            results = self._call(node, [values[t] for t in node.inputs])
            values.update(zip(node.outputs, results, strict=True))
        return [values[t] for t in self.graph.results]

    def _needed(self, known: Mapping[str, Tensor]) -> list[Node]:
        wanted, needed = set(self.graph.results) - set(known), []
        for node in reversed(self.graph.members):
            if wanted.intersection(node.outputs):
                needed.append(node)
                wanted.update(t for t in node.inputs if t not in known)
        return needed[::-1]

    def _call(self, node: Node, operands: list[Tensor]) -> list[Tensor]:
        call = node.native.get("call")
        if call is None:
            return [self._made(node, operands)]
        return self.copies.call(call, operands)

    def _made(self, node: Node, operands: list[Tensor]) -> Tensor:
        x = operands[0]
        for layer, weights in LAYERS[node.op](node.native, node.name.replace("/", "_"), x.shape):
            x = layer(operands if len(operands) > 1 else x)
            if weights:
                layer.set_weights([np.asarray(w) for w in weights])
        return x


def _conv2d(at: Mapping[str, Any], name: str, shape: Any) -> list[tuple[Layer, list[Any]]]:
    kernel = at["kernel"]
    if at.get("pad_value") is not None:
        return _window(at, name, shape, lambda **kwargs: PaddedConv2D(kernel.shape[-1], kernel.shape[:2], padding_value=at["pad_value"], **kwargs))
    return _window(at, name, shape, lambda **kwargs: keras.layers.Conv2D(kernel.shape[-1], kernel.shape[:2], groups=at["groups"], **kwargs))


def _depthwise(at: Mapping[str, Any], name: str, shape: Any) -> list[tuple[Layer, list[Any]]]:
    kernel, equal = at["kernel"], at["strides"][0] == at["strides"][1]
    layer = keras.layers.DepthwiseConv2D if equal else UnequalDepthwiseConv2D
    return _window(at, name, shape, lambda **kwargs: layer(kernel.shape[:2], depth_multiplier=kernel.shape[3], **kwargs))


def _window(at: Mapping[str, Any], name: str, shape: Any, layer: Callable[..., Layer]) -> list[tuple[Layer, list[Any]]]:
    """Explicit padding, unless 'same' means these very amounts."""
    weights = [at["kernel"]] + ([] if at["bias"] is None else [at["bias"]])
    same = any(at["pads"]) and at["pads"] == same_pads(shape[1:3], at["kernel"].shape[:2], at["strides"])
    made = layer(strides=at["strides"], padding="same" if same else "valid", use_bias=at["bias"] is not None, name=name)
    return [*([] if same else _pad(at, f"{name}_pad", shape)), (made, weights)]


def _pad(at: Mapping[str, Any], name: str, shape: Any) -> list[tuple[Layer, list[Any]]]:
    top, left, bottom, right = at["pads"]
    return [(keras.layers.ZeroPadding2D(((top, bottom), (left, right)), name=name), [])] if any(at["pads"]) else []


def _max_pool(at: Mapping[str, Any], name: str, shape: Any) -> list[tuple[Layer, list[Any]]]:
    same = any(at["pads"]) and at["pads"] == same_pads(shape[1:3], at["size"], at["strides"])
    pool = keras.layers.MaxPooling2D(at["size"], at["strides"], padding="same" if same else "valid", name=name)
    return [*([] if same else _pad(at, f"{name}_pad", shape)), (pool, [])]


def _dense(at: Mapping[str, Any], name: str, shape: Any) -> list[tuple[Layer, list[Any]]]:
    bias = [] if at["bias"] is None else [at["bias"]]
    return [(keras.layers.Dense(at["kernel"].shape[-1], use_bias=bool(bias), name=name), [at["kernel"], *bias])]


def _transposed(at: Mapping[str, Any], name: str, shape: Any) -> list[tuple[Layer, list[Any]]]:
    kernel, bias = at["kernel"], [] if at["bias"] is None else [at["bias"]]
    layer = keras.layers.Conv2DTranspose(kernel.shape[2], kernel.shape[:2], at["strides"], padding=at["padding"],
                                         use_bias=bool(bias), name=name)
    return [(layer, [kernel, *bias])]


def _affine(at: Mapping[str, Any], name: str, shape: Any) -> list[tuple[Layer, list[Any]]]:
    scale, offset = (v.tolist() if v.size > 1 else float(v[0]) for v in (at["scale"], at["offset"]))
    return [(keras.layers.Rescaling(scale, offset, name=name), [])]


def _table(at: Mapping[str, Any], name: str, shape: Any) -> list[tuple[Layer, list[Any]]]:
    if at["function"] in SLOPED:
        return [(SLOPED[at["function"]](at["alpha"], name=name), [])]
    return [(keras.layers.Activation(KERAS_NAMES.get(at["function"], at["function"]), name=name), [])]


def _recurrent(at: Mapping[str, Any], name: str, shape: Any) -> list[tuple[Layer, list[Any]]]:
    joined = keras.layers.Reshape((*shape[1:-1], 2 * shape[-1]), name=f"{name}_joined")
    return [(StatefulRecurrent(name=name), list(at["coefficients"])), (joined, [])]


def _plain(make: Callable[[Mapping[str, Any], str], Layer]) -> Callable[..., list[tuple[Layer, list[Any]]]]:
    return lambda at, name, shape: [(make(at, name=name), [])]


SLOPED = {"leaky_relu": lambda alpha, name: keras.layers.LeakyReLU(alpha, name=name), "elu": lambda alpha, name: keras.layers.ELU(alpha, name=name)}
KERAS_NAMES = {"swish": "silu", "hard_swish": "hard_silu"}

LAYERS: Mapping[str, Callable[..., Any]] = {
    "Conv2D": _conv2d, "DepthwiseConv2D": _depthwise, "Conv2DTranspose": _transposed, "Dense": _dense, "Affine": _affine, "Table": _table,
    f"{OPAQUE}Activation": _plain(lambda at, name: keras.layers.Activation(at["function"], name=name)),
    "MaxPool": _max_pool, "Pad": _pad,
    "AveragePool": _plain(lambda at, name: keras.layers.AveragePooling2D(at["size"], at["strides"], "same" if any(at["pads"]) else "valid", name=name)),
    "UpSampling2D": _plain(lambda at, name: keras.layers.UpSampling2D(at["size"], name=name)),
    "GlobalAveragePool": _plain(lambda at, name: keras.layers.GlobalAveragePooling2D(keepdims=True, name=name)),
    "ReLU": _plain(lambda at, name: keras.layers.ReLU(at["bound"], name=name)),
    "Normalize": _plain(lambda at, name: keras.layers.LayerNormalization(epsilon=at["epsilon"], center=False, scale=False, name=name)),
    **{op: _plain(partial(Operation, op)) for op in ("Attention", "Embed", "MadNormalize", "MatMul", "ShiftAttention")},
    "Recurrent": _recurrent,
    "Buffer": _plain(lambda at, name: FrameBuffer(at["frames"], name=name)),
    "Softmax": _plain(lambda at, name: keras.layers.Softmax(name=name)),
    "Permute": _plain(lambda at, name: keras.layers.Permute(at["dims"], name=name)),
    "Reshape": _plain(lambda at, name: keras.layers.Reshape(at["shape"], name=name)),
    "Flatten": _plain(lambda at, name: keras.layers.Flatten(name=name)),
    "Add": _plain(lambda at, name: keras.layers.Add(name=name)),
    "Multiply": _plain(lambda at, name: keras.layers.Multiply(name=name)),
    "Concatenate": _plain(lambda at, name: keras.layers.Concatenate(name=name)),
}
