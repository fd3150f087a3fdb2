"""The door: one rewrite for ONNX graphs."""

from quantizeml_core.hooks import hookimpl


@hookimpl
def quantizeml_rewrites(frontend, target):
    if frontend != "onnx":
        return ()
    from .rewrite import ZEROS_BETWEEN_TAPS

    return (ZEROS_BETWEEN_TAPS,)
