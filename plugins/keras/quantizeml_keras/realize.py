"""Realize: the quantized Keras model. One layer per block where the network was covered, the float layers of the original model elsewhere.

    inputs -> InputQuantizer -> quantized layers, named as their blocks -> Dequantizer -> float layers, with their weights
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from quantizeml_core.bake import Quantization
from quantizeml_core.blocks import Block

from .graph import Graph
from .layers import (
    Dequantizer,
    InputQuantizer,
    QuantizedAdd,
    QuantizedAttention,
    QuantizedAveragePooling2D,
    QuantizedBuffer,
    QuantizedConcatenate,
    QuantizedConv2D,
    QuantizedConv2DTranspose,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    QuantizedEmbedding,
    QuantizedLayerNormalization,
    QuantizedLookup,
    QuantizedMadNormalization,
    QuantizedMatMul,
    QuantizedMultiply,
    QuantizedShiftAttention,
    QuantizedSoftmax,
    QuantizedStatefulRecurrent,
    QuantizedUpSampling2D,
)
from .layers.base import QuantizedLayer
from .rebuild import Remainder, assemble, model_inputs
from .specs import spec_of, start_kernel

LAYERS: Mapping[str, type[QuantizedLayer]] = {
    "input": InputQuantizer, "conv2d": QuantizedConv2D, "conv_transpose2d": QuantizedConv2DTranspose,
    "depthwise2d": QuantizedDepthwiseConv2D, "dense": QuantizedDense,
    "add": QuantizedAdd, "concat": QuantizedConcatenate, "multiply": QuantizedMultiply,
    "attention": QuantizedAttention, "shift_attention": QuantizedShiftAttention, "mad_normalize": QuantizedMadNormalization,
    "embed": QuantizedEmbedding, "normalize": QuantizedLayerNormalization, "pool2d": QuantizedAveragePooling2D,
    "upsample2d": QuantizedUpSampling2D, "buffer": QuantizedBuffer, "recurrent": QuantizedStatefulRecurrent,
    "softmax": QuantizedSoftmax, "matmul": QuantizedMatMul, "lookup": QuantizedLookup,
}


def realize(graph: Graph, made: Quantization) -> keras.Model:
    """The quantized model.

    Arguments:
        graph: the sanitized float graph; it is only read.
        made: the program, the floats it was baked from, and the configuration to keep.
    """
    inputs = model_inputs(graph)
    region = _region(made, {t.name: t for t in inputs})
    known = {tensor: _dequantized(made, tensor, region, index, graph.shapes[tensor]) for index, tensor in enumerate(made.program.outputs)}
    outputs = Remainder(graph).outputs({t.name: t for t in inputs} | known)
    return assemble(inputs, outputs, graph.name)


def from_quantization(made: Quantization, name: str = "quantized_model") -> keras.Model:
    """A whole model from a quantization alone: float inputs in the native layout, one output per output of the program."""
    inputs = {b.inputs[0]: keras.Input(_native_input(made, b), name=b.inputs[0]) for b in made.program.blocks if b.kind == "input"}
    region = _region(made, inputs)
    outputs = [_dequantized(made, tensor, region, index, None) for index, tensor in enumerate(made.program.outputs)]
    return assemble(list(inputs.values()), outputs, name)


def _native_input(made: Quantization, block: Block) -> tuple[int | None, ...]:
    shape = made.program.shapes[block.output]
    return tuple(shape[block.perm.index(axis)] for axis in range(1, len(shape))) if block.perm else tuple(shape[1:])


def _region(made: Quantization, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The Keras tensor of every block output, integers."""
    tensors = dict(inputs)
    configuration: Mapping[str, Any] | None = made.config
    for block in made.program.blocks:
        layer = _layer(made, block, configuration)
        tensors[block.output] = layer(*(tensors[t] for t in block.inputs))
        _start(layer, made, block)
        configuration = None if block.kind == "input" else configuration
    return {b.output: tensors[b.output] for b in made.program.blocks}


def _layer(made: Quantization, block: Block, configuration: Mapping[str, Any] | None) -> QuantizedLayer:
    extra = {"configuration": configuration} if block.kind == "input" else {}
    return LAYERS[block.kind](spec_of(made, block), name=layer_name(block.name), **extra)


def _start(layer: QuantizedLayer, made: Quantization, block: Block) -> None:
    lattice = layer.spec.lattice
    if lattice is not None:
        layer.kernel.assign(start_kernel(made, block, lattice))
    if lattice is not None and lattice.bias_real is not None:
        layer.bias.assign(lattice.bias_real)


def _dequantized(made: Quantization, tensor: str, region: Mapping[str, Any], index: int, shape: tuple[int | None, ...] | None) -> Any:
    """`shape`: of the tensor in the float model, batch first."""
    integers = region[tensor]
    same = shape is None or len(shape) == len(integers.shape)
    name = "dequantizer" if index == 0 else f"dequantizer_{index}"
    return Dequantizer(tensor, made.program.formats[tensor], None if same else shape[1:], name=name)(integers)


def layer_name(block: str) -> str:
    """A block's name as a layer's: Keras allows no slash."""
    return block.replace("/", "_")
