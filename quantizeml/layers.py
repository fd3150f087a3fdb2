"""`from quantizeml.layers import QuantizationParams`, as old scripts write it."""

from __future__ import annotations

from quantizeml_core.params import QuantizationParams

__all__ = ["QuantizationParams"]
