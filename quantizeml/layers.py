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

FLOAT_LAYERS = ("DepthwiseConv2DTranspose", "PaddedConv2D")
TRANSFORMER_LAYERS = ("AddPositionEmbs", "Attention", "ClassToken", "ExtractToken", "LayerMadNormalization", "Shiftmax", "StochasticDepth")
INTEGER_LAYERS = (
    "Dequantizer", "InputQuantizer", "QuantizedAdd", "QuantizedAttention", "QuantizedAveragePooling2D", "QuantizedConcatenate", "QuantizedConv2D",
    "QuantizedConv2DTranspose", "QuantizedDense", "QuantizedDepthwiseConv2D", "QuantizedEmbedding", "QuantizedLayerNormalization", "QuantizedMadNormalization", "QuantizedMultiply",
    "QuantizedShiftAttention", "QuantizedUpSampling2D",
)

__all__ = ["QuantizationParams", *QUANTIZERS, *FLOAT_LAYERS, *TRANSFORMER_LAYERS, *INTEGER_LAYERS]


def __getattr__(name: str) -> Any:
    if name in QUANTIZERS:
        return getattr(import_module("quantizeml_core.quantizers"), QUANTIZERS[name])
    if name not in __all__:
        raise AttributeError(f"module `quantizeml.layers` has no attribute `{name}`")
    try:
        return getattr(import_module(_module(name)), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"`quantizeml.layers.{name}` is a Keras layer: run `pip install quantizeml-keras`") from error


def _module(name: str) -> str:
    if name in TRANSFORMER_LAYERS:
        return "quantizeml_keras.transformer_layers"
    return "quantizeml_keras.float_layers" if name in FLOAT_LAYERS else "quantizeml_keras.layers"
