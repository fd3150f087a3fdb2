"""Causal networks over clips become networks that stream: the same outputs, frame by frame; what looks ahead is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import layers

from quantizeml.models import quantize, replace_conv3d
from quantizeml_core.errors import ModelError
from quantizeml_keras.layers.frames import reset_buffers

RNG = np.random.default_rng(8)
FRAMES = 9


def over_time(x: object, filters: int, frames: int, groups: int = 1, **settings: object) -> object:
    padded = layers.ZeroPadding3D(((frames - 1, 0), (0, 0), (0, 0)))(x)
    return layers.Conv3D(filters, (frames, 1, 1), groups=groups, **settings)(padded)


def tennis() -> keras.Model:
    """Space and time in turn, depthwise over time, skipped over, normalized, pooled over the whole image, told apart frame by frame."""
    x = entry = keras.Input((FRAMES, 12, 10, 2), name="clip")
    x = layers.Conv3D(4, (1, 3, 3), strides=(1, 2, 2), padding="same", use_bias=False, name="space")(x)
    x = layers.ReLU()(layers.BatchNormalization(axis=4)(x))
    x = over_time(x, 4, 5, use_bias=False, name="time")
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = over_time(x, 4, 3, groups=4, activation="relu", name="each")
    x = layers.Add()([layers.Conv3D(4, (1, 3, 3), padding="same", groups=4, name="space_each")(y), x])
    x = layers.ZeroPadding3D(((1, 0), (1, 0), (0, 1)))(layers.MaxPooling3D((1, 2, 1))(x))
    x = layers.Conv3D(6, (2, 1, 1), activation="relu", name="late")(x)
    x = layers.Dropout(0.3)(layers.AveragePooling3D((1, 4, 6))(x))
    return keras.Model(entry, layers.Reshape((FRAMES, 3))(layers.Dense(3, name="head")(x)), name="tennis")


@pytest.fixture(scope="module")
def clips() -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(5)
    model = tennis()
    shaken = [w + RNG.normal(size=w.shape) * 0.2 for w in model.get_weights()]
    model.set_weights([np.abs(w) + 0.3 if v.path.endswith("variance") else w for w, v in zip(shaken, model.weights, strict=True)])
    return model, RNG.normal(size=(3, FRAMES, 12, 10, 2)).astype(np.float32)


def stream(model: keras.Model, x: np.ndarray) -> np.ndarray:
    reset_buffers(model)
    return np.stack([np.asarray(model(x[:, t])) for t in range(x.shape[1])], axis=1)


def test_streaming_frames_gives_the_clip_at_once(clips: tuple[keras.Model, np.ndarray]) -> None:
    """1e-5 of the largest output: sums of at most 36 products in float32, in another order, through six layers."""
    model, x = clips
    whole, streamed = np.asarray(model(x)), stream(replace_conv3d(model), x)
    assert whole.shape == streamed.shape and np.abs(whole - streamed).max() < 1e-5 * np.abs(whole).max()


def test_the_layers_are_those_of_one_frame(clips: tuple[keras.Model, np.ndarray]) -> None:
    made = {layer.name: type(layer).__name__ for layer in replace_conv3d(clips[0]).layers}
    assert [made[n] for n in ("space", "time", "each", "late")] == ["Conv2D", "BufferTempConv", "DepthwiseBufferTempConv", "BufferTempConv"]
    assert "GlobalAveragePooling2D" in made.values() and not any("3D" in kind for kind in made.values())


def test_the_streaming_model_is_quantized_whole(clips: tuple[keras.Model, np.ndarray]) -> None:
    model, x = clips
    quantized = quantize(replace_conv3d(model), samples=x, strict=True)
    whole, streamed = np.asarray(model(x)), stream(quantized, x)
    # 30 dB: a few layers of 8 bits.
    assert np.square(whole).sum() / np.square(whole - streamed).sum() > 1000


REFUSED: dict[str, tuple[Callable[[object], object], str]] = {
    "no padding in front": (lambda x: layers.Conv3D(2, (3, 1, 1))(x), "a layer over 3 frames behind 0 frames of padding"),
    "padding on both sides": (lambda x: layers.Conv3D(2, (3, 1, 1), padding="same")(x), "padding on both sides of the frames"),
    "frames to come": (lambda x: layers.ZeroPadding3D(((1, 1), (0, 0), (0, 0)))(x), "padding behind the last frame"),
    "time and space at once": (lambda x: layers.Conv3D(2, (3, 3, 3))(x), "a kernel over time and space"),
    "a stride in time": (lambda x: layers.Conv3D(2, (1, 1, 1), strides=(2, 1, 1))(x), "a stride or a dilation in time"),
    "pooling over time": (lambda x: layers.MaxPooling3D((2, 1, 1))(x), "pooling over time"),
    "a mean over all frames": (lambda x: layers.GlobalAveragePooling3D()(x), "pooling over all frames"),
    "padding that nobody reads": (lambda x: layers.ZeroPadding3D(((1, 0), (0, 0), (0, 0)))(x), "1 frames of padding reach it"),
    "padding before a ReLU": (lambda x: layers.ReLU()(layers.ZeroPadding3D(((1, 0), (0, 0), (0, 0)))(x)), "a layer over 1 frames behind 1"),
    "frames in another place": (lambda x: layers.Reshape((-1, 4))(x), "does not leave the frames alone"),
    "frames side by side": (lambda x: layers.Concatenate(axis=1)([x, x]), "tensors side by side on axis 1"),
    "a recurrent layer": (lambda x: layers.ConvLSTM2D(2, 1)(x), "ConvLSTM2D cannot be computed frame by frame here"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_causal_is_refused_by_name(case: str) -> None:
    make, reason = REFUSED[case]
    entry = keras.Input((4, 4, 4, 2))
    with pytest.raises(ModelError) as error:
        replace_conv3d(keras.Model(entry, make(entry)))
    assert reason in str(error.value)


def test_images_are_refused() -> None:
    entry = keras.Input((4, 4, 2))
    with pytest.raises(ModelError, match=r"\(batch, frames, height, width, channels\)"):
        replace_conv3d(keras.Model(entry, layers.ReLU()(entry)))
