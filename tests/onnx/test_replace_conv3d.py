"""Causal ONNX networks over clips become networks that stream: the same outputs, frame by frame, in float and in integers; what looks ahead is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from quantizeml.models import replace_conv3d
from quantizeml_core.api import Result, check_model, load_model, quantize_model
from quantizeml_core.errors import ModelError
from quantizeml_core.testing import decibels
from quantizeml_onnx import states
from quantizeml_onnx.loading import save
from quantizeml_onnx.observe import session
from quantizeml_onnx.testing import boundaries
from tests.support.onnx_transformers import Writer

FRAMES = 9
X = np.random.default_rng(0).normal(size=(6, 2, FRAMES, 12, 10)).astype(np.float32)


def conv(w: Writer, x: str, filters: int, channels: int, kernel: tuple[int, int, int], pads: tuple[int, ...], **settings: object) -> str:
    weight = w.weight(filters, channels, *kernel, scale=(channels * np.prod(kernel)) ** -0.5)
    return w.op("Conv", x, weight, w.weight(filters, scale=0.1), kernel_shape=kernel, pads=pads, **settings)


def network() -> onnx.ModelProto:
    """Time in the pads of a convolution and in a Pad before one, whole and depthwise, with space and without; skipped over, normalized, pooled, a dense head."""
    w = Writer(4)
    x = w.op("Relu", conv(w, "x", 4, 2, (3, 3, 3), (2, 1, 1, 0, 1, 1), strides=[1, 2, 2]))
    y = w.op("Pad", x, w.constant([0, 0, 4, 0, 0, 0, 0, 0, 0, 0]))
    y = conv(w, y, 4, 1, (5, 1, 1), (0,) * 6, group=4)
    y = w.op("BatchNormalization", y, *(w.constant(w.rng.uniform(0.5, 1.5, 4), np.float32) for _ in range(4)))
    x = w.op("Relu", w.op("Add", y, x))
    x = w.op("MaxPool", x, kernel_shape=[1, 2, 1], strides=[1, 2, 1])
    padded = w.op("Pad", x, w.constant([0, 0, 1, 1, 0, 0, 0, 0, 0, 1]), w.constant(0, np.float32))
    x = w.op("Relu", w.op("Mul", conv(w, padded, 6, 4, (2, 2, 2), (0,) * 6), w.constant(np.full((1, 6, 1, 1, 1), 0.5), np.float32)))
    x = w.op("Transpose", w.op("ReduceMean", x, axes=[3, 4], keepdims=0), perm=[0, 2, 1])
    w.op("Identity", w.dense(x, 6, 3))
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(w.nodes, "clips", [info("x", 1, ["N", 2, FRAMES, 12, 10])], [info(w.nodes[-1].output[0], 1, ["N", FRAMES, 3])], w.initializers)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def stream(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """(N, frames, ...) of (N, C, frames, H, W), frame by frame in plain onnxruntime."""
    run, state, found = session(model.SerializeToString()), states.initial(model, len(x)), []
    names = [o.name for o in run.get_outputs()]
    for t in range(x.shape[2]):
        values = dict(zip(names, run.run(None, {"x": x[:, :, t], **state}), strict=True))
        state = states.following(model, values)
        found.append(values[names[0]])
    return np.stack(found, axis=1)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[onnx.ModelProto, Result]:
    """The streaming float network from its file, quantized with clips as sequences of frames."""
    streaming = load_model(save(replace_conv3d(network()), tmp_path_factory.mktemp("clips") / "streaming.onnx"))
    return streaming, quantize_model(streaming, samples=X.swapaxes(1, 2))


def test_streaming_frames_gives_the_clip_at_once(case: tuple[onnx.ModelProto, Result]) -> None:
    """1e-5: float32 sums of at most 54 products in another order, through four layers."""
    clips = session(network().SerializeToString()).run(None, {"x": X})[0]
    assert np.abs(stream(case[0], X) - clips).max() < 1e-5


def test_the_whole_network_is_integer_and_eight_bits_good(case: tuple[onnx.ModelProto, Result]) -> None:
    """30 dB: 8-bit tensors of a few layers."""
    streaming, result = case
    assert not result.blueprint.stops and [b.kind for b in result.blueprint.blocks].count("buffer") == 3
    assert decibels(stream(streaming, X), stream(result.model, X)) > 30


def test_plain_onnxruntime_streams_the_integers_of_the_program(case: tuple[onnx.ModelProto, Result]) -> None:
    _, result = case
    state, kept = result.program.initial_state(2), states.initial(result.model, 2)
    for t in range(FRAMES):
        expected, state = result.program.step({"x": X[:2, :, t]}, state)
        there = boundaries(result.model, {"x": X[:2, :, t], **kept})
        kept = {states.names(block)[0]: value for block, value in state.items()}
        assert all(np.array_equal(there[tensor], integers) for tensor, integers in expected.items())


def test_calibration_forgets_between_sequences_whatever_the_batch(case: tuple[onnx.ModelProto, Result]) -> None:
    streaming, result = case
    other = quantize_model(streaming, samples=X.swapaxes(1, 2), batch_size=4)
    assert result.plan.to_json() == other.plan.to_json()


def test_akida_keeps_it_float_with_its_states(case: tuple[onnx.ModelProto, Result]) -> None:
    assert any("lacks `buffer`" in f.message for f in check_model(case[0], target="akida2"))


Change = Callable[[Writer], str]
REFUSED: dict[str, tuple[Change, str]] = {
    "looks ahead": (lambda w: conv(w, "x", 3, 2, (3, 1, 1), (1, 0, 0, 1, 0, 0)), "a kernel over 3 frames with 1 of zeros in front and 1 behind"),
    "a stride in time": (lambda w: conv(w, "x", 3, 2, (1, 3, 3), (0,) * 6, strides=[2, 1, 1]), "a stride or a dilation in time"),
    "a mean over frames": (lambda w: w.op("ReduceMean", "x", axes=[2, 3, 4]), "a mean over frames"),
    "zeros that nothing takes": (lambda w: w.op("Relu", w.op("Pad", "x", w.constant([0, 0, 2, 0, 0, 0, 0, 0, 0, 0]))), "frames of zeros"),
    "pooling over time": (lambda w: w.op("MaxPool", "x", kernel_shape=[2, 1, 1]), "pooling over time"),
    "an unknown operation": (lambda w: w.op("Sin", "x"), "Sin cannot be computed frame by frame here"),
    "a table of frames": (lambda w: w.op("Add", "x", w.weight(1, 1, FRAMES, 1, 1)), "a constant that varies along time"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_causal_is_refused_by_name(name: str) -> None:
    w = Writer(0)
    change, reason = REFUSED[name]
    output = change(w)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(w.nodes, "clips", [info("x", 1, ["N", 2, FRAMES, 12, 10])], [info(output, 1, None)], w.initializers)
    with pytest.raises(ModelError, match=reason):
        replace_conv3d(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8))
