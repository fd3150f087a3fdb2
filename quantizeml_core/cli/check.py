"""`quantizeml check`: what is inexact, saturated or not allowed in a model, as a table of findings. Exit code 1 when one is an error."""

from __future__ import annotations

from pathlib import Path

import click

from ..plugins import Registry
from . import options
from .output import show, show_json


@click.command("check")
@options.model
@options.samples
@options.target(None, "Check against this hardware too.")
@options.as_json
def command(model: Path, samples: Path | None, target: str | None, as_json: bool) -> None:
    """Report what is inexact, saturated or not allowed in a model."""
    registry = Registry.load()
    if target:
        registry.target(target)
    options.check_model_file(model, registry)
    from .. import api
    from ..report.findings import has_errors, ordered, table
    findings = ordered(api.check_model(model, target=target, samples=samples))
    if as_json:
        show_json([finding.to_json() for finding in findings])
    else:
        show(table(findings) if findings else f"{model}: nothing to report.")
    if has_errors(findings):
        raise SystemExit(1)
