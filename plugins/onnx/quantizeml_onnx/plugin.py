"""The door of quantizeml-onnx: the frontend that reads `.onnx` files and `onnx` objects, its rewrites, rules and findings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantizeml_core.hooks import FrontendInfo, hookimpl

if TYPE_CHECKING:
    from quantizeml_core.match import Rule
    from quantizeml_core.program import Program
    from quantizeml_core.report.findings import Finding
    from quantizeml_core.target import Target

FRONTEND = FrontendInfo("onnx", (".onnx",), ("onnx", "onnx_ir"), "quantizeml_onnx.deferred:OnnxFrontend")


@hookimpl
def quantizeml_frontends() -> tuple[FrontendInfo, ...]:
    return (FRONTEND,)


@hookimpl
def quantizeml_rewrites(frontend: str, target: Target) -> tuple[Any, ...]:
    if frontend != FRONTEND.name:
        return ()
    from .rewrites import rewrites_for

    return rewrites_for(target.capabilities)


@hookimpl
def quantizeml_rules(frontend: str, target: Target) -> tuple[Rule, ...]:
    if frontend != FRONTEND.name:
        return ()
    from .rules import builtin_rules

    return builtin_rules(target)


@hookimpl
def quantizeml_findings(program: Program, target: Target, frontend: str) -> tuple[Finding, ...]:
    if frontend != FRONTEND.name:
        return ()
    from .conformance import findings

    return findings(program, target)
