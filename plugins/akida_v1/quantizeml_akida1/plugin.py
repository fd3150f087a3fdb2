"""The door of quantizeml-akida1: one target."""

from __future__ import annotations

from quantizeml_core.hooks import hookimpl
from quantizeml_core.target import Target

from .profile import AKIDA1


@hookimpl
def quantizeml_targets() -> tuple[Target, ...]:
    return (AKIDA1,)
