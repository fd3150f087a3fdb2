"""What all function bodies share: the record, the accumulators' reach, and lines of ONNX text that several kinds use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantizeml_core import numerics
from quantizeml_core.blocks import Block
from quantizeml_core.program import Program
from quantizeml_core.solve import convolution_area


POOL_ATTRIBUTES = ("pool_size", "pool_strides", "pool_pads")


@dataclass(frozen=True)
class Body:
    """A function body: its overload key, its lines, the node attributes it refers to, why a slower form was needed (empty for the fast
    one), and the tensors it gives, the block's own first."""

    overload: str
    lines: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    slow: str = ""
    outputs: tuple[str, ...] = ("Z",)


def reach(program: Program, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Worst-case accumulators per filter, after bias, before post-operations."""
    return numerics.accumulator_reach(block.arrays["weight"], block.arrays.get("bias"), *padded_range(program, block))


def partial_sums(program: Program, block: Block) -> int:
    """No partial sum of products can exceed this, in whatever order they are added."""
    low, high = program.input_range(block)
    weight = np.abs(block.arrays["weight"].astype(np.int64)).reshape(len(block.arrays["weight"]), -1)
    return int(weight.sum(axis=1).max()) * max(-low, high)


def padded_range(program: Program, block: Block) -> tuple[int, int]:
    low, high = program.input_range(block)
    pad = block.arrays.get("pad_value", np.zeros(1, np.int64)) if any(block.pads) else np.zeros(1, np.int64)
    return min(low, int(pad.min()), 0), max(high, int(pad.max()))


def after_pool(block: Block, program: Program, reach: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Reach at the tail's input: a table's entries, non-negative after a ReLU, summed over the image by a global average."""
    low, high = reach
    if "table" in block.arrays:
        low, high = np.full_like(low, block.arrays["table"].min()), np.full_like(high, block.arrays["table"].max())
    elif block.activation:
        low, high = np.maximum(low, 0), np.maximum(high, 0)
    if block.pool and block.pool.kind == "gap":
        area = convolution_area(block, program.shapes[block.inputs[0]])
        low, high = low * area, high * area
    return low, high


def unsigned(source: str, target: str, signed: bool) -> list[str]:
    """int8 -> uint8: free for non-negative data; signed data moves by 128 (addition wraps), which becomes the zero point."""
    if not signed:
        return [f"{target} = Cast <to = 2> ({source})"]
    return [f"{target}0 = Cast <to = 2> ({source})", f"{target}8 = Constant <value = uint8 {{128}}> ()", f"{target} = Add ({target}0, {target}8)"]


def biased(block: Block, source: str, target: str, rank: int) -> list[str]:
    if "bias" not in block.arrays:
        return [f"{target} = Identity ({source})"]
    return [*wide_bias(rank), f"{target} = Add ({source}, bw)"]


def wide_bias(rank: int) -> list[str]:
    """`bw`, the bias along the channels."""
    return [f"bs = Constant <value_ints = {'[1, -1, 1, 1]' if rank == 4 else '[1, -1]'}> ()", "bw = Reshape (bias, bs)"]


def activation(block: Block, source: str, target: str) -> list[str]:
    """ReLU or clipped ReLU on int32 accumulators."""
    if block.activation is None:
        return [f"{target} = Identity ({source})"]
    if "bound" not in block.arrays:
        return [f"{target} = Relu ({source})"]
    return [f"{target}0 = Relu ({source})", f"{target} = Min ({target}0, max_value)"]


def is_dilated(block: Block) -> bool:
    return block.dilations != (1, 1)


def geometry(block: Block, pads: Sequence[int]) -> str:
    """Attributes of a convolution, those of its node and its pads."""
    apart = "dilations: ints = @dilations, " if is_dilated(block) else ""
    return f"strides: ints = @strides, {apart}pads = [{', '.join(map(str, pads))}]"


def attribute_names(block: Block) -> tuple[str, ...]:
    pooled = POOL_ATTRIBUTES if block.pool and block.pool.kind == "max" else ()
    return ("strides", *(("dilations",) if is_dilated(block) else ()), *pooled)
