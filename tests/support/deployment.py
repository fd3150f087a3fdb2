"""Whether a deployment form computes its program: every block's kernel on the integers that the form itself gives it, but for negative ties."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from quantizeml_core import kernels, numerics
from quantizeml_core.blocks import ENTRIES, LINEAR, Block
from quantizeml_core.program import Program
from quantizeml_onnx import readback
from quantizeml_onnx.deploy import deployed
from quantizeml_onnx.deploy.graph import zero_points
from quantizeml_onnx.observe import session
from quantizeml_onnx.quantized import dequantized

Values = Mapping[str, np.ndarray]


def integers(model: onnx.ModelProto, form: onnx.ModelProto, program: Program, feeds: Values) -> Values:
    """By tensor of the program, the integers that its bytes stand for; the floats of accumulators that are nowhere in the form. What a convolution writes shuffled
    is put back."""
    made, zeros = {t for n in form.graph.node for t in n.output}, zero_points(program)
    names = {real: integer for integer, real in dequantized(model).items() if integer in made}
    shuffled = {b.inputs[0]: b for b in program.blocks if b.kind == "select" and b.inputs[0] not in names and b.inputs[0] not in made}
    tensors = [b.output for b in program.blocks if b.output not in shuffled]
    exposed = onnx.ModelProto()
    exposed.CopyFrom(form)
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=names.get(t, t)) for t in tensors)
    values = session(exposed.SerializeToString()).run([names.get(t, t) for t in tensors], dict(feeds))
    found = {t: v if v.dtype == np.float32 else v.astype(np.int64) - zeros.get(t, 0) for t, v in zip(tensors, values, strict=True)}
    return found | {t: found[b.output][:, np.argsort(b.arrays["channels"])] for t, b in shuffled.items()}


def ties_down(block: Block, x: np.ndarray) -> np.ndarray:
    """The kernel of a signed convolution or dense layer, but that a negative tie goes down. Max pooling commutes with that."""
    acc = kernels.accumulator(block, x)
    m, f = (np.reshape(block.arrays[n].astype(np.int64), (1, -1, *(1,) * (acc.ndim - 2))) for n in ("multiplier", "shift"))
    tie = (acc < 0) & ((acc * m) % (1 << f) == 1 << (f - 1))
    rounded = np.clip(numerics.requantize(acc, m, f, -(2**40), 2**40) - tie, *block.arrays["range"])
    return kernels.max_pool(rounded, block.pool) if block.pool else rounded


def negative_ties(block: Block, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where a product is negative and halfway between two integers."""
    m, f = (int(block.arrays[n].flat[0]) for n in ("multiplier", "shift"))
    return (x * y < 0) & ((x * y * m) % (1 << f) == 1 << (f - 1))


def check(model: onnx.ModelProto, feeds: Values) -> None:
    """Every block computes its kernel on the integers that the form itself gives it, but for negative ties."""
    program = readback.program(model)
    found = integers(model, deployed(model), program, feeds)
    for block in program.blocks:
        given = [feeds[t] if block.kind in ENTRIES else found[t] for t in block.inputs]
        expected = kernels.KERNELS[block.kind](block, *given)
        got = found[block.output].reshape(expected.shape)
        signed = block.kind in LINEAR and block.activation is None and "multiplier" in block.arrays and "table" not in block.arrays
        if signed and not np.array_equal(got, expected):
            down = ties_down(block, *given)
            expected = np.where(got == down, down, expected)  # a ratio that is exact sends ties to even
        if block.kind == "multiply" and not np.array_equal(got, expected):
            assert np.abs(got - expected).max() == 1
            expected = np.where(negative_ties(block, *given), got, expected)
        if got.dtype == np.float32:
            expected = program.formats[block.output].dequantize(expected)
        assert np.array_equal(got, expected), block.name
