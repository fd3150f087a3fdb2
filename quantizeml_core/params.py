"""QuantizationParams: what the user asks for; `resolve` completes it with the target's defaults and refuses contradictions.

Every field may be None, "not said". `resolve` leaves None only in `buffer_bits` (each block takes the target's accumulator width),
`input_dtype` (chosen from the network and the samples) and `last_output_bits` (the last block keeps its accumulator).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from .errors import UsageError
from .target import Target

INPUT_DTYPES = ("uint8", "int8")
OUTPUT_BITS = 8
"""Width of an output that is no activation, unless said otherwise; always allowed."""

FLAGS = {
    "input_weight_bits": "-i",
    "weight_bits": "-w",
    "activation_bits": "-a",
    "per_tensor_activations": "--per_tensor_activations",
    "output_bits": "-o",
    "buffer_bits": "-b",
    "input_dtype": "-id",
    "last_output_bits": "-lob",
}
"""The command line's name of each field, shown in messages beside the field's own."""


@dataclass(frozen=True)
class QuantizationParams:
    """The quantization scheme a user asks for.

    Arguments:
        input_weight_bits: weight bits of the blocks that read the model's input.
        weight_bits: weight bits of all other blocks.
        activation_bits: bits of a block's output after an activation.
        per_tensor_activations: one scale for all channels of a tensor instead of one each.
        output_bits: bits of a block's output without activation.
        buffer_bits: an upper limit for the accumulator width, in bits; the target's own width is never exceeded.
        input_dtype: `uint8` (affine, zero point) or `int8` (symmetric) model input.
        last_output_bits: bits of the last block's output, to requantize it too.
    """

    input_weight_bits: int | None = None
    weight_bits: int | None = None
    activation_bits: int | None = None
    per_tensor_activations: bool | None = None
    output_bits: int | None = None
    buffer_bits: int | None = None
    input_dtype: str | None = None
    last_output_bits: int | None = None

    def __post_init__(self) -> None:
        if self.input_dtype is not None:
            object.__setattr__(self, "input_dtype", _dtype_name(self.input_dtype))
        for name in FLAGS:
            if name.endswith("bits"):
                _check_integer(name, getattr(self, name))

    def to_json(self) -> dict[str, Any]:
        """The fields that were said."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> QuantizationParams:
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(data) - set(known)):
            raise UsageError(f"unknown parameter {', '.join(unknown)}", where="qparams", allowed=", ".join(known), do="Remove it")
        return cls(**data)


def resolve(params: QuantizationParams | None, target: Target) -> QuantizationParams:
    """Parameters with nothing left to guess, all of them allowed by the target.

    Raises:
        UsageError: a parameter the target does not allow; the message names the allowed set.
    """
    said = params or QuantizationParams()
    filled = {name: value for name, value in target.defaults.items() if getattr(said, name) is None}
    full = replace(said, **filled, output_bits=said.output_bits or OUTPUT_BITS)
    for name, allowed in _allowed(target).items():
        _check_member(name, getattr(full, name), allowed, target)
    if not (full.per_tensor_activations or target.per_axis_activations):
        raise UsageError(f"target `{target.name}` has one scale for all channels of a tensor", where=_where("per_tensor_activations"),
                         allowed="per-tensor activations", do="Add --per_tensor_activations, or leave it unset")
    return full


def _allowed(target: Target) -> dict[str, tuple[int, ...]]:
    outputs = tuple(sorted({*target.activation_bits, OUTPUT_BITS}))
    return {
        "input_weight_bits": target.input_weight_bits,
        "weight_bits": target.weight_bits,
        "activation_bits": target.activation_bits,
        "output_bits": outputs,
        "last_output_bits": outputs,
        "buffer_bits": tuple(range(8, 33)),
    }


def _check_member(name: str, value: int | None, allowed: tuple[int, ...], target: Target) -> None:
    if value is None or value in allowed:
        return
    choices = ", ".join(map(str, allowed)) if len(allowed) < 10 else f"{allowed[0]} to {allowed[-1]}"
    raise UsageError(f"{value} bits are not possible on target `{target.name}`", where=_where(name), allowed=choices,
                     do=f"Take one of them, leave {FLAGS[name]} unset, or choose another --target")


def _check_integer(name: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__") or value < 1):
        raise UsageError(f"{value!r} is not a number of bits", where=_where(name), allowed="a positive integer",
                         do=f"Give {name} as an integer")


def _dtype_name(value: Any) -> str:
    name = value if isinstance(value, str) else getattr(value, "__name__", None) or getattr(value, "name", str(value))
    if name not in INPUT_DTYPES:
        raise UsageError(f"`{name}` is no input type", where=_where("input_dtype"), allowed=", ".join(INPUT_DTYPES), do="Take one of them")
    return name


def _where(name: str) -> str:
    return f"{name} ({FLAGS[name]})"
