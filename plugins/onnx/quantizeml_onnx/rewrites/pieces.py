"""What several rewrites write: attributes of a convolution without padding, and a Resize that repeats pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .graph import Dims
from .model import Expression, Op


def unpadded(kernel: Sequence[int] = (1, 1), strides: Sequence[int] = (1, 1), groups: int = 1) -> dict[str, Any]:
    """Attributes of a convolution, transposed or not."""
    return {"kernel_shape": tuple(kernel), "pads": (0, 0, 0, 0), "strides": tuple(strides), "dilations": (1, 1), "group": groups}


def repeated(x: Expression, factors: Sequence[int], shape: Dims) -> Op:
    """Each pixel of an image as many times down and across; `shape` is that of the result."""
    modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return Op("Resize", (x, None, np.array([1, 1, *factors], np.float32)), modes, shape=shape)
