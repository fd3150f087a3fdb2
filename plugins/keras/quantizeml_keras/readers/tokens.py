"""Layers on tokens, as on images of one row: a learned token in front, position embeddings, one token taken out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Shape
from .steps import Step, array


def _class_token(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    batch, height, length, channels = shapes[0]
    if length is None:
        return "a class token in front of a sequence of open length is not supported"
    return [Step("Embed", {"table": np.vstack([array(layer.cls).reshape(-1, channels), np.zeros((length, channels))])}, (batch, height, length + 1, channels))]


def _positions(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    return [Step("Embed", {"table": array(layer.pos_embedding).reshape(shapes[0][2:])}, shapes[0])]


def _extract(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    if getattr(layer, "axis", 1) != 1 or not isinstance(layer.token, int):
        return "only one token of a sequence can be extracted"
    return _token(layer.token, shapes[0])


def _item(operation: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    """x[:, i] or x[:, i, :] of a sequence."""
    key = call.arguments.args[1] if len(call.arguments.args) > 1 else call.arguments.kwargs.get("key")
    whole = isinstance(key, tuple) and len(key) in (2, 3) and all(k == slice(None) for k in (key[0], *key[2:]))
    return _token(key[1], shapes[0]) if whole and isinstance(key[1], int) else "only x[:, i], one token of a sequence, is supported"


def _token(index: int, shape: Shape) -> list[Step] | str:
    """A depthwise convolution that looks at one pixel, and steps over the whole row."""
    batch, _, length, channels = shape
    if length is None:
        return "a token of a sequence of open length is not supported"
    kernel = np.zeros((1, index % length + 1, channels, 1), np.float32)
    kernel[0, -1] = 1
    at = {"kernel": kernel, "bias": None, "strides": (1, length), "pads": (0, 0, 0, 0)}
    return [Step("DepthwiseConv2D", at, (batch, 1, 1, channels)), Step("Flatten", {"shape": (channels,)}, (batch, channels), "flatten")]


TOKENS = {"AddPositionEmbs": _positions, "ClassToken": _class_token, "ExtractToken": _extract, "GetItem": _item}
