"""Akida 1.0 (AKD1000, AKD1500 and 1.0 IP) as data, in three editions of its public documents; the rows of its tables stand in `tables`."""

from __future__ import annotations

from dataclasses import replace

from quantizeml_core.target import Target

from .tables import HARDWARE, LIMITS, LIMITS_2023, LIMITS_PRE_PRODUCTION, OF_2023, PRE_PRODUCTION

AKIDA1 = Target(
    name="akida1",
    summary="Akida 1.0: a chain of layers, per-tensor activations of at most 4 bits",
    revision="2025",
    source=HARDWARE,
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
    limits=LIMITS,
)

AKIDA1_2023 = replace(AKIDA1, revision="2023", source=OF_2023, input_weight_bits=(2, 4, 8), limits=LIMITS_2023,
                      summary="Akida 1.0 as documented in 2023: input weights of fewer bits, no sizes for later layers")

AKIDA1_PRE_PRODUCTION = replace(
    AKIDA1, revision="pre-production", source=PRE_PRODUCTION, weight_bits=(2,), input_weight_bits=(2,), limits=LIMITS_PRE_PRODUCTION,
    summary="Akida 1.0 before production: no input convolution, stride 1, 2-bit weights",
    defaults={"input_weight_bits": 2, "weight_bits": 2, "activation_bits": 4, "per_tensor_activations": True},
)
