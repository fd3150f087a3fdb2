"""Akida 2.0 (2.0 IP and its FPGA images) as data.

Sources, public documentation of BrainChip, 2025 edition:
    https://doc.brainchipinc.com/user_guide/hardware/2.0.html      bit widths of each layer, table activations, skip connections
    https://doc.brainchipinc.com/api_reference/akida_apis.html     accumulator widths, bias as mantissa << shift, Add.activation
"""

from __future__ import annotations

from quantizeml_core.target import Target

AKIDA2 = Target(
    name="akida2",
    summary="Akida 2.0: skip connections, per-axis activations, 4 or 8 bits",
    revision="2025",
    source="https://doc.brainchipinc.com/user_guide/hardware/2.0.html",
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
)
