"""The guide's functions on models. A framework is imported when the first model of its kind arrives.

    from quantizeml.models import quantize, QuantizationParams, load_model

    quantized = quantize(load_model("model.onnx"), qparams=QuantizationParams(weight_bits=4, activation_bits=4), samples=samples)
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantizeml_core.params import QuantizationParams

if TYPE_CHECKING:
    from quantizeml_core.target import Target

__all__ = [
    "QuantizationParams", "calibrate", "check_model", "dump_config", "export", "insert_rescaling", "learn_steps", "load_model", "quantize",
    "replace_conv3d", "sanitize", "save_model", "to_hardware_forms",
]


def quantize(model: Any, q_config: Mapping[str, Any] | None = None, qparams: QuantizationParams | None = None, samples: Any = None,
             num_samples: int = 1024, batch_size: int | None = None, epochs: int = 1, quantize_until: str | None = None,
             input_shape: tuple[int, ...] | Mapping[str, tuple[int, ...]] | None = None, *, target: str | Target = "generic", seed: int = 0, strict: bool = False,
             approximate: bool = False, islands: bool = False) -> Any:
    """Quantizes a float model. The model given is not modified.

    Arguments:
        model: a model of an installed frontend (an `onnx.ModelProto`), or the path of its file.
        q_config: entries that override the plan, block by block, as `dump_config` writes them.
        qparams: bit widths and scheme; what is left unset takes the target's defaults.
        samples: calibration samples: an array (axis 0: samples), a dictionary of arrays, a `.npz` or `.npy` file, a
            generator, a `tf.data.Dataset` (of samples or batches, with or without labels); random ones when None.
        num_samples, batch_size, epochs: how many samples are drawn at random or taken of a stream, how many run at once, how many times all are seen.
        quantize_until: a tensor or node at which to stop.
        input_shape: shape of one sample when the model leaves it open; of several inputs by name.
        target: the hardware whose rules hold.
        seed: of the random samples.
        strict: partial quantization, or a limit of the target that stays broken, is an error.
        approximate: repairs for the target that are not exact are allowed; each is measured and reported.
        islands: go on behind operations that stay float, where a block that accumulates lies ahead (ONNX).

    Returns:
        a quantized model of the same framework.

    Raises:
        QuantizeMLError: with where, what, allowed and what to do.
    """
    from quantizeml_core import api
    result = api.quantize_model(
        model, qparams=qparams, q_config=q_config, samples=samples, num_samples=num_samples, batch_size=batch_size, epochs=epochs,
        quantize_until=quantize_until, input_shape=input_shape, target=target, seed=seed, strict=strict, approximate=approximate, islands=islands)
    for message in result.warnings:
        warnings.warn(message, stacklevel=2)
    return result.model


def load_model(path: str | PathLike[str]) -> Any:
    """The model in a file, float or quantized; ModelError when it cannot be read."""
    from quantizeml_core import api
    return api.load_model(path)


def save_model(model: Any, path: str | PathLike[str]) -> Path:
    """Writes a model, whole or not at all, and returns the final path: its suffix follows the model's kind."""
    from quantizeml_core import api
    return api.save_model(model, path)


def dump_config(model: Any) -> dict[str, Any]:
    """The configuration a quantized model was made with: what `config.json` holds, and what `q_config` takes."""
    from quantizeml_core import api
    return api.dump_config(model)


def calibrate(model: Any, qmodel: Any, samples: Any = None, num_samples: int = 1024, batch_size: int | None = None, epochs: int = 1, **settings: Any) -> Any:
    """Calibrates again: quantizes the float model by the configuration of `qmodel` but for its ranges, which come from the samples.

    Returns a new quantized model, with the weights of `model`. `settings`: further arguments of `quantize` (qparams, target).
    """
    from quantizeml_core import api
    return api.calibrate(model, qmodel, samples=samples, num_samples=num_samples, batch_size=batch_size, epochs=epochs, **settings).model


def sanitize(model: Any) -> Any:
    """The float model as `quantize` simplifies it (Keras), each change proven equal in float64."""
    from quantizeml_core import api
    return api.sanitize(model)


def insert_rescaling(model: Any, scale: float, offset: float) -> Any:
    """A Keras model that computes `input * scale + offset` before everything else."""
    from quantizeml_core import api
    return api.insert_rescaling(model, scale, offset)


def replace_conv3d(model: Any) -> Any:
    """The model that computes frame by frame what a causal one computes on whole clips: a Keras model on (frames, height, width, channels),
    an ONNX model on (channels, frames, height, width)."""
    from quantizeml_core import api
    return api.replace_conv3d(model)


def to_hardware_forms(model: Any) -> Any:
    """A Keras transformer with Mad normalizations and shiftmax attentions, which hardware computes without roots and exponentials; train it, then quantize."""
    from quantizeml_core import api
    return api.to_hardware_forms(model)


def check_model(model: Any, *, target: str | Target | None = None, samples: Any = None,
                input_shape: tuple[int, ...] | Mapping[str, tuple[int, ...]] | None = None) -> tuple[Any, ...]:
    """Findings about a model: what is inexact, saturated or not allowed. See docs/errors.md for the codes.

    Arguments:
        input_shape: shape of one sample when the model leaves it open and no samples tell it.
    """
    from quantizeml_core import api
    return api.check_model(model, target=target, samples=samples, input_shape=input_shape)


def export(model: Any, path: str | PathLike[str], format: str = "akida") -> Path:
    """Writes a quantized model as an ONNX file with the same integers.

    Arguments:
        format: `akida`, the converter's nodes (of a Keras model), or `onnxruntime`, plain operators on bytes, which run fastest on a CPU.
    """
    from quantizeml_core import api
    return api.export(model, path, format)


def learn_steps(model: Any) -> Any:
    """A copy of a quantized Keras model that computes the same and, when it is trained, learns the step of each filter's weights too."""
    from quantizeml_core import api
    return api.learn_steps(model)
