"""Models of any size: one protobuf message ends at 2 GiB, so large tensors may travel beside their graph.

    graph, tensors = apart(model)          the model, its large initializers marked as stored elsewhere, and their values
    write(model, path)                     two files: `net.onnx`, and `net.<digest>.data`, named by what it holds

The data file is written first and never over another one: whatever happens, a model that stands there has its data.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantizeml_core.files import atomic_write

LIMIT = 2**31 - 2**24
"""Bytes of initializers above which a model is no longer one message; the rest is for the graph."""
LARGE = 1024
"""Bytes of the smallest tensor that is taken out. Smaller ones may be shapes, which are needed to understand the graph."""
ALIGNMENT = 4096

Tensors = Mapping[str, np.ndarray]


def is_large(model: onnx.ModelProto) -> bool:
    return sum(map(_bytes, model.graph.initializer)) > LIMIT


def apart(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A copy of the model without the values of its large initializers, and those values."""
    graph, large = _split(model)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in large}
    graph.graph.initializer.extend(elsewhere(tensors))
    return graph, tensors


def outline(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large initializers are inputs: what a checker of graphs needs to see."""
    graph, large = _split(model)
    known = {value.name for value in graph.graph.input}
    graph.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in large if t.name not in known)
    return graph


def incomplete(model: onnx.ModelProto) -> str:
    """The name of a large initializer that does not hold as many bytes as its shape needs, empty when there is none."""
    return next((t.name for t in _split(model)[1] if t.HasField("raw_data") and len(t.raw_data) != _bytes(t)), "")


def elsewhere(tensors: Tensors, places: Mapping[str, Mapping[str, str]] | None = None) -> Iterator[onnx.TensorProto]:
    """Initializers without values. `places`: where in a file they are; in memory when None."""
    for name, array in tensors.items():
        tensor = onnx.TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape,
                                  data_location=onnx.TensorProto.EXTERNAL)
        for key, value in (places[name] if places else {"location": "memory"}).items():
            tensor.external_data.add(key=key, value=value)
        yield tensor


def write(model: onnx.ModelProto, path: Path) -> None:
    """Both files, or none. Errors: QuantizeMLError of the file system."""
    graph, tensors = apart(model)
    data = path.with_name(f"{path.stem}.{_digest(tensors)}.data")
    existed = data.exists()
    with atomic_write(data) as temporary, temporary.open("wb") as stream:
        places = {name: _append(stream, array, data.name) for name, array in tensors.items()}
    kept = [t for t in graph.graph.initializer if t.name not in tensors]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend([*kept, *elsewhere(tensors, places)])
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(graph.SerializeToString())
    except BaseException:
        if not existed:
            data.unlink(missing_ok=True)
        raise


def data_of(path: Path) -> tuple[Path, ...]:
    """The data file of a model that `write` wrote, none for a model in one file."""
    candidates = [p for p in path.parent.iterdir() if p.suffix == ".data" and p.name.startswith(f"{path.stem}.")]
    graph = path.read_bytes() if candidates else b""
    return tuple(p for p in candidates if p.name.encode() in graph)


def _split(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[onnx.TensorProto]]:
    """A copy without large initializers, and those."""
    copy = onnx.ModelProto()
    _copy_fields(model, copy, "graph")
    _copy_fields(model.graph, copy.graph, "initializer")
    large = [t for t in model.graph.initializer if _bytes(t) > LARGE]
    copy.graph.initializer.extend(t for t in model.graph.initializer if _bytes(t) <= LARGE)
    return copy, large


def _copy_fields(source: onnx.ModelProto | onnx.GraphProto, target: onnx.ModelProto | onnx.GraphProto, left: str) -> None:
    for field, value in source.ListFields():
        if field.name == left:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif field.message_type:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def _bytes(tensor: onnx.TensorProto) -> int:
    """Size of the values; 0 for strings, and for types that numpy does not store as the file does."""
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return math.prod(tensor.dims) * dtype.itemsize if dtype.kind in "fiub" and dtype.isbuiltin == 1 else 0


def _digest(tensors: Tensors) -> str:
    digest = hashlib.blake2b(digest_size=4)
    for array in tensors.values():
        digest.update(_raw(array))
    return digest.hexdigest()


def _raw(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _append(stream: IO[bytes], array: np.ndarray, location: str) -> dict[str, str]:
    stream.write(b"\0" * (-stream.tell() % ALIGNMENT))
    offset = stream.tell()
    stream.write(_raw(array))
    return {"location": location, "offset": str(offset), "length": str(array.nbytes)}
