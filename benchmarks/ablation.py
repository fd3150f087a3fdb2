"""Where the loss of the `imbalanced` network comes from: each planted cause left out in turn, and each of our remedies too.

    python -m benchmarks.ablation [--count N] [--json FILE]

Decibels of signal over error at the output, on 64 images that did not calibrate. Columns: our defaults; without the margins of the ranges (floor and headroom);
with one scale per tensor; onnxruntime's static quantizer.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console
from rich.table import Table

from examples.trained import sqnr
from quantizeml.models import QuantizationParams, dump_config, load_model

from . import peers
from .noise import HELD_SEED, ours, outputs
from .zoo import ZOO
from .zoo.imbalanced import CAUSES, model
from .zoo.images import samples as images

HELD = 64
COLUMNS = ("ours", "without margins", "per-tensor", "onnxruntime")


def row(without: str, count: int, scratch: Path) -> dict[str, float]:
    """Decibels by column, of the network without one cause."""
    made = model(ZOO["imbalanced"].size, without)
    file = scratch / "float.onnx"
    onnx.save(made, file)
    samples, held = images(made, count), images(made, HELD, HELD_SEED)
    real = outputs(file, held)[0]
    default = ours(file, samples, scratch)
    bare = {name: {"output_quantizer": {"floor": 0.0, "headroom": 1.0}} for name, entry in dump_config(load_model(default)).items() if entry.get("output_quantizer")}
    settings: Mapping[str, Mapping[str, Any]] = {
        "ours": {}, "without margins": {"q_config": bare}, "per-tensor": {"qparams": QuantizationParams(per_tensor_activations=True)}}
    found = {name: sqnr(real, outputs(ours(file, samples, scratch, **s), held)[0]) for name, s in settings.items()}
    return found | {"onnxruntime": sqnr(real, outputs(peers.quantize_with_onnxruntime(file, samples, scratch / "qdq.onnx"), held)[0])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--count", type=int, default=16, help="calibration samples")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    peers.quiet_onnxruntime()
    with tempfile.TemporaryDirectory() as scratch:
        rows = {without: row(without, args.count, Path(scratch)) for without in ("", *CAUSES)}
    made = Table(title=f"dB on unseen images, {args.count} samples")
    for heading in ("left out", *COLUMNS):
        made.add_column(heading, justify="left" if heading == "left out" else "right")
    for without, found in rows.items():
        made.add_row(without or "nothing", *(f"{found[name]:.1f}" for name in COLUMNS))
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(made)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
