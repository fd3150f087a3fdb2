"""`quantizeml export`: the integers of a quantized model, whatever its framework, as an ONNX file for plain onnxruntime and the Akida converter."""

from __future__ import annotations

from pathlib import Path

import click

from ..plugins import Registry
from . import options
from .naming import export_destination
from .output import show


@click.command("export")
@options.model
@click.option("-o", "--output", type=options.FILE, help="The ONNX file to write.  [default: the model's name with .onnx]")
def command(model: Path, output: Path | None) -> None:
    """Write a quantized model as an ONNX file with the same integers."""
    registry = Registry.load()
    options.check_model_file(model, registry)
    path = export_destination(model, output)
    registry.frontend_for(path)
    from .. import api
    saved = api.export(model, path)
    show(f"{model} -> {saved} ({saved.stat().st_size / 1000:.0f} kB)")
