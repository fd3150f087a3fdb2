"""What quantization of Keras networks costs, before and after training: accuracy and output SQNR of ours and of the reference, side by side.

    python -m benchmarks.keras_accuracy [--nets NET ...] [--epochs N] [--json FILE]

All see the same 1024 samples of the train part and are judged on the whole test part. The reference quantizes the `.h5` twin that tf_keras wrote;
it is asked for 8/8/8 and 8/4/4 (first weights / weights / activations). Ours is then trained: Adam, learning rate 1e-4, batches of 64, seed 0.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from rich.console import Console
from rich.table import Table

from examples.keras_training import prepare_training
from examples.make_samples import write_samples
from examples.trained import NETS, Net, accuracy, sqnr

from . import peers

KERAS_NETS = ("dscnn_mnist", "resnet_mnist", "mlp_breast_cancer")
SCHEMES = ((8, 8, 8), (8, 4, 4))


@dataclass(frozen=True)
class Score:
    """Accuracy (share) and output SQNR against float (dB)."""

    accuracy: float
    sqnr: float


@dataclass(frozen=True)
class Row:
    """One network in one scheme; None where the reference has no answer. `trained`: accuracy after training."""

    net: str
    scheme: str
    float_accuracy: float
    ours: Score
    trained: float
    reference: Score | None


def rows(net: Net, epochs: int, scratch: Path) -> list[Row]:
    from quantizeml.models import load_model
    model, (x, labels) = load_model(net.keras), net.test()
    floats = model.predict(x, verbose=0)
    return [_row(net, model, x, labels, floats, bits, epochs, scratch) for bits in SCHEMES]


def _row(net: Net, model: Any, x: np.ndarray, labels: np.ndarray, floats: np.ndarray, bits: tuple[int, int, int], epochs: int, scratch: Path) -> Row:
    from quantizeml_core.api import quantize_model
    from quantizeml_core.params import QuantizationParams
    params = QuantizationParams(input_weight_bits=bits[0], weight_bits=bits[1], activation_bits=bits[2])
    quantized = quantize_model(model, qparams=params, samples=net.samples()).model
    before = quantized.predict(x, verbose=0)
    inputs, targets = prepare_training(quantized, net)
    quantized.fit(inputs, targets, batch_size=64, epochs=epochs, verbose=0)
    after = quantized.predict(x, verbose=0)
    reference = _reference(net, x, bits, scratch)
    return Row(net.name, "/".join(map(str, bits)), accuracy(floats, labels), Score(accuracy(before, labels), sqnr(floats, before)),
               accuracy(after, labels), None if reference is None else Score(accuracy(reference, labels), sqnr(floats, reference)))


def _reference(net: Net, x: np.ndarray, bits: tuple[int, int, int], scratch: Path) -> np.ndarray | None:
    """Outputs of the reference's quantized model, None when it is not installed or refuses the network."""
    i, w, a = map(str, bits)
    samples, out = write_samples(net, scratch / f"{net.name}.npz"), scratch / f"{net.name}_{i}{w}{a}.h5"
    flags = ("-i", i, "-w", w, "-a", a, *peers.REFERENCE_FLAGS.get(net.name, ()))
    made = peers.quantize_with_reference(_for_the_reference(net.h5, scratch), samples, out, flags)
    script = peers.reference_script()
    if made is None or script is None:
        return None
    inputs, outputs = scratch / "x.npy", scratch / "y.npy"
    np.save(inputs, x)
    command = [str(script.with_name("python")), str(Path(__file__).with_name("reference_predict.py")), str(made), str(inputs), str(outputs)]
    done = subprocess.run(command, env=peers.reference_environment(), capture_output=True)
    return np.load(outputs) if done.returncode == 0 else None


def _for_the_reference(model: Path, scratch: Path) -> Path:
    """A copy without the one word that the reference's own tf_keras (2.19) does not know."""
    copy = Path(shutil.copy(model, scratch / model.name))
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace(', "optional": false', "")
    return copy


def table(found: Sequence[Row], epochs: int) -> Table:
    made = Table(title="Keras: accuracy and output SQNR against float")
    for name in ("network", "scheme"):
        made.add_column(name, no_wrap=True)
    for name in ("float", "ours", "dB", f"after {epochs} epochs", "reference", "dB"):
        made.add_column(name, justify="right")
    for row in found:
        made.add_row(row.net, row.scheme, _percent(row.float_accuracy), *_cells(row.ours), _percent(row.trained), *_cells(row.reference))
    return made


def _cells(score: Score | None) -> tuple[str, str]:
    return ("-", "-") if score is None else (_percent(score.accuracy), f"{score.sqnr:.1f}")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--nets", nargs="+", choices=KERAS_NETS, default=KERAS_NETS)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = [row for name in args.nets for row in rows(NETS[name], args.epochs, Path(scratch))]
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=150)
    console.print(table(found, args.epochs))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in found], indent=1))


if __name__ == "__main__":
    main()
