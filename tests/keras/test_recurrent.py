"""StatefulRecurrent: the float layer by hand, and the same integers in numpy, Keras and onnxruntime, frame by frame and at once."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from quantizeml_onnx import states
from quantizeml_onnx.testing import boundaries as in_onnxruntime

from quantizeml.layers import BufferTempConv, StatefulRecurrent, frames_in_rows, reset_buffers, reset_states
from quantizeml_core.api import Result, check_model, load_model, quantize_model
from quantizeml_core.api import export as exported
from quantizeml_core.errors import ModelError
from quantizeml_core.testing import decibels
from quantizeml_keras.testing import boundaries

RNG = np.random.default_rng(6)
FRAMES = 24


def vectors() -> keras.Model:
    x = entry = keras.Input((6,), name="x")
    x = StatefulRecurrent(4, name="turn")(layers.Dense(8, activation="relu", name="into")(x))
    x = layers.Dense(10, activation="relu", name="mix")(layers.Flatten(name="flat")(x))
    return keras.Model(entry, layers.Dense(3, name="head")(x), name="vectors")


def images() -> keras.Model:
    x = entry = keras.Input((6, 6, 2), name="x")
    x = BufferTempConv(4, 3, name="time")(layers.Conv2D(4, 3, activation="relu", name="stem")(x))
    x = layers.Reshape((4, 4, 8), name="parts")(StatefulRecurrent(name="turn")(x))
    x = layers.GlobalAveragePooling2D(name="gap")(layers.Conv2D(6, 1, activation="relu", name="mix")(x))
    return keras.Model(entry, layers.Dense(3, name="head")(x), name="images")


@pytest.fixture(scope="module", params=[vectors, images])
def case(request: pytest.FixtureRequest) -> tuple[keras.Model, np.ndarray, Result]:
    keras.utils.set_random_seed(3)
    model = request.param()
    x = RNG.normal(size=(5, FRAMES, *model.input.shape[1:])).astype(np.float32)
    return model, x, quantize_model(model, samples=x)


def stream(model: keras.Model, frames: np.ndarray) -> np.ndarray:
    """(sequences, frames, ...) through a model, frame by frame."""
    reset_buffers(model)
    return np.stack([np.asarray(model(frames[:, t])) for t in range(frames.shape[1])], axis=1)


@pytest.mark.parametrize(("arguments", "repeat"), [((), 1), ((2,), 2), ((1, 4), 4)])
def test_the_float_layer_turns_a_complex_number_for_each_channel(arguments: tuple[int, ...], repeat: int) -> None:
    model = keras.Sequential([keras.Input((4,)), StatefulRecurrent(*arguments)])
    real, imaginary = RNG.uniform(-0.6, 0.6, (2, 4 // repeat))
    model.set_weights([real, imaginary])
    x, state, by_hand = RNG.normal(size=(2, 7, 4)), np.zeros((2, 4), complex), []
    for t in range(7):
        state = (real + 1j * imaginary).repeat(repeat) * state + x[:, t]
        by_hand.append(np.stack([state.real, state.imag], axis=-1))
    # Seven steps in float32.
    assert np.abs(stream(model, x) - np.stack(by_hand, axis=1)).max() < 1e-5


def test_the_whole_network_is_integer_and_eight_bits_good(case: tuple[keras.Model, np.ndarray, Result]) -> None:
    """30 dB: 8-bit tensors of a few blocks (34 dB measured)."""
    model, x, result = case
    assert not result.blueprint.stops and "recurrent" in {b.kind for b in result.program.blocks}
    assert decibels(stream(model, x), stream(result.model, x)) > 30


def test_a_stream_has_the_integers_of_the_program_everywhere(case: tuple[keras.Model, np.ndarray, Result], tmp_path: object) -> None:
    _, x, result = case
    file, program = load_model(exported(result.model, f"{tmp_path}/net.onnx")), result.program
    state, kept = program.initial_state(2), states.initial(file, 2)
    reset_states(result.model)
    for t in range(8):
        feeds = {"x": x[:2, t]}
        expected, state = program.step(feeds, state)
        native = boundaries(result.model, feeds, keep=True)
        there = in_onnxruntime(file, {**feeds, **kept})
        kept = {states.names(block)[0]: value for block, value in state.items()}
        for tensor, integers in expected.items():
            assert np.array_equal(native[tensor], integers) and np.array_equal(there[tensor], integers), tensor


def test_a_sequence_at_once_has_the_integers_of_a_stream(case: tuple[keras.Model, np.ndarray, Result]) -> None:
    _, x, result = case
    at_once = {block.output: value for block, value in result.program.sequence({"x": x[0]})}
    state = result.program.initial_state()
    for t in range(FRAMES):
        values, state = result.program.step({"x": x[:1, t]}, state)
        assert all(np.array_equal(values[tensor][0], at_once[tensor][t]) for tensor in values)
    with frames_in_rows(result.model):
        rows = np.asarray(result.model.predict(x[0], batch_size=FRAMES, verbose=0))
    assert np.array_equal(rows, stream(result.model, x[:1])[0])


def test_what_comes_before_it_trains(case: tuple[keras.Model, np.ndarray, Result]) -> None:
    """The program read back after training is what the model computes; A stays."""
    _, x, result = case
    copy = keras.models.clone_model(result.model)
    copy.set_weights(result.model.get_weights())
    before = [np.asarray(w) for w in copy.trainable_weights]
    copy.compile("adam", "mse")
    with frames_in_rows(copy):
        copy.fit(x[0], np.zeros((FRAMES, 3)), batch_size=FRAMES, shuffle=False, verbose=0)
    assert all(np.any(w != np.asarray(v)) for w, v in zip(before, copy.trainable_weights, strict=True))


def test_a_sequence_in_one_call_and_an_unstable_one_are_told() -> None:
    with pytest.raises(ValueError, match="a frame has the shape"):
        StatefulRecurrent()(keras.Input((5, 4)))
    with pytest.raises(ValueError, match="num_coeffs"):
        StatefulRecurrent(3)(keras.Input((4,)))
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), StatefulRecurrent(), layers.Flatten(), layers.Dense(2)])
    model.set_weights([*model.get_weights()[:2], np.full(4, 1.5), np.zeros(4), *model.get_weights()[4:]])
    stop, *_ = quantize_model(model, samples=RNG.normal(size=(1, 4, 4)).astype(np.float32)).blueprint.stops
    assert "grows without end" in stop.reason
    with pytest.raises(ModelError, match="called twice"):
        twice(StatefulRecurrent())


def twice(layer: StatefulRecurrent) -> Result:
    x = entry = keras.Input((4,))
    x = layers.Dense(4)(x)
    y = layers.Add()([layer(x), layer(x)])
    return quantize_model(keras.Model(entry, layers.Dense(2)(layers.Flatten()(y))), samples=RNG.normal(size=(1, 4, 4)).astype(np.float32))


def test_akida_says_which_document_does_not_list_it() -> None:
    assert any("lacks `recurrent`" in f.message and "not listed by https://doc.brainchipinc.com" in f.message for f in check_model(vectors(), target="akida2"))
