"""`quantizeml config`: the configuration inside a quantized model, as JSON, to edit and give back with `quantize -c`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..files import atomic_write, check_destination
from ..plugins import Registry
from . import options


@click.command("config")
@options.model
@click.option("-o", "--output", type=options.FILE, help="The JSON file to write.  [default: print it]")
def command(model: Path, output: Path | None) -> None:
    """Dump the configuration a quantized model was made with."""
    options.check_model_file(model, Registry.load())
    if output:
        check_destination(output)
    from .. import api
    text = json.dumps(api.dump_config(api.load_model(model)), indent=2)
    if not output:
        click.echo(text)
        return
    with atomic_write(output) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    click.echo(f"Configuration saved to {output}")
