"""The trained networks, whole: full coverage, float accuracy, the same integers in numpy and in plain onnxruntime at every boundary."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from examples import trained
from examples.trained import Net, accuracy, run

from quantizeml_core.api import Result, quantize_model
from quantizeml_core.params import QuantizationParams
from quantizeml_core.testing import differences
from quantizeml_onnx.testing import boundaries

SCHEMES = {
    "8/8/8": {},
    "8/8/8 per tensor": {"qparams": QuantizationParams(per_tensor_activations=True)},
    "8/4/4": {"qparams": QuantizationParams(weight_bits=4, activation_bits=4)},
    "2/2/2": {"qparams": QuantizationParams(input_weight_bits=2, weight_bits=2, activation_bits=2)},
    "8/8/1": {"qparams": QuantizationParams(activation_bits=1)},
    "akida1": {"target": "akida1"},
    "akida2": {"target": "akida2"},
}
CALIBRATION = 256
NETS = list(trained.NETS.values())
CASES = [(net, scheme) for net in NETS for scheme in SCHEMES]


def _quantize(net: Net, scheme: str, count: int = CALIBRATION) -> Result:
    return quantize_model(onnx.load(net.path), samples=net.samples(count), **SCHEMES[scheme])


@pytest.mark.parametrize(("net", "scheme"), CASES, ids=[f"{n.name}-{s}" for n, s in CASES])
def test_integers_are_equal_at_every_block_boundary(net: Net, scheme: str) -> None:
    result = _quantize(net, scheme)
    inputs = net.test()[0][:32]
    for data in (inputs, inputs * 100):
        assert differences(result.program, {result.program.blocks[0].inputs[0]: data}, lambda feeds: boundaries(result.model, feeds)) == ()


@pytest.mark.parametrize("net", NETS, ids=[n.name for n in NETS])
def test_eight_bits_keep_the_float_accuracy(net: Net) -> None:
    """Within 0.2 points, or one sample of a small test part; never a float layer."""
    result, (inputs, labels) = _quantize(net, "8/8/8", 1024), net.test()
    floats, integers = run(net.path, inputs), run(result.model, inputs)
    assert accuracy(floats, labels) - accuracy(integers, labels) <= max(0.002, 1 / len(labels)) + 1e-9  # shares are float64 quotients
    assert result.blueprint.stops == ()


@pytest.mark.parametrize("net", NETS[:1], ids=[n.name for n in NETS[:1]])
def test_the_file_is_deterministic_and_the_argument_untouched(net: Net) -> None:
    model = onnx.load(net.path)
    before = model.SerializeToString()
    files = {quantize_model(model, samples=net.samples(64), batch_size=32).model.SerializeToString(deterministic=True) for _ in range(2)}
    assert len(files) == 1 and model.SerializeToString() == before


def test_nothing_leaks_from_one_quantization_into_the_next() -> None:
    alone = _quantize(NETS[0], "8/8/8", 64).model.SerializeToString(deterministic=True)
    _quantize(NETS[1], "8/4/4", 64)
    assert _quantize(NETS[0], "8/8/8", 64).model.SerializeToString(deterministic=True) == alone


def test_names_of_inputs_outputs_and_layers_are_kept() -> None:
    net = NETS[0]
    model, original = _quantize(net, "8/8/8", 64).model, onnx.load(net.path)
    assert [o.name for o in model.graph.output] == [o.name for o in original.graph.output]
    assert [i.name for i in model.graph.input] == [i.name for i in original.graph.input]
    convolutions = {n.name for n in original.graph.node if n.op_type == "Conv"}
    assert convolutions <= {n.name for n in model.graph.node}


def test_the_whole_test_part_runs_at_once_and_one_by_one() -> None:
    net = NETS[0]
    result, inputs = _quantize(net, "8/8/8", 64), net.test()[0][:8]
    assert np.array_equal(run(result.model, inputs), run(result.model, inputs, batch=1))


@pytest.mark.parametrize("net", NETS, ids=[n.name for n in NETS])
def test_akida2_stays_inside_the_converters_contract(net: Net) -> None:
    result = _quantize(net, "akida2")
    assert [f for f in result.findings if f.code == "QML201"] == []
    assert {n.domain for n in result.model.graph.node} <= {"com.brainchip", ""}
