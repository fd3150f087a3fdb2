"""Fixtures shared by all rooms."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _no_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's plugin selection and debugging switch have no influence on the tests."""
    monkeypatch.delenv("QUANTIZEML_PLUGINS", raising=False)
    monkeypatch.delenv("QUANTIZEML_DEBUG", raising=False)
