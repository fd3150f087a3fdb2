"""The door of quantizeml-akida2: one target, in two editions; the first is the default."""

from __future__ import annotations

from quantizeml_core.hooks import hookimpl
from quantizeml_core.target import Target

from .profile import AKIDA2, AKIDA2_2023


@hookimpl
def quantizeml_targets() -> tuple[Target, ...]:
    return (AKIDA2, AKIDA2_2023)
