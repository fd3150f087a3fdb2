"""The Keras frontend: a native model is a symbolic `keras.Model`; the caller's object is never modified."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from quantizeml_core.bake import Quantization
from quantizeml_core.errors import UsageError
from quantizeml_core.hooks import Batch, InputShape, InputSpec, Observer, Survey
from quantizeml_core.match import Rule
from quantizeml_core.program import Program
from quantizeml_core.target import Target

from . import loading, readback
from .insert_rescaling import insert_rescaling
from .learn_steps import learn_steps
from .observe import observe
from .realize import realize
from .rebuild import rebuild
from .replace_conv3d import replace_conv3d
from .rewrites import BUILTIN, Rewrite, sanitize
from .survey import survey
from .to_hardware_forms import to_hardware_forms
from .trace import trace


class KerasFrontend:
    """Implements `quantizeml_core.hooks.Frontend`; the state of a survey is the sanitized graph."""

    name = "keras"

    def load(self, path: Path) -> keras.Model:
        return loading.load(path)

    def save(self, model: keras.Model, path: Path) -> Path:
        return loading.save(model, path)

    def inputs(self, model: keras.Model) -> tuple[InputSpec, ...]:
        return loading.inputs(model)

    def survey(self, model: keras.Model, *, target: Target, rules: Sequence[Rule], rewrites: Sequence[Rewrite], until: str | None = None,
               input_shape: InputShape = None, input_dtype: str | None = None, through: bool = False, islands: bool = False) -> Survey:
        if islands:
            raise UsageError("islands are made for ONNX models", where="islands", allowed="a .onnx file", do="Leave it out, or export the model to ONNX")
        sanitized, changes = sanitize(trace(model, input_shape), rewrites)
        return Survey(survey(sanitized, rules, until=until, through=through), sanitized, changes)

    def observe(self, survey: Survey, batches: Iterable[Batch], observers: Mapping[str, Observer]) -> None:
        observe(survey.state, batches, observers)

    def realize(self, survey: Survey, made: Quantization) -> keras.Model:
        return realize(survey.state, made)

    def program(self, model: keras.Model) -> Program | None:
        return readback.program(model)

    def plan(self, model: keras.Model) -> Mapping[str, Any] | None:
        return readback.configuration(model)

    def sanitize(self, model: keras.Model) -> keras.Model:
        """The simplified float model: what is quantized, as a Keras model."""
        return rebuild(sanitize(trace(model), BUILTIN)[0])

    def insert_rescaling(self, model: keras.Model, scale: float, offset: float) -> keras.Model:
        return insert_rescaling(model, scale, offset)

    def learn_steps(self, model: keras.Model) -> keras.Model:
        return learn_steps(model)

    def to_hardware_forms(self, model: keras.Model) -> keras.Model:
        return to_hardware_forms(model)

    def replace_conv3d(self, model: keras.Model) -> keras.Model:
        return replace_conv3d(model)

    def float_layers(self, model: keras.Model) -> tuple[str, ...]:
        """Layers of a quantized model that compute in float."""
        return readback.float_layers(model)
