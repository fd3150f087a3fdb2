"""The deployment form: a quantized model as operators that onnxruntime brings with it, uint8 between them. See docs/deployment.md.

    deployed(model) -> onnx.ModelProto
"""

from .assemble import deployed

__all__ = ["deployed"]
