"""The Keras quickstart does what the README promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_guides_flow(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "examples.quickstart_keras"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in done.stdout.splitlines() if line.startswith("│")]
    assert [row[0] for row in rows] == ["float, from .h5", "integer 8/8/8", "integer 8/4/4", "integer 8/4/4, 3 epochs", "the same, in onnxruntime"]
    assert rows[0][1] == "98.6 %" and rows[-1][1:] == rows[-2][1:], "trained integers are the same in Keras and in onnxruntime"
    assert {path.name for path in (tmp_path / "build" / "quickstart").iterdir()} == {"dscnn_mnist_i8_w4_a4.keras", "dscnn_mnist_i8_w4_a4.onnx"}
