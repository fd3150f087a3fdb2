"""`quantizeml plugins`: who brings what, and why a plugin could not be loaded. It works when another command does not."""

from __future__ import annotations

import click

from ..discovery import Plugin, discover
from . import options
from .output import show, show_json


@click.command("plugins")
@options.as_json
def command(as_json: bool) -> None:
    """List the installed plugins, and why one could not be loaded."""
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


def _state(plugin: Plugin) -> str:
    if plugin.error:
        return f"not loaded: {plugin.error}"
    if not plugin.selected:
        return "not selected by QUANTIZEML_PLUGINS"
    return ", ".join(hook.removeprefix("quantizeml_") for hook in plugin.hooks) or "nothing in this version"
