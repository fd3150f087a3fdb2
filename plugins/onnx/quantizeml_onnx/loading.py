"""Reading and writing ONNX files, and what their inputs are.

load: the file or one clear ModelError. External data is read into the model. save: the whole file or nothing, named `.onnx`.
"""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from quantizeml_core.errors import ModelError
from quantizeml_core.files import atomic_write
from quantizeml_core.hooks import InputSpec

from . import large, states
from .order import order

SUFFIX = ".onnx"
NEXT = "Export the model again, or copy the file again"


def load(path: str | PathLike[str]) -> onnx.ModelProto:
    """A checked model, its external data included. Errors: ModelError for what is no readable, complete, valid ONNX model."""
    file = Path(path)
    model = _parse(file)
    _external(model, file)
    _repair(model)
    _check(model, file)
    return model


def _repair(model: onnx.ModelProto) -> None:
    """What the checker refuses and nobody needs: a graph without a name, nodes that stand before what they read."""
    model.graph.name = model.graph.name or "graph"
    nodes = list(model.graph.node)
    positions = order(nodes)
    if positions != sorted(positions):
        del model.graph.node[:]
        model.graph.node.extend(nodes[i] for i in positions)


def save(model: onnx.ModelProto, path: str | PathLike[str]) -> Path:
    """Writes a model atomically, above 2 GiB with a data file beside it; returns the final path (`.onnx`). QuantizeMLError of the file system."""
    final = Path(path)
    final = final if final.suffix.lower() == SUFFIX else final.with_name(final.name + SUFFIX)
    if large.is_large(model):
        large.write(model, final)
        return final
    with atomic_write(final) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return final


def inputs(model: onnx.ModelProto) -> tuple[InputSpec, ...]:
    """Name, native shape (the batch, axis 0, None) and numpy dtype of each input; initializers that old files list as inputs are none,
    nor is what a streaming network remembers."""
    memory = states.inputs(model)
    constants = {t.name for t in model.graph.initializer} | memory
    return tuple(replace(_spec(i), ordered=bool(memory)) for i in model.graph.input if i.name not in constants)


def _spec(value: onnx.ValueInfoProto) -> InputSpec:
    tensor = value.type.tensor_type
    sizes = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    shape = (None, *sizes[1:]) if len(sizes) > 1 else sizes
    return InputSpec(value.name, shape, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)))


def _parse(file: Path) -> onnx.ModelProto:
    try:
        model = onnx.ModelProto.FromString(file.read_bytes())
    except FileNotFoundError as error:
        raise ModelError("there is no such file", where=str(file), do="Check the path") from error
    except OSError as error:
        raise ModelError(f"it cannot be read: {error.strerror}", where=str(file), allowed="a readable ONNX file") from error
    except DecodeError as error:
        raise ModelError("it is not an ONNX file, or it is truncated", where=str(file), do=NEXT) from error
    if not model.ir_version or not model.HasField("graph"):
        raise ModelError("it holds no ONNX model: it is empty or another kind of file", where=str(file), do=NEXT)
    return model


def _external(model: onnx.ModelProto, file: Path) -> None:
    """Reads the tensors stored in other files beside the model."""
    try:
        onnx.load_external_data_for_model(model, str(file.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"its external data cannot be read: {_line(error)}", where=str(file),
                         do="Put the data file beside the model, under the name the model gives it") from error


def _check(model: onnx.ModelProto, file: Path) -> None:
    """The ONNX checker, on everything but the values of large weights: those are counted."""
    try:
        onnx.checker.check_model(large.outline(model))
    except (onnx.checker.ValidationError, ValueError, DecodeError) as error:
        raise ModelError(f"it is not a valid ONNX model: {_line(error)}", where=str(file), do=NEXT) from error
    if incomplete := large.incomplete(model):
        raise ModelError(f"it is not a valid ONNX model: initializer `{incomplete}` holds another number of bytes than its shape needs", where=str(file), do=NEXT)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
