"""The door: one rule for ONNX graphs."""

from quantizeml_core.hooks import hookimpl


@hookimpl
def quantizeml_rules(frontend, target):
    if frontend != "onnx":
        return ()
    from .rule import SPACE_TO_DEPTH

    return (SPACE_TO_DEPTH,)
