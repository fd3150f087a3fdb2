"""The node contract of quantized ONNX files: names, parameters and layouts that the Akida converter reads.

    op_type = Base ["Flatten"] ["Biased"] ["MaxPool" | "GlobalAvgPool"] ["ReLU" | "ReLUClipped" | "LUT"] ["Scaled"]

Every node is a call of a model-local function of the same name; initializers are read by function parameter name. What the converter knows lives in
domain `com.brainchip`; blocks it does not know live in domain `quantizeml`, so that a file never pretends to be convertible.
"""

from __future__ import annotations

from dataclasses import dataclass

from quantizeml_core.blocks import Block
from quantizeml_core.program import Program

CONVERTIBLE = "com.brainchip"
OWN = "quantizeml"
VERSION = 1

BASES = {
    "input_conv2d": "QuantizedInputConv2D", "conv2d": "QuantizedConv2D", "depthwise2d": "QuantizedDepthwise2D",
    "dense": "QuantizedDense1D", "add": "QuantizedAdd", "concat": "QuantizedConcat", "input": "InputQuantizer", "resume": "ResumeQuantizer",
    "conv_transpose2d": "QuantizedConvTranspose2D", "multiply": "QuantizedMultiply", "pool2d": "QuantizedAveragePool2D", "select": "QuantizedSelect",
    "upsample2d": "QuantizedUpsample2D", "normalize": "QuantizedLayerNormalization", "attention": "QuantizedAttention",
    "embed": "QuantizedEmbedding", "shift_attention": "QuantizedShiftAttention", "mad_normalize": "QuantizedMadNormalization",
    "buffer": "QuantizedFrameBuffer", "recurrent": "QuantizedStatefulRecurrent", "local_response": "QuantizedLocalResponse",
    "softmax": "QuantizedSoftmax", "lookup": "QuantizedLookup", "matmul": "QuantizedMatMul",
}

#: function parameter -> (array of the integer block, suffix of the initializer's name)
PARAMETERS = {
    "scale": ("scale", "_scale"), "zp": ("zero_point", "_zp"), "x_pad_value": ("pad_value", "_Xpad"), "W": ("weight", "_Wi"),
    "bias": ("bias", "_B"), "pads": ("pads", "_pads"), "ActScale": ("table_multiplier", "_M_act"), "ActShift": ("table_shift", "_S_act"),
    "LUT_values": ("table", "_LUT"), "max_value": ("bound", "_max_value"), "Xs": ("x_shift", "_x1_shift"), "Ys": ("y_shift", "_x2_shift"),
    "Offset": ("offset", "_offset"), "SquareScale": ("square_multiplier", "_M_square"), "SquareShift": ("square_shift", "_S_square"),
    "ScoreScale": ("score_multiplier", "_M_score"), "ScoreShift": ("score_shift", "_S_score"),
    "Mask": ("mask", "_mask"), "Table": ("entries", "_table"), "Entries": ("entries", "_entries"), "Turn": ("coefficients", "_A"), "Channels": ("channels", "_channels"),
    "Epsilon": ("epsilon", "_epsilon"), "Scale": ("multiplier", "_M"), "Shift": ("shift", "_S_out"),
}

#: block kind -> the parameters of those that have no weights
UNWEIGHTED = {"input": ("scale", "zp"), "resume": ("scale", "zp"), "add": ("Xs", "Ys"), "concat": (), "select": ("Channels",),
              "normalize": ("Epsilon",), "attention": ("ScoreScale", "ScoreShift", "Mask"),
              "shift_attention": ("ScoreScale", "ScoreShift"), "buffer": (), "local_response": ("Offset", "SquareScale", "SquareShift"),
              "mad_normalize": (), "embed": ("Table",), "lookup": ("Entries",), "recurrent": ("Turn",),
              "softmax": ("ScoreScale", "ScoreShift"), "matmul": ()}


@dataclass(frozen=True)
class Call:
    """How a block is written: domain, op_type, and function parameters after the data inputs."""

    domain: str
    op_type: str
    parameters: tuple[str, ...]


def call(program: Program, block: Block) -> Call:
    """The contract's form of an integer block."""
    base = "input_conv2d" if _reads_input(program, block) else block.kind
    return Call(_domain(program, block), op_type(block, base), parameters(block, base))


def op_type(block: Block, base: str) -> str:
    """The name by the grammar."""
    parts = [BASES[base], "Flatten" if block.flatten else "", "Biased" if "bias" in block.arrays else ""]
    if block.pool and base != "pool2d":
        parts.append({"max": "MaxPool", "gap": "GlobalAvgPool"}[block.pool.kind])
    if block.activation and base != "lookup":
        clipped = "ReLUClipped" if "bound" in block.arrays else "ReLU"
        parts.append("LUT" if block.activation.is_table else clipped)
    return "".join(parts) + ("Scaled" if "shift" in block.arrays else "")


def parameters(block: Block, base: str) -> tuple[str, ...]:
    """Function parameters that hold initializers, in the contract's order."""
    names = UNWEIGHTED.get(base, ("W", "bias"))
    if base == "input_conv2d" or "pad_value" in block.arrays:
        names = ("x_pad_value", *names)
    if base in ("input_conv2d", "conv2d", "conv_transpose2d", "depthwise2d"):
        names = (*names, "pads")
    names = (*names, "ActScale", "ActShift", "LUT_values", "max_value", "Scale", "Shift")
    return tuple(n for n in names if n in ("pads", "x_pad_value") or PARAMETERS[n][0] in block.arrays)


def _reads_input(program: Program, block: Block) -> bool:
    """A standard convolution of an unsigned model input has a hardware layer of its own."""
    return block.kind == "conv2d" and program.formats[block.inputs[0]].zero_point is not None and not program.formats[block.inputs[0]].signed


def _domain(program: Program, block: Block) -> str:
    return OWN if reasons(program, block) else CONVERTIBLE


def reasons(program: Program, block: Block) -> tuple[str, ...]:
    """Why a block stands outside the convertible contract; empty when it is inside."""
    fmt = program.formats[block.output]
    facts = {
        "a tensor from float operations": block.kind == "resume",
        "a product of two tensors": block.kind == "multiply",
        "average pooling over windows": block.kind == "pool2d",
        "a function of bytes": block.kind == "lookup",
        "an embedding of tokens": block.kind == "embed",
        "an attention": block.kind in ("attention", "shift_attention"),
        "a local response normalization": block.kind == "local_response",
        "a layer normalization": block.kind in ("normalize", "mad_normalize"),
        "frames kept from call to call": block.kind == "buffer",
        "a softmax": block.kind == "softmax",
        "a product of two sequences": block.kind == "matmul",
        "a state kept from call to call": block.kind == "recurrent",
        "a transposed convolution": block.kind == "conv_transpose2d",
        "upsampling": block.kind == "upsample2d",
        "a selection of channels": block.kind == "select",
        "an addition with an activation": block.kind == "add" and block.activation is not None,
        "a table after a dense layer": block.kind == "dense" and "table" in block.arrays,
        "pooling after a depthwise convolution": block.kind == "depthwise2d" and block.pool is not None,
        "a dilated convolution": block.dilations != (1, 1),
        "a grouped convolution": block.kind == "conv2d" and block.groups != 1,
        "a padding value on a signed input": "pad_value" in block.arrays and not _reads_input(program, block),
        f"a {fmt.bits}-bit output": fmt.bits not in (8, 32),
        "max pooling with a table activation": bool(block.pool and block.pool.kind == "max" and "table" in block.arrays),
    }
    return tuple(reason for reason, holds in facts.items() if holds)
