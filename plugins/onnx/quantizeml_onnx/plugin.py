"""The door of quantizeml-onnx: the frontend that reads `.onnx` files and `onnx` objects."""

from __future__ import annotations

from quantizeml_core.hooks import FrontendInfo, hookimpl


@hookimpl
def quantizeml_frontends() -> tuple[FrontendInfo, ...]:
    return (FrontendInfo("onnx", (".onnx",), ("onnx", "onnx_ir"), "quantizeml_onnx.frontend:OnnxFrontend"),)
