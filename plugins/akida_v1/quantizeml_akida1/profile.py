"""Akida 1.0 (AKD1000, AKD1500 and 1.0 IP) as data.

Sources, public documentation of BrainChip, 2025 edition:
    https://doc.brainchipinc.com/user_guide/hardware/1.0.html      bit widths of each layer
    https://doc.brainchipinc.com/api_reference/akida_apis.html     layer set: a chain of layers, step-wise ReLU, no table activation
    https://doc.brainchipinc.com/user_guide/quantizeml.html        per-tensor activations are mandatory
"""

from __future__ import annotations

from quantizeml_core.target import Target

AKIDA1 = Target(
    name="akida1",
    summary="Akida 1.0: a chain of layers, per-tensor activations of at most 4 bits",
    revision="2025",
    source="https://doc.brainchipinc.com/user_guide/hardware/1.0.html",
    distribution="quantizeml-akida1",
    # 1-bit weights exist in hardware for edge learning only: a quantizer's integers are signed and need two bits.
    weight_bits=(2, 4),
    # InputConvolutional, the only layer with 8-bit weights, takes nothing else.
    input_weight_bits=(8,),
    activation_bits=(1, 2, 4),
    per_axis_activations=False,
    defaults={"input_weight_bits": 8, "weight_bits": 4, "activation_bits": 4, "per_tensor_activations": True},
    bias_mantissa_bits=8,
    # No public document states a width for 1.0: the quantizer-side parameter buffer_bits, "what the hardware uses", is 32.
    accumulator_bits={"input_conv2d": 32, "conv2d": 32, "depthwise2d": 32, "dense": 32, "add": 32, "concat": 32},
    # A depthwise convolution is the first half of a SeparableConvolutional layer. No Add, no Concatenate, no table in the layer set.
    capabilities=frozenset({"depthwise2d"}),
)
