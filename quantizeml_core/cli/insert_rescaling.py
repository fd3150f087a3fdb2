"""`quantizeml insert_rescaling`: a Rescaling in front of a float model, for data that was prepared outside of it."""

from __future__ import annotations

from pathlib import Path

import click

from ..plugins import Registry
from . import options
from .naming import rescaled_destination
from .output import show


@click.command("insert_rescaling")
@options.model
@click.option("-s", "--scale", type=float, required=True, help="What the input is multiplied by.")
@click.option("-o", "--offset", type=float, required=True, help="What is added behind that.")
@click.option("-d", "--dest_model", type=options.FILE, required=True, help="Where to save.")
def command(model: Path, scale: float, offset: float, dest_model: Path) -> None:
    """Insert a Rescaling layer at the beginning of a Keras model."""
    registry = Registry.load()
    options.check_model_file(model, registry)
    path = rescaled_destination(model, dest_model)
    from .. import api
    saved = api.save_model(api.insert_rescaling(api.load_model(model), scale, offset), path)
    show(f"{model} -> {saved}: input * {scale:g} + {offset:g}")
