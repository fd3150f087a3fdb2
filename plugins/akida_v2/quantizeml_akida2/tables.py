"""The tables of Akida 2.0, row by row, in the editions of the documents. A size is (first axis, second axis, channels)."""

from __future__ import annotations

from quantizeml_core.limits import NETWORK, Limit, changed, rows

HARDWARE = "https://doc.brainchipinc.com/user_guide/hardware/2.0.html"
LAYERS = "https://doc.brainchipinc.com/api_reference/akida_apis.html"
UPGRADE = "https://doc.brainchipinc.com/examples/quantization/plot_1_upgrading_to_2.0.html"
ADVANCED = "https://doc.brainchipinc.com/examples/quantization/plot_0_advanced_quantizeml.html"
CONVERTER = "https://doc.brainchipinc.com/user_guide/cnn2snn.html"
RELEASES = "https://github.com/Brainchip-Inc/akida_examples/releases"
OF_2023 = "https://brainchip-inc.github.io/akida_examples_2.4.0-doc-1/user_guide/hardware/2.0.html"

POOL_2X2 = ((2, 2, 1, 1), (2, 2, 2, 2))
BEHIND_POOL = ("conv2d", "depthwise2d")
EITHER = (4, 8)
ODD_KERNELS = ((3, (1, 2)), (5, (1,)), (7, (1,)))
TABLE = ("none", "relu", "table")

NETWORK_ROWS: tuple[Limit, ...] = (
    *rows(NETWORK, LAYERS, "2025", layer_set=(
        "InputConv2D", "Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "DepthwiseConv2DTranspose", "Dense1D", "BufferTempConv",
        "DepthwiseBufferTempConv", "StatefulRecurrent", "Add", "Concatenate", "ExtractToken", "Dequantizer", "InputData"),
        skip_connections="Add, Concatenate", max_pool_order="on the accumulator, before the activation", inputs=1, outputs=1),
    *rows(NETWORK, ADVANCED, "2025", activation_scales=("per_axis", "per_tensor")),
    *rows(NETWORK, UPGRADE, "2025", gap_order="behind the ReLU"),
    *rows(NETWORK, RELEASES, "2025", max_readers=2),
)

INPUT_CONV2D: tuple[Limit, ...] = (
    *rows("input_conv2d", HARDWARE, "2025", hardware_layer="InputConv2D", first_axis=(5, None), second_axis=(5, 384), input_channels=(1, 3),
          kernel_strides=((3, (1, 2, 3)), (4, (1, 2, 3, 4)), (5, (1, 2, 3, 4, 5)), (7, (1, 2, 3, 4, 5, 6))), padding=("same", "valid"),
          max_filters=512, dilation=False, groups="none", max_pool=((2, 2, 2, 2), (3, 3, 2, 2)), activations=TABLE, table_with_max_pool=False,
          input_bits=(8,), weight_bits=(8,), activation_bits=EITHER),
    *rows("input_conv2d", LAYERS, "2025", accumulator_bits=32, post_op_bits=32),
    *rows("input_conv2d", CONVERTER, "2025", stride_2_padding=(3, 5, 7), max_pool_padding="same", max_readers=1),
)


def _convolution(layer: str, name: str, **own: object) -> tuple[Limit, ...]:
    return (
        *rows(layer, HARDWARE, "2025", hardware_layer=name, first_axis=(1, 4096), second_axis=(1, 4096), max_channels=2048, padding=("same",),
              dilation=False, max_pool=POOL_2X2, pool_followed_by=BEHIND_POOL, gap_width=(1, 64), gap_area_below=144, gap_min_rows=1,
              activations=TABLE, table_with_max_pool=False, input_bits=EITHER, weight_bits=EITHER, activation_bits=EITHER, **own),
        *rows(layer, LAYERS, "2025", accumulator_bits=28, post_op_bits=32),
        *rows(layer, CONVERTER, "2025", stride_2_padding=(3,), max_pool_padding="same"),
    )


def _transposed(layer: str, name: str, groups: str) -> tuple[Limit, ...]:
    return (
        *rows(layer, HARDWARE, "2025", hardware_layer=name, first_axis=(1, 4096), second_axis=(1, 4096), max_channels=2048, max_pool=(),
              kernel_strides=((3, (2,)), (4, (2,))), padding=("same",), dilation=False, groups=groups, activations=TABLE,
              input_bits=(8,), weight_bits=(8,), activation_bits=(8,)),
        *rows(layer, LAYERS, "2025", accumulator_bits=28, post_op_bits=32),
    )


def _temporal(layer: str, name: str) -> tuple[Limit, ...]:
    return (
        *rows(layer, HARDWARE, "2025", hardware_layer=name, first_axis=(1, 4096), second_axis=(1, 4096), max_channels=2048, fifo_size=(2, 10),
              max_filters=2048, activations=("none", "relu"), input_bits=(8,), weight_bits=(8,), activation_bits=(8,)),
        *rows(layer, LAYERS, "2025", accumulator_bits=32, post_op_bits=32),
    )


CONVOLUTIONS: tuple[Limit, ...] = (
    *_convolution("conv2d", "Conv2D", kernel_strides=((1, (1,)), *ODD_KERNELS), groups="none"),
    *_convolution("depthwise2d", "DepthwiseConv2D", kernel_strides=ODD_KERNELS, groups="depthwise", depth_multiplier=1),
)

DENSE: tuple[Limit, ...] = (
    *rows("dense", HARDWARE, "2025", hardware_layer="Dense1D", max_inputs=2048, activations=("none", "relu"), input_bits=EITHER,
          weight_bits=EITHER, activation_bits=EITHER),
    *rows("dense", LAYERS, "2025", accumulator_bits=28, post_op_bits=32),
)

SKIPS: tuple[Limit, ...] = (
    *rows("add", LAYERS, "2025", hardware_layer="Add", distinct_inputs=True, activations=("none", "relu"), accumulator_bits=32, post_op_bits=32),
    *rows("concat", LAYERS, "2025", hardware_layer="Concatenate", distinct_inputs=True, activations=("none",)),
)

LIMITS = (
    *NETWORK_ROWS, *INPUT_CONV2D, *CONVOLUTIONS,
    *_transposed("conv_transpose2d", "Conv2DTranspose", "none"), *_transposed("depthwise_transpose2d", "DepthwiseConv2DTranspose", "depthwise"),
    *DENSE, *_temporal("buffer_temp_conv", "BufferTempConv"), *_temporal("depthwise_buffer_temp_conv", "DepthwiseBufferTempConv"), *SKIPS,
)

_WIDE = ("input_conv2d", "conv2d", "depthwise2d")
_BITS = {"input_bits": (8,), "weight_bits": (8,), "activation_bits": (8,)}

LIMITS_2023 = changed(LIMITS, OF_2023, "2023", {
    **{(layer, rule): bits for layer in (*_WIDE, "dense") for rule, bits in _BITS.items()},
    **{(layer, "activations"): ("none", "relu") for layer in _WIDE},
    **{(layer, "table_with_max_pool"): None for layer in _WIDE},
    **{(layer, "gap_area_below"): None for layer in BEHIND_POOL},
    **{(layer, "stride_2_padding"): None for layer in _WIDE},
    **{("conv_transpose2d", row.rule): None for row in LIMITS if row.layer == "conv_transpose2d"},
    **{("depthwise_transpose2d", row.rule): None for row in LIMITS if row.layer == "depthwise_transpose2d"},
    ("input_conv2d", "max_pool"): ((2, 2, 2, 2),),
})
