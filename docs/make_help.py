"""Prints docs/help.md: every help screen of the core's commands, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import click

from quantizeml_core.builtin import COMMANDS
from quantizeml_core.cli import build

HEAD = """# Help screens

Made by `make help-page` from the commands themselves; a test fails when the two differ.
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(f"\n## {title}\n\n```text\n{text}\n```\n" for title, text in screens())


def screens() -> Iterator[tuple[str, str]]:
    """Title and text of each screen, the group's first."""
    group = build()
    root = click.Context(group, info_name="quantizeml", terminal_width=100, **group.context_settings)
    yield "quantizeml", group.get_help(root)
    for name, _ in COMMANDS:
        command = group.get_command(root, name)
        assert command is not None
        yield f"quantizeml {name}", command.get_help(click.Context(command, parent=root, info_name=name, terminal_width=100))


if __name__ == "__main__":
    print(page(), end="")
