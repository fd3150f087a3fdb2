"""Target: what a hardware (or `generic`) allows, as frozen data that travels through JSON. A target holds facts, never arithmetic.

Each figure of a profile comes from `source` at `revision`. Predicates (`allows`, `can`) read the data; the solver reads it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from .errors import UsageError
from .limits import Limit

CAPABILITIES: Mapping[str, str] = MappingProxyType({
    "add": "adds two tensors of one shape (skip connections)",
    "add.alike": "adds faster where all channels are scaled alike",
    "add.activation": "applies a ReLU after an addition, in the same block",
    "attention": "runs scaled dot-product attention",
    "byte_average": "averages images of bytes, in a block of its own, rather than accumulators",
    "byte_table": "looks functions up by bytes (SiLU, HardSwish ...), in a block of its own, rather than by accumulators",
    "buffer": "keeps the last frames of a sequence (BufferTempConv)",
    "concat": "concatenates tensors along the channels",
    "conv2d.groups": "runs a convolution of several groups",
    "conv_transpose2d": "runs a transposed convolution",
    "dilation": "runs convolutions whose taps lie apart",
    "dense.table": "applies a table after a dense layer",
    "depthwise2d": "runs a depthwise convolution as a block of its own",
    "depthwise2d.pointwise": "runs a depthwise convolution of one pixel",
    "depthwise2d.pool": "pools after a depthwise convolution, in the same block",
    "activation.table": "applies a table (GELU, SiLU, LeakyReLU ...) after a convolution",
    "embed": "makes one row of tokens of an image, and adds a table of learned numbers to it",
    "local_response": "divides by the squares of neighbouring channels (LRN)",
    "matmul": "multiplies two sequences",
    "softmax": "computes a softmax inside a network",
    "mad_normalize": "divides the channels of each pixel by their mean absolute value (LayerMadNormalization)",
    "multiply": "multiplies two tensors (squeeze and excitation, attention)",
    "normalize": "normalizes over the channels of each pixel (LayerNormalization)",
    "pad_value": "pads a layer inside the network with another number than zero",
    "pool2d": "averages over windows, as a block of its own",
    "select": "takes some channels of a tensor, in another order (channel shuffle, split)",
    "recurrent": "keeps complex numbers that turn from frame to frame (StatefulRecurrent)",
    "shift_attention": "runs attention with powers of two for a softmax (shiftmax)",
    "upsample2d": "repeats pixels (nearest-neighbour upsampling)",
    "multiple_inputs": "runs networks with several inputs",
    "multiple_outputs": "runs networks with several outputs",
})
"""The capabilities the built-in rules and findings ask for. A plugin may define its own names."""

DEFAULTS = ("input_weight_bits", "weight_bits", "activation_bits", "per_tensor_activations")


@dataclass(frozen=True)
class Target:
    """One hardware profile.

    Arguments:
        name: what `--target` takes.
        summary: one line for `quantizeml targets`.
        revision: the edition of the documents the figures come from.
        source: their address.
        distribution: the distribution that brings this target.
        weight_bits, input_weight_bits, activation_bits: the allowed bit widths, of all blocks, of the first one, and of activations.
        per_axis_activations: False when all channels of a tensor must share one scale.
        defaults: what an unset parameter becomes: the names of `DEFAULTS`.
        bias_mantissa_bits: signed bits of a bias before its shift; None when a bias may take any value of the accumulator.
        accumulator_bits: accumulator width for each block kind; `input_conv2d` is a convolution that reads the model's input.
        capabilities: names of `CAPABILITIES`, or a plugin's own.
        limits: the rows of the hardware's tables: sizes, kernels, strides, pads, pooling, order (`quantizeml_core.limits`).
    """

    name: str
    summary: str
    revision: str
    source: str
    distribution: str
    weight_bits: tuple[int, ...]
    input_weight_bits: tuple[int, ...]
    activation_bits: tuple[int, ...]
    per_axis_activations: bool
    defaults: Mapping[str, int | bool]
    bias_mantissa_bits: int | None = None
    accumulator_bits: Mapping[str, int] = field(default_factory=dict)
    capabilities: frozenset[str] = frozenset()
    limits: tuple[Limit, ...] = ()

    def __post_init__(self) -> None:
        for name in ("defaults", "accumulator_bits"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if set(self.defaults) != set(DEFAULTS):
            raise UsageError(f"defaults are given for {', '.join(sorted(self.defaults)) or 'nothing'}", where=f"target `{self.name}`",
                             allowed=f"exactly {', '.join(DEFAULTS)}", do="Correct `defaults`")

    def __hash__(self) -> int:
        return hash((self.name, self.revision))

    def can(self, capability: str) -> bool:
        """Whether the target has a capability."""
        return capability in self.capabilities

    def lacks(self, needed: Mapping[str, bool]) -> str | None:
        """The first capability that is needed and not there, as a reason with the documents that do not list it; None when all are there."""
        missing = next((c for c, need in needed.items() if need and not self.can(c)), None)
        if missing is None:
            return None
        return f"target `{self.name}` lacks `{missing}` ({CAPABILITIES.get(missing, 'of a plugin')}): not listed by {self.source}, {self.revision}"

    def layer(self, name: str) -> dict[str, Limit]:
        """The rows of one layer, by rule."""
        return {row.rule: row for row in self.limits if row.layer == name}

    def limit(self, layer: str, rule: str, default: Any = None) -> Any:
        """The value of one row."""
        return next((row.value for row in self.limits if (row.layer, row.rule) == (layer, rule)), default)

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` gives an equal target back."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Target:
        """A target from plain data; UsageError names what is unknown or missing."""
        known = {f.name for f in fields(cls)}
        where = f"target `{data.get('name', '?')}`"
        if unknown := sorted(set(data) - known):
            raise UsageError(f"unknown field {', '.join(unknown)}", where=where, allowed=", ".join(sorted(known)), do="Remove it")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        limits = tuple(Limit.from_json(row) for row in values.get("limits", ()))
        try:
            return cls(**{**values, "capabilities": frozenset(values.get("capabilities", ())), "limits": limits})
        except TypeError as error:
            missing = sorted(f.name for f in fields(cls) if f.name not in data)
            raise UsageError(f"fields are missing: {', '.join(missing)}", where=where, do="Add them") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple) and value and isinstance(value[0], Limit):
        return [row.to_json() for row in value]
    return list(value) if isinstance(value, tuple) else value
