"""docs/migration.md, row by row: every name that runs unchanged is there, every other one leads to something that is."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/migration.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w.]+:\w+)` \| `([^`]+)` \|", PAGE, re.MULTILINE)


def found(path: str) -> object:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


@pytest.mark.parametrize(("there", "here"), ROWS, ids=[row[0] for row in ROWS])
def test_every_row_leads_to_something(there: str, here: str) -> None:
    assert found(there if here == "=" else here) is not None


@pytest.mark.parametrize(("there", "here"), [row for row in ROWS if row[1] != "="], ids=[row[0] for row in ROWS if row[1] != "="])
def test_a_name_that_leads_elsewhere_is_not_there(there: str, here: str) -> None:
    with pytest.raises((AttributeError, ModuleNotFoundError)):
        found(there)


def test_every_row_of_a_table_is_read() -> None:
    assert len(ROWS) == len([line for line in PAGE.splitlines() if line.startswith("| `")])
