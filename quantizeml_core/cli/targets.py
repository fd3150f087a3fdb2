"""`quantizeml targets [NAME]`: the hardware targets that are installed, or the figures of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ..limits import Limit
from ..plugins import Registry
from ..target import CAPABILITIES, Target
from . import options
from .output import show, show_json

if TYPE_CHECKING:
    from rich.table import Table


@click.command("targets")
@click.argument("name", required=False)
@options.as_json
def command(name: str | None, as_json: bool) -> None:
    """List the hardware targets, or show one."""
    registry = Registry.load()
    if name:
        target = registry.target(name)
        show_json(target.to_json()) if as_json else _show_one(target)
    else:
        targets = registry.targets()
        show_json([target.to_json() for target in targets.values()]) if as_json else _show_all(targets)


def _show_all(targets: Mapping[str, Target]) -> None:
    from rich.table import Table
    view = Table("name", "brought by", "summary", box=None, pad_edge=False)
    for name, target in targets.items():
        view.add_row(name, target.distribution, target.summary)
    show(view)


def _show_one(target: Target) -> None:
    from rich.table import Table
    view = Table(show_header=False, box=None, pad_edge=False)
    for label, text in _rows(target).items():
        view.add_row(label, text)
    show(f"{target.name}: {target.summary}", view)
    if target.limits:
        show("", _limits(target.limits))


def _limits(limits: tuple[Limit, ...]) -> Table:
    """The hardware's tables; a layer's name stands in its first row."""
    from rich.table import Table
    view = Table("layer", "rule", "value", "source", "revision", box=None, pad_edge=False)
    before = ""
    for row in limits:
        view.add_row("" if row.layer == before else row.layer, row.rule, f"{row.text} ({row.note})" if row.note else row.text, row.source, row.revision)
        before = row.layer
    return view


def _rows(target: Target) -> dict[str, str]:
    return {
        "first layer's weight bits": _list(target.input_weight_bits),
        "weight bits": _list(target.weight_bits),
        "activation bits": _list(target.activation_bits),
        "activation scales": "per axis or per tensor" if target.per_axis_activations else "per tensor only",
        "defaults": ", ".join(f"{key}={value}" for key, value in target.defaults.items()),
        "bias": f"{target.bias_mantissa_bits} bits and a shift" if target.bias_mantissa_bits else "any value of the accumulator",
        "accumulator bits": ", ".join(f"{kind} {bits}" for kind, bits in target.accumulator_bits.items()),
        "capabilities": "\n".join(f"{name}: {CAPABILITIES.get(name, '')}" for name in sorted(target.capabilities)) or "none",
        "source": target.source,
        "revision": target.revision,
        "brought by": target.distribution,
    }


def _list(values: tuple[Any, ...]) -> str:
    return ", ".join(map(str, values))
