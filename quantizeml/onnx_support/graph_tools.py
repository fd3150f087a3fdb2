"""Small questions to an ONNX node or graph."""

from __future__ import annotations

from typing import Any

from . import borrowed

__all__ = ["get_field", "get_node", "get_variable", "has_field", "replace_field", "to_field"]


def __getattr__(name: str) -> Any:
    return borrowed("quantizeml_onnx.compat.graph_tools", name, tuple(__all__))
