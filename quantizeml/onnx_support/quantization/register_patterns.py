"""What the built-in rules take."""

from __future__ import annotations

from typing import Any

from .. import borrowed

__all__ = ["PATTERNS_MAP", "custom_pattern_scope"]


def __getattr__(name: str) -> Any:
    if name == "custom_pattern_scope":
        return borrowed("quantizeml_onnx.custom", name, (name,))
    return borrowed("quantizeml_onnx.compat.patterns", name, ("PATTERNS_MAP",))
