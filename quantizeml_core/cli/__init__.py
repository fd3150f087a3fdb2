"""The command line: one module for each command, imported when that command runs, so `quantizeml --help` imports no framework.

The only translator of errors stands here: QuantizeMLError ends on stderr with exit code 1, UsageError with 2, and `QUANTIZEML_DEBUG=1`
shows the traceback instead. Commands of plugins (hook `quantizeml_commands`) stand beside the core's own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from ..discovery import discover
from ..errors import PluginError, QuantizeMLError, UsageError
from ..hooks import CommandInfo
from ..plugins import Registry, load_object

DEBUG = "QUANTIZEML_DEBUG"


class Commands(click.Group):
    """The group of all commands, found through the hooks and loaded by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._infos())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        info = self._infos().get(cmd_name)
        return load_object(info.loader) if info else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands and their summaries, none of them imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(info.name, info.summary) for info in self._infos().values()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except QuantizeMLError as error:
            if os.environ.get(DEBUG):
                raise
            raise _shown(error) from error

    def _infos(self) -> Mapping[str, CommandInfo]:
        """All commands; when a plugin is broken, only the core's, so that `quantizeml plugins` can say which one."""
        plugins = discover()
        try:
            return Registry(plugins).commands()
        except PluginError:
            return Registry(plugins[:1]).commands()


def _shown(error: QuantizeMLError) -> click.ClickException:
    shown = click.ClickException(str(error))
    shown.exit_code = 2 if isinstance(error, UsageError) else 1
    return shown


def build() -> click.Group:
    """The command line as an object."""
    return Commands("quantizeml", help="Quantize neural networks to integers.", context_settings={"help_option_names": ["-h", "--help"]},
                    epilog="QUANTIZEML_PLUGINS selects plugins by name, QUANTIZEML_DEBUG=1 shows tracebacks.")


def main() -> None:
    """Entry point of the console script."""
    build()()
