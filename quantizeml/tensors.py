"""`from quantizeml.tensors import FixedPoint, QFloat`: integers that stand for reals, and the operations between them."""

from __future__ import annotations

from quantizeml_core.fixedpoint import FixedPoint
from quantizeml_core.fixedpoint_ops import concat, matmul, maximum, reduce_sum
from quantizeml_core.qfloat import QFloat

__all__ = ["FixedPoint", "QFloat", "concat", "matmul", "maximum", "reduce_sum"]
