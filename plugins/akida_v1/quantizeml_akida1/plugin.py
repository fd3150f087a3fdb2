"""The door of quantizeml-akida1: one target, in three editions; the first is the default."""

from __future__ import annotations

from quantizeml_core.hooks import hookimpl
from quantizeml_core.target import Target

from .profile import AKIDA1, AKIDA1_2023, AKIDA1_PRE_PRODUCTION


@hookimpl
def quantizeml_targets() -> tuple[Target, ...]:
    return (AKIDA1, AKIDA1_2023, AKIDA1_PRE_PRODUCTION)
