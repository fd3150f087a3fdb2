"""From a `Quantization` to what its layers are told (`layers.spec`), and to the floats they start from.

A trained layer rounds float32 kernels, the core rounded float64 weights: where the two disagree (ties, in practice) the kernel starts in the middle of
the core's integer instead, so that the model starts as the program, integer for integer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from quantizeml_core import numerics
from quantizeml_core.bake import Quantization, zero_point_sum
from quantizeml_core.blocks import LINEAR, Block
from quantizeml_core.entry import spread
from quantizeml_core.program import reach

from .layers.spec import Lattice, Shape, Source, Spec
from .layouts import to_native

#: Arrays of an integer block that a trained layer computes anew.
TRAINED = ("weight", "bias")
#: Shape in which a vector over filters meets the Keras kernel, where filters are not its last axis.
PER_FILTER: Mapping[str, Callable[[tuple[int, ...]], tuple[int, ...]]] = {
    "conv_transpose2d": lambda kernel: (-1, 1), "depthwise2d": lambda kernel: kernel[2:],
}


def spec_of(made: Quantization, block: Block) -> Spec:
    """The specification of one integer block of `made.program`."""
    program = made.program
    sources = () if block.kind == "input" else tuple(Source(*reach(program, t), program.shapes[t]) for t in block.inputs)
    lattice = _lattice(made, block) if block.kind in LINEAR else None
    told = block.with_arrays(**dict.fromkeys(TRAINED))
    return Spec(told, program.formats[block.output], program.shapes[block.output], sources, lattice)


def start_kernel(made: Quantization, block: Block, lattice: Lattice) -> np.ndarray:
    """The float32 kernel, in Keras layout, whose integers are those of the program."""
    shape = made.program.shapes[block.inputs[0]]
    kernel = to_native(block, _weight(_float_block(made, block)), shape).astype(np.float32)
    wanted = to_native(block, _weight(block), shape).astype(np.float32)
    inverse = lattice.inverse_step.reshape(PER_FILTER[block.kind](lattice.shape) if block.kind in PER_FILTER else -1)
    units = kernel * lattice.input_step * inverse
    middle = wanted / (lattice.input_step.astype(np.float64) * inverse)
    return np.where(np.clip(np.rint(units), -lattice.limit, lattice.limit) == wanted, kernel, middle.astype(np.float32))


def _lattice(made: Quantization, block: Block) -> Lattice:
    program, source, real = made.program, block.inputs[0], _float_block(made, block)
    solution, fmt, bits = made.solutions[block.name], program.formats[source], made.plan.layers[block.name].weight_bits
    assert solution.acc_step is not None and bits is not None
    shape = to_native(block, _weight(block), program.shapes[source]).shape
    zero_point = None if fmt.zero_point is None or not fmt.zero_point.any() else fmt.zero_point
    bias = real.arrays.get("bias")
    acc_step = np.broadcast_to(solution.acc_step, (len(_weight(block)),))
    return Lattice(
        shape, numerics.qmax(bits), _per_input(block, fmt.step, program.shapes[source]).astype(np.float32), (1.0 / acc_step).astype(np.float32),
        None if zero_point is None else _per_input(block, zero_point, program.shapes[source]).astype(np.float32),
        _unshifted_bias(block, zero_point) if "bias" in block.arrays else None, None if bias is None else np.asarray(bias).astype(np.float32),
        None if made.bias_mantissa_bits is None else made.bias_mantissa_bits - 1,
    )


def _unshifted_bias(block: Block, zero_point: np.ndarray | None) -> np.ndarray:
    """The program's bias without its share of the input's zero point."""
    bias = block.arrays["bias"].astype(np.int64)
    return bias if zero_point is None else bias + zero_point_sum(block, _weight(block), zero_point.astype(np.int64))


def _per_input(block: Block, vector: np.ndarray, source: Shape) -> np.ndarray:
    """A vector over input channels, shaped to broadcast against the Keras kernel, without the axes along which it is constant."""
    whole = to_native(block, np.broadcast_to(spread(block, vector), _weight(block).shape), source)
    for axis in range(whole.ndim):
        first = whole.take([0], axis)
        whole = first if (whole == first).all() else whole
    return np.ascontiguousarray(whole)


def _weight(block: Block) -> np.ndarray:
    assert block.weight is not None
    return block.weight


def _float_block(made: Quantization, block: Block) -> Block:
    real = next(b for b in made.blueprint.blocks if b.name == block.name)
    return replace(real, arrays={name: np.asarray(value, np.float64) for name, value in real.arrays.items()})
