"""Seeded random images with the spectrum of photographs: amplitudes fall with the frequency (Field, 1987), channels agree for the most part."""

from __future__ import annotations

import numpy as np
import onnx

COUNT = 16
COLOUR = 0.3
"""Share of each channel that is its own."""


def images(count: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """float32 (count, C, H, W) or (count, C, L), deviation about one, mean zero: what a normalized photograph looks like to a network."""
    rng = np.random.default_rng(seed)
    channels, *sizes = shape
    grids = np.meshgrid(*(np.fft.fftfreq(n) for n in sizes), indexing="ij")
    falloff = 1 / np.maximum(np.sqrt(sum(g * g for g in grids)), 1 / max(sizes))
    noise = rng.standard_normal((count, channels + 1, *sizes))
    axes = tuple(range(2, noise.ndim))
    smooth = np.fft.ifftn(np.fft.fftn(noise, axes=axes) * falloff, axes=axes).real
    mixed = (1 - COLOUR) * smooth[:, :1] + COLOUR * smooth[:, 1:]
    return (mixed / mixed.std(axis=axes, keepdims=True)).astype(np.float32)


def sample_shape(model: onnx.ModelProto) -> tuple[int, ...]:
    """Shape of one sample of the only input that is no weight."""
    constants = {t.name for t in model.graph.initializer}
    entry = next(i for i in model.graph.input if i.name not in constants)
    return tuple(d.dim_value for d in entry.type.tensor_type.shape.dim[1:])


def samples(model: onnx.ModelProto, count: int = COUNT, seed: int = 0) -> np.ndarray:
    """Images in the layout of the model's input."""
    shape = sample_shape(model)
    last = len(shape) == 3 and shape[-1] == 3
    made = images(count, (shape[-1], *shape[:-1]) if last else shape, seed)
    return np.ascontiguousarray(np.moveaxis(made, 1, -1)) if last else made
