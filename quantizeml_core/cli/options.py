"""What several commands share: options, and the checks made before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..errors import ModelError, UsageError
from ..plugins import Registry

FILE = click.Path(path_type=Path)

model = click.option("-m", "--model", type=FILE, required=True, help="The model file.")
samples = click.option("-sa", "--samples", type=FILE, help="Calibration samples: a .npz file (its arrays are concatenated) or a .npy file.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def target(default: str | None, text: str) -> Callable[[Any], Any]:
    """The option `--target`."""
    return click.option("--target", default=default, show_default=default is not None, help=text)


def check_model_file(path: Path, registry: Registry) -> None:
    """Refuses a file that no frontend reads, or that does not exist, before anything is imported."""
    frontends = registry.frontends().values()
    if not any(path.suffix.lower() in info.suffixes for info in frontends):
        registry.frontend_for(path)
    if not path.is_file():
        raise ModelError("there is no such file", where=f"`{path}`", do="Correct the path given with -m/--model")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; UsageError with the place where reading stopped."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot be read: {reason}", where=f"`{path}`", do="Correct the path") from error
    except json.JSONDecodeError as error:
        where = f"`{path}`, line {error.lineno}, column {error.colno}"
        raise UsageError(error.msg, where=where, do="Correct the JSON there") from error
    if not isinstance(data, dict):
        raise UsageError("is not a JSON object", where=f"`{path}`", do="Start from the output of `quantizeml config`")
    return data


def positive(ctx: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    """A number that counts something."""
    if value is not None and value < 1:
        raise UsageError(f"{value} is too small", where="/".join(parameter.opts), allowed="a positive integer", do="Give one")
    return value


def parse_shape(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """`1,28,28` as a tuple of positive integers."""
    if value is None:
        return None
    parts = value.replace(" ", "").split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"`{value}` is no shape", where="--input_shape", allowed="positive integers such as 1,28,28", do="Give some")
    return tuple(map(int, parts))


input_shape = click.option("--input_shape", callback=parse_shape, help="Shape of one sample, such as 1,28,28, when the model leaves it open.")
