"""What commands print: results on stdout, warnings and progress on stderr. Colours and progress appear on a terminal only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, what is done of it, and how much there is."""

PIPE_WIDTH = 1000
"""Wide enough that no row of a table is broken: lines in a pipe are read by programs."""


def console(stderr: bool = False) -> Console:
    """A console on stdout or stderr; in a pipe it is plain and as wide as the text needs."""
    from rich.console import Console
    made = Console(stderr=stderr, highlight=False, emoji=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, emoji=False, width=PIPE_WIDTH)


def show(*parts: RenderableType) -> None:
    """Prints to stdout; lines of text are never broken, so that paths can be copied."""
    out = console()
    for part in parts:
        out.print(part, soft_wrap=isinstance(part, str), markup=False)


def show_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2))


def warn(messages: Iterable[str]) -> None:
    """Prints warnings to stderr, one a line."""
    for message in messages:
        click.secho(f"Warning: {message}", err=True, fg="yellow")


@contextmanager
def progress() -> Iterator[Progress | None]:
    """A progress display on stderr when that is a terminal, None otherwise."""
    err = console(stderr=True)
    if not err.is_terminal:
        yield None
        return
    from rich.progress import Progress as Display
    with Display(console=err, transient=True) as display:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = display.add_task(stage, total=total)
            display.update(tasks[stage], completed=done, total=total)

        yield report
