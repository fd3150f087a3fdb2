"""What the Akida converter would refuse in a quantized file, and which nodes run a slower body, as findings.

The rules restate the converter's published behaviour (docs/targets.md). They are checked on the integer program, before and after it is written.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from quantizeml_core import numerics
from quantizeml_core.blocks import ENTRIES, Block
from quantizeml_core.geometry import kernel_of, output_size, same_pads
from quantizeml_core.program import Program
from quantizeml_core.report.findings import Finding
from quantizeml_core.target import Target

from . import contract, functions, selfcheck


def findings(program: Program, target: Target) -> tuple[Finding, ...]:
    """Contract violations (warnings on an Akida 2.0 target, information elsewhere) and slow bodies (information).

    Where the target has tables, kernels, strides and pads are told by their rows (QML301), not once more here.
    """
    severity = "warning" if target.name == "akida2" else "info"
    told = {fact for block in program.blocks for fact in _geometry(program, block)} if target.limits else set()
    found = [Finding("QML201", severity, *fact) for fact in violations(program) if fact not in told]
    slow = [Finding("QML210", "info", b.name, f"runs a slower exact body: {reason}") for b in program.blocks if (reason := functions.body(program, b).slow)]
    return (*machine(), *found, *slow)


def machine() -> tuple[Finding, ...]:
    """A warning when onnxruntime's byte kernels are not exact on this machine."""
    wrong = sorted({m.block for m in selfcheck.inexact_kernels()})
    message = f"onnxruntime multiplies bytes inexactly on this CPU (probe: {', '.join(wrong)}); the file is right, and exact on others"
    return (Finding("QML220", "warning", "", message, "Run it elsewhere before judging its accuracy"),) if wrong else ()


def violations(program: Program) -> Iterator[tuple[str, str, str]]:
    """(block, fact, what to do) for everything outside the converter's contract."""
    yield from _graph(program)
    for block in program.blocks:
        for reason in contract.reasons(program, block):
            yield block.name, f"{reason} is not in the converter's contract", f"Quantize with{'out --islands' if block.kind == 'resume' else ' --target akida2'}"
        yield from _geometry(program, block)
        if "bias" in block.arrays and not _fits_mantissa(block.arrays["bias"], 7):
            yield block.name, "the bias has more than 8 bits of mantissa; the converter would round it", "Quantize with --target akida2"
        if "bound" in block.arrays and not _fits_mantissa(block.arrays["bound"], 8):
            yield block.name, "the activation's bound has more than 8 bits of mantissa; the converter would round it", "Quantize with --target akida2"


def _graph(program: Program) -> Iterator[tuple[str, str, str]]:
    inputs = [b for b in program.blocks if b.kind in ENTRIES]
    if len(inputs) != 1:
        islands = f" ({len(program.resumed)} of them behind float operations)" if program.resumed else ""
        yield "", f"{len(inputs)} inputs{islands}, the converter takes one", "Quantize without --islands" if islands else "Split the network"
    if len(program.outputs) != 1:
        yield "", f"{len(program.outputs)} outputs behind one Dequantizer, the converter takes one", "Cut the network at one tensor with -qu/--quantize_until"
    for block in inputs:
        readers = [b.name for b in program.blocks if block.output in b.inputs]
        if len(readers) != 1:
            yield block.name, f"the input has {len(readers)} consumers, the converter takes one", "Insert a layer behind the input"
        if block.perm and block.perm not in (tuple(range(len(block.perm))), (0, len(block.perm) - 1, *range(1, len(block.perm) - 1))):
            yield block.name, f"the input is transposed by {block.perm}", "Export the network channels-first or channels-last"


def _geometry(program: Program, block: Block) -> Iterator[tuple[str, str, str]]:
    if block.kind not in ("conv2d", "depthwise2d"):
        return
    kernel = kernel_of(block)
    if kernel[0] != kernel[1] or block.strides[0] != block.strides[1]:
        yield block.name, f"kernel {kernel} with strides {block.strides} is not square", "Use square kernels and strides"
    height, width = (int(s or 0) for s in program.shapes[block.inputs[0]][2:4])
    if not pads_allowed(block, (height, width), kernel):
        yield block.name, f"pads {block.pads} (top, left, bottom, right) are neither valid nor the converter's `same`", "Export with padding='same'"
    pool = block.pool
    if pool and pool.kind == "max":
        if pool.size[0] != pool.size[1] or pool.strides[0] != pool.strides[1]:
            yield block.name, f"pooling {pool.size} with strides {pool.strides} is not square", "Use square pooling"
        out = output_size((height, width), kernel, block.strides, block.pads)
        wanted = same_pads(out, pool.size, pool.strides) if any(block.pads) else (0, 0, 0, 0)
        if pool.pads != wanted and any(pool.pads):
            yield block.name, f"pooling pads {pool.pads}, the converter takes {wanted}", "Export with padding='same'"


def pads_allowed(block: Block, size: tuple[int, int], kernel: tuple[int, ...]) -> bool:
    """Valid, `same`, or - at stride 2 with a 3x3 kernel (3, 5, 7 in an input convolution), without max pooling - `same` upside down or symmetric."""
    same = same_pads(size, kernel, block.strides)
    if block.pads in ((0, 0, 0, 0), same):
        return True
    sizes = (3, 5, 7) if "pad_value" in block.arrays else (3,)
    relaxed = block.strides == (2, 2) and kernel[0] in sizes and not (block.pool and block.pool.kind == "max")
    symmetric = (same[2], same[3], same[2], same[3])
    return relaxed and block.pads in ((same[2], same[3], same[0], same[1]), symmetric)


def _fits_mantissa(values: np.ndarray, bits: int) -> bool:
    return bool(np.array_equal(numerics.align_mantissa(values, bits), values.astype(np.int64)))
