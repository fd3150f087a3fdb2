"""Networks of the zoo, small: what becomes integer, that onnxruntime computes the same integers, and that they mean what the floats did."""

from __future__ import annotations

import onnx
import pytest

from benchmarks.zoo import ZOO
from benchmarks.zoo.images import samples
from quantizeml_core.api import survey_model
from quantizeml_core.blueprint import Blueprint
from quantizeml_onnx.testing import judge

SOFTMAX = ("Softmax",)
LEFT = {"alexnet": SOFTMAX, "inception_v1": SOFTMAX, "inception_v2": SOFTMAX, "resnet50": SOFTMAX, "shufflenet": SOFTMAX, "squeezenet": ("Flatten",),
        "vgg19": SOFTMAX, "zfnet512": SOFTMAX, "detector": ("Reshape",) * 6}
"""Operations at which coverage ends: the probabilities of a classifier, and what a detector does to its heads. Nothing else is left."""
FAITHFUL = ("mobilenet_v3", "pp_lcnet", "unet", "spelled_normalization", "time_series")
"""Those whose every block is close to the float network on images this small. The noise of random weights adds up over the depth of the others."""
EXACT = (*FAITHFUL, "efficientnet_lite0", "mobilenet_v2", "mobilenet_v2_bn", "mobilenet_v2_tf", "detector", "shufflenet", "squeezenet")


def surveyed(name: str) -> Blueprint:
    return survey_model(ZOO[name].build(ZOO[name].small)).blueprint


@pytest.mark.parametrize("name", sorted(set(ZOO) - {"vgg19"}))
def test_every_product_is_one_of_integers(name: str) -> None:
    blueprint = surveyed(name)
    assert blueprint.coverage.macs == blueprint.coverage.total_macs > 0
    assert tuple(stop.op for stop in blueprint.stops) == LEFT.get(name, ())


@pytest.mark.parametrize("name", EXACT)
def test_onnxruntime_computes_the_same_integers(name: str) -> None:
    model = ZOO[name].build(ZOO[name].small)
    weights = {t.name for t in model.graph.initializer}
    inputs = sorted(model.graph.input, key=lambda value: value.name in weights)
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    verdict = judge(model, samples(model, 32 if name in FAITHFUL else 8), count=1)
    assert verdict.mismatches == ()
    assert name not in FAITHFUL or verdict.unfaithful == (), verdict.text


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3"])
def test_the_target_cpu_gives_the_same_integers_too(name: str) -> None:
    model = ZOO[name].build(ZOO[name].small)
    assert judge(model, samples(model, 8), target="cpu", count=1).mismatches == ()


def test_the_zoo_is_made_of_valid_models() -> None:
    for name, net in ZOO.items():
        if name != "vgg19":
            onnx.checker.check_model(net.build(net.small))
