"""`quantizeml check`: what is inexact, saturated or not allowed in a model, as a table of findings. Exit code 1 when one is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..plugins import Registry
from . import options
from .output import show, show_json


@click.command("check")
@options.model
@options.samples
@options.input_shape
@options.target(None, "Check against this hardware too.")
@click.option("--proof", is_flag=True, help="Show the overflow proof of each block: worst case, observed on samples, width, margin.")
@options.as_json
def command(model: Path, target: str | None, proof: bool, as_json: bool, **given: Any) -> None:
    """Report what is inexact, saturated or not allowed in a model."""
    registry = Registry.load()
    if target:
        registry.target(target)
    options.check_model_file(model, registry)
    from .. import api
    from ..report import overflow
    from ..report.findings import has_errors, ordered, table
    findings = ordered(api.check_model(model, target=target, **given))
    proofs = api.prove(model, target=target, **given) if proof else ()
    if as_json:
        found = [finding.to_json() for finding in findings]
        show_json({"findings": found, "accumulators": [p.to_json() for p in proofs]} if proof else found)
    else:
        show(table(findings) if findings else f"{model}: nothing to report.")
        show(*(overflow.table(proofs),) if proofs else ())
    if has_errors(findings):
        raise SystemExit(1)
