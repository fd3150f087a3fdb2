"""One Keras layer per block kind. Importing this package registers them with Keras, under the package name `quantizeml`."""

from __future__ import annotations

from ..backend import require_float64
from .attention import QuantizedAttention
from .base import QuantizedLayer
from .embedding import QuantizedEmbedding
from .ends import Dequantizer, InputQuantizer
from .frames import QuantizedBuffer
from .hardware_forms import QuantizedMadNormalization, QuantizedShiftAttention
from .joins import QuantizedAdd, QuantizedConcatenate, QuantizedMultiply
from .linear import QuantizedConv2D, QuantizedConv2DTranspose, QuantizedDense, QuantizedDepthwiseConv2D, QuantizedLinear
from .lookup import QuantizedLookup
from .products import QuantizedMatMul, QuantizedSoftmax
from .recurrence import QuantizedStatefulRecurrent
from .normalization import QuantizedLayerNormalization
from .resampling import QuantizedAveragePooling2D, QuantizedUpSampling2D

__all__ = [
    "Dequantizer", "InputQuantizer", "QuantizedAdd", "QuantizedAttention", "QuantizedAveragePooling2D", "QuantizedBuffer",
    "QuantizedConcatenate", "QuantizedConv2D",
    "QuantizedConv2DTranspose", "QuantizedDense", "QuantizedDepthwiseConv2D", "QuantizedEmbedding",
    "QuantizedLayer", "QuantizedLayerNormalization", "QuantizedLinear", "QuantizedLookup", "QuantizedMadNormalization", "QuantizedShiftAttention", "QuantizedStatefulRecurrent",
    "QuantizedMatMul", "QuantizedMultiply", "QuantizedSoftmax", "QuantizedUpSampling2D",
]

require_float64()
