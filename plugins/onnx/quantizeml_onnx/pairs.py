"""Products of bytes that are exact on every processor and fast on each.

x86 without VNNI adds the products of two neighbouring bytes in 16 bits, 255 * 127 * 2 = 64770 of which saturate at 32767, where weights are signed. Weights moved to uint8
(zero point 128) are added in 32 bits there, but take twice the time of signed ones with VNNI. So a product whose pairs could saturate is written both ways:

    exact = the smallest sum of a product of the largest bytes by the largest weights is the right one
    y = If (exact) { signed weights } else { unsigned weights }

Everything that the choice depends on is constant: onnxruntime makes it when it loads the file, and keeps one of the two.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SIDE = 64
LARGEST = (255, 127)
SUM = SIDE * LARGEST[0] * LARGEST[1]
MIDDLE = 128

Call = Callable[[str, str], str]
"""An operator's text, given the names of the weights and of their zero point."""

PROBE = (
    f"side = Constant <value_ints = [{SIDE}, {SIDE}]> ()", f"brightest = ConstantOfShape <value = uint8[1] {{{LARGEST[0]}}}> (side)",
    f"heaviest = ConstantOfShape <value = int8[1] {{{LARGEST[1]}}}> (side)", "sums = MatMulInteger (brightest, heaviest)",
    "least = ReduceMin <keepdims = 0> (sums)",
)


def saturate(weight: np.ndarray, groups: int, top: int) -> bool:
    """Whether signed weights on bytes up to `top` could be wrong on x86 without VNNI.

    Behind a ReLU bytes end at 127 and no pair can; products of depthwise kernels are added in 32 bits.
    """
    depthwise = groups > 1 and len(weight) == groups and weight.shape[1] == 1
    return not depthwise and 2 * top * max(-int(weight.min()), int(weight.max())) > np.iinfo(np.int16).max


def product(weight: np.ndarray, groups: int, top: int, source: str, target: str, typed: str, call: Call) -> tuple[list[str], str]:
    """Lines that make `target`, of the type and shape `typed`, of bytes up to `top` and the int8 weights `source`; and a key."""
    zero = "wz = Constant <value = int8 {0}> ()"
    if not saturate(weight, groups, top):
        return [zero, f"{target} = {call(source, 'wz')}"], ""
    signed = f"signed () => ({typed} {target}s) {{ {zero} {target}s = {call(source, 'wz')} }}"
    moved = f"wu = Cast <to = 2> ({source}) uz = Constant <value = uint8 {{{MIDDLE}}}> () w = Add (wu, uz)"
    unsigned = f"unsigned () => ({typed} {target}u) {{ {moved} {target}u = {call('w', 'uz')} }}"
    return [*PROBE, f"right = Constant <value = int32 {{{SUM}}}> ()", "exact = Equal (least, right)",
            f"{target} = If (exact) <then_branch = {signed}, else_branch = {unsigned}>"], "m"
