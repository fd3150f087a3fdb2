"""`quantizeml.onnx_support`, as old scripts write it. It needs `quantizeml-onnx`, and says so when that is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def borrowed(module: str, name: str, names: tuple[str, ...]) -> Any:
    """`name` from a module of the ONNX plugin; AttributeError for one that is not in `names`, ImportError when the plugin is not installed."""
    if name not in names:
        raise AttributeError(f"module has no attribute `{name}`; it has {', '.join(names)}")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"`{name}` works on ONNX models: run `pip install quantizeml-onnx`") from error
