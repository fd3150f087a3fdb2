"""How long quantizing takes and how much memory: the command line from start to end, 16 images, ours, onnxruntime's static quantizer and the reference, in turn.

    python -m benchmarks.quantizing [NET ...] [--runs N] [--target NAME] [--json FILE]

A fresh process for every run, imports included: wall seconds and peak resident memory from the operating system (`launch.py`); medians of the runs.
The last rows calibrate one network with 64 and with 4096 samples: memory does not grow with them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from rich.console import Console

from . import peers
from .noise import modern
from .speed import Command, Timing, our_script, table, time_commands
from .zoo import ZOO
from .zoo.images import samples

NETS = ("resnet50", "vgg19", "densenet121", "squeezenet")
STREAMED, COUNTS = "mobilenet_v2", (64, 4096)


def commands(name: str, scratch: Path, target: str) -> Mapping[str, Command]:
    """The command of each contender for 16 images. The reference takes its own time: it runs where it is installed."""
    model, file, npz = modern(ZOO[name].build(ZOO[name].size)), scratch / f"{name}.onnx", scratch / f"{name}.npz"
    onnx.save(model, file)
    np.savez(npz, samples=samples(model, 16))
    out = {who: scratch / f"{name}_{who}.onnx" for who in ("ours", "onnxruntime", "reference")}
    found = {
        "ours": [our_script(), "quantize", "-m", str(file), "-sa", str(npz), "-s", str(out["ours"]), "--target", target],
        "onnxruntime": [sys.executable, "-m", "benchmarks.peers", str(file), str(npz), str(out["onnxruntime"])],
    }
    if script := peers.reference_script():
        found["reference"] = peers.reference_command(script, file, npz, out["reference"], ("-bs", "1"))
    return found


def streaming(scratch: Path, runs: int) -> list[Timing]:
    """The same network calibrated with few samples and with many."""
    model, file = ZOO[STREAMED].build(96), scratch / f"{STREAMED}.onnx"
    onnx.save(model, file)
    pool = samples(model, 64)
    found: dict[str, Command] = {}
    for count in COUNTS:
        npz = scratch / f"{count}.npz"
        np.savez(npz, samples=np.resize(pool, (count, *pool.shape[1:])))
        found[f"{count} samples"] = [our_script(), "quantize", "-m", str(file), "-sa", str(npz), "-s", str(scratch / f"{count}.onnx")]
    return time_commands(f"{STREAMED}, 96x96", found, runs)


def measure(nets: Sequence[str], runs: int, target: str) -> list[Timing]:
    timings: list[Timing] = []
    for name in nets:
        with tempfile.TemporaryDirectory() as scratch:
            timings += time_commands(f"quantize {name}", commands(name, Path(scratch), target), runs)
    with tempfile.TemporaryDirectory() as scratch:
        return timings + streaming(Path(scratch), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("nets", nargs="*", default=NETS, metavar="NET")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--target", default="generic")
    parser.add_argument("--json", type=Path, help="also write the timings to this file")
    args = parser.parse_args()
    timings = measure(args.nets, args.runs, args.target)
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table("From the command line, 16 images", timings, 1, "seconds"))
    if args.json:
        args.json.write_text(json.dumps({"runs": args.runs, "timings": [vars(one) for one in timings]}, indent=1))


if __name__ == "__main__":
    main()
