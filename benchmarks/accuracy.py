"""What quantization costs: accuracy, coverage and output SQNR of ours, onnxruntime's static quantizer and the reference, side by side.

    python -m benchmarks.accuracy [--nets NET ...] [--seed N] [--json FILE]

Every row is one network in one scheme (first weights / weights / activations). All three see the same 1024 samples of the train part (the
first ones, or a choice by `--seed`: MinMax figures move by a decibel with the choice), and are judged on the whole test part.
A dash: the peer has no such scheme for ONNX networks, refuses the network, or is not installed. onnxruntime's activations are per-tensor in
every row.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from examples.make_samples import write_samples
from examples.trained import CALIBRATION_SAMPLES, NETS, Net, accuracy, run, sqnr

from . import peers

DEFAULT_NETS = ("dscnn_mnist", "resnet_mnist", "mobilenetv2_mnist", "mlp_breast_cancer")
MOVES_DATA = frozenset({"Constant", "Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast"})


@dataclass(frozen=True)
class Scheme:
    """Bits and axes. The peers quantize ONNX networks to 8/8/8 only."""

    bits: tuple[int, int, int]
    per_tensor: bool

    @property
    def name(self) -> str:
        return "/".join(map(str, self.bits)) + (" per-tensor" if self.per_tensor else " per-axis")

    @property
    def has_peers(self) -> bool:
        return self.bits == (8, 8, 8)

    @property
    def flags(self) -> tuple[str, ...]:
        i, w, a = map(str, self.bits)
        return ("-i", i, "-w", w, "-a", a, *(["--per_tensor_activations"] if self.per_tensor else []))


SCHEMES = tuple(Scheme(bits, per_tensor) for bits in ((8, 8, 8), (8, 4, 4)) for per_tensor in (False, True))


@dataclass(frozen=True)
class Score:
    """Accuracy (share), output SQNR against float (dB), and the float operations that are left (empty: full coverage)."""

    accuracy: float
    sqnr: float
    float_ops: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One network in one scheme; None where a peer has no answer."""

    net: str
    scheme: str
    float_accuracy: float
    ours: Score
    onnxruntime: Score | None
    reference: Score | None


class Bench:
    """One network with its samples and its float outputs, computed once for all schemes."""

    def __init__(self, net: Net, count: int, seed: int | None, scratch: Path) -> None:
        self.net, self.samples, self.scratch = net, net.samples(count, seed), scratch
        self.samples_file = write_samples(net, scratch / f"{net.name}.npz", count, seed)
        self.x, self.labels = net.test()
        self.floats = run(net.path, self.x)
        qdq = peers.quantize_with_onnxruntime(net.path, self.samples, scratch / f"{net.name}_qdq.onnx")
        self.onnxruntime = self.score(qdq)

    def row(self, scheme: Scheme) -> Row:
        return Row(self.net.name, scheme.name, accuracy(self.floats, self.labels), self.ours(scheme),
                   self.onnxruntime if scheme.has_peers else None, self.reference(scheme) if scheme.has_peers else None)

    def ours(self, scheme: Scheme) -> Score:
        from quantizeml.models import QuantizationParams, load_model, quantize
        i, w, a = scheme.bits
        params = QuantizationParams(input_weight_bits=i, weight_bits=w, activation_bits=a, per_tensor_activations=scheme.per_tensor)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a partial quantization is told by the coverage column
            model = quantize(load_model(self.net.path), qparams=params, samples=self.samples)
        return self.score(model, float_ops(model))

    def reference(self, scheme: Scheme) -> Score | None:
        import onnx
        out = self.scratch / f"{self.net.name}_{scheme.per_tensor}_reference.onnx"
        flags = (*scheme.flags, *peers.REFERENCE_FLAGS.get(self.net.name, ()))
        made = peers.quantize_with_reference(self.net.path, self.samples_file, out, flags)
        return self.score(made, float_ops(onnx.load(str(made)))) if made else None

    def score(self, model: Any, left: Sequence[str] = ()) -> Score:
        outputs = run(model, self.x)
        return Score(accuracy(outputs, self.labels), sqnr(self.floats, outputs), tuple(left))


def float_ops(model: Any) -> tuple[str, ...]:
    """Operations of a quantized graph that compute in float: those of no quantized domain, data movements not counted."""
    return tuple(node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx") and node.op_type not in MOVES_DATA)


def table(rows: Sequence[Row]) -> Table:
    made = Table(title="Accuracy and output SQNR against float")
    for name in ("network", "scheme"):
        made.add_column(name, no_wrap=True)
    for name in ("float", "ours", "dB", "in float", "onnxruntime", "dB", "reference", "dB", "in float"):
        made.add_column(name, justify="right")
    for row in rows:
        made.add_row(row.net, row.scheme, _percent(row.float_accuracy), *_cells(row.ours, True), *_cells(row.onnxruntime),
                     *_cells(row.reference, True), end_section=row.scheme == SCHEMES[-1].name)
    return made


def _cells(score: Score | None, coverage: bool = False) -> list[str]:
    if score is None:
        return ["-"] * (3 if coverage else 2)
    return [_percent(score.accuracy), f"{score.sqnr:.1f}", *([", ".join(score.float_ops) or "nothing"] if coverage else [])]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def main() -> None:
    args = _arguments()
    peers.quiet_onnxruntime()
    with tempfile.TemporaryDirectory() as scratch:
        benches = (Bench(NETS[name], args.samples, args.seed, Path(scratch)) for name in args.nets)
        rows = [bench.row(scheme) for bench in benches for scheme in SCHEMES]
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=150)
    console.print(table(rows))
    if peers.reference_script() is None:
        console.print("The reference is not installed: benchmarks/peer_env.sh makes its environment.")
    if args.json:
        settings = {"samples": args.samples, "seed": args.seed, "onnxruntime": version("onnxruntime"), "reference": peers.REFERENCE}
        args.json.write_text(json.dumps(settings | {"rows": [asdict(row) for row in rows]}, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=DEFAULT_NETS)
    parser.add_argument("--samples", type=int, default=CALIBRATION_SAMPLES)
    parser.add_argument("--seed", type=int, help="calibrate with a seeded choice of the train part instead of its first rows")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
