"""The first minute: a real trained network, real calibration samples, the command line, and what came of it.

    python -m examples.quickstart

Quantizes `models/mobilenetv2_mnist.onnx` with 1024 digits of the train part to 8/8/8 and 8/4/4 bits (first weights / weights / activations)
by running the installed `quantizeml` script, then compares the files with the float network on the 1000 test digits in plain onnxruntime.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .make_samples import write_samples
from .trained import NETS, accuracy, run, sqnr

NET = NETS["mobilenetv2_mnist"]
OUT = Path("build/quickstart")
SCHEMES = ((8, 8, 8), (8, 4, 4))
PIPE_WIDTH = 120


def main() -> int:
    script = shutil.which("quantizeml", path=Path(sys.executable).parent) or shutil.which("quantizeml")
    if script is None:
        sys.exit("The script `quantizeml` is not installed here. Install `.` and `plugins/onnx` with pip, or run `make quickstart`.")
    samples = write_samples(NET, OUT / "samples.npz")
    model = Path(os.path.relpath(NET.path))
    results = [_quantize(script, model, samples, bits) for bits in SCHEMES]
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=PIPE_WIDTH)
    console.print(_table(results))
    console.print(_next_steps(model, samples, results), soft_wrap=True, markup=False)
    return 0


def _quantize(script: str, model: Path, samples: Path, bits: tuple[int, int, int]) -> dict[str, Any]:
    """What the command says of one quantization, as JSON; its messages go to the terminal, its failure ends the program."""
    i, w, a = map(str, bits)
    saved = OUT / f"{NET.name}_i{i}_w{w}_a{a}.onnx"
    command = ["quantizeml", "quantize", "-m", str(model), "-sa", str(samples), "-i", i, "-w", w, "-a", a, "-s", str(saved)]
    print("$", " ".join(command), flush=True)
    done = subprocess.run([script, *command[1:], "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout) | {"scheme": "/".join((i, w, a))}


def _table(results: list[dict[str, Any]]) -> Table:
    x, labels = NET.test()
    floats = run(NET.path, x)
    table = Table(title=f"{NET.name} on {len(labels)} test digits, in onnxruntime")
    table.add_column("network")
    for name in ("accuracy", "SQNR", "coverage", "size"):
        table.add_column(name, justify="right")
    table.add_column("file", overflow="fold")
    table.add_row("float", _percent(accuracy(floats, labels)), "", "", _kilobytes(NET.path), os.path.relpath(NET.path))
    for result in results:
        outputs = run(result["saved"], x)
        table.add_row(f"integer {result['scheme']}", _percent(accuracy(outputs, labels)), f"{sqnr(floats, outputs):.1f} dB",
                      "{nodes} of {total} nodes".format(**result["coverage"]), _kilobytes(Path(result["saved"])), result["saved"])
    return table


def _next_steps(model: Path, samples: Path, results: list[dict[str, Any]]) -> str:
    steps = (
        ("your own network and samples", "quantizeml quantize -m your_model.onnx -sa your_samples.npz"),
        ("what is inexact, saturates or runs slower, block by block", f"quantizeml check -m {results[0]['saved']}"),
        ("the rules of a hardware target", f"quantizeml quantize -m {model} -sa {samples} --target akida2 -s {OUT}/akida2.onnx"),
    )
    return "\n".join(["Next:", *(f"  # {why}\n  {command}" for why, command in steps)])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _kilobytes(path: Path) -> str:
    return f"{path.stat().st_size / 1000:.0f} kB"


if __name__ == "__main__":
    sys.exit(main())
