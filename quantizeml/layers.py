"""`from quantizeml.layers import ...`, as old scripts write it: parameters, quantizers, and the Keras layers, which need `quantizeml-keras`.

A framework is imported when the first Keras layer is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from quantizeml_core.params import QuantizationParams

QUANTIZERS = {
    "WeightQuantizer": "SymmetricWeightQuantizer", "AlignedWeightQuantizer": "MantissaShiftQuantizer", "OutputQuantizer": "PowerOfTwoOutputQuantizer",
}
"""The guide's names of the quantizers in `quantizeml_core.quantizers`: their formulas on arrays."""

PLACES = {
    **dict.fromkeys(("AddPositionEmbs", "Attention", "ClassToken", "ExtractToken", "LayerMadNormalization", "Shiftmax", "StochasticDepth"),
                    "transformer_layers"),
    "DepthwiseConv2DTranspose": "float_layers", "PaddedConv2D": "float_layers",
    "BufferTempConv": "temporal", "DepthwiseBufferTempConv": "temporal",
    "FrameBuffer": "temporal", "StatefulRecurrent": "temporal", "reset_buffers": "layers.frames", "reset_states": "layers.frames", "frames_in_rows": "layers.frames",
}
"""Modules of `quantizeml-keras` with float layers and what belongs to them; every other layer is in `layers`."""

FLOAT_LAYERS = tuple(PLACES)
INTEGER_LAYERS = (
    "Dequantizer", "InputQuantizer", "QuantizedAdd", "QuantizedAttention", "QuantizedAveragePooling2D", "QuantizedBuffer",
    "QuantizedConcatenate", "QuantizedConv2D",
    "QuantizedConv2DTranspose", "QuantizedDense", "QuantizedDepthwiseConv2D", "QuantizedEmbedding", "QuantizedLayerNormalization",
    "QuantizedMadNormalization", "QuantizedMatMul", "QuantizedMultiply", "QuantizedSoftmax",
    "QuantizedShiftAttention", "QuantizedStatefulRecurrent", "QuantizedUpSampling2D",
)

__all__ = ["QuantizationParams", *QUANTIZERS, *FLOAT_LAYERS, *INTEGER_LAYERS]


def __getattr__(name: str) -> Any:
    if name in QUANTIZERS:
        return getattr(import_module("quantizeml_core.quantizers"), QUANTIZERS[name])
    if name not in __all__:
        raise AttributeError(f"module `quantizeml.layers` has no attribute `{name}`")
    try:
        return getattr(import_module(f"quantizeml_keras.{PLACES.get(name, 'layers')}"), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"`quantizeml.layers.{name}` is a Keras layer: run `pip install quantizeml-keras`") from error
