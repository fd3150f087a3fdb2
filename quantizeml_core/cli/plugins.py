"""`quantizeml plugins`: who brings what, and why a plugin could not be loaded; `quantizeml plugins new NAME`: a working one to start from.

It works when another command does not.
"""

from __future__ import annotations

from pathlib import Path

import click

from ..discovery import Plugin, discover
from . import options
from .output import show, show_json


@click.group("plugins", invoke_without_command=True)
@options.as_json
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the installed plugins, and why one could not be loaded."""
    if context.invoked_subcommand:
        return
    plugins = discover()
    if as_json:
        show_json([plugin.to_json() for plugin in plugins])
        return
    from rich.table import Table
    from rich.text import Text
    view = Table("name", "distribution", "version", "brings", box=None, pad_edge=False)
    for plugin in plugins:
        view.add_row(*map(Text, (plugin.name, plugin.distribution or "-", plugin.version or "-", _state(plugin))))
    show(view)


@command.command("new")
@click.argument("name")
@click.option("--into", type=options.FILE, default=Path(), help="The folder to write into.  [default: this one]")
def new(name: str, into: Path) -> None:
    """Write a working plugin, tests included, to start from."""
    from ..skeleton import write_plugin
    folder = write_plugin(name, into)
    show(f"{folder}: a plugin that works as it stands.", f"pip install -e {folder}", f"python -m pytest {folder / 'tests'}")


def _state(plugin: Plugin) -> str:
    if plugin.error:
        return f"not loaded: {plugin.error}"
    if not plugin.selected:
        return "not selected by QUANTIZEML_PLUGINS"
    return ", ".join(hook.removeprefix("quantizeml_") for hook in plugin.hooks) or "nothing in this version"
