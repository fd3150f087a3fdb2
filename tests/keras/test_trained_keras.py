"""The trained networks in Keras: full coverage, float accuracy, and the same integers in numpy, Keras and plain onnxruntime."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
import pytest
from examples.trained import NETS, Net, accuracy, run, sqnr

from quantizeml_core.api import Result, load_model, quantize_model
from quantizeml_core.params import QuantizationParams
from quantizeml_core.testing import differences
from quantizeml_keras import testing as in_keras
from quantizeml_onnx import testing as in_onnx
from quantizeml_onnx.realize import from_program

KERAS_NETS = [NETS[name] for name in ("dscnn_mnist", "resnet_mnist", "mlp_breast_cancer")]
SCHEMES = {
    "8/8/8": {},
    "8/4/4 per tensor": {"qparams": QuantizationParams(weight_bits=4, activation_bits=4, per_tensor_activations=True)},
    "akida2": {"target": "akida2"},
}
#: Output SQNR at 8/8/8 that the existing tool reaches on the same networks, in dB.
PEER = {"dscnn_mnist": 29.3, "resnet_mnist": 30.8, "mlp_breast_cancer": 37.2}

by_net = pytest.mark.parametrize("net", KERAS_NETS, ids=lambda net: net.name)


@cache
def model(net: Net) -> keras.Model:
    return load_model(net.keras)


@cache
def quantized(net: Net, scheme: str) -> Result:
    return quantize_model(model(net), samples=net.samples(), **SCHEMES[scheme])


@by_net
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_same_integers_everywhere(net: Net, scheme: str) -> None:
    result, x = quantized(net, scheme), net.test()[0][:48]
    name = result.program.blocks[0].inputs[0]
    twin = from_program(result.program)
    for data in (x, x * 100):
        assert differences(result.program, {name: data}, lambda feeds: in_keras.boundaries(result.model, feeds)) == ()
        assert differences(result.program, {name: data}, lambda feeds: in_onnx.boundaries(twin, feeds)) == ()


@by_net
def test_eight_bits_keep_the_float_accuracy(net: Net) -> None:
    """Within 0.2 points, or one sample of a small test part; nothing stays float but a last sigmoid."""
    (x, labels), result = net.test(), quantized(net, "8/8/8")
    floats, integers = (m.predict(x, verbose=0, batch_size=250) for m in (model(net), result.model))
    assert accuracy(floats, labels) - accuracy(integers, labels) <= max(0.002, 1 / len(labels)) + 1e-9  # shares are float64 quotients
    assert sqnr(floats, integers) >= PEER[net.name]
    assert result.blueprint.coverage.macs == result.blueprint.coverage.total_macs


@by_net
def test_the_older_file_is_the_same_network(net: Net) -> None:
    old, x = load_model(net.h5), net.test()[0][:32]
    assert np.array_equal(old.predict(x, verbose=0), model(net).predict(x, verbose=0))


@by_net
def test_keras_and_onnx_files_of_one_network_quantize_alike(net: Net) -> None:
    """tf2onnx folds normalizations in float32, and onnxruntime sums in another order: scales may differ in their last bits, outputs by a rounding."""
    x = net.test()[0][:64]
    twin = quantize_model(net.path, samples=net.samples()).model
    assert sqnr(run(twin, x), quantized(net, "8/8/8").model.predict(x, verbose=0)) > PEER[net.name]


@by_net
def test_hardware_gets_no_depthwise_convolution_of_one_pixel(net: Net) -> None:
    """Akida runs depthwise kernels of 3, 5 and 7 pixels only: a lone ReLU rides on a convolution."""
    blocks = quantized(net, "akida2").program.blocks
    assert all(b.arrays["weight"].shape[2:] != (1, 1) for b in blocks if b.kind == "depthwise2d")
