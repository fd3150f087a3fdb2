"""`quantizeml export`: the integers of a quantized model, whatever its framework, as an ONNX file for the Akida converter or for the fastest run in onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..plugins import Registry
from . import options
from .naming import export_destination
from .output import show


@click.command("export")
@options.model
@click.option("-o", "--output", type=options.FILE, help="The ONNX file to write.  [default: the model's name with .onnx]")
@click.option("--format", "form", type=click.Choice(("akida", "onnxruntime")), default="akida", show_default=True,
              help="The converter's nodes, or plain operators on bytes, which run fastest on a CPU.")
def command(model: Path, output: Path | None, form: str) -> None:
    """Write a quantized model as an ONNX file with the same integers."""
    registry = Registry.load()
    options.check_model_file(model, registry)
    path = export_destination(model, output, form)
    registry.frontend_for(path)
    from .. import api
    native = api.load_model(model, registry)
    saved = api.export(native, path, form)
    show(f"{model} -> {saved} ({saved.stat().st_size / 1000:.0f} kB)")
    if form == "onnxruntime" and (slow := _looked_up(registry, native)):
        show(f"{len(slow)} of its functions, as of `{slow[0]}`, are tables of accumulators, which a CPU computes slower than in float; `quantize --target cpu` makes them tables of bytes, which it computes faster")


def _looked_up(registry: Registry, native: Any) -> tuple[str, ...]:
    """The convolutions whose function is a table of accumulators, what a CPU computes slowest; a dense layer is small."""
    program = registry.frontend_for(native).program(native)
    return tuple(b.name for b in program.blocks if "table" in b.arrays and b.kind != "dense") if program else ()
