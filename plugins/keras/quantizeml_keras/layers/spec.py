"""What a quantized layer is told: its block, the formats around it, its weights' lattice. Plain data; its JSON is the layer's Keras config.

Floats pass through JSON unchanged (Python writes the shortest text that reads back as the same number), so a reloaded layer is the same layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from quantizeml_core.blocks import Block
from quantizeml_core.program import Format

Shape = tuple[int | None, ...]
Json = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A data input: the smallest and largest integer it can hold, and its channel-first shape."""

    low: int
    high: int
    shape: Shape

    @property
    def limit(self) -> int:
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class Lattice:
    """How floats become the integers of a linear block. Arrays broadcast against the Keras kernel, or against (F,).

        weight = clip(rint(kernel * input_step * inverse_step), -limit, limit)
        bias   = align(bias_integer + rint((bias - bias_real) * inverse_step) - sum(zero_point * weight))

    Arguments:
        shape: of the Keras kernel.
        limit: 2^(b-1) - 1.
        input_step: step of each input channel, float32.
        inverse_step: (F,) accumulator units per real unit, float32.
        zero_point: of an unsigned model input.
        bias_integer: (F,) the bias of the solved program before its zero point; None without any bias.
        bias_real: (F,) the float bias that it stands for; None when there is none to train. Measuring a trained bias from there keeps every bit of
            a large one.
        mantissa: bits of a bias byte on the target, None for all.
    """

    shape: tuple[int, ...]
    limit: int
    input_step: np.ndarray
    inverse_step: np.ndarray
    zero_point: np.ndarray | None = None
    bias_integer: np.ndarray | None = None
    bias_real: np.ndarray | None = None
    mantissa: int | None = None


@dataclass(frozen=True)
class Spec:
    """One quantized layer.

    Arguments:
        block: with the integer arrays of its tail, without weight and bias.
        output: format of the output tensor.
        shape: channel-first shape of the output tensor.
        sources: of the data inputs; none for a model input.
        lattice: of a linear block.
    """

    block: Block
    output: Format
    shape: Shape
    sources: tuple[Source, ...] = ()
    lattice: Lattice | None = None

    def to_json(self) -> Json:
        return {
            "block": self.block.to_json(),
            "arrays": {name: encode(array) for name, array in self.block.arrays.items()},
            "output": {f.name: encode(getattr(self.output, f.name)) for f in fields(Format)},
            "shape": list(self.shape),
            "sources": [{"low": s.low, "high": s.high, "shape": list(s.shape)} for s in self.sources],
            "lattice": None if self.lattice is None else {f.name: encode(getattr(self.lattice, f.name)) for f in fields(Lattice)},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Spec:
        arrays = {name: decode(array) for name, array in data["arrays"].items()}
        lattice = data["lattice"]
        return cls(
            Block.from_json(data["block"], arrays), Format(**_decoded(data["output"])), tuple(data["shape"]),
            tuple(Source(s["low"], s["high"], tuple(s["shape"])) for s in data["sources"]),
            None if lattice is None else Lattice(**_decoded(lattice)),
        )


def encode(value: Any) -> Any:
    """An array as its type, shape and flat values; a tuple as a list; anything else as it is."""
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.name, "shape": list(value.shape), "values": value.ravel().tolist()}
    return list(value) if isinstance(value, tuple) else value


def decode(value: Any) -> Any:
    if isinstance(value, Mapping):
        return np.array(value["values"], value["dtype"]).reshape(value["shape"])
    return tuple(value) if isinstance(value, list) else value


def _decoded(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: decode(value) for name, value in data.items()}
