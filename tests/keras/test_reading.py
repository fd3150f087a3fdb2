"""A Keras network means the same after it was read: the blueprint, run in float64, gives the model's own outputs, and its integers are the layers'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import float_blueprint
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from quantizeml_core import api
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.builtin import GENERIC
from quantizeml_core.testing import differences
from quantizeml_keras.float_layers import DepthwiseConv2DTranspose, PaddedConv2D
from quantizeml_keras.frontend import KerasFrontend
from quantizeml_keras.readers.steps import dilated
from quantizeml_keras.rewrites import BUILTIN
from quantizeml_keras.rules import builtin_rules
from quantizeml_keras.testing import boundaries
from quantizeml_onnx import testing as in_onnx
from quantizeml_onnx.realize import from_program

RNG = np.random.default_rng(3)
IMAGE = (9, 10, 3)

#: float32 convolutions of a few hundred products against float64 ones: relative to the largest output.
FLOAT32 = 2e-5


def net(*stack: Any, shape: tuple[int, ...] = IMAGE) -> keras.Model:
    return randomized(keras.Sequential([keras.Input(shape, name="x"), *stack]))


def graph(build: Callable[[Any], Any], shape: tuple[int, ...] = IMAGE) -> keras.Model:
    x = keras.Input(shape, name="x")
    return randomized(keras.Model(x, build(x)))


def randomized(model: keras.Model) -> keras.Model:
    """Weights of every sign, zero and negative gammas among them; variances stay positive."""
    for variable in model.weights:
        value = RNG.normal(0, 0.5, variable.shape)
        if variable.name == "moving_variance":
            value = np.abs(value) + 0.3
        if variable.name == "gamma":
            value = np.where(np.arange(len(value)) % 3 == 1, 0, value)
        variable.assign(value.astype("float32"))
    return model


def shared_normalization(x: Any) -> Any:
    y = layers.Conv2D(4, 3, name="conv")(x)
    return layers.Add()([layers.BatchNormalization()(y), y])


def two_calls(x: Any) -> Any:
    conv = layers.Conv2D(3, 3, padding="same", name="twice")
    return conv(layers.ReLU()(conv(x)))


def nested(x: Any) -> Any:
    inner = keras.Sequential([keras.Input((9, 10, 4)), layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(2, 3)], name="inner")
    return inner(layers.Conv2D(4, 3, padding="same")(x))


def branches(x: Any) -> Any:
    a, b, c = (layers.Conv2D(n, 1)(x) for n in (4, 4, 4))
    return layers.Concatenate()([layers.Add()([a, b, c]), layers.ReLU()(a), b])


def two_readers_of_a_relu(x: Any) -> Any:
    y = layers.ReLU()(layers.Conv2D(4, 3, padding="same")(x))
    return layers.Concatenate()([layers.MaxPooling2D(3, 1, padding="same")(y), y])


def squeeze_excite(x: Any) -> Any:
    y = layers.Conv2D(4, 3, activation="silu")(x)
    gate = layers.Reshape((1, 1, 4))(layers.GlobalAveragePooling2D()(y))
    gate = layers.Conv2D(4, 1, activation="sigmoid")(layers.Conv2D(2, 1, activation="relu")(gate))
    return layers.Conv2D(3, 1)(layers.Multiply()([y, gate]))


def spelled_hard_swish(x: Any) -> Any:
    y = layers.Conv2D(4, 3)(x)
    z = layers.Conv2D(4, 3)(layers.Multiply()([y, layers.ReLU(6.0)(y + 3.0) * (1.0 / 6.0)]))
    return layers.Multiply()([layers.Activation("sigmoid")(z), z])


def normalization() -> Any:
    return layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 0.5])


def residual_sequence(x: Any) -> Any:
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(4, 3, padding="same", name="front")(layers.Rescaling(0.5, 1.0)(x))))
    z = layers.SeparableConv1D(4, 5, padding="same", activation="relu")(y)
    y = layers.Concatenate()([layers.Add()([y, z]), y])
    return layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.MaxPooling1D(2)(layers.Activation("silu")(layers.Dense(6)(y)))))


COVERED: dict[str, Callable[[], keras.Model]] = {
    "conv, bn, relu": lambda: net(layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()),
    "conv without bias, relu6": lambda: net(layers.Conv2D(4, 3, use_bias=False), layers.ReLU(6.0)),
    "activation inside": lambda: net(layers.Conv2D(4, 3, activation="relu"), layers.Dense(5, activation="relu")),
    "same, stride 2": lambda: net(layers.Conv2D(4, 3, strides=2, padding="same"), layers.Conv2D(4, (5, 2), padding="same")),
    "zero padding of one, stride 2": lambda: net(layers.ZeroPadding2D(1), layers.Conv2D(4, 3, strides=2), shape=(8, 8, 3)),
    "asymmetric zero padding": lambda: net(layers.ZeroPadding2D(((1, 0), (2, 1))), layers.DepthwiseConv2D(3, strides=2)),
    "padding twice": lambda: net(layers.ZeroPadding2D(2), layers.Conv2D(4, 3, padding="same")),
    "padded pooling behind relu": lambda: net(layers.Conv2D(4, 3), layers.ReLU(), layers.ZeroPadding2D(1), layers.MaxPooling2D(3, 2)),
    "dilated": lambda: net(layers.Conv2D(4, 3, dilation_rate=2), layers.DepthwiseConv2D(3, dilation_rate=(1, 2), padding="same")),
    "grouped": lambda: net(layers.Conv2D(6, 3, groups=3), layers.Conv2D(4, 3, groups=2)),
    "depth multiplier": lambda: net(layers.DepthwiseConv2D(3, depth_multiplier=2), layers.BatchNormalization(), layers.ReLU()),
    "separable": lambda: net(layers.SeparableConv2D(5, 3, strides=2, padding="same", depth_multiplier=2), layers.BatchNormalization()),
    "relu before max pooling": lambda: net(layers.Conv2D(4, 3), layers.ReLU(), layers.MaxPooling2D(2)),
    "max pooling before relu": lambda: net(layers.Conv2D(4, 3), layers.MaxPooling2D(3, 2, padding="same"), layers.ReLU()),
    "bn behind global pooling": lambda: net(layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.BatchNormalization(), layers.Dense(3)),
    "global pooling to logits": lambda: net(layers.Conv2D(4, 3), layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dropout(0.5), layers.Dense(3)),
    "global pooling, reshape, conv": lambda: net(layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Reshape((1, 1, 4)), layers.Conv2D(2, 1),
                                                 layers.Flatten()),
    "flatten, dense": lambda: net(layers.Conv2D(4, 3), layers.ReLU(), layers.Flatten(), layers.Dense(3)),
    "reshape to a vector": lambda: net(layers.Conv2D(4, 3), layers.Reshape((-1,)), layers.BatchNormalization(), layers.Dense(3)),
    "bn alone": lambda: net(layers.Conv2D(4, 3), layers.ReLU(), layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(2, 3)),
    "average pooling": lambda: net(layers.Conv2D(4, 3), layers.AveragePooling2D(2), layers.Conv2D(2, 1)),
    "average pooling, same": lambda: net(layers.Conv2D(4, 3), layers.AveragePooling2D(3, 2, padding="same"), layers.ReLU(), layers.Conv2D(2, 1)),
    "average pooling of a sequence, same": lambda: net(layers.Conv1D(4, 3), layers.AveragePooling1D(4, 3, padding="same"), layers.Conv1D(2, 1), shape=(16, 3)),
    "squeeze and excite": lambda: graph(squeeze_excite),
    "upsampling": lambda: net(layers.Conv2D(4, 3, activation="relu"), layers.UpSampling2D((2, 3)), layers.Conv2D(2, 3)),
    "sigmoid, tanh, elu": lambda: net(layers.Conv2D(4, 3, activation="sigmoid"), layers.Conv2D(4, 3, activation="tanh"), layers.Conv2D(3, 1), layers.ELU()),
    "gelu of both kinds": lambda: net(layers.Conv2D(4, 3), layers.Activation(keras.activations.gelu), layers.Flatten(),
                                      layers.Dense(3, activation="hard_sigmoid")),
    "activations spelled out": lambda: graph(spelled_hard_swish),
    "normalization": lambda: net(normalization(), layers.Conv2D(4, 3, padding="same")),
    "zeros before a signed maximum": lambda: net(layers.Conv2D(4, 3), layers.ZeroPadding2D(1), layers.MaxPooling2D(3, 2)),
    "transposed": lambda: net(layers.Conv2D(4, 3), layers.Conv2DTranspose(3, 3, strides=2, padding="same"), layers.BatchNormalization(), layers.ReLU(),
                              layers.Conv2DTranspose(2, (2, 4), strides=(3, 2), activation="silu"), layers.Conv2DTranspose(2, 3)),
    "sequence": lambda: net(layers.Conv1D(4, 3, strides=2), layers.ReLU(), layers.ZeroPadding1D(2), layers.DepthwiseConv1D(3), layers.Flatten(),
                            layers.Dense(2), shape=(17, 3)),
    "causal, dilated": lambda: net(layers.Conv1D(4, 3, padding="causal", dilation_rate=2), layers.LeakyReLU(), layers.UpSampling1D(2),
                                   layers.Conv1D(2, 3, padding="same"), shape=(12, 2)),
    "residual sequence": lambda: graph(residual_sequence, (16, 3)),
    "padded with a value": lambda: net(PaddedConv2D(4, 3, padding_value=[0.5, -1.0, 2.0]), layers.BatchNormalization(), layers.ReLU(),
                                       PaddedConv2D(3, 5, strides=2, padding_value=1.5)),
    "transposed depthwise": lambda: net(layers.Conv2D(4, 3), layers.ReLU(), DepthwiseConv2DTranspose(3), layers.ReLU()),
    "permuted before a dense": lambda: net(layers.Conv2D(4, 3), layers.Permute((3, 1, 2)), layers.Flatten(), layers.Dense(3)),
    "images side by side": lambda: graph(lambda x: layers.Concatenate(axis=2)(
        [layers.Concatenate(axis=1)([layers.Conv2D(3, 1)(x), layers.ReLU()(layers.Conv2D(3, 1)(x))]), layers.ZeroPadding2D(((9, 0), (0, 0)))(x)])),
    "leaky relu": lambda: net(layers.Conv2D(4, 3), layers.LeakyReLU(0.2)),
    "mish, selu, celu": lambda: net(layers.Conv2D(4, 3, activation="mish"), layers.Conv2D(4, 3, activation="selu"), layers.Conv2D(4, 3, activation="celu")),
    "softplus, softsign": lambda: net(layers.Conv2D(4, 3, activation="softplus"), layers.Conv2D(4, 3), layers.Activation("softsign")),
    "gelu, silu, hard_silu": lambda: net(layers.Conv2D(4, 3, activation="gelu"), layers.Conv2D(4, 3, activation="silu"), layers.Activation("linear"),
                                         layers.Conv2D(4, 3), layers.Activation("hard_silu")),
    "prelu of one slope": lambda: net(layers.Conv2D(4, 3), layers.PReLU(shared_axes=(1, 2, 3))),
    "rescaling": lambda: net(layers.Rescaling(1 / 127.5, -1), layers.Conv2D(4, 3, padding="same")),
    "rescaling by channel": lambda: net(layers.Rescaling([0.1, 0.2, 0.3], [1, 0, -1]), layers.Conv2D(4, 3, padding="same")),
    "rescaling, pooling": lambda: net(layers.Rescaling(0.5, 1.0), layers.MaxPooling2D(2), layers.Conv2D(4, 3)),
    "dense net": lambda: net(layers.BatchNormalization(), layers.Dense(8, activation="relu"), layers.Dense(3), shape=(6,)),
    "bn of a shared convolution": lambda: graph(shared_normalization),
    "a layer called twice": lambda: graph(two_calls),
    "nested": lambda: graph(nested),
    "n-ary add and concatenate": lambda: graph(branches),
    "two readers of a relu": lambda: graph(two_readers_of_a_relu),
    "operators": lambda: graph(lambda x: ops.relu(layers.Conv2D(3, 3, padding="same")(x) + x)),
}


@pytest.fixture(params=COVERED, scope="module")
def model(request: pytest.FixtureRequest) -> keras.Model:
    keras.utils.set_random_seed(0)
    return COVERED[request.param]()


def survey(model: keras.Model) -> Blueprint:
    return KerasFrontend().survey(model, target=GENERIC, rules=builtin_rules(GENERIC), rewrites=BUILTIN).blueprint


def samples(model: keras.Model, count: int = 6) -> np.ndarray:
    return RNG.normal(0, 1, (count, *model.inputs[0].shape[1:])).astype("float32")


def test_the_blueprint_is_the_network(model: keras.Model) -> None:
    blueprint, x = survey(model), samples(model)
    expected = ops.convert_to_numpy(model(x))
    found = float_blueprint.run(blueprint, {"x": x})[blueprint.outputs[0]]

    assert blueprint.stops == ()
    native = np.moveaxis(found, 1, -1).reshape(expected.shape) if found.ndim == 4 else found
    assert np.abs(native - expected).max() <= FLOAT32 * np.abs(expected).max()


def test_integers_are_those_of_the_program_and_of_its_onnx_file(model: keras.Model) -> None:
    x = samples(model, 40)
    result = api.quantize_model(model, samples=x)

    assert differences(result.program, {"x": 1.3 * x}, lambda feeds: boundaries(result.model, feeds)) == ()
    assert result.model(x).shape == model(x).shape

    exported, rows = from_program(result.program), x[:, None] if x.ndim == 3 else x
    assert differences(result.program, {"x": rows}, lambda feeds: in_onnx.boundaries(exported, feeds)) == ()


def test_the_model_given_is_not_modified() -> None:
    model = COVERED["conv, bn, relu"]()
    before = [w.numpy().copy() for w in model.weights]
    api.quantize_model(model, samples=samples(model))
    assert all((a == b.numpy()).all() for a, b in zip(before, model.weights, strict=True)) and model.layers[1].name.startswith("batch")


def test_sanitize_gives_an_equal_model(model: keras.Model) -> None:
    x = samples(model)
    plain, expected = KerasFrontend().sanitize(model)(x), ops.convert_to_numpy(model(x))
    assert np.abs(ops.convert_to_numpy(plain) - expected).max() <= FLOAT32 * np.abs(expected).max()


STOPS: dict[str, tuple[Callable[[], keras.Model], str, str]] = {
    "unknown layer": (lambda: net(layers.Conv2D(4, 3, name="c"), layers.UnitNormalization(name="unit")), "unit", "UnitNormalization has no integer form"),
    "softmax": (lambda: net(layers.Flatten(), layers.Dense(3, activation="softmax", name="fc")), "fc/activation", "softmax"),
    "threshold": (lambda: net(layers.Conv2D(4, 3), layers.ReLU(threshold=1.0, name="relu")), "relu", "threshold"),
    "slopes": (lambda: net(layers.Conv2D(4, 3), layers.PReLU(shared_axes=(1, 2), name="prelu")), "prelu", "one slope"),
    "exponential": (lambda: net(layers.Conv2D(4, 3, name="c", activation="exponential")), "c/activation", "`exponential` has no table"),
    "a constant image": (lambda: graph(lambda x: layers.Conv2D(3, 1)(x) * keras.Variable(np.ones((9, 10, 3)))), "multiply",
                         "only with a number"),
}


@pytest.mark.parametrize("case", STOPS)
def test_what_stays_float_says_why(case: str) -> None:
    build, node, reason = STOPS[case]
    model = build()
    stop, *_ = survey(model).stops
    assert stop.node.split("_")[0] == node and reason in stop.reason
    quantized, x = api.quantize_model(model, samples=samples(model)), samples(model)
    assert quantized.model(x).shape == model(x).shape and stop.node in quantized.warnings[0]


def test_a_dilated_kernel_too_large_to_expand_says_its_size() -> None:
    assert dilated(np.zeros((3, 3, 1, 1)), 4096) == "its kernel of 8193x8193 pixels would have 67125249 numbers, more than 67108864"


def test_float_layers_keep_their_weights_behind_a_dequantizer() -> None:
    model = net(layers.Conv2D(4, 3), layers.UnitNormalization(), layers.Flatten(), layers.Dense(3, name="fc"))
    quantized = api.quantize_model(model, samples=samples(model)).model
    assert (quantized.get_layer("fc").kernel.numpy() == model.get_layer("fc").kernel.numpy()).all()
    assert [type(layer).__name__ for layer in quantized.layers][2:5] == ["QuantizedConv2D", "Dequantizer", "UnitNormalization"]


def test_quantize_until() -> None:
    model = net(layers.Conv2D(4, 3, name="a"), layers.Conv2D(4, 3, name="b"))
    result = api.quantize_model(model, samples=samples(model), quantize_until="a")
    assert [b.name for b in result.program.blocks] == ["quantize", "a"] and result.warnings == ()


def test_open_input_shape_is_taken_from_the_samples() -> None:
    model = net(layers.Conv2D(4, 3, padding="same", strides=2), shape=(None, None, 3))
    result = api.quantize_model(model, samples=RNG.normal(size=(4, 9, 8, 3)).astype("float32"))
    assert result.program.shapes["quantize"] == (None, 3, 9, 8)


def test_several_inputs_and_outputs() -> None:
    a, b = keras.Input((4, 4, 3), name="a"), keras.Input((4, 4, 3), name="b")
    joined = layers.Add()([layers.Conv2D(2, 1)(a), layers.Conv2D(2, 1)(b)])
    model = randomized(keras.Model([a, b], [layers.ReLU()(joined), joined]))
    x = {name: RNG.normal(size=(8, 4, 4, 3)).astype("float32") for name in "ab"}
    result = api.quantize_model(model, samples=x)
    assert differences(result.program, x, lambda feeds: boundaries(result.model, feeds)) == ()
    assert len(result.model.outputs) == 2


def test_statistics_do_not_depend_on_the_batch_size() -> None:
    model = net(layers.Dense(4, activation="relu"), layers.Dense(3), shape=(5,))
    x = samples(model, 30)
    small, large = (api.quantize_model(model, samples=x, batch_size=n).plan for n in (7, 30))
    assert small.to_json() == large.to_json()


def test_a_dataset_calibrates_like_its_array() -> None:
    model = net(layers.Dense(4, activation="relu"), layers.Dense(3), shape=(5,))
    x = samples(model, 30)
    dataset = tf.data.Dataset.from_tensor_slices((x, np.zeros(30))).batch(8)
    plans = [api.quantize_model(model, samples=s).plan.to_json() for s in (x, dataset)]
    assert plans[0] == plans[1]
