"""What the exact integer laws need of a Keras backend: float64. JAX has it only when told so, for the whole process."""

from __future__ import annotations

import keras


def require_float64() -> None:
    """Switch JAX to 64 bits; TensorFlow and PyTorch have them."""
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
