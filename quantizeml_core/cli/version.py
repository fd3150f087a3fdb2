"""`quantizeml version`: the versions of everything that takes part, read from metadata, nothing imported."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import click

from ..discovery import discover
from . import options
from .output import show_json

COMPANIONS = ("numpy", "onnx", "onnx-ir", "onnxruntime", "keras", "tensorflow")


@click.command("version")
@options.as_json
def command(as_json: bool) -> None:
    """Show the versions of everything that takes part."""
    plugins = {plugin.distribution: plugin.version for plugin in discover() if plugin.version}
    versions = {**plugins, "python": platform.python_version(), **_installed()}
    if as_json:
        show_json(versions)
        return
    for name, release in versions.items():
        click.echo(f"{name} {release}")


def _installed() -> dict[str, str]:
    found = {}
    for name in COMPANIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
