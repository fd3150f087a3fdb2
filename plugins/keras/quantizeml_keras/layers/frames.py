"""Layers with memory: the last frames of a sequence, or a state that each frame makes anew, kept from one call to the next.

What is kept lives in the layer and is not saved. It begins with zeros, for as many sequences as the first call has rows; `reset_buffers`
empties it. A call inside a compiled graph cannot keep anything, and is refused: call the model itself, or let the rows of a batch be the
frames of one sequence, `with frames_in_rows(model)`: the same numbers at once, nothing kept, and gradients that reach earlier frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
        _refuse_compiled(x)
        older = [ops.zeros_like(x)] * (self.frames - 1) if self.older is None else self.older
        if older:
            _refuse_others(x, older[0].shape)
        self.older = [*older[1:], ops.stop_gradient(x)] if older else []
        return [*older, x]

    def _rows(self, x: Tensor) -> list[Tensor]:
        older = self.frames - 1
        rows = ops.pad(x, ((older, 0), *(((0, 0),) * (len(x.shape) - 1))))
        return [rows[t : (t - older) or None] for t in range(self.frames)]


class Carry:
    """A state (rows, ..., 2) that each frame (rows, ...) makes anew; None before the first call. `in_rows` as for a `Fifo`."""

    def __init__(self) -> None:
        self.state: Tensor | None = None
        self.in_rows = False

    def reset(self) -> None:
        self.state = None

    def push(self, x: Tensor, advance: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The state behind each row of x. No gradient reaches earlier calls.

        Arguments:
            advance: (state, frame) -> the next state.
        """
        if self.in_rows:
            return self._rows(x, advance)
        _refuse_compiled(x)
        before = beginning(x) if self.state is None else self.state
        _refuse_others(x, before.shape[:-1])
        after = advance(before, x)
        self.state = ops.stop_gradient(after)
        return after

    def _rows(self, x: Tensor, advance: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        def follow(state: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
            after = advance(state, frame)
            return after, after

        return ops.scan(follow, beginning(x[0]), x)[1]


def beginning(x: Tensor) -> Tensor:
    """The state before the first frame, which looks like x."""
    return ops.zeros((*x.shape, 2), x.dtype)


def _refuse_compiled(x: Tensor) -> None:
    if any(word in type(x).__name__ for word in ("Symbolic", "Tracer")):
        raise ModelError("a compiled graph keeps no frames from call to call", where="a layer with a buffer",
                         do="Call the model itself, or give sequences as rows, `with frames_in_rows(model)`")


def _refuse_others(x: Tensor, shape: Any) -> None:
    """Frames of another shape belong to no sequence that began."""
    if tuple(shape) != tuple(x.shape):
        raise ModelError(f"frames of the shape {tuple(x.shape)} follow those of {tuple(shape)}", where="a layer with a buffer",
                         do="Call reset_buffers(model) between sequences")


class Buffered:
    """What a layer with a memory has."""

    memory: Fifo | Carry


def windowed(frames: list[Tensor]) -> Tensor:
    """Frames side by side, channel major: channel c * T + t."""
    stacked = ops.stack(frames, axis=-1)
    return ops.reshape(stacked, (*stacked.shape[:-2], -1))


def reset_buffers(model: Any) -> None:
    """Empties what the layers of a model, float or quantized, remember: the next call begins a sequence."""
    for layer in buffered(model):
        layer.memory.reset()


reset_states = reset_buffers
"""The guide's name where the memory is that of a StatefulRecurrent."""


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
        layer.memory.in_rows = in_rows
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
        self.memory = Fifo(self.spec.block.frames)

    def call(self, x: Tensor) -> Tensor:
        return windowed(self.memory.push(x))
