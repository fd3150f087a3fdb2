"""Layers with memory: the last frames of a sequence, kept from one call to the next.

The frames live in the layer and are not saved. They fill up from zero, for as many sequences as the first call has rows; `reset_buffers`
empties them. A call inside a compiled graph cannot keep anything, and is refused: call the model itself, or set `model.run_eagerly = True`
before `predict` and `fit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from quantizeml_core.errors import ModelError

from .base import PACKAGE, QuantizedLayer, Tensor


class Fifo:
    """The older frames, oldest first; None before the first call."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.older: list[Tensor] | None = None

    def reset(self) -> None:
        self.older = None

    def push(self, x: Tensor) -> list[Tensor]:
        """All frames with x as the last one. No gradient reaches earlier calls."""
        if any(word in type(x).__name__ for word in ("Symbolic", "Tracer")):
            raise ModelError("a compiled graph keeps no frames from call to call", where="a layer with a buffer",
                             do="Call the model itself, model(frames), or set model.run_eagerly = True")
        older = [ops.zeros_like(x)] * (self.frames - 1) if self.older is None else self.older
        if older and tuple(older[0].shape) != tuple(x.shape):
            raise ModelError(f"frames of the shape {tuple(x.shape)} follow those of {tuple(older[0].shape)}", where="a layer with a buffer",
                             do="Call reset_buffers(model) between sequences")
        self.older = [*older[1:], ops.stop_gradient(x)] if older else []
        return [*older, x]


class Buffered:
    """What a layer with a memory has."""

    fifo: Fifo


def windowed(frames: list[Tensor]) -> Tensor:
    """Frames side by side, channel major: channel c * T + t."""
    stacked = ops.stack(frames, axis=-1)
    return ops.reshape(stacked, (*stacked.shape[:-2], -1))


def reset_buffers(model: Any) -> None:
    """Empties what the layers of a model, float or quantized, remember: the next call begins a sequence."""
    for layer in buffered(model):
        layer.fifo.reset()


def buffered(model: Any) -> Iterator[Any]:
    """The layers of a model that remember frames, those of nested models included."""
    for layer in getattr(model, "layers", ()):
        if isinstance(layer, Buffered):
            yield layer
        yield from buffered(layer)


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedBuffer(Buffered, QuantizedLayer):
    """The last frames of a sequence side by side; the integers stay as they are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fifo = Fifo(self.spec.block.frames)

    def call(self, x: Tensor) -> Tensor:
        return windowed(self.fifo.push(x))
