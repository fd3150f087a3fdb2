"""The tables of Akida 1.0, row by row, in the editions of the documents.

A size is (first axis, second axis, channels). The edition of 2025 puts the limit of the line buffer on the second axis and calls it height; those of
2023 call the same axis width. A `depthwise2d` here is the first half of a SeparableConvolutional layer, the pointwise `conv2d` behind it the other.
"""

from __future__ import annotations

from quantizeml_core.limits import NETWORK, Limit, changed, rows

HARDWARE = "https://doc.brainchipinc.com/user_guide/hardware/1.0.html"
LAYERS = "https://doc.brainchipinc.com/api_reference/akida_apis.html"
GUIDE = "https://doc.brainchipinc.com/user_guide/akida.html"
UPGRADE = "https://doc.brainchipinc.com/examples/quantization/plot_1_upgrading_to_2.0.html"
ADVANCED = "https://doc.brainchipinc.com/examples/quantization/plot_0_advanced_quantizeml.html"
OF_2023 = "https://brainchip-inc.github.io/akida_examples_2.4.0-doc-1/user_guide/1.0_hw_constraints.html"
PRE_PRODUCTION = "https://doc.brainchipinc.com/user_guide/hw_constraints.html"

POOL_2X2 = ((2, 2, 1, 1), (2, 2, 2, 2))
BEHIND_POOL = ("conv2d", "depthwise2d")
SMALL_INTEGERS = (1, 2, 4)

NETWORK_ROWS: tuple[Limit, ...] = (
    *rows(NETWORK, LAYERS, "2025", layer_set=("InputData", "InputConvolutional", "FullyConnected", "Convolutional", "SeparableConvolutional"),
          skip_connections="none: a chain of layers", max_readers=1, inputs=1, outputs=1,
          input_values="unsigned integers of 1, 2, 4 or 8 bits (at most 1, 3, 15, 255)",
          output_values="8-bit integers behind an activation, 32-bit potentials otherwise"),
    *rows(NETWORK, ADVANCED, "2025", activation_scales=("per_tensor",)),
    *rows(NETWORK, UPGRADE, "2025", gap_order="before the ReLU"),
    *rows(NETWORK, GUIDE, "2025", edge_learning="the last FullyConnected, with 1-bit weights and 1-bit inputs"),
)

INPUT_CONVOLUTIONAL: tuple[Limit, ...] = rows(
    "input_conv2d", HARDWARE, "2025", hardware_layer="InputConvolutional", first_axis=(5, None), second_axis=(5, 256), input_channels=(1, 3),
    kernel_strides=((3, (1, 2, 3)), (5, (1, 2, 3)), (7, (1, 2, 3))), padding=("same", "valid"), dilation=False, groups="none",
    max_filters=((1, 3, 512), (1, 5, 192), (1, 7, 96), (3, 3, 192), (3, 5, 64), (3, 7, 32)), max_pool=((1, 2, 1, 2), (2, 1, 2, 1), (2, 2, 2, 2)),
    activations=("none", "relu"), input_bits=(8,), weight_bits=(8,), activation_bits=SMALL_INTEGERS,
)

CONVOLUTIONAL: tuple[Limit, ...] = rows(
    "conv2d", HARDWARE, "2025", hardware_layer="Convolutional", first_axis=(1, 4096), second_axis=(1, 4096), max_channels=2048,
    kernel_strides=((1, (1,)), (3, (1, 2)), (5, (1,)), (7, (1,))), padding=("same",), dilation=False, groups="none",
    max_pool=POOL_2X2, pool_followed_by=BEHIND_POOL, gap_width=(1, 32), gap_min_rows=3, activations=("none", "relu"),
    input_bits=SMALL_INTEGERS, weight_bits=(2, 4), activation_bits=SMALL_INTEGERS,
)

SEPARABLE: tuple[Limit, ...] = rows(
    "depthwise2d", HARDWARE, "2025", hardware_layer="SeparableConvolutional (its depthwise half)", first_axis=(1, 4096), second_axis=(1, 4096),
    max_channels=2048, kernel_strides=((3, (1, 2)), (5, (1,)), (7, (1,))), padding=("same",), dilation=False, groups="depthwise",
    max_pool=(), gap_one_pixel=False, activations=("none",), followed_by=("conv2d",), depth_multiplier=1,
    input_bits=SMALL_INTEGERS, weight_bits=(2, 4), activation_bits=SMALL_INTEGERS,
)

FULLY_CONNECTED: tuple[Limit, ...] = rows(
    "dense", HARDWARE, "2025", hardware_layer="FullyConnected", max_inputs=57334, activations=("none", "relu"),
    input_bits=SMALL_INTEGERS, weight_bits=(2, 4), activation_bits=SMALL_INTEGERS,
)

LIMITS = (*NETWORK_ROWS, *INPUT_CONVOLUTIONAL, *CONVOLUTIONAL, *SEPARABLE, *FULLY_CONNECTED)

LIMITS_2023 = changed(LIMITS, OF_2023, "2023", {
    ("input_conv2d", "weight_bits"): (1, 2, 4, 8),
    ("input_conv2d", "max_pool"): ((1, 1, 1, 1), (1, 2, 1, 2), (2, 1, 2, 1), (2, 2, 2, 2)),
    ("conv2d", "max_pool"): ((1, 1, 1, 1), *POOL_2X2),
    **{(layer, rule): None for layer in BEHIND_POOL for rule in ("first_axis", "second_axis", "max_channels")},
    **{(layer, rule): None for layer in ("input_conv2d", *BEHIND_POOL) for rule in ("dilation", "groups")},
})

_OLD_POOLS = tuple((size, size, stride, stride) for size in (1, 2, 3) for stride in (1, 2, 3))

LIMITS_PRE_PRODUCTION = changed(LIMITS_2023, PRE_PRODUCTION, "pre-production", {
    **{("input_conv2d", row.rule): None for row in INPUT_CONVOLUTIONAL},
    (NETWORK, "layer_set"): ("InputData", "FullyConnected", "Convolutional", "SeparableConvolutional"),
    ("conv2d", "kernel_strides"): ((1, (1,)), (3, (1,)), (5, (1,)), (7, (1,))),
    ("conv2d", "max_pool"): _OLD_POOLS,
    ("conv2d", "weight_bits"): (1, 2),
    ("dense", "input_bits"): (1, 2),
    ("dense", "max_inputs"): 81920,
})
