"""The layers that callbacks of `custom_pattern_scope` return, and the functions that make one from the nodes of a line."""

from __future__ import annotations

from typing import Any

from . import borrowed

__all__ = ["OnnxLayer", "QuantizedAdd", "QuantizedConv2D", "QuantizedDense1D", "QuantizedDepthwise2D", "TensorShape", "get_qadd", "get_qconv",
           "get_qdepthwise", "get_qgemm"]


def __getattr__(name: str) -> Any:
    return borrowed("quantizeml_onnx.compat.layers", name, tuple(__all__))
