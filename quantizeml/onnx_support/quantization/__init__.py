"""Quantize ONNX models, with patterns of one's own."""

from __future__ import annotations

from typing import Any

from quantizeml.models import quantize

from .. import borrowed

__all__ = ["PATTERNS_MAP", "custom_pattern_scope", "quantize"]


def __getattr__(name: str) -> Any:
    if name == "PATTERNS_MAP":
        return borrowed("quantizeml_onnx.compat.patterns", name, (name,))
    return borrowed("quantizeml_onnx.custom", name, ("custom_pattern_scope",))
