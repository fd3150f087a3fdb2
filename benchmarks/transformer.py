"""Vision transformers by Keras: accuracy of a small one before and after quantization and training, seconds and memory for one of DeiT-tiny's size.

    python -m benchmarks.transformer            # about four minutes, half of them training the float network

The small one (139 018 parameters: 4x4 patches, 4 encoders of 64 channels, 4 heads) learns 20 epochs of examples/data/mnist5k.npz with seed 0 and is judged on
the test part; 1024 training images calibrate. The large one (12 encoders of 192 channels, 3 heads, 224x224) has seeded random weights, its
class token and positions normal: untrained they start at zero and near it, and a token of nothing beside tokens of deviation one is all rounding.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from quantizeml.layers import AddPositionEmbs, ClassToken, ExtractToken
from quantizeml.models import to_hardware_forms
from quantizeml_core.api import quantize_model
from quantizeml_core.params import QuantizationParams
from quantizeml_core.testing import decibels

DATA = Path(__file__).parents[1] / "examples" / "data" / "mnist5k.npz"
EPOCHS, TRAINED, BATCH = 20, 3, 64
GENTLE = 1e-5
"""Rate for 4-bit weights that were rounded against data: of 1e-5, 5e-5, 1e-4, 2e-4 and 5e-4 the best on 800 held-out training images (91.2, 90.8, 90.8,
90.9, 88.1 %; 90.6 % untrained, 91.8 % in float, all trained on the other 3200)."""


def vit(size: int, channels: int, patch: int, width: int, depth: int, heads: int, classes: int) -> keras.Model:
    """A vision transformer with a class token and learned positions, normalizations before each branch."""
    x = entry = keras.Input((size, size, channels), name="pixels")
    x = layers.Rescaling(1 / 127.5, -1, name="rescale")(x)
    x = layers.Conv2D(width, patch, strides=patch, name="patches")(x)
    x = layers.Reshape(((size // patch) ** 2, width), name="tokens")(x)
    x = AddPositionEmbs(name="positions")(ClassToken(name="class_token")(x))
    for i in range(depth):
        y = layers.LayerNormalization(epsilon=1e-6, name=f"norm_{i}a")(x)
        x = layers.Add(name=f"add_{i}a")([x, layers.MultiHeadAttention(heads, width // heads, name=f"attention_{i}")(y, y)])
        y = layers.LayerNormalization(epsilon=1e-6, name=f"norm_{i}b")(x)
        y = layers.Dense(width, name=f"narrow_{i}")(layers.Dense(width * (2 if width == 64 else 4), activation="gelu", name=f"wide_{i}")(y))
        x = layers.Add(name=f"add_{i}b")([x, y])
    x = ExtractToken(0, name="token")(layers.LayerNormalization(epsilon=1e-6, name="norm")(x))
    return keras.Model(entry, layers.Dense(classes, name="head")(x), name="vit")


def train(model: Any, x: np.ndarray, y: np.ndarray, epochs: int, rate: float) -> None:
    """AdamW whose rate rises for a tenth of the time and falls as a cosine."""
    steps = epochs * -(-len(x) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(rate / 200, steps, warmup_target=rate, warmup_steps=max(steps // 10, 1))
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.fit(x, y, BATCH, epochs, verbose=0)


def accuracy(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    return 100 * float((np.asarray(model.predict(x, verbose=0)).argmax(-1) == y).mean())


def small() -> None:
    keras.utils.set_random_seed(0)
    data = np.load(DATA)
    (x, y), (x_test, y_test) = ((data[f"x_{p}"].astype("float32"), data[f"y_{p}"]) for p in ("train", "test"))
    model, start = vit(28, 1, 4, 64, 4, 4, 10), time.perf_counter()
    train(model, x, y, EPOCHS, 2e-3)
    print(f"float: {accuracy(model, x_test, y_test):.1f} %, {model.count_params()} parameters, trained in {time.perf_counter() - start:.0f} s", flush=True)
    print(f"8 bits: {accuracy(quantize_model(model, samples=x[:1024]).model, x_test, y_test):.1f} %", flush=True)
    hardware = to_hardware_forms(model)
    print(f"in hardware forms, float: {accuracy(hardware, x_test, y_test):.1f} %", flush=True)
    train(hardware, x, y, TRAINED, 5e-4)
    print(f"in hardware forms, float, {TRAINED} epochs of training: {accuracy(hardware, x_test, y_test):.1f} %", flush=True)
    print(f"in hardware forms, 8 bits: {accuracy(quantize_model(hardware, samples=x[:1024]).model, x_test, y_test):.1f} %", flush=True)
    four = quantize_model(model, samples=x[:1024], qparams=QuantizationParams(weight_bits=4)).model
    print(f"4-bit weights: {accuracy(four, x_test, y_test):.1f} %", flush=True)
    train(four, x, y, TRAINED, GENTLE)
    print(f"4-bit weights, {TRAINED} epochs of training: {accuracy(four, x_test, y_test):.1f} %", flush=True)


def large() -> None:
    keras.utils.set_random_seed(0)
    model, rng = vit(224, 3, 16, 192, 12, 3, 1000), np.random.default_rng(1)
    x = rng.integers(0, 256, (20, 224, 224, 3)).astype("float32")
    model.get_layer("class_token").set_weights([rng.normal(size=(1, 1, 192))])
    model.get_layer("positions").set_weights([rng.normal(size=(1, 197, 192))])
    start = time.perf_counter()
    result = quantize_model(model, samples=x[:16])
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    logits = [np.asarray(net(x[16:])) for net in (model, result.model)]
    cover = result.blueprint.coverage
    print(f"DeiT-tiny, {model.count_params() / 1e6:.1f} million parameters: {seconds:.1f} s, {peak:.2f} GB, {cover.nodes} of {cover.total} nodes, "
          f"{decibels(*logits):.1f} dB on images that did not calibrate", flush=True)


if __name__ == "__main__":
    large()
    small()
