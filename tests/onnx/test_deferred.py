"""What no network of known sizes asks for is not imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NET = Path(__file__).parents[2] / "examples/models/dscnn_mnist.onnx"


def run(code: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.splitlines()


def test_reading_and_checking_a_network_needs_no_algebra() -> None:
    code = "from quantizeml_core.cli import build; import sys; " \
           f"build()(['check', '-m', {str(NET)!r}], standalone_mode=False); print('onnx_ir' in sys.modules, 'sympy.core' in sys.modules)"
    assert run(code)[-1] == "True False"


def test_a_size_is_still_computed() -> None:
    assert run("import quantizeml_onnx.deferred, onnx_ir, sys; print(2 * onnx_ir.SymbolicDim('N') + 1, 'sympy.core' in sys.modules)") == ["2*N + 1 True"]
