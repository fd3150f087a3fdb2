"""Run the float network in onnxruntime and hand the tensors at block boundaries to observers, batch by batch.

Memory is that of one batch: nothing is kept between batches but what the observers keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx_ir as ir
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, NotImplemented, RuntimeException

from quantizeml_core.errors import ModelError
from quantizeml_core.hooks import Batch, Observer
from quantizeml_core.sequences import starts_sequence

from .frames import kept
from .large import Tensors, elsewhere
from .order import leading_to, reads
from .shapes import skeleton


FAILURES = (Fail, InvalidArgument, InvalidGraph, NotImplemented, RuntimeException)


def session(model: bytes | str, tensors: Tensors | None = None) -> onnxruntime.InferenceSession:
    """A CPU session that logs nothing but what ends the process: every error is raised too. ModelError when onnxruntime cannot load the model.

    Arguments:
        tensors: values of initializers that the model says are elsewhere (`large`); they are used where they are, not copied.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_mem_pattern = False  # a plan of all tensors would be made beside what the first batch took
    options.add_session_config_entry("session.force_spinning_stop", "1")  # its idle threads would take the cores from the observers between two batches
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in (tensors or {}).values()]
    options.add_external_initializers(list(tensors or {}), values)
    try:
        opened = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except FAILURES as error:
        raise ModelError(f"onnxruntime cannot load it: {_line(error)}", where="the model", do="Replace the operation, or export it again") from error
    opened.held = values
    return opened


def observe(model: ir.Model, batches: Iterable[Batch], observers: Mapping[str, Observer]) -> None:
    """Feed every observer its tensor, (N, C, ...) float32.

    Arguments:
        model: the sanitized float graph; it is only read.
        observers: by tensor name.
    """
    tensors = list(observers)
    if states := kept(model.graph):
        return _in_order(model, states, batches, observers)
    run = session(*_with_outputs(model, tensors))
    alone = False
    for batch in batches:
        try:
            several = [] if alone else [run.run(tensors, dict(batch))]
        except FAILURES:
            alone = True
        for values in _one_by_one(run, tensors, batch) if alone else several:
            for tensor, value in zip(tensors, values, strict=True):
                observers[tensor].update(np.asarray(value))
        several = values = value = None  # before the next batch is computed


def _in_order(model: ir.Model, states: Mapping[str, str], batches: Iterable[Batch], observers: Mapping[str, Observer]) -> None:
    """Frame by frame, a state handed on from each to the next; zeros where a sequence begins."""
    tensors, following = list(observers), list(states.values())
    run, before = session(*_with_outputs(model, [*tensors, *following])), {}
    shapes = {v.name: tuple(v.shape[1:]) for v in model.graph.inputs if v.name in states}
    for batch in batches:
        if starts_sequence(batch) or not before:
            before = {name: np.zeros((1, *shape), np.float32) for name, shape in shapes.items()}
        for i in range(len(next(iter(batch.values())))):
            values = run.run([*tensors, *following], {**{name: rows[i : i + 1] for name, rows in batch.items()}, **before})
            before = dict(zip(states, values[len(tensors) :], strict=True))
            for tensor, value in zip(tensors, values, strict=False):
                observers[tensor].update(np.asarray(value))


def _one_by_one(run: onnxruntime.InferenceSession, tensors: list[str], batch: Batch) -> Iterator[list[np.ndarray]]:
    """The samples of a batch, each alone: an export for one sample may hold its size in a way that nothing frees."""
    for i in range(len(next(iter(batch.values())))):
        try:
            yield run.run(tensors, {name: rows[i:i + 1] for name, rows in batch.items()})
        except FAILURES as error:
            raise ModelError(f"onnxruntime cannot run the float network on the samples: {_line(error)}", where="the model",
                             do="Check the samples' shape") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def run_float(model: ir.Model, tensors: list[str], feeds: Batch) -> dict[str, np.ndarray]:
    """Some tensors of a float graph."""
    return dict(zip(tensors, session(*_with_outputs(model, tensors)).run(tensors, dict(feeds)), strict=True))


def _with_outputs(model: ir.Model, tensors: Iterable[str]) -> tuple[bytes, Tensors]:
    """The serialized model with the given tensors as its outputs, and no node behind them: onnxruntime need not know what stays float. Its large
    initializers come apart."""
    proto, large = skeleton(model)
    nodes = leading_to(proto.graph.node, tensors)
    read = {t for node in nodes for t in reads(node)}
    weights = {value.name: value.const_value.numpy() for value in large if value.name in read}
    inputs = [value for value in proto.graph.input if value.name not in {v.name for v in large}]
    del proto.graph.input[:], proto.graph.node[:]
    proto.graph.input.extend(inputs)
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(elsewhere(weights))
    del proto.graph.output[:]
    proto.graph.output.extend(type(proto.graph.input[0])(name=t) for t in tensors)
    return proto.SerializeToString(), weights
