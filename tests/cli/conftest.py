"""A command line whose quantizer is a stand-in, so that these tests see flags, files, messages and exit codes only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

import quantizeml_core
from quantizeml_core.blocks import Block
from quantizeml_core.blueprint import Blueprint, Coverage, Stop
from quantizeml_core.cli import build
from quantizeml_core.hooks import Change
from quantizeml_core.load import Load
from quantizeml_core.match import stop_message
from quantizeml_core.report.findings import Finding
from quantizeml_core.report.heads import Head

BLUEPRINT = Blueprint(
    (Block("quantize", "input", ("x",), "quantize"), Block("conv_1", "conv2d", ("quantize",), "y")),
    ("y",), {"x": (None, 1, 8, 8)}, (Stop("lambda_3", "Tanh", "no rule covers it", "conv2d (quantizeml-onnx) expected Relu, got Tanh"),),
    Coverage(3, 4, 900, 1000))


@dataclass
class Quantized:
    """What the stand-in returns: as much of a result as the command line reads."""

    blueprint: Blueprint = BLUEPRINT
    findings: tuple[Finding, ...] = (Finding("QML301", "info", "conv_1", "slower body", "none needed"),)
    warnings: tuple[str, ...] = ("calibrated with random samples", stop_message(BLUEPRINT.stops[0]))
    changes: tuple[Change, ...] = (Change("fold_batch_normalization", "bn_1"), Change("fold_zero_padding", "pad_1", "the zeros would win"))
    load: Load = Load(4, 4_000_000)
    heads: tuple[Head, ...] = ()

    def save(self, path: Path) -> Path:
        path.write_bytes(b"integers")
        return path

    def files(self, path: Path) -> tuple[Path, ...]:
        return (path,)


@dataclass
class Api:
    """The stand-in: it keeps what it was called with."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    error: Exception | None = None
    findings: tuple[Finding, ...] = ()

    def quantize_model(self, model: Path, **arguments: Any) -> Quantized:
        self.calls.append({"model": model, **arguments})
        if self.error:
            raise self.error
        return Quantized()

    def load_model(self, path: Path) -> Path:
        return path

    def dump_config(self, model: Path) -> dict[str, Any]:
        return {"conv_1": {"weight_quantizer": {"bitwidth": 8}}}

    def check_model(self, model: Path, **arguments: Any) -> tuple[Finding, ...]:
        self.calls.append({"model": model, **arguments})
        return self.findings


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    stand_in = Api()
    module = ModuleType("quantizeml_core.api")
    for name in ("quantize_model", "load_model", "dump_config", "check_model"):
        setattr(module, name, getattr(stand_in, name))
    monkeypatch.setitem(sys.modules, "quantizeml_core.api", module)
    monkeypatch.setattr(quantizeml_core, "api", module, raising=False)
    return stand_in


Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(build(), [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A file with a model's name; the stand-in does not read it."""
    path = tmp_path / "net.onnx"
    path.write_bytes(b"floats")
    return path
