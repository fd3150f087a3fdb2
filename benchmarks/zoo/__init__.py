"""The networks that coverage, accuracy and speed are measured on: the classic light_*.onnx architectures that the onnx package ships, and what people
export today, in the spelling of the exporters. Weights are random and seeded: the figures are about time, memory, coverage and noise, never about accuracy.

    python -m benchmarks.zoo NAME FILE.onnx [SAMPLES.npz]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from . import detector, efficientnet, imbalanced, light, mobilenet, mobilenet_v3, residual, series, spelled, unet


@dataclass(frozen=True)
class Net:
    """A network of the zoo.

    Arguments:
        build: the model for images of a size in pixels (samples, for a time series).
        size: the usual size; `small` is enough for a test, the same where the architecture allows no other.
    """

    build: Callable[[int], onnx.ModelProto]
    size: int = 224
    small: int = 64


def _light(name: str) -> Net:
    return Net(lambda size: light.model(name), 224, 224)


ZOO: Mapping[str, Net] = {
    "alexnet": _light("bvlc_alexnet"),
    "densenet121": _light("densenet121"),
    "inception_v1": _light("inception_v1"),
    "inception_v2": _light("inception_v2"),
    "resnet50": _light("resnet50"),
    "shufflenet": _light("shufflenet"),
    "squeezenet": _light("squeezenet"),
    "vgg19": _light("vgg19"),
    "zfnet512": _light("zfnet512"),
    "resnet50_torch": Net(residual.model),
    "mobilenet_v2": Net(mobilenet.folded),
    "mobilenet_v2_bn": Net(mobilenet.unfolded),
    "mobilenet_v2_tf": Net(mobilenet.channels_last),
    "efficientnet_lite0": Net(efficientnet.model),
    "imbalanced": Net(imbalanced.model, 64),
    "mobilenet_v3": Net(mobilenet_v3.mobilenet),
    "pp_lcnet": Net(mobilenet_v3.pp_lcnet),
    "detector": Net(detector.model, 320),
    "unet": Net(unet.model, 128),
    "spelled_normalization": Net(spelled.model, 128),
    "time_series": Net(series.model, 512, 128),
}
