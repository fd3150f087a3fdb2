"""Plan: what was decided per layer - bits, axes, ranges. Its JSON is `config.json`: dump it, edit it, quantize again with it.

    {"conv1": {"weight_quantizer": {"bitwidth": 8}, "output_quantizer": {"bitwidth": 8, "signed": true, "axis": "per-axis", "range": [...],
                                     "floor": 0.25, "headroom": 1.125}}}

An entry given by the user merges over the default of its layer, key by key; an unknown layer or key is an error with the nearest names.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import UsageError

Config = Mapping[str, Mapping[str, Any]]
_KEYS = {"weight_quantizer": {"bitwidth"}, "output_quantizer": {"bitwidth", "signed", "axis", "range", "floor", "headroom"}, "buffer_bitwidth": set()}
_MARGINS = {"floor": (0.0, 1.0), "headroom": (1.0, 4.0)}


@dataclass(frozen=True)
class LayerPlan:
    """Decisions for one block.

    Arguments:
        weight_bits: None for a block without weights.
        output_bits: None leaves raw accumulators (a last layer without activation).
        signed: two's complement output, or unsigned (1, 2, 4 bits after a ReLU; the uint8 model input).
        per_axis: one step per channel, or one for the tensor.
        low, high: calibrated range per channel (C,) or (1,); at an input also whether every sample was an integer.
        buffer_bits: width of the accumulator on the target.
        floor: share of the widest channel's range that every channel has at least.
        headroom: factor on every channel's range.
    """

    weight_bits: int | None = None
    output_bits: int | None = 8
    signed: bool = True
    per_axis: bool = True
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    buffer_bits: int = 32
    floor: float = 0.0
    headroom: float = 1.0

    @property
    def absmax(self) -> np.ndarray:
        """max(|low|, |high|) per channel with its margin, or one value when per tensor."""
        assert self.low is not None and self.high is not None
        reach = np.maximum(np.abs(self.low), np.abs(self.high)).astype(np.float64)
        widest = reach.max(keepdims=True)
        return self.headroom * (np.maximum(reach, self.floor * widest) if self.per_axis else widest)

    @property
    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) per channel, or one pair when per tensor, float64."""
        assert self.low is not None and self.high is not None
        low, high = self.low.astype(np.float64), self.high.astype(np.float64)
        return (low, high) if self.per_axis else (low.min(keepdims=True), high.max(keepdims=True))

    @property
    def spans(self) -> tuple[np.ndarray, np.ndarray]:
        """`extremes` widened to hold zero, and both ends moved away from it by the margin of the channel's width."""
        low, high = (end(v, 0.0) for end, v in zip((np.minimum, np.maximum), self.extremes, strict=True))
        width = high - low
        least = self.floor * width.max(initial=0.0)
        factor = self.headroom * np.maximum(least / np.where(width > 0, width, np.inf), 1.0)
        return low * factor, np.where(width > 0, high * factor, self.headroom * least)

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if self.weight_bits is not None:
            out["weight_quantizer"] = {"bitwidth": self.weight_bits}
        if self.output_bits is not None:
            axis = "per-axis" if self.per_axis else "per-tensor"
            out["output_quantizer"] = {"bitwidth": self.output_bits, "signed": self.signed, "axis": axis, "range": _range_json(self),
                                       "floor": self.floor, "headroom": self.headroom}
        out["buffer_bitwidth"] = self.buffer_bits
        return out

    def merged(self, entry: Mapping[str, Any]) -> LayerPlan:
        """This plan with a user's entry laid over it."""
        changes: dict[str, Any] = {}
        if "weight_quantizer" in entry:
            changes["weight_bits"] = entry["weight_quantizer"].get("bitwidth", self.weight_bits)
        changes |= _output_changes(entry.get("output_quantizer"), self)
        if "buffer_bitwidth" in entry:
            changes["buffer_bits"] = entry["buffer_bitwidth"]
        return replace(self, **changes)


@dataclass(frozen=True)
class Plan:
    """Layer plans by block name, in block order."""

    layers: Mapping[str, LayerPlan]

    def to_json(self) -> dict[str, Any]:
        return {name: layer.to_json() for name, layer in self.layers.items()}

    def merged(self, config: Config | None) -> Plan:
        """Lay a user's config over the plan. UsageError for an unknown layer or key."""
        if not config:
            return self
        check_config(config, self.layers)
        return Plan({name: layer.merged(config.get(name, {})) for name, layer in self.layers.items()})


def check_config(config: Config, names: Mapping[str, Any]) -> None:
    """Refuse unknown layers and keys, naming the nearest ones."""
    for name, entry in config.items():
        if name not in names:
            raise _unknown("layer", name, names, "the configuration")
        if not isinstance(entry, Mapping):
            raise UsageError(f"the entry is {type(entry).__name__}, not an object", where=f"`{name}`", allowed=", ".join(_KEYS))
        for key, value in entry.items():
            if key not in _KEYS:
                raise _unknown("key", key, _KEYS, f"`{name}`")
            for inner in value if isinstance(value, Mapping) else ():
                if inner not in _KEYS[key]:
                    raise _unknown("key", inner, _KEYS[key], f"`{name}.{key}`")
                _check_margin(inner, value[inner], f"`{name}.{key}`")


def _check_margin(key: str, value: Any, where: str) -> None:
    low, high = _MARGINS.get(key, (0.0, 0.0))
    if key in _MARGINS and not (isinstance(value, (int, float)) and low <= value <= high):
        raise UsageError(f"the {key} {value!r}", where=where, allowed=f"{low:g} to {high:g}")


def _unknown(what: str, name: str, known: Any, where: str) -> UsageError:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4) or list(known)[:5]
    return UsageError(f"unknown {what} `{name}`", where=where, allowed="nearest: " + ", ".join(f"`{n}`" for n in near))


def _range_json(layer: LayerPlan) -> list[list[float]] | None:
    if layer.low is None or layer.high is None:
        return None
    return [[float(v) for v in layer.low], [float(v) for v in layer.high]]


def _output_changes(entry: Mapping[str, Any] | bool | None, layer: LayerPlan) -> dict[str, Any]:
    if entry is None:
        return {}
    if entry is False:
        return {"output_bits": None}
    assert isinstance(entry, Mapping)
    changes: dict[str, Any] = {"output_bits": entry.get("bitwidth", layer.output_bits or 8), "signed": entry.get("signed", layer.signed)}
    if "axis" in entry:
        changes["per_axis"] = entry["axis"] == "per-axis"
    if entry.get("range") is not None:
        low, high = entry["range"]
        changes |= {"low": np.atleast_1d(np.asarray(low, np.float64)), "high": np.atleast_1d(np.asarray(high, np.float64)), "floor": 0.0, "headroom": 1.0}
    return changes | {key: float(entry[key]) for key in _MARGINS if key in entry}
