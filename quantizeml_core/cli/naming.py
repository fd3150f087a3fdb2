"""Where a quantized model goes when the user does not say: `net.onnx` becomes `net_i8_w8_a8.onnx` beside it."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import UsageError
from ..files import check_destination
from ..params import QuantizationParams

_SCHEME = re.compile(r"_i\d+_w\d+_a\d+.*$")
_MODEL_SUFFIXES = (".onnx", ".h5", ".keras")


def default_name(model: Path, params: QuantizationParams, config: Path | None = None) -> Path:
    """The model's path with its old scheme cut off and the new one, or the configuration's name, in its place."""
    stem = _SCHEME.sub("", model.stem)
    scheme = config.stem if config else f"i{params.input_weight_bits}_w{params.weight_bits}_a{params.activation_bits}"
    return model.with_name(f"{stem}_{scheme}{model.suffix.lower()}")


def destination(model: Path, params: QuantizationParams, config: Path | None, save_name: Path | None) -> Path:
    """Where to save, proven writable and not the model itself."""
    path = _with_suffix(save_name, model.suffix.lower()) if save_name else default_name(model, params, config)
    return _elsewhere(model, path, "-s/--save_name")


def export_destination(model: Path, output: Path | None, form: str = "akida") -> Path:
    """Where an ONNX export goes, proven writable: unless it is told beside the model, the form for onnxruntime with that in its name."""
    default = model if form == "akida" else model.with_name(f"{model.stem}_{form}.onnx")
    return _elsewhere(model, _with_suffix(output or default, ".onnx"), "-o/--output")


def rescaled_destination(model: Path, dest: Path) -> Path:
    """Where a rescaled model goes, in the model's own format unless another is named."""
    return _elsewhere(model, dest if dest.suffix.lower() in _MODEL_SUFFIXES else _with_suffix(dest, model.suffix.lower()), "-d/--dest_model")


def _elsewhere(model: Path, path: Path, flag: str) -> Path:
    if path.resolve() == model.resolve():
        raise UsageError("the result would overwrite the model itself", where=f"`{path}`", do=f"Choose another name with {flag}")
    return check_destination(path)


def _with_suffix(path: Path, suffix: str) -> Path:
    stem = path.with_suffix("") if path.suffix.lower() in _MODEL_SUFFIXES else path
    return stem.with_name(stem.name + suffix)
