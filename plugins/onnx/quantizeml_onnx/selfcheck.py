"""How onnxruntime multiplies bytes on this machine, told by tiny programs within milliseconds.

    saturating()         x86 without VNNI adds pairs of products of unsigned and signed bytes in 16 bits, which saturates where both are large
    inexact_kernels()    the bodies that the emitter writes avoid that; should one be wrong all the same, on a processor nobody has seen, it is named here
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from onnx import parser

from quantizeml_core.blocks import Activation, Block
from quantizeml_core.program import Format, Program
from quantizeml_core.testing import Mismatch, differences

from .observe import session
from .realize import from_program
from .testing import boundaries

CHANNELS, SIZE = 64, 5
PRODUCT = f"""<ir_version: 8, opset_import: ["" : 17]> largest (uint8[{CHANNELS},{CHANNELS}] x, int8[{CHANNELS},{CHANNELS}] w) => (int32[{CHANNELS},{CHANNELS}] y)
    {{ y = MatMulInteger (x, w) }}"""


@lru_cache(maxsize=1)
def saturating() -> bool:
    """Whether sums of the largest bytes by the largest signed weights are wrong here."""
    shape = (CHANNELS, CHANNELS)
    feeds = {"x": np.full(shape, 255, np.uint8), "w": np.full(shape, 127, np.int8)}
    (sums,) = session(parser.parse_model(PRODUCT).SerializeToString()).run(None, feeds)
    return bool((sums != 255 * 127 * CHANNELS).any())


@lru_cache(maxsize=1)
def inexact_kernels() -> tuple[Mismatch, ...]:
    """The blocks of the probe that onnxruntime gets wrong here; empty on an exact machine."""
    program = probe()
    rows = [np.full((1, CHANNELS, SIZE, SIZE), value, np.float32) for value in (1e9, -1e9, 0.0)]
    return differences(program, {"x": np.concatenate(rows)}, lambda feeds: boundaries(from_program(program), feeds))


def probe() -> Program:
    """Activations and weights at their ends, through QLinearConv, depthwise too, ConvInteger and MatMulInteger; no output saturates but those of `ends`.

    `ends` makes the full int8 range (+127 and -128). Only pairs of adjacent channels have weights: one wrong pair shows in the result.
    """
    relu = Activation("relu")
    pad = {"pad_value": np.full(CHANNELS, 128, np.int32), "bias": np.full(CHANNELS, -128 * 254, np.int64)}
    blocks = (
        Block("quantize", "input", ("x",), "q", perm=(0, 1, 2, 3), arrays={"scale": _ones(), "zero_point": np.full(CHANNELS, 128, np.uint8)}),
        _conv("unsigned", "q", "a", relu, 16, pad),
        _conv("ends", "a", "b", None, 14, {}),
        _conv("signed", "b", "c", relu, 16, {}),
        _conv("integer", "b", "d", None, 16, {}),
        Block("sum", "add", ("b", "d"), "e", arrays={"x_shift": np.full(CHANNELS, 64), "y_shift": np.ones(CHANNELS, np.int64), "shift": np.full(CHANNELS, 7),
                                                     "range": np.array([-128, 127])}),
        Block("dense", "dense", ("b",), "y", flatten=True, arrays={"weight": _signs(8, CHANNELS * SIZE * SIZE)}),
    )
    formats = {b.output: Format(8, True, np.ones(CHANNELS)) for b in blocks}
    formats |= {"q": Format(8, False, np.ones(CHANNELS), np.full(CHANNELS, 128)), "y": Format(32, True, np.ones(8))}
    shapes = {t: (None, CHANNELS, SIZE, SIZE) for t in "xqabcde"} | {"y": (None, 8)}
    return Program(blocks, formats, ("y", "c", "e"), shapes)


def _conv(name: str, source: str, output: str, activation: Activation | None, shift: int, extra: dict[str, np.ndarray]) -> Block:
    weight = np.zeros((CHANNELS, CHANNELS, 3, 3), np.int8)
    weight[:, :2, 1, 1] = _signs(CHANNELS, 2)
    tail = {"multiplier": np.full(CHANNELS, 131, np.uint8), "shift": np.full(CHANNELS, shift, np.int32), "range": np.array([-128, 127])}
    return Block(name, "conv2d", (source,), output, pads=(1, 1, 1, 1), activation=activation, arrays={"weight": weight, **tail, **extra})


def _signs(rows: int, columns: int) -> np.ndarray:
    """+127 in the first half of the rows, -127 in the second, so that pairs of products add up."""
    return np.repeat(np.where(np.arange(rows) < rows // 2, 127, -127)[:, None], columns, axis=1).astype(np.int8)


def _ones() -> np.ndarray:
    return np.ones(CHANNELS, np.float32)
