"""A target in a JSON file: what `quantizeml targets NAME --json` prints, edited, is what `--target ./my_chip.json` takes."""

from __future__ import annotations

import json
from pathlib import Path

from .errors import UsageError
from .target import Target


def read_target(path: Path) -> Target:
    """UsageError when the file cannot be read, is no JSON object, or lacks or invents a field."""
    where = f"--target `{path}`"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=where, do="Correct the path") from error
    except json.JSONDecodeError as error:
        raise UsageError(error.msg, where=f"{where}, line {error.lineno}, column {error.colno}", do="Correct the JSON there") from error
    if not isinstance(data, dict):
        raise UsageError("is not a JSON object", where=where, do="Start from the output of `quantizeml targets akida2 --json`")
    return Target.from_json(data)
