"""Networks that convolve over time: float layers by hand, calibration in order, the same integers everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import pytest
from keras import layers
from quantizeml_onnx import states
from quantizeml_onnx.testing import boundaries as in_onnxruntime

from quantizeml.layers import BufferTempConv, DepthwiseBufferTempConv, FrameBuffer, frames_in_rows, reset_buffers
from quantizeml_core.api import Result, check_model, load_model, prove, quantize_model
from quantizeml_core.api import export as exported
from quantizeml_core.errors import ModelError
from quantizeml_core.params import QuantizationParams
from quantizeml_core.testing import decibels, differences
from quantizeml_keras.testing import boundaries

RNG = np.random.default_rng(4)
SEQUENCES, FRAMES = 6, 12


def gestures() -> keras.Model:
    """What a network for event cameras is made of: convolutions in space and over time, depthwise, skipped over, normalized."""
    x = entry = keras.Input((12, 12, 3), name="pixels")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(x)
    x = BufferTempConv(8, 5, name="time")(x)
    x = layers.ReLU(name="time_relu")(layers.BatchNormalization(name="time_norm")(x))
    y = DepthwiseBufferTempConv(3, use_bias=True, name="time_each")(x)
    y = layers.BatchNormalization(name="each_norm")(y)
    x = layers.ReLU(name="sum_relu")(layers.Add(name="sum")([layers.Conv2D(8, 1, name="mix")(y), x]))
    x = BufferTempConv(6, 2, use_bias=True, name="late")(x)
    x = layers.GlobalAveragePooling2D(name="gap")(layers.ReLU(name="late_relu")(x))
    return keras.Model(entry, layers.Dense(4, name="head")(x), name="gestures")


def moving() -> np.ndarray:
    """Sequences of a picture that shifts and is seen through noise: frames that belong together."""
    pictures = RNG.normal(size=(SEQUENCES, 1, 12, 12, 3))
    shifted = np.concatenate([np.roll(pictures, (i, i), (2, 3)) for i in range(FRAMES)], axis=1)
    return (shifted + RNG.normal(size=shifted.shape) * 0.2).astype(np.float32)


@pytest.fixture(scope="module")
def case() -> tuple[keras.Model, np.ndarray, Result]:
    keras.utils.set_random_seed(3)
    model = gestures()
    weights = [w + RNG.normal(size=w.shape) * 0.1 for w in model.get_weights()]
    model.set_weights([np.abs(w) + 0.2 if v.path.endswith("variance") else w for w, v in zip(weights, model.weights, strict=True)])
    x = moving()
    return model, x, quantize_model(model, samples=x)


def stream(model: keras.Model, frames: np.ndarray) -> np.ndarray:
    """(sequences, frames, ...) through a model, frame by frame."""
    reset_buffers(model)
    return np.stack([np.asarray(model(frames[:, t])) for t in range(frames.shape[1])], axis=1)


def test_the_full_layer_is_a_convolution_over_the_frames_time_major() -> None:
    model = keras.Sequential([keras.Input((2, 3, 2)), BufferTempConv(4, 3, use_bias=True)])
    kernel, bias, x = RNG.normal(size=(3, 2, 4)), RNG.normal(size=4), RNG.normal(size=(2, 5, 2, 3, 2))
    model.set_weights([kernel.reshape(1, 1, 6, 4), bias])
    padded = np.concatenate([np.zeros((2, 2, 2, 3, 2)), x], axis=1)
    by_hand = sum(padded[:, t : t + 5] @ kernel[t] for t in range(3)) + bias
    # Six products in float32.
    assert np.abs(stream(model, x) - by_hand).max() < 1e-5


def test_the_depthwise_layer_weighs_the_frames_of_each_channel() -> None:
    model = keras.Sequential([keras.Input((2, 3, 2)), DepthwiseBufferTempConv(3)])
    kernel, x = RNG.normal(size=(3, 2)), RNG.normal(size=(2, 5, 2, 3, 2))
    model.set_weights([kernel])
    padded = np.concatenate([np.zeros((2, 2, 2, 3, 2)), x], axis=1)
    assert np.abs(stream(model, x) - sum(padded[:, t : t + 5] * kernel[t] for t in range(3))).max() < 1e-5


def test_the_whole_network_is_integer(case: tuple[keras.Model, np.ndarray, Result]) -> None:
    _, _, result = case
    assert not result.blueprint.stops
    kinds = {b.name: (b.kind, b.groups) for b in result.program.blocks}
    assert kinds["time/buffer"] == ("buffer", 1) and kinds["time_each"] == ("conv2d", 8)
    assert [k for k, _ in kinds.values()].count("buffer") == 3


def test_a_stream_has_the_integers_of_the_program_everywhere(case: tuple[keras.Model, np.ndarray, Result], tmp_path: object) -> None:
    model, x, result = case
    file = load_model(exported(result.model, f"{tmp_path}/net.onnx"))
    program = result.program
    state, kept = program.initial_state(2), states.initial(file, 2)
    reset_buffers(result.model)
    for t in range(8):
        feeds = {"pixels": x[:2, t]}
        expected, state = program.step(feeds, state)
        native = boundaries(result.model, feeds, keep=True)
        there = in_onnxruntime(file, {**feeds, **kept})
        kept = {states.names(block)[0]: older for block, older in state.items()}
        for tensor, integers in expected.items():
            assert np.array_equal(native[tensor], integers) and np.array_equal(there[tensor], integers), tensor


def test_a_first_frame_is_what_run_computes(case: tuple[keras.Model, np.ndarray, Result]) -> None:
    _, x, result = case
    assert differences(result.program, {"pixels": x[:, 0]}, lambda feeds: boundaries(result.model, feeds)) == ()


def test_the_error_is_that_of_eight_bits(case: tuple[keras.Model, np.ndarray, Result]) -> None:
    """30 dB, as for networks of this depth without a memory."""
    model, x, result = case
    assert decibels(stream(model, x), stream(result.model, x)) > 30


def test_calibration_sees_the_frames_in_order_and_forgets_between_sequences(case: tuple[keras.Model, np.ndarray, Result]) -> None:
    """Ranges by streaming the float network; float32 sums of a few hundred products in another order."""
    model, x, result = case
    inner = keras.Model(model.input, model.get_layer("sum_relu").output)
    largest = stream(inner, x).max(axis=(0, 1, 2, 3))
    assert np.allclose(result.plan.layers["sum"].high, largest, rtol=1e-5)


def test_one_stream_and_cut_batches_calibrate_alike(case: tuple[keras.Model, np.ndarray, Result]) -> None:
    model, x, _ = case
    one, other = (quantize_model(model, samples=s, batch_size=b).plan.to_json() for s, b in ((x[0], 5), (x[:1], 64)))
    near(one, other)


def near(one: object, other: object) -> None:
    """Equal configurations, numbers to the rounding of float32 sums."""
    if isinstance(one, dict) and isinstance(other, dict):
        assert one.keys() == other.keys()
        for key in one:
            near(one[key], other[key])
    elif isinstance(one, list) and one and isinstance(one[0], (float, list)):
        assert np.allclose(one, other, rtol=1e-5, atol=1e-6)
    else:
        assert one == other


def test_generators_give_frames_in_order(case: tuple[keras.Model, np.ndarray, Result]) -> None:
    model, x, _ = case

    def frames() -> Iterator[np.ndarray]:
        yield from x[0]

    near(quantize_model(model, samples=frames()).plan.to_json(), quantize_model(model, samples=x[0]).plan.to_json())


def test_a_saved_model_starts_without_memory_and_computes_the_same(case: tuple[keras.Model, np.ndarray, Result], tmp_path: object) -> None:
    model, x, result = case
    for made, name in ((model, "float.keras"), (result.model, "net.keras"), (result.model, "net.h5")):
        before = stream(made, x[:2])
        if made is result.model:
            again = load_model(result.save(f"{tmp_path}/{name}"))
        else:
            made.save(f"{tmp_path}/{name}")
            again = load_model(f"{tmp_path}/{name}")
        assert np.array_equal(np.stack([np.asarray(again(x[:2, t])) for t in range(FRAMES)], axis=1), before)


def test_check_and_the_proof_run_sequences(case: tuple[keras.Model, np.ndarray, Result], tmp_path: object) -> None:
    _, x, result = case
    file = load_model(exported(result.model, f"{tmp_path}/net.onnx"))
    bits = {proof.block: proof.observed for proof in prove(result.model, samples=x[:1, :8])}
    assert bits == {proof.block: proof.observed for proof in prove(file, samples=x[:1, :8])}
    assert all(0 < observed <= 32 for observed in bits.values())
    assert not [f for f in check_model(file, samples=x) if f.severity == "error"]


def test_models_do_not_share_their_memory() -> None:
    one, other = (keras.Sequential([keras.Input((1, 1, 1)), FrameBuffer(2)]) for _ in range(2))
    one(np.ones((1, 1, 1, 1)))
    assert np.asarray(other(np.zeros((1, 1, 1, 1)))).ravel().tolist() == [0, 0]
    assert np.asarray(one(np.zeros((1, 1, 1, 1)))).ravel().tolist() == [1, 0]


def small() -> keras.Model:
    return keras.Sequential([keras.Input((1, 1, 1)), FrameBuffer(2)])


def test_other_batches_are_refused() -> None:
    model = small()
    model(np.ones((2, 1, 1, 1)))
    with pytest.raises(Exception, match=r"reset_buffers\(model\)"):
        model(np.ones((3, 1, 1, 1)))


def test_compiled_graphs_are_refused_before_and_after_rows_as_frames() -> None:
    """On a model of its own: on JAX, Keras drops the weights of a model whose `predict` fails."""
    with pytest.raises(Exception, match="a compiled graph keeps no frames"):
        small().predict(np.ones((2, 1, 1, 1)), verbose=0)
    model = small()
    with frames_in_rows(model):
        assert model.predict(np.array([3.0, 5.0]).reshape(2, 1, 1, 1), verbose=0).reshape(2, 2).tolist() == [[0, 3], [3, 5]]
    with pytest.raises(Exception, match="a compiled graph keeps no frames"):
        model.predict(np.ones((2, 1, 1, 1)), verbose=0)


def test_rows_as_frames_are_the_streamed_sequence_at_once(case: tuple[keras.Model, np.ndarray, Result]) -> None:
    """The same integers; the float model to the rounding of float32 sums in another order."""
    model, x, result = case
    for made, tolerance in ((model, 1e-5), (result.model, 0)):
        streamed = stream(made, x[:1])[0]
        with frames_in_rows(made):
            called, predicted = np.asarray(made(x[0])), made.predict(x[0], batch_size=FRAMES, verbose=0)
        assert np.abs(called - streamed).max() <= tolerance * np.abs(streamed).max()
        assert np.abs(predicted - streamed).max() <= tolerance * np.abs(streamed).max()


def test_training_reaches_earlier_frames() -> None:
    """Only the first frame is not zero and only the last output counts, so what changes the first layer has come through the buffers."""
    keras.utils.set_random_seed(2)
    entry = keras.Input((6, 6, 2), name="pixels")
    x = BufferTempConv(4, 3, name="time")(layers.Conv2D(4, 3, padding="same", use_bias=False, name="stem")(entry))
    clips = RNG.normal(size=(4, 3, 6, 6, 2)).astype(np.float32)
    model = quantize_model(keras.Model(entry, layers.Dense(1, name="head")(layers.Flatten()(x))), samples=clips).model
    before = [w.copy() for w in model.get_layer("stem").get_weights()]
    frames = np.zeros((3, 6, 6, 2), np.float32)
    frames[0] = RNG.normal(size=(6, 6, 2))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    with frames_in_rows(model):
        model.fit(frames, np.ones((3, 1)), sample_weight=np.array([0.0, 0.0, 1.0]), batch_size=3, shuffle=False, verbose=0)
    assert np.abs(before[0] - model.get_layer("stem").get_weights()[0]).max() > 0


def test_a_target_without_memory_keeps_the_layers_in_float() -> None:
    x = entry = keras.Input((6, 6, 2), name="pixels")
    x = BufferTempConv(3, 2, name="time")(layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(x))
    model, frames = keras.Model(entry, x), RNG.normal(size=(2, 6, 6, 6, 2)).astype(np.float32)
    result = quantize_model(model, samples=frames, target="akida2")
    assert "lacks `buffer` (keeps the last frames of a sequence (BufferTempConv))" in result.blueprint.stops[0].nearest
    assert decibels(stream(model, frames), stream(result.model, frames)) > 30


def test_a_layer_that_is_called_twice_is_refused() -> None:
    entry, time = keras.Input((4, 4, 2)), BufferTempConv(2, 3, name="time")
    with pytest.raises(ModelError, match="a layer that remembers frames is called twice"):
        quantize_model(keras.Model(entry, time(time(entry))), samples=RNG.normal(size=(8, 4, 4, 2)).astype(np.float32))


@pytest.mark.parametrize(("bits", "settings"), [(4, {}), (8, {"per_tensor_activations": True}), (8, {"last_output_bits": 8})])
def test_other_bits_and_axes_stream_the_same_integers(
        case: tuple[keras.Model, np.ndarray, Result], bits: int, settings: dict[str, object]) -> None:
    model, x, _ = case
    params = QuantizationParams(weight_bits=bits, activation_bits=bits, **settings)
    result = quantize_model(model, samples=x, qparams=params, strict=True)
    state = result.program.initial_state(1)
    reset_buffers(result.model)
    for t in range(6):
        expected, state = result.program.step({"pixels": x[:1, t]}, state)
        native = boundaries(result.model, {"pixels": x[:1, t]}, keep=True)
        assert all(np.array_equal(native[tensor], integers) for tensor, integers in expected.items())


def test_nested_models_and_buffers_of_the_raw_input() -> None:
    inside = [keras.Input((5, 5, 2)), DepthwiseBufferTempConv(3, name="each"), layers.ReLU(), BufferTempConv(4, 1, name="now")]
    inner = keras.Sequential(inside, name="inner")
    entry = keras.Input((5, 5, 2), name="pixels")
    model, x = keras.Model(entry, layers.Conv2D(3, 1)(inner(entry))), RNG.normal(size=(2, 8, 5, 5, 2)).astype(np.float32)
    result = quantize_model(model, samples=x, strict=True)
    assert [b.name for b in result.program.blocks if b.kind == "buffer"] == ["inner/each/buffer"]
    assert result.program.formats["quantize"].signed
    assert decibels(stream(model, x), stream(result.model, x)) > 30
