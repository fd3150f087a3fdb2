"""What the core itself brings, through the same door as every plugin: the targets `generic` and `cpu` and the commands of the CLI."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .hooks import CommandInfo, hookimpl
from .target import CAPABILITIES, Target

if TYPE_CHECKING:
    from .legalize import Legalization

GENERIC = Target(
    name="generic",
    summary="any CPU that runs integers: all widths, 32-bit accumulators",
    revision="1",
    source="docs/targets.md",
    distribution="quantizeml-core",
    weight_bits=(2, 4, 8),
    input_weight_bits=(2, 4, 8),
    activation_bits=(1, 2, 4, 8),
    per_axis_activations=True,
    defaults={"input_weight_bits": 8, "weight_bits": 8, "activation_bits": 8, "per_tensor_activations": False},
    bias_mantissa_bits=None,
    accumulator_bits={"input_conv2d": 32, "conv2d": 32, "conv_transpose2d": 32, "depthwise2d": 32, "dense": 32, "add": 32, "concat": 32,
                      "multiply": 32, "attention": 32, "embed": 32, "shift_attention": 32, "local_response": 32, "lookup": 32, "mad_normalize": 32,
                      "normalize": 32, "pool2d": 32, "recurrent": 32, "softmax": 32, "matmul": 32},
    capabilities=frozenset(CAPABILITIES) - {"add.alike", "byte_average", "byte_table", "pad_value"},
)
CPU = replace(GENERIC, name="cpu", summary="the same for deployment, not for the converter: faster where layers are depthwise",
              capabilities=frozenset(CAPABILITIES))

COMMANDS = (
    ("quantize", "Quantize a model to integers."),
    ("check", "Report what is inexact, saturated or not allowed in a model."),
    ("config", "Dump the configuration a quantized model was made with."),
    ("export", "Write a quantized model as ONNX, with the same integers."),
    ("insert_rescaling", "Insert a Rescaling layer at the beginning of a model."),
    ("targets", "List the hardware targets, or show one."),
    ("plugins", "List the installed plugins, and why one could not be loaded."),
    ("version", "Show the versions of everything that takes part."),
)


@hookimpl
def quantizeml_targets() -> tuple[Target, ...]:
    return GENERIC, CPU


@hookimpl
def quantizeml_legalizations() -> tuple[Legalization, ...]:
    from .legalize import BUILTIN_LEGALIZATIONS

    return BUILTIN_LEGALIZATIONS


@hookimpl
def quantizeml_commands() -> tuple[CommandInfo, ...]:
    return tuple(CommandInfo(name, summary, f"quantizeml_core.cli.{name}:command") for name, summary in COMMANDS)
