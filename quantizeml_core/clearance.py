"""Distance to ties. What lies far enough from a tie is rounded alike by whoever computes it in float32: whether ties go up or to even, in whatever order and
with whatever fused steps factors and zero points come in. A step that is free is widened until all its values do.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from . import numerics
from .numerics import Floats, Ints

#: More than a function errs in float32, absolutely and relatively: one and a half times the most that was seen in onnxruntime, of its sigmoid far left of zero
#: (`tests/onnx/test_float_functions.py`).
ABSOLUTE, RELATIVE = 2.0**-18, 2.0**-20
#: More than a product of bytes with its zero point errs in float32, in units of the output.
OF_PRODUCTS = 2.0**-15
#: Factors by which a step may be widened until its values are clear: a quarter of all tables has an entry near a tie, half of all multipliers a product.
WIDER = 1 + np.arange(32) / 512


def clear(units: Floats, distance: Floats | float) -> bool:
    """Whether every value is further than that from a tie."""
    return bool((np.abs(units - np.floor(units) - 0.5) > distance).all())


def function_is_clear(values: Floats, middle: float, step: float) -> bool:
    """Whether no value of a function, less `middle`, is near a tie of this step."""
    return clear((values - middle) / step, (ABSOLUTE + RELATIVE * np.abs(values)) / step)


def products_are_clear(multiplier: Ints, shift: Ints, first: tuple[int, int], second: tuple[int, int], low: int, high: int) -> bool:
    """Whether law 2 of every product of two integers between these ends is clear, with one multiplier for all channels; beyond low and high it does not matter. Negative
    ties may occur: the deployment form rounds them otherwise anyway."""
    if len(np.unique(multiplier)) > 1 or len(np.unique(shift)) > 1:
        return False
    value = _products(first, second) * float(numerics.multiplier_value(multiplier, shift).flat[0])
    tie = (value < 0) & (value - np.floor(value) == 0.5)
    return clear(value[(value > low - 1) & (value < high + 1) & ~tie], OF_PRODUCTS)


@lru_cache(maxsize=16)
def _products(first: tuple[int, int], second: tuple[int, int]) -> Ints:
    """Every product of two integers between these ends, once."""
    return np.unique(np.multiply.outer(*(np.arange(low, high + 1) for low, high in (first, second))))
