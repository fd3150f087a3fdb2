"""Limit: one row of a hardware table, as frozen data that travels through JSON. What a row means stands in `RULES`; `legality` checks it.

    Limit("conv2d", "kernel_strides", ((1, (1,)), (3, (1, 2))), source="https://...", revision="2025")

A value is made of integers, texts, booleans, None and tuples of them. `layer` is a block kind, `input_conv2d` (a convolution that reads the
pixels of the model input) or `network`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from .errors import UsageError

NETWORK = "network"

RULES: Mapping[str, str] = MappingProxyType({
    "hardware_layer": "the name of the layer in the hardware's documents",
    "input_channels": "the numbers of input channels there are",
    "first_axis": "smallest and largest size of the first spatial axis of the input (None: no limit)",
    "second_axis": "smallest and largest size of the second spatial axis of the input (None: no limit)",
    "max_channels": "the largest number of input channels",
    "max_inputs": "the largest number of inputs of a dense layer, flattened",
    "max_filters": "the largest number of filters; or rows of (input channels, kernel size, filters)",
    "kernel_strides": "rows of (kernel size, strides); kernels and strides are square",
    "padding": "the paddings: same (the larger half at the end), valid, same_lower (at the beginning), symmetric",
    "stride_2_padding": "the kernel sizes that take same_lower and symmetric pads at stride 2, without max pooling",
    "dilation": "whether kernels may be dilated",
    "groups": "none, or depthwise",
    "depth_multiplier": "filters per input channel of a depthwise convolution",
    "max_pool": "rows of (height, width, stride, stride) of a max pooling in the same layer",
    "max_pool_padding": "the padding of a max pooling: that of its convolution",
    "pool_followed_by": "what must read the output of a layer with max pooling",
    "followed_by": "what must read the output of the layer",
    "gap_width": "smallest and largest width of what is averaged by a global pooling",
    "gap_area_below": "what is averaged by a global pooling has fewer pixels than this",
    "gap_min_rows": "what is averaged by a global pooling has at least so many rows",
    "gap_one_pixel": "whether a global pooling may read an input of one pixel",
    "activations": "none, relu, table",
    "table_with_max_pool": "whether a table may stand behind a max pooling in one layer",
    "max_readers": "the largest number of layers that read one output",
    "distinct_inputs": "whether the two inputs must be different tensors",
    "fifo_size": "smallest and largest number of frames kept",
    "input_bits": "bit widths of the input",
    "weight_bits": "bit widths of the weights",
    "activation_bits": "bit widths of the output",
    "accumulator_bits": "width of the accumulator",
    "post_op_bits": "width of what stands between accumulator and output",
    "layer_set": "the layers there are",
    "skip_connections": "how branches may meet",
    "inputs": "the number of inputs of a network",
    "outputs": "the number of outputs of a network",
    "activation_scales": "per_tensor, per_axis",
    "gap_order": "where a global pooling stands",
    "max_pool_order": "where a max pooling stands",
    "input_values": "what a network may be fed with",
    "output_values": "what a network returns",
    "edge_learning": "what learns on the chip",
})
"""Every name a row may have, and what its value says."""

FACTS = frozenset({
    "hardware_layer", "layer_set", "skip_connections", "activation_scales", "gap_order", "max_pool_order", "input_values", "output_values",
    "edge_learning", "fifo_size", "depth_multiplier", "dilation", "input_bits", "weight_bits", "activation_bits", "accumulator_bits", "post_op_bits",
})
"""Rows that no predicate of `legality` reads: descriptions, what blocks cannot even express, and widths, which the solver and the overflow proof obey."""


@dataclass(frozen=True)
class Limit:
    """One row.

    Arguments:
        layer: whose row it is.
        rule: a name of `RULES`.
        value: the figures, shaped as the rule says.
        source: the address of the document.
        revision: the edition of it.
        note: what the figure alone does not say.
    """

    layer: str
    rule: str
    value: Any
    source: str
    revision: str
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _frozen(self.value))
        if self.rule not in RULES:
            raise UsageError(f"there is no rule `{self.rule}`", where=f"row of `{self.layer}`", allowed=", ".join(RULES), do="Correct the row")

    @property
    def text(self) -> str:
        """The value for a reader."""
        return _TEXTS.get(self.rule, _list)(self.value)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Limit:
        """UsageError names fields that are missing or unknown."""
        try:
            return cls(**data)
        except TypeError as error:
            raise UsageError(f"a row cannot be read: {error}", where="limits", allowed="layer, rule, value, source, revision, note",
                             do="Correct the row") from error


def rows(layer: str, source: str, revision: str, **values: Any) -> tuple[Limit, ...]:
    """The rows of one layer that one document states."""
    return tuple(Limit(layer, rule, value, source, revision) for rule, value in values.items())


def changed(limits: Iterable[Limit], source: str, revision: str, changes: Mapping[tuple[str, str], Any]) -> tuple[Limit, ...]:
    """The table of another edition.

    Arguments:
        changes: new value by (layer, rule); None takes the row out; a row that was not there is added.
    """
    old = {(row.layer, row.rule): row for row in limits}
    new = {(layer, rule): Limit(layer, rule, value, source, revision) for (layer, rule), value in changes.items() if value is not None}
    return tuple((old | new)[key] for key in old | new if changes.get(key, 0) is not None)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, (list, tuple)) else value


def _list(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(_list(item) for item in value) if isinstance(value, tuple) else str(value)


def _between(value: Any) -> str:
    low, high = value
    return f"at least {low}" if high is None else f"{low} to {high}"


def _kernels(value: Any) -> str:
    return "; ".join(f"{kernel}x{kernel} stride {_list(strides)}" for kernel, strides in value)


def _filters(value: Any) -> str:
    return str(value) if isinstance(value, int) else "; ".join(f"{filters} of {k}x{k} on {c} channel{'s' * (c > 1)}" for c, k, filters in value)


def _pools(value: Any) -> str:
    return "; ".join(f"{h}x{w} stride {sh if sh == sw else (sh, sw)}" for h, w, sh, sw in value) or "none"


_TEXTS = {"first_axis": _between, "second_axis": _between, "gap_width": _between, "fifo_size": _between, "kernel_strides": _kernels,
          "max_filters": _filters, "max_pool": _pools}
