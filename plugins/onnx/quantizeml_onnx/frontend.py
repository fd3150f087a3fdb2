"""The ONNX frontend: a native model is an `onnx.ModelProto`; the caller's object is never modified."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from quantizeml_core.bake import Quantization
from quantizeml_core.hooks import Batch, Change, InputShape, InputSpec, Observer, Survey
from quantizeml_core.match import Rule
from quantizeml_core.program import Program
from quantizeml_core.target import Target

from . import large, loading, metadata, quantized, readback
from .deploy import deployed
from .normalize import prepare
from .observe import observe
from .realize import from_program, realize
from .replace_conv3d import replace_conv3d
from .rewrites import Applied, Refused, Rewrite, sanitize
from .rules import SOURCE
from .survey import survey


@dataclass(frozen=True)
class State:
    """The graph before and after the rewrites, and what they did."""

    original: ir.Model
    sanitized: ir.Model
    applied: tuple[Applied, ...]
    refused: tuple[Refused, ...]


class OnnxFrontend:
    """Implements `quantizeml_core.hooks.Frontend`."""

    name = "onnx"

    def load(self, path: Path) -> onnx.ModelProto:
        return loading.load(path)

    def save(self, model: onnx.ModelProto, path: Path) -> Path:
        return loading.save(model, path)

    def files(self, path: Path) -> tuple[Path, ...]:
        """A saved model, and the file that holds its weights when they stand apart."""
        return (path, *large.data_of(path))

    def inputs(self, model: onnx.ModelProto) -> tuple[InputSpec, ...]:
        return loading.inputs(model)

    def survey(self, model: onnx.ModelProto, *, target: Target, rules: Sequence[Rule], rewrites: Sequence[Rewrite], until: str | None = None,
               input_shape: InputShape = None, input_dtype: str | None = None, through: bool = False, islands: bool = False) -> Survey:
        original = prepare(model, input_shape=input_shape)
        wanted = {step.op for rule in rules if rule.source != SOURCE for line in rule.pattern.lines for step in line}
        sanitized, applied, refused = sanitize(original.clone(), rewrites, wanted)
        blueprint = survey(sanitized, rules, until=until, through=through, islands=islands)
        return Survey(blueprint, State(original, sanitized, applied, refused), _changes(applied, refused))

    def observe(self, survey: Survey, batches: Iterable[Batch], observers: Mapping[str, Observer]) -> None:
        observe(survey.state.sanitized, batches, observers)

    def realize(self, survey: Survey, made: Quantization) -> onnx.ModelProto:
        return realize(survey.state.original, survey.state.sanitized, made.program, made.config)

    def program(self, model: onnx.ModelProto) -> Program | None:
        return readback.program(model)

    def plan(self, model: onnx.ModelProto) -> dict[str, Any] | None:
        return metadata.config(model)

    def resumed(self, model: onnx.ModelProto, batch: Batch) -> dict[str, np.ndarray]:
        """The float tensors inside a quantized model that its program reads, for one batch."""
        return quantized.tensors(model, quantized.resumed(model), batch)

    def replace_conv3d(self, model: onnx.ModelProto) -> onnx.ModelProto:
        return replace_conv3d(model)

    def deploy(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """The deployment form."""
        return deployed(model)

    def from_program(self, program: Program, config: Mapping[str, Any]) -> onnx.ModelProto:
        """A whole model from a program of any frontend."""
        return from_program(program, config)


def _changes(applied: Iterable[Applied], refused: Iterable[Refused]) -> tuple[Change, ...]:
    return (*(Change(a.rewrite, a.node) for a in applied), *(Change(r.rewrite, r.node, r.reason) for r in refused))
