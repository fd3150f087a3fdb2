"""What `quantizeml quantize` tells about a result: what was quantized, how far, where it stopped and why, and where the file is."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..blueprint import Blueprint, Coverage, Stop
from ..match import stop_message
from ..params import QuantizationParams
from ..report.findings import digest, ordered, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..api import Result


@dataclass(frozen=True)
class Facts:
    """What the command knows beside the result: the files, the target and the parameters, all resolved."""

    model: Path
    saved: Path
    target: str
    params: QuantizationParams

    @property
    def scheme(self) -> str:
        p = self.params
        axes = "per-tensor" if p.per_tensor_activations else "per-axis"
        return f"i{p.input_weight_bits} w{p.weight_bits} a{p.activation_bits}, {axes} activations, target {self.target}"


def size(result: Result, facts: Facts) -> int:
    """Bytes of the saved model, in all its files."""
    return sum(path.stat().st_size for path in result.files(facts.saved))


def as_text(result: Result, facts: Facts) -> list[RenderableType]:
    """Lines, and a table with one row for each kind of finding."""
    lines: list[RenderableType] = [
        f"{facts.model} -> {facts.saved} ({size(result, facts) / 1000:.0f} kB)",
        f"  scheme    {facts.scheme}",
        *([f"  rewrites  {_rewrites(result)}"] if _rewrites(result) else []),
        f"  blocks    {_kinds(result.blueprint)}",
        f"  coverage  {_coverage(result.blueprint.coverage)}",
        f"  memory    calibrated {result.load.text}",
        *(f"  {_stop(stop)}" for stop in result.blueprint.stops),
        *([f"  quality   {_quality(result)}"] if result.heads else []),
    ]
    if not result.findings:
        return lines
    found = digest(result.findings)
    more = f"`quantizeml check -m {facts.saved}` lists each block." if len(found) < len(result.findings) else ""
    return [*lines, "", table(found), *filter(None, [more])]


def as_json(result: Result, facts: Facts) -> dict[str, Any]:
    """The same, for machines."""
    return {
        "model": str(facts.model),
        "saved": str(facts.saved),
        "bytes": size(result, facts),
        "target": facts.target,
        "qparams": facts.params.to_json(),
        "rewrites": [asdict(change) for change in result.changes],
        "blocks": [{"name": block.name, "kind": block.kind} for block in result.blueprint.blocks],
        "coverage": asdict(result.blueprint.coverage),
        "calibration": asdict(result.load),
        "heads": [asdict(head) for head in result.heads],
        "stops": [asdict(stop) for stop in result.blueprint.stops],
        "findings": [finding.to_json() for finding in ordered(result.findings)],
        "warnings": list(result.warnings),
    }


def untold(result: Result) -> tuple[str, ...]:
    """The warnings that the text does not already hold."""
    told = {stop_message(stop) for stop in result.blueprint.stops}
    return tuple(message for message in result.warnings if message not in told)


def _stop(stop: Stop) -> str:
    what = "left out" if stop.island else "stopped"
    return f"{what:<9} {stop_message(stop).removeprefix(f'Quantization {what} ')}"


def _rewrites(result: Result) -> str:
    """How often each rewrite was done; those that were refused are in the JSON, with the reason."""
    done = Counter(change.rewrite for change in result.changes if not change.refused)
    return ", ".join(f"{count} {name}" for name, count in done.items())


def _quality(result: Result) -> str:
    """Signal over error on samples that calibrated, output by output."""
    alone = len(result.heads) == 1
    each = ", ".join(f"{head.decibels:.1f} dB" + ("" if alone else f" at {head.output}") for head in result.heads)
    return f"{each}{' at the output' if alone else ''} ({result.heads[0].samples} of the calibration samples)"


def _kinds(blueprint: Blueprint) -> str:
    counts = Counter(block.kind for block in blueprint.blocks)
    return f"{len(blueprint.blocks)}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _coverage(cover: Coverage) -> str:
    share = f", {100 * cover.macs / cover.total_macs:.1f} % of the multiplications" if cover.total_macs else ""
    return f"{cover.nodes} of {cover.total} nodes{share}"
