"""The door of quantizeml-keras: the frontend that reads `.keras` and `.h5` files and Keras models, its rewrites and rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantizeml_core.hooks import FrontendInfo, hookimpl

if TYPE_CHECKING:
    from quantizeml_core.match import Rule
    from quantizeml_core.target import Target

FRONTEND = FrontendInfo("keras", (".keras", ".h5"), ("keras",), "quantizeml_keras.door:frontend")


@hookimpl
def quantizeml_frontends() -> tuple[FrontendInfo, ...]:
    return (FRONTEND,)


@hookimpl
def quantizeml_rewrites(frontend: str, target: Target) -> tuple[Any, ...]:
    if frontend != FRONTEND.name:
        return ()
    from .rewrites import BUILTIN

    return BUILTIN


@hookimpl
def quantizeml_rules(frontend: str, target: Target) -> tuple[Rule, ...]:
    if frontend != FRONTEND.name:
        return ()
    from .rules import builtin_rules

    return builtin_rules(target)
