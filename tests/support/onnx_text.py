"""Float ONNX networks written as text, and one way to judge what the command line makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from click.testing import CliRunner
from onnx import numpy_helper, parser

from quantizeml_core.cli import build
from quantizeml_core.testing import decibels, differences
from quantizeml_onnx import loading, readback
from quantizeml_onnx.observe import session
from quantizeml_onnx.testing import boundaries

Feeds = Mapping[str, np.ndarray]


def network(text: str, opset: int = 17, **arrays: np.ndarray) -> onnx.ModelProto:
    """`(float[N,3,8,8] x) => (float[N,4,6,6] y) <float[4,3,3,3] w> { y = Conv (x, w) }`, weights seeded where none are given."""
    proto, rng = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {text}'), np.random.default_rng(0)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in proto.graph.value_info}
    for name, shape in shapes.items():
        proto.graph.initializer.append(numpy_helper.from_array(arrays.get(name, rng.normal(0, 0.3, shape)).astype(np.float32), name))
    del proto.graph.value_info[:]
    return proto


def feeds(model: onnx.ModelProto, count: int = 16) -> dict[str, np.ndarray]:
    """Seeded samples for every input, the second twice as large as the first."""
    made = {}
    for i, spec in enumerate(loading.inputs(model)):
        rng, shape = np.random.default_rng(i + 1), (count, *(d or 1 for d in spec.shape[1:]))
        made[spec.name] = rng.integers(0, 9, shape, spec.dtype) if "int" in spec.dtype else (i + 1) * rng.normal(size=shape).astype(spec.dtype)
    return made


def quantize(folder: Path, model: onnx.ModelProto, *flags: str, samples: Feeds | None = None) -> tuple[int, str, onnx.ModelProto | None]:
    """What `quantizeml quantize` says of a file of this model and of samples: exit code, text, and the model it wrote."""
    onnx.save(model, folder / "net.onnx")
    np.savez(folder / "samples.npz", **(samples or feeds(model)))
    words = ["quantize", "-m", "net.onnx", "-sa", "samples.npz", "-s", "out.onnx", *flags]
    done = CliRunner().invoke(build(), [str(folder / w) if w.endswith((".onnx", ".npz")) else w for w in words])
    out = folder / "out.onnx"
    return done.exit_code, done.output, loading.load(out) if out.exists() else None


def judged(model: onnx.ModelProto, quantized: onnx.ModelProto, samples: Feeds | None = None) -> tuple[Any, list[float]]:
    """Integers that differ between a quantized file and its program, and for each output the decibels of signal over error."""
    fed, program = samples or feeds(model), readback.program(quantized)
    assert program is not None
    real, got = (session(m.SerializeToString()).run(None, dict(fed)) for m in (model, quantized))
    return differences(program, fed, lambda f: boundaries(quantized, f)), [decibels(a, b) for a, b in zip(real, got, strict=True)]
