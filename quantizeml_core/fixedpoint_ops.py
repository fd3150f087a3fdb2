"""Operations between whole FixedPoint and QFloat tensors: products of matrices, sums, joins.

Rules, one for all: integers combine exactly and keep the left operand's `value_bits` (saturation counted), frac_bits add in products,
scales multiply. A sum over the last axis needs one number of fractional bits and one scale; a FixedPoint counts as a QFloat of scale 1.
Pure layout operations (reshape, transpose, pad) are numpy's, on `values`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import exact
from .fixedpoint import FixedPoint, FracBits
from .numerics import Floats
from .qfloat import QFloat

Tensor = TypeVar("Tensor", FixedPoint, QFloat)


def matmul(a: FixedPoint | QFloat, b: FixedPoint | QFloat) -> FixedPoint | QFloat:
    """a @ b: (..., n, k) by (..., k, m). `a` must be per-tensor, since its last axis is summed; a QFloat when either is one."""
    _check_per_tensor("matmul", a)
    x, y = _fixed(a), _fixed(b)
    frac_bits = np.asarray(x.frac_bits, np.int64) + y.frac_bits
    product = FixedPoint(exact.matmul(x.values, y.values), x.value_bits, frac_bits, x.saturated + y.saturated)
    return QFloat(product, _scales(a) * _scales(b)) if QFloat in (type(a), type(b)) else product


def reduce_sum(x: Tensor, axis: int | None = None) -> Tensor:
    """Sum over one axis, or over all of them."""
    fp = _fixed(x)
    if axis is None or axis % fp.values.ndim == fp.values.ndim - 1:
        _check_per_tensor("reduce_sum over the last axis", x)
    return _rebuilt(x, replace(fp, values=exact.total(fp.values, axis)))


def maximum(a: Tensor, b: Tensor) -> Tensor:
    """Element-wise maximum of two tensors on the same grid, in the larger of their value bits."""
    x, y = _fixed(a), _fixed(b)
    _check_same("maximum", "frac_bits", x.frac_bits, y.frac_bits)
    _check_same("maximum", "scales", _scales(a), _scales(b))
    bits = max(x.value_bits, y.value_bits)
    return _rebuilt(a, FixedPoint(np.maximum(x.values, y.values), bits, x.frac_bits, x.saturated + y.saturated))


def concat(tensors: Sequence[Tensor], axis: int = -1) -> Tensor:
    """Join tensors of one type along an axis, in the largest of their value bits.

    Along the last axis frac_bits and scales become vectors; along any other one they must be equal.
    """
    parts = [_fixed(t) for t in tensors]
    values = np.concatenate([p.values for p in parts], axis)
    last = axis % values.ndim == values.ndim - 1
    bits, saturated = max(p.value_bits for p in parts), sum(p.saturated for p in parts)
    fp = FixedPoint(values, bits, _joined("frac_bits", [np.asarray(p.frac_bits) for p in parts], parts, last), saturated)
    scales = _joined("scales", [_scales(t) for t in tensors], parts, last)
    return replace(tensors[0], fp=fp, scales=scales) if isinstance(tensors[0], QFloat) else fp


def _joined(name: str, vectors: Sequence[NDArray[Any]], parts: Sequence[FixedPoint], last: bool) -> NDArray[Any]:
    if last:
        return np.concatenate([np.broadcast_to(v, p.shape[-1:]) for v, p in zip(vectors, parts, strict=True)])
    for v in vectors[1:]:
        _check_same("concat along an axis that is not the last", name, vectors[0], v)
    return vectors[0]


def _fixed(x: FixedPoint | QFloat) -> FixedPoint:
    return x.fp if isinstance(x, QFloat) else x


def _scales(x: FixedPoint | QFloat) -> Floats:
    return x.scales if isinstance(x, QFloat) else np.asarray(1.0)


def _rebuilt(x: Tensor, fp: FixedPoint) -> Tensor:
    return replace(x, fp=fp) if isinstance(x, QFloat) else fp


def _check_per_tensor(what: str, x: FixedPoint | QFloat) -> None:
    if not x.per_tensor:
        received = f"frac_bits {_fixed(x).frac_bits} and scales {_scales(x)}"
        raise ValueError(f"{what} needs a per-tensor operand, received {received}; expand it first")


def _check_same(what: str, name: str, a: FracBits | NDArray[Any], b: FracBits | NDArray[Any]) -> None:
    if np.any(np.asarray(a) != np.asarray(b)):
        raise ValueError(f"{what} needs equal {name}, received {a} and {b}")
