"""docs/api.md: every name is there and has a docstring; every public name of the guide's surface is on the page."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import quantizeml.models

PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text(encoding="utf-8")
NAMES = re.findall(r"`([\w.]+:\w+)`", PAGE)


@pytest.mark.parametrize("path", NAMES)
def test_a_public_name_is_there_and_documented(path: str) -> None:
    module, _, name = path.partition(":")
    if module.startswith("quantizeml_keras") and find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    assert getattr(import_module(module), name).__doc__


def test_the_surface_of_models_is_on_the_page() -> None:
    assert {f"quantizeml.models:{name}" for name in quantizeml.models.__all__} <= set(NAMES)
