"""The guide's Keras flow on a real trained network: load a `.h5`, quantize to 8 and to 4 bits, evaluate, train, evaluate, export to ONNX.

    python -m examples.quickstart_keras

`models/dscnn_mnist_k2.h5` was written by tf_keras, the generation of the guide. Every figure is computed here, on the 1000 test digits.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from .trained import NETS, accuracy, run, sqnr

NET = NETS["dscnn_mnist"]
OUT = Path("build/quickstart")
EPOCHS = 3
PIPE_WIDTH = 120


def main() -> int:
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=PIPE_WIDTH)
    console.print(f"Keras: load {NET.h5.name}, quantize, train for {EPOCHS} epochs, export", soft_wrap=True)
    rows, exported = flow()
    console.print(_table(rows))
    console.print(f"The 4-bit network, trained, in plain onnxruntime: {exported}", soft_wrap=True)
    return 0


def flow() -> tuple[list[tuple[str, np.ndarray]], str]:
    """(what it is, outputs on the test part) of every stage, and the exported file."""
    from quantizeml.models import QuantizationParams, export, load_model, quantize, save_model
    x, _ = NET.test()
    samples = NET.samples()
    OUT.mkdir(parents=True, exist_ok=True)

    model = load_model(NET.h5)
    eight = quantize(model, qparams=QuantizationParams(input_weight_bits=8, weight_bits=8, activation_bits=8), samples=samples)
    four = quantize(model, qparams=QuantizationParams(input_weight_bits=8, weight_bits=4, activation_bits=4), samples=samples)
    rows = [("float, from .h5", _outputs(model, x)), ("integer 8/8/8", _outputs(eight, x)), ("integer 8/4/4", _outputs(four, x))]

    train(four)
    save_model(four, OUT / "dscnn_mnist_i8_w4_a4.keras")
    rows.append((f"integer 8/4/4, {EPOCHS} epochs", _outputs(four, x)))
    exported = export(four, OUT / "dscnn_mnist_i8_w4_a4.onnx")
    rows.append(("the same, in onnxruntime", run(exported, x)))
    return rows, os.path.relpath(exported)


def train(quantized: Any) -> None:
    """Quantization-aware training is training: compile and fit."""
    from .keras_training import prepare_training
    x, labels = prepare_training(quantized, NET)
    quantized.fit(x, labels, batch_size=64, epochs=EPOCHS, verbose=0)


def _outputs(model: Any, x: np.ndarray) -> np.ndarray:
    return model.predict(x, batch_size=100, verbose=0)


def _table(rows: list[tuple[str, np.ndarray]]) -> Table:
    labels, floats = NET.test()[1], rows[0][1]
    made = Table(title=f"{NET.name} on {len(labels)} test digits")
    made.add_column("network")
    for name in ("accuracy", "SQNR"):
        made.add_column(name, justify="right")
    for index, (name, outputs) in enumerate(rows):
        made.add_row(name, f"{100 * accuracy(outputs, labels):.1f} %", f"{sqnr(floats, outputs):.1f} dB" if index else "")
    return made


if __name__ == "__main__":
    sys.exit(main())
