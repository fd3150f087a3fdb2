"""Layers with memory: the last frames of a sequence, kept from one call to the next.

The frames live in the layer and are not saved. They fill up from zero, for as many sequences as the first call has rows; `reset_buffers`
empties them. A call inside a compiled graph cannot keep anything, and is refused: call the model itself, or let the rows of a batch be the
frames of one sequence, `with frames_in_rows(model)`: the same numbers at once, nothing kept, and gradients that reach earlier frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from quantizeml_core.errors import ModelError

from .base import PACKAGE, QuantizedLayer, Tensor


class Fifo:
    """The older frames, oldest first; None before the first call. `in_rows`: a call is a whole sequence, its rows the frames."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.older: list[Tensor] | None = None
        self.in_rows = False

    def reset(self) -> None:
        self.older = None

    def push(self, x: Tensor) -> list[Tensor]:
        """All frames with x as the last one. No gradient reaches earlier calls."""
        if self.in_rows:
            return self._rows(x)
        if any(word in type(x).__name__ for word in ("Symbolic", "Tracer")):
            raise ModelError("a compiled graph keeps no frames from call to call", where="a layer with a buffer",
                             do="Call the model itself, or give sequences as rows, `with frames_in_rows(model)`")
        older = [ops.zeros_like(x)] * (self.frames - 1) if self.older is None else self.older
        if older and tuple(older[0].shape) != tuple(x.shape):
            raise ModelError(f"frames of the shape {tuple(x.shape)} follow those of {tuple(older[0].shape)}", where="a layer with a buffer",
                             do="Call reset_buffers(model) between sequences")
        self.older = [*older[1:], ops.stop_gradient(x)] if older else []
        return [*older, x]


    def _rows(self, x: Tensor) -> list[Tensor]:
        older = self.frames - 1
        rows = ops.pad(x, ((older, 0), *(((0, 0),) * (len(x.shape) - 1))))
        return [rows[t : (t - older) or None] for t in range(self.frames)]


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


@contextmanager
def frames_in_rows(model: Any) -> Iterator[None]:
    """Inside the `with` block a batch is one sequence, its rows the frames in order: `fit` without shuffling, `predict`, calls. What is
    remembered of a streamed sequence stays as it is.

    Arguments:
        model: the one that is trained or called; graphs that it has compiled are made anew.
    """
    _switch(model, True)
    try:
        yield
    finally:
        _switch(model, False)


def _switch(model: Any, in_rows: bool) -> None:
    for layer in buffered(model):
        layer.fifo.in_rows = in_rows
    # Keras keeps the graphs it compiles; those of the other meaning would be silently wrong.
    model.train_function = model.test_function = model.predict_function = None


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
