"""The quickstart does what the README promises, through the installed script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    here = tmp_path_factory.mktemp("quickstart")
    done = subprocess.run([sys.executable, "-m", "examples.quickstart"], cwd=here, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (here / "build" / "quickstart").iterdir()} == {
        "samples.npz", "mobilenetv2_mnist_i8_w8_a8.onnx", "mobilenetv2_mnist_i8_w4_a4.onnx"}
    return done.stdout


@pytest.mark.parametrize("line", [
    "98.9 %",
    "integer 8/8/8",
    "integer 8/4/4",
    "quantizeml check -m build/quickstart/mobilenetv2_mnist_i8_w8_a8.onnx",
    "--target akida2",
])
def test_the_quickstart_shows(output: str, line: str) -> None:
    assert line in output
