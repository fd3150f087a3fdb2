"""How much of each network of the zoo becomes integer, and why the rest does not: nodes with arithmetic, multiply-accumulates, stops.

    python -m benchmarks.coverage [NET ...] [--target NAME] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from quantizeml_core.api import survey_model
from quantizeml_core.errors import ModelError
from quantizeml_core.match import stop_message

from .zoo import ZOO


@dataclass(frozen=True)
class Covered:
    """What of one network is quantized: counts of nodes, thousands of multiply-accumulates per sample, and a sentence for each stop."""

    net: str
    nodes: int
    of: int
    kmacs: int
    of_kmacs: int
    stops: tuple[str, ...]

    @property
    def share(self) -> float:
        """Percent of the multiply-accumulates."""
        return 100 * self.kmacs / self.of_kmacs if self.of_kmacs else 0.0


def measure(name: str, target: str) -> Covered:
    try:
        blueprint = survey_model(ZOO[name].build(ZOO[name].size), target=target).blueprint
    except ModelError as error:  # nothing at all
        return Covered(name, 0, 0, 0, 0, (str(error),))
    found = blueprint.coverage
    return Covered(name, found.nodes, found.total, found.macs // 1000, found.total_macs // 1000, tuple(map(stop_message, blueprint.stops)))


def table(rows: Sequence[Covered]) -> Table:
    made = Table(title="Integer, before any sample")
    for heading in ("network", "nodes", "million MACs", "share", "float from"):
        made.add_column(heading, justify="left" if heading in ("network", "float from") else "right", overflow="fold")
    for row in rows:
        made.add_row(row.net, f"{row.nodes} of {row.of}", f"{row.kmacs / 1e3:.1f} of {row.of_kmacs / 1e3:.1f}", f"{row.share:.1f} %", "\n".join(row.stops) or "nothing")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("nets", nargs="*", default=list(ZOO), metavar="NET")
    parser.add_argument("--target", default="generic")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    rows = [measure(name, args.target) for name in args.nets]
    Console(highlight=False, width=None if sys.stdout.isatty() else 180).print(table(rows))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
