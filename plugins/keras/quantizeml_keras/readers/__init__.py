"""Readers: what a Keras layer computes at inference, as steps of simple operations (`graph`), by class name.

A reader answers with its steps, none for a layer that does nothing at inference, or with the reason why the layer has no integer form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..graph import Shape
from .elementwise import ELEMENTWISE
from .geometry import GEOMETRY
from .joins import JOINS
from .linear import LINEAR
from .sequences import ON_ANY_SHAPE, SEQUENCES
from .steps import Reader, Step
from .temporal import TEMPORAL
from .tokens import TOKENS

__all__ = ["ON_ANY_SHAPE", "READERS", "SEQUENCES", "TOKENS", "Step", "read"]

READERS: Mapping[str, Reader] = {**ELEMENTWISE, **GEOMETRY, **JOINS, **LINEAR, **SEQUENCES, **TEMPORAL, **TOKENS}

NOTHING_AT_INFERENCE = frozenset({
    "ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Identity", "InputLayer", "SpatialDropout1D",
    "SpatialDropout2D", "StochasticDepth",
})


def read(operation: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    """The steps of one call. `shapes`: native shapes of its inputs."""
    kind = type(operation).__name__
    if kind in NOTHING_AT_INFERENCE or kind.startswith("Random"):
        return []
    reader = READERS.get(kind)
    if reader is None:
        return f"{kind} has no integer form here"
    if getattr(operation, "data_format", "channels_last") == "channels_first":
        return "data_format `channels_first` is not supported, only `channels_last`"
    return reader(operation, call, shapes)
