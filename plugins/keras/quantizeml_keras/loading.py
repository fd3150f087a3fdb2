"""Load and save Keras models: `.keras` and `.h5`, float or quantized, of Keras 3 or of the generation before (`configurations`).

The byte code of a Lambda layer in a file is never run (`functions`). A file is written whole or not at all.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path

import h5py
import keras

from quantizeml_core.errors import ModelError
from quantizeml_core.files import atomic_write, check_destination
from quantizeml_core.hooks import InputSpec

from . import float_layers, layers, operations, temporal  # noqa: F401  registers them with Keras
from .configurations import modernized, without_code
from .functions import FunctionLayer
from .layers.frames import buffered
from .quiet import without_absl_warnings
from .trace import refuse_without_graph

SUFFIXES = (".keras", ".h5")
CUSTOM = {"FunctionLayer": FunctionLayer}


def load(path: Path) -> keras.Model:
    """The model in a file, without its optimizer. ModelError when it cannot be read."""
    try:
        return _load(path)
    except ModelError:
        raise
    except Exception as error:  # Keras raises whatever a broken archive, an unknown class or a Lambda makes it raise
        raise ModelError(f"the model cannot be read: {_first_line(error)}", where=f"`{path}`", allowed="a whole model saved by Keras as .keras or .h5",
                         do=_advice(error)) from error


def _load(path: Path) -> keras.Model:
    with tempfile.TemporaryDirectory() as folder:
        return keras.models.load_model(_readable(path, Path(folder)), CUSTOM, compile=False)


def _readable(path: Path, folder: Path) -> Path:
    """The file, or a copy in a folder whose configuration Keras 3 reads without running code."""
    if zipfile.is_zipfile(path):
        return without_code(path, folder / "model.keras")
    if path.suffix.lower() != ".h5" or not h5py.is_hdf5(path):
        return path
    copy = folder / "model.h5"
    shutil.copyfile(path, copy)
    modernized(copy)
    return copy


def save(model: keras.Model, path: Path) -> Path:
    """Write a model, whole or not at all; a suffix that Keras does not know becomes `.keras`."""
    final = path if path.suffix.lower() in SUFFIXES else path.with_name(f"{path.name}.keras")
    check_destination(final)
    with tempfile.TemporaryDirectory(dir=final.parent) as folder, atomic_write(final) as temporary:
        written = Path(folder) / f"model{final.suffix.lower()}"
        with without_absl_warnings():
            model.save(written)
        shutil.move(written, temporary)
    return final


def inputs(model: keras.Model) -> tuple[InputSpec, ...]:
    """The inputs of a model, in order; ModelError when it has no graph."""
    refuse_without_graph(model)
    ordered = any(True for _ in buffered(model))
    return tuple(InputSpec(t.name, tuple(t.shape), str(t.dtype), ordered) for t in model.inputs)


def _first_line(error: Exception) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _advice(error: Exception) -> str:
    text = str(error)
    if "ambda" in text:
        return "Replace the Lambda layer by a standard layer, or load the model yourself with keras.models.load_model(..., safe_mode=False)"
    if "register" in text or "custom" in text:
        return "Import the module that registers the custom layer, and load the model in Python"
    return "Save the model again"
