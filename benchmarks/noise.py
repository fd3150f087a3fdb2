"""What quantization costs on samples that did not calibrate: signal over error at each output of the zoo's networks, ours and onnxruntime's.

    python -m benchmarks.noise [NET ...] [--counts N ...] [--seeds SEED ...] [--target NAME] [--json FILE]
    python -m benchmarks.noise --model FILE.onnx --samples CALIBRATION.npz --held OTHERS.npz

Both quantizers see the same samples and are judged on the same other ones: for the zoo (its random weights rescaled, `zoo/statistics.py`) 64 images of another
seed, for the trained networks 500 of the test part. MinMax ranges hang on single samples: with several seeds a row is their mean.
A Softmax at the end is cut off beforehand, so that its input is compared. `same` is the share of samples whose largest output stays the largest.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.console import Console
from onnx.version_converter import convert_version
from rich.table import Table

from quantizeml_core.errors import ModelError

from examples.trained import NETS, session, sqnr

from . import peers
from .accuracy import DEFAULT_NETS
from .zoo import ZOO
from .zoo.images import samples as images
from .zoo.statistics import levelled

COUNTS = (16, 64)
HELD = 64
HELD_SEED = 1
LEVELLED_ON, LEVEL_SEED = 1, 2
OPSET = 17
HELD_TRAINED = 500
BATCH = 16


@dataclass(frozen=True)
class Case:
    """A float network, samples (N, ...) to calibrate with, and others to judge it on."""

    name: str
    model: onnx.ModelProto
    samples: np.ndarray
    held: np.ndarray


@dataclass(frozen=True)
class Head:
    """One output after calibration with `count` samples: dB of ours and of onnxruntime's, and the shares of samples with the same largest output."""

    net: str
    output: str
    count: int
    ours: float
    onnxruntime: float
    same: float
    same_onnxruntime: float


def case(name: str, count: int, seed: int = 0) -> Case:
    if name in NETS:
        net = NETS[name]
        return Case(name, without_softmax(onnx.load(str(net.path))), net.samples(count, seed or None), net.test()[0][:HELD_TRAINED])
    model = modern(without_softmax(ZOO[name].build(ZOO[name].size)))
    model = model if name == "imbalanced" else levelled(model, images(model, LEVELLED_ON, LEVEL_SEED))
    return Case(name, model, images(model, count, seed), images(model, HELD, HELD_SEED))


def without_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network whose outputs are what its last Softmax reads."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for output in made.graph.output:
        tail = next((n for n in made.graph.node if output.name in n.output and n.op_type in ("Softmax", "LogSoftmax")), None)
        if tail is not None:
            output.name = tail.input[0]
            made.graph.node.remove(tail)
    return made


def modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network in an opset that onnxruntime's quantizer takes, without weights among its inputs."""
    constants = {t.name for t in model.graph.initializer}
    entries = [i for i in model.graph.input if i.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(entries)
    return model if model.opset_import[0].version >= OPSET else convert_version(model, OPSET)


def heads(case: Case, counts: Sequence[int], scratch: Path, target: str) -> Iterator[Head]:
    """A row for each count and output."""
    file = scratch / "float.onnx"
    onnx.save(case.model, file)
    real = outputs(file, case.held)
    for count in counts:
        made = ours(file, case.samples[:count], scratch, target=target)
        mine = outputs(made, case.held) if made else [np.full_like(f, np.nan) for f in real]
        theirs = outputs(peers.quantize_with_onnxruntime(file, case.samples[:count], scratch / "qdq.onnx"), case.held)
        for value, f, a, b in zip(case.model.graph.output, real, mine, theirs, strict=True):
            yield Head(case.name, value.name, count, sqnr(f, a), sqnr(f, b), same(f, a), same(f, b))


def ours(file: Path, samples: np.ndarray, scratch: Path, **settings: Any) -> Path | None:
    """The quantized file, None for a network of which nothing becomes integer; what stays in float is told by `benchmarks.coverage`."""
    from quantizeml.models import load_model, quantize, save_model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Path(save_model(quantize(load_model(file), samples=samples, **settings), scratch / "ours.onnx"))
        except ModelError:
            return None


def outputs(file: Path, x: np.ndarray) -> list[np.ndarray]:
    """Every output for all samples, in the batches that the model allows."""
    opened = session(file, precise=True)
    entry = opened.get_inputs()[0]
    size = entry.shape[0] if isinstance(entry.shape[0], int) else BATCH
    parts = [opened.run(None, {entry.name: x[i:i + size]}) for i in range(0, len(x), size)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def same(real: np.ndarray, quantized: np.ndarray) -> float:
    """Share of samples, or of their pixels, whose largest channel is the same."""
    return float(np.mean(real.argmax(axis=1) == quantized.argmax(axis=1)))


def table(rows: Sequence[Head]) -> Table:
    made = Table(title="Signal over error on samples that did not calibrate, dB")
    for heading in ("network", "output", "samples", "ours", "onnxruntime", "same", "same, onnxruntime"):
        made.add_column(heading, justify="left" if heading in ("network", "output") else "right")
    for row in rows:
        less = "[red]" if row.ours < row.onnxruntime else ""
        made.add_row(row.net, row.output, str(row.count), f"{less}{row.ours:.1f}", f"{row.onnxruntime:.1f}", f"{row.same:.1%}", f"{row.same_onnxruntime:.1%}")
    return made


def load(file: Path) -> np.ndarray:
    with np.load(file) as arrays:
        return np.concatenate([arrays[name] for name in arrays.files])


def cases(args: argparse.Namespace) -> Iterator[Case]:
    if args.model:
        yield Case(args.model.stem, without_softmax(onnx.load(str(args.model))), load(args.samples), load(args.held))
    else:
        yield from (case(name, max(args.counts), seed) for name in args.nets for seed in args.seeds)


def averaged(rows: Sequence[Head]) -> list[Head]:
    """One row for each network, output and count: the mean over seeds."""
    alike: dict[tuple[str, str, int], list[Head]] = {}
    for row in rows:
        alike.setdefault((row.net, row.output, row.count), []).append(row)
    return [Head(*key, *(float(np.mean(column)) for column in zip(*(astuple(row)[3:] for row in group), strict=True))) for key, group in alike.items()]


def main() -> None:
    args = _arguments()
    peers.quiet_onnxruntime()
    rows: list[Head] = []
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    for found in cases(args):
        with tempfile.TemporaryDirectory() as scratch:
            rows += heads(found, [n for n in args.counts if n <= len(found.samples)], Path(scratch), args.target)
    rows = averaged(rows)
    console.print(table(rows))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("nets", nargs="*", default=[*ZOO, *DEFAULT_NETS], metavar="NET")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="numbers of calibration samples")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0,), help=f"choices of calibration samples; not {HELD_SEED}, which judges, nor {LEVEL_SEED}")
    parser.add_argument("--target", default="generic", help="of our quantizer")
    parser.add_argument("--model", type=Path, help="a float network of one's own, with")
    parser.add_argument("--samples", type=Path, help="samples that calibrate")
    parser.add_argument("--held", type=Path, help="and samples that judge")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    if args.model and not (args.samples and args.held):
        parser.error("--model needs --samples and --held")
    return args


if __name__ == "__main__":
    main()
