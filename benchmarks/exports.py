"""Networks as torchvision and timm export them, random weights: how much of each becomes integer, whether the integers are those of the program, and what they cost.

    pip install torch torchvision timm onnx onnxscript     # an environment of its own
    python benchmarks/exports.py FOLDER                    # writes them there, torchvision's by both exporters
    python -m benchmarks.exports FOLDER [FILE ...] [--target NAME] [--shape C,H,W] [--json FILE]

The second command judges every ONNX file in a folder, wherever it comes from: one row for each, or one line for what is refused.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

TORCHVISION = ("alexnet", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18",
               "resnext50_32x4d", "shufflenet_v2_x1_0", "squeezenet1_1", "vgg11_bn", "convnext_tiny", "deeplabv3_mobilenet_v3_large", "fcn_resnet50", "lraspp_mobilenet_v3_large")
TIMM = ("cspdarknet53", "darknet53", "dla34", "dm_nfnet_f0", "dpn48b", "eca_resnet33ts", "ese_vovnet19b_dw", "fastvit_t8", "fbnetc_100", "gernet_s", "ghostnet_100", "hardcorenas_a", "hgnetv2_b0",
        "hrnet_w18_small", "inception_resnet_v2", "inception_v4", "lcnet_050", "mixnet_s", "mobilenetv4_conv_small", "mobileone_s0", "nfnet_f0", "rdnet_tiny", "regnetz_005", "repghostnet_050",
        "repvgg_a0", "repvit_m0_9", "res2net50_26w_4s", "resnet18d", "resnetv2_50", "rexnet_100", "selecsls42b", "semnasnet_075", "spnasnet_100", "starnet_s1", "tf_efficientnet_lite0",
        "tf_mobilenetv3_small_100", "tinynet_e", "vovnet39a", "xception41")
CALIBRATION, HELD, ROUNDS = 16, 4, 9


@dataclass(frozen=True)
class Judged:
    """One network: percent of its multiply-accumulates, what stays float, seconds to quantize, blocks whose integers differ, dB on other samples, and how many times as
    fast as float the deployment form is with one image."""

    net: str
    share: float
    stops: tuple[str, ...]
    seconds: float
    differing: int
    decibels: float
    faster: float


def write(folder: Path) -> None:
    """Every network of the lists, weights seeded, normalizations with statistics."""
    import timm
    import torch
    import torchvision
    torch.manual_seed(0)
    for name in TORCHVISION:
        given = {"weights_backbone": None} if "mobilenet_v3_large" in name or name.startswith("fcn") else {}
        model = torchvision.models.get_model(name, weights=None, **given)
        _export(model, folder / f"torchvision_{name}.onnx", 299 if name == "inception_v3" else 224, (False, True))
    for name in TIMM:
        model = timm.create_model(name, pretrained=False, exportable=True)
        _export(model, folder / f"timm_{name}.onnx", model.default_cfg["input_size"][-1], (False,))


def _export(model: Any, path: Path, size: int, exporters: tuple[bool, ...]) -> None:
    import torch

    class First(torch.nn.Module):
        """The output of a classifier, or of a segmentation."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Any) -> Any:
            y = self.model(x)
            return y["out"] if isinstance(y, dict) else y

    for module in model.eval().modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    for dynamo in exporters:
        to, x = path.with_stem(f"{path.stem}_dynamo") if dynamo else path, torch.rand(1, 3, size, size)
        more = {"external_data": False} if dynamo else {"opset_version": 17, "input_names": ["input"], "dynamic_axes": {"input": {0: "batch"}}}
        torch.onnx.export(First().eval(), (x,), str(to), dynamo=dynamo, **more)


def judge(path: Path, target: str, shape: tuple[int, ...] | None) -> Judged | str:
    """What quantization makes of a file of one input, in a sentence where it refuses."""
    from examples.trained import session, sqnr
    from quantizeml_core.api import quantize_model
    from quantizeml_core.errors import QuantizeMLError
    from quantizeml_core.match import stop_message
    from quantizeml_core.testing import differences
    from quantizeml_onnx import testing
    from quantizeml_onnx.deploy import deployed

    from .zoo.images import images
    real = session(path)
    entry, *others = real.get_inputs()
    size = shape or tuple(entry.shape[1:])
    if others or not all(isinstance(n, int) for n in size):
        return f"{path.stem}: give --shape for {size}" if not others else f"{path.stem}: {1 + len(others)} inputs"
    calibration, held = images(CALIBRATION, size, 0), images(HELD, size, 1)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = quantize_model(path, samples=calibration, target=target)
    except QuantizeMLError as error:
        return f"{path.stem}: {error}"
    seconds, covered = time.perf_counter() - start, made.blueprint.coverage
    form = session(deployed(made.model))
    wanted, got = (np.concatenate([opened.run(None, {entry.name: row[None]})[0] for row in held]) for opened in (real, form))
    wrong = differences(made.program, {entry.name: held[:1]}, lambda feeds: testing.boundaries(made.model, feeds))
    slow, fast = _seconds((real, form), {entry.name: held[:1]})
    return Judged(path.stem, 100 * covered.macs / max(covered.total_macs, 1), tuple(map(stop_message, made.blueprint.stops)), seconds, len(wrong), sqnr(wanted, got), slow / fast)


def _seconds(sessions: Sequence[Any], feeds: Mapping[str, np.ndarray]) -> list[float]:
    """Of each session, in turn with the others: median, the first round left out."""
    took: list[list[float]] = [[] for _ in sessions]
    for _ in range(ROUNDS + 1):
        for opened, times in zip(sessions, took, strict=True):
            start = time.perf_counter()
            opened.run(None, dict(feeds))
            times.append(time.perf_counter() - start)
    return [float(np.median(times[1:])) for times in took]


def judged(args: argparse.Namespace) -> Iterator[Judged]:
    from rich.console import Console
    from rich.table import Table
    refused, view = [], Table("network", "share", "stops", "seconds", "blocks that differ", "dB", "faster than float", title=f"exports, --target {args.target}")
    for path in args.files or sorted(args.folder.glob("*.onnx")):
        row = judge(path, args.target, args.shape)
        if isinstance(row, str):
            refused.append(row)
            continue
        view.add_row(row.net, f"{row.share:.1f} %", str(len(row.stops)), f"{row.seconds:.1f}", str(row.differing), f"{row.decibels:.1f}", f"{row.faster:.2f}")
        yield row
    Console(width=140).print(view, *refused, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--target", default="generic")
    parser.add_argument("--shape", type=lambda text: tuple(map(int, text.split(","))), help="of one sample, where a file leaves it open")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if __package__:
        rows = list(judged(args))
        if args.json:
            args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        args.folder.mkdir(parents=True, exist_ok=True)
        write(args.folder)


if __name__ == "__main__":
    main()
