"""Does a float network fit a target: every broken row of its tables with its fix, as findings. Codes are listed in docs/errors.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..blocks import ENTRIES
from ..blueprint import Blueprint
from ..legality import Violation, violations
from ..legalize import Approximation, Legal, Legalization, legalize
from ..program import Program
from ..target import Target
from .findings import Finding

HINTS: Mapping[str, str] = {
    "input_channels": "Train with 1 or 3 channels, or quantize with --input_dtype int8: then the layer is no input convolution",
    "first_axis": "Resize the images",
    "second_axis": "Resize the images",
    "max_channels": "Use fewer channels, or cut the network before it with -qu/--quantize_until",
    "max_inputs": "Pool before the dense layer, or cut the network before it with -qu/--quantize_until",
    "max_filters": "Use fewer filters or a smaller kernel",
    "kernel_strides": "Use one of the kernels and strides there are",
    "padding": "Export with padding='same'",
    "max_pool": "Use one of the poolings there are, or a stride in the convolution",
    "max_pool_padding": "Export the pooling with padding='same'",
    "pool_followed_by": "Put a convolution behind the pooling",
    "followed_by": "Put a pointwise convolution behind it",
    "gap_width": "Average a smaller image: one more stride before the global pooling",
    "gap_area_below": "Average a smaller image: one more stride before the global pooling",
    "gap_min_rows": "Average an image of more rows",
    "gap_one_pixel": "Leave the global pooling of one pixel out",
    "activations": "Replace the activation and train again",
    "table_with_max_pool": "Replace the activation by a ReLU, or put the pooling behind another convolution",
    "max_readers": "Branch behind another layer",
    "distinct_inputs": "Put an identity convolution into one branch",
    "inputs": "Split the network",
    "outputs": "Cut the network at one tensor with -qu/--quantize_until",
    "groups": "Use a convolution of one group, or one group per channel",
}
"""What a user can do about a row that nothing repairs, by rule."""


PADS = frozenset({"padding", "max_pool_padding"})
"""What approximations repair."""


@dataclass(frozen=True)
class Fitting:
    """A network against a target.

    Arguments:
        found: the rows the network breaks as it came.
        legal: the network after what could be repaired, approximately too when that was allowed.
        left: the rows it still breaks.
        offered: approximations that would repair some of those, when they were not allowed.
    """

    found: tuple[Violation, ...]
    legal: Legal
    left: tuple[Violation, ...]
    offered: tuple[Approximation, ...] = ()

    def findings(self) -> tuple[Finding, ...]:
        """First what is left, then what was repaired."""
        return (*(self._open(v) for v in self.left), *(self._closed(v) for v in self.found if not self._stays(v)))

    def _open(self, found: Violation) -> Finding:
        offer = next((a for a in self.offered if a.block == found.block and found.rule in PADS), None)
        return _left(found, self.legal) if offer is None else _offered(found, offer)

    def _closed(self, found: Violation) -> Finding:
        near = next((a for a in self.legal.approximations if a.block == found.block and found.rule in PADS), None)
        return _repaired(found, self._names(found.block)) if near is None else _approximated(found, near)

    def _stays(self, found: Violation) -> bool:
        return any((v.block, v.rule) == (found.block, found.rule) for v in self.left)

    def _names(self, block: str) -> str:
        return ", ".join(dict.fromkeys(c.rewrite for c in self.legal.changes if c.node == block and not c.refused)) or "a repair of its neighbour"


def fitted(blueprint: Blueprint, target: Target, unsigned: frozenset[str], legalizations: Sequence[Legalization], approximate: bool = False) -> Fitting:
    """Check, repair, check again.

    Arguments:
        approximate: make approximations too; without it they are only offered.
    """
    if not target.limits:
        return Fitting((), Legal(blueprint), ())
    found = violations(blueprint, target, unsigned)
    legal = legalize(blueprint, target, unsigned, [made for made in legalizations if made.exact or approximate])
    left = violations(legal.blueprint, target, unsigned)
    offered = () if approximate or not left else legalize(legal.blueprint, target, unsigned, legalizations).approximations
    return Fitting(found, legal, left, offered)


def illegal(program: Program, target: Target) -> tuple[Finding, ...]:
    """The rows that a quantized network breaks."""
    unsigned = frozenset(b.output for b in program.blocks if b.kind in ENTRIES and program.formats[b.output].zero_point is not None
                         and not program.formats[b.output].signed)
    blueprint = Blueprint(program.blocks, program.outputs, program.shapes)
    return tuple(_left(v, Legal(blueprint)) for v in violations(blueprint, target, unsigned))


def sentence(violation: Violation) -> str:
    """The fact, with its number, its limit and where that is written."""
    return f"{violation.hardware}: {violation.rule} {violation.value}, allowed {violation.limit} ({violation.source}, {violation.revision})"


def _left(violation: Violation, legal: Legal) -> Finding:
    reasons = [f"{c.rewrite} does not help: {c.refused}" for c in legal.changes if c.refused and c.node == violation.block]
    hint = ". ".join((HINTS.get(violation.rule, "Change the layer"), *reasons))
    return _finding("QML301", "error", violation, hint, "manual")


def _offered(violation: Violation, offer: Approximation) -> Finding:
    hint = f"Allow {offer.rewrite} with --approximate: it changes {100 * offer.effect:.1f} % of the layer's output on smooth random images"
    return _finding("QML301", "error", violation, hint, "approximate")


def _approximated(violation: Violation, made: Approximation) -> Finding:
    hint = f"{made.rewrite} changed {100 * made.effect:.1f} % of the layer's output on smooth random images: look at the accuracy"
    return _finding("QML303", "warning", violation, hint, "approximate")


def _repaired(violation: Violation, names: str) -> Finding:
    return _finding("QML302", "info", violation, f"Nothing: {names} makes it legal, proven equal", "exact")


def _finding(code: str, severity: str, v: Violation, hint: str, fix: str) -> Finding:
    return Finding(code, severity, v.block, sentence(v), hint, v.rule, v.value, v.limit, v.source, fix)
