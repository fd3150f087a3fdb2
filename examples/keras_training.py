"""How the example networks are trained on when they are quantized: the optimizer, the loss, the data.

A quantized model is close to its optimum already: a learning rate a tenth of the usual one keeps it there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .trained import Net

LEARNING_RATE = 1e-4


def prepare_training(model: Any, net: Net) -> tuple[np.ndarray, np.ndarray]:
    """Compile a model of one of the example networks; its training inputs and labels."""
    import keras

    keras.utils.set_random_seed(0)
    loss: Any = "binary_crossentropy" if model.output_shape[-1] == 1 else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(LEARNING_RATE), loss, metrics=["accuracy"])
    return net.train()
