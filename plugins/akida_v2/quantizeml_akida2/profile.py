"""Akida 2.0 (2.0 IP and its FPGA images) as data, in two editions of its public documents; the rows of its tables stand in `tables`."""

from __future__ import annotations

from dataclasses import replace

from quantizeml_core.target import Target

from .tables import HARDWARE, LIMITS, LIMITS_2023, OF_2023

AKIDA2 = Target(
    name="akida2",
    summary="Akida 2.0: skip connections, per-axis activations, 4 or 8 bits",
    revision="2025",
    source=HARDWARE,
    distribution="quantizeml-akida2",
    weight_bits=(4, 8),
    # InputConv2D takes 8-bit weights only.
    input_weight_bits=(8,),
    activation_bits=(4, 8),
    per_axis_activations=True,
    defaults={"input_weight_bits": 8, "weight_bits": 8, "activation_bits": 8, "per_tensor_activations": False},
    bias_mantissa_bits=8,
    # A concatenation moves data, it accumulates nothing; its entry is the post-operation width.
    accumulator_bits={"input_conv2d": 32, "conv2d": 28, "depthwise2d": 28, "dense": 28, "add": 32, "concat": 32},
    # `depthwise2d.pool` is left out: the hardware has it, the converter of the hand-off file drops the pooling of a depthwise block.
    # A ReLU after an addition runs on the chip, but the converter's node contract has no word for it: it is carried by an identity convolution.
    capabilities=frozenset({"add", "concat", "depthwise2d", "activation.table"}),
    limits=LIMITS,
)

AKIDA2_2023 = replace(
    AKIDA2, revision="2023", source=OF_2023, weight_bits=(8,), activation_bits=(8,), limits=LIMITS_2023,
    summary="Akida 2.0 as documented in 2023: 8 bits, ReLU only", capabilities=frozenset({"add", "concat", "depthwise2d"}),
)
