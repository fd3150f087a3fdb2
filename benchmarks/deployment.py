"""How fast the integers run: float, the file that `quantize` writes, its deployment form, that of `--target cpu`, onnxruntime's own int8 and the reference, in turn, in
onnxruntime on 2 threads.

    python -m benchmarks.deployment [NET ...] [--batches 1 16] [--rounds N] [--json FILE]

    ratio     float milliseconds over those of the form: above 1 is faster than float
    peak      what a matrix product of bytes reaches here (MatMulInteger, 2048 x 2048 by 2048 x 1024), and the share of it that a form reaches over a network's
              multiply-accumulates

Sessions take turns in bursts of a fifth of a second, of which the second half counts; a figure is the median over rounds of the median of a burst. On a processor
whose byte products saturate (x86 without VNNI) onnxruntime's own int8 is wrong unless it is told to be precise: there it runs both ways.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import parser
from rich.console import Console
from rich.table import Table

from examples.trained import THREADS, session
from quantizeml_core.api import export, quantize_model
from quantizeml_onnx.selfcheck import saturating

from . import peers
from .noise import modern
from .speed import burst, in_turn
from .zoo import ZOO
from .zoo.images import samples

NETS = ("resnet50", "vgg19", "squeezenet", "densenet121", "mobilenet_v2", "efficientnet_lite0")
PRECISE = "onnxruntime, precise"
CPU = "deployment, cpu"
CALLS = 5
PEAK_SHAPE = (2048, 2048, 1024)


@dataclass(frozen=True)
class Timing:
    """One form of one network: milliseconds of a call, its ratio to float, megabytes of the file, and billions of multiply-accumulates a second."""

    net: str
    batch: int
    form: str
    milliseconds: float
    ratio: float
    megabytes: float
    gmacs: float


def forms(name: str, scratch: Path) -> tuple[dict[str, Path], np.ndarray, int]:
    """The files of each contender, samples, and multiply-accumulates per sample."""
    model = modern(ZOO[name].build(ZOO[name].size))
    x, files = samples(model, 16), {n: scratch / f"{name}_{n}.onnx" for n in ("float", "file", "deployment", CPU, "onnxruntime", "reference")}
    onnx.save(model, files["float"])
    np.savez(scratch / f"{name}.npz", samples=x)
    result = quantize_model(str(files["float"]), samples=x)
    result.save(files["file"])
    export(str(files["file"]), files["deployment"], "onnxruntime")
    export(quantize_model(str(files["float"]), samples=x, target="cpu").model, files[CPU], "onnxruntime")
    peers.quantize_with_onnxruntime(files["float"], x, files["onnxruntime"])
    if peers.quantize_with_reference(files["float"], scratch / f"{name}.npz", files["reference"], ("-bs", "1")) is None:
        del files["reference"]
    return files, x, result.blueprint.coverage.total_macs


def peak() -> float:
    """Multiply-accumulates a second of one large product of bytes."""
    rows, inner, columns = PEAK_SHAPE
    text = f'<ir_version: 10, opset_import: ["" : 21]> g (uint8[{rows},{inner}] x) => (int32[{rows},{columns}] y) {{ y = MatMulInteger (x, w) }}'
    model, rng = parser.parse_model(text), np.random.default_rng(0)
    model.graph.initializer.append(onnx.numpy_helper.from_array(rng.integers(-127, 128, (inner, columns)).astype(np.int8), "w"))
    opened, x = session(model), rng.integers(0, 256, (rows, inner)).astype(np.uint8)
    return rows * inner * columns / min(burst(opened, x, CALLS) for _ in range(5))


def measure(name: str, batches: Sequence[int], rounds: int, scratch: Path) -> list[Timing]:
    files, x, macs = forms(name, scratch)
    if saturating():
        files[PRECISE] = files["onnxruntime"]
    opened, found = {form: session(path, precise=form == PRECISE) for form, path in files.items()}, []
    for batch in batches:
        if batch > 1 and _fixed(files["float"]):
            continue
        seconds = in_turn(opened, np.resize(x, (batch, *x.shape[1:])), rounds, CALLS)
        found += [Timing(name, batch, form, 1e3 * s, seconds["float"] / s, files[form].stat().st_size / 1e6, batch * macs / s / 1e9) for form, s in seconds.items()]
    return found


def _fixed(path: Path) -> bool:
    """Whether a network takes one sample at a time."""
    return onnx.load(str(path), load_external_data=False).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def table(timings: Sequence[Timing], top: float) -> Table:
    made = Table(title=f"onnxruntime, {THREADS} threads; peak of a product of bytes here {top / 1e9:.0f} GMAC/s")
    for heading in ("network", "batch", "form", "ms", "faster than float", "MB", "share of the peak"):
        made.add_column(heading, justify="left" if heading in ("network", "form") else "right")
    for one, after in zip(timings, (*timings[1:], None), strict=True):
        made.add_row(one.net, str(one.batch), one.form, f"{one.milliseconds:.1f}", f"{one.ratio:.2f}", f"{one.megabytes:.1f}", f"{1e11 * one.gmacs / top:.0f} %",
                     end_section=after is None or (after.net, after.batch) != (one.net, one.batch))
    return made


def main() -> None:
    parser_ = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser_.add_argument("nets", nargs="*", default=NETS, metavar="NET")
    parser_.add_argument("--batches", type=int, nargs="*", default=(1, 16))
    parser_.add_argument("--rounds", type=int, default=7)
    parser_.add_argument("--json", type=Path, help="also write the timings to this file")
    args = parser_.parse_args()
    peers.quiet_onnxruntime()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    timings, top = [], peak()
    for name in args.nets:
        with tempfile.TemporaryDirectory() as scratch:
            timings += measure(name, args.batches, args.rounds, Path(scratch))
    console.print(table(timings, top))
    if args.json:
        args.json.write_text(json.dumps([asdict(one) for one in timings], indent=1))


if __name__ == "__main__":
    main()
