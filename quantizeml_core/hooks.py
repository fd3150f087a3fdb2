"""The hooks a plugin may implement, and the records they return.

A plugin is a light module (`plugin.py`) named by an entry point of group `quantizeml`. It imports this module and the standard library,
nothing else; what costs an import is named by a path `"package.module:attribute"` and imported when it is used. Every hook RETURNS values.
An implementation may take fewer arguments than the specification. One example for each hook stands in docs/hooks.md.

    from quantizeml_core.hooks import FrontendInfo, hookimpl

    @hookimpl
    def quantizeml_frontends():
        return (FrontendInfo("onnx", (".onnx",), ("onnx",), "quantizeml_onnx.frontend:OnnxFrontend"),)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pluggy

if TYPE_CHECKING:
    import numpy as np

    from .bake import Quantization
    from .blueprint import Blueprint
    from .legalize import Legalization
    from .match import Rule
    from .program import Program
    from .report.findings import Finding
    from .target import Target

PROJECT = "quantizeml"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Batch = Mapping[str, "np.ndarray"]
"""One batch of samples: native input name -> array in the native layout."""


InputShape = tuple[int, ...] | Mapping[str, tuple[int, ...]] | None
"""Shape of one sample in the native layout, of several inputs by name; None when the model says it."""


@dataclass(frozen=True)
class FrontendInfo:
    """What is known of a frontend before its framework is imported.

    Arguments:
        name: how rules, rewrites and messages call it.
        suffixes: the file suffixes it reads, with their dot, in lower case.
        module_prefixes: top-level modules whose objects it accepts as a model (`type(model).__module__`).
        loader: `"package.module:Class"` of a `Frontend`, called without arguments when the first model arrives.
    """

    name: str
    suffixes: tuple[str, ...]
    module_prefixes: tuple[str, ...]
    loader: str


@dataclass(frozen=True)
class CommandInfo:
    """A command of the CLI: its name, the line shown by `quantizeml --help`, and where its click command is."""

    name: str
    summary: str
    loader: str


@dataclass(frozen=True)
class InputSpec:
    """One input of a native model: its name, its native shape (None = any size, axis 0 is the batch) and its numpy dtype name.

    `ordered`: the network has a memory, its samples are frames of sequences (`quantizeml_core.sequences`).
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    ordered: bool = False


@dataclass(frozen=True)
class Change:
    """A rewrite of the float network at one node; `refused` is the reason why it was not done, empty when it was."""

    rewrite: str
    node: str
    refused: str = ""


@dataclass(frozen=True)
class Survey:
    """What a frontend saw in a float model: the blueprint for the core, its own state to come back to the native graph, and what it rewrote."""

    blueprint: Blueprint
    state: Any
    changes: tuple[Change, ...] = ()


@runtime_checkable
class Observer(Protocol):
    """Receives the values of one tensor, batch after batch."""

    def update(self, values: np.ndarray) -> None:
        """Takes one float32 array, channel-first, axis 0 the batch."""


@runtime_checkable
class Frontend(Protocol):
    """Reads and writes the models of one framework. The caller's model is never modified.

    A frontend may also have `from_program(program, config) -> model` (it can write programs of other frontends), `float_layers(model) -> names`
    (what a quantized model still computes in float), `files(path) -> paths` (those that belong to a saved model), `resumed(model, batch) -> tensors` (what its program reads inside it), `sanitize(model) -> model`,
    `learn_steps(model) -> model` and `insert_rescaling(model, scale, offset) -> model`.
    """

    name: str

    def load(self, path: Path) -> Any:
        """The native model in a file; ModelError when it cannot be read."""

    def save(self, model: Any, path: Path) -> Path:
        """Writes a model, the whole file or nothing, and returns the final path, its suffix made right."""

    def survey(self, model: Any, *, target: Target, rules: Sequence[Rule], rewrites: Sequence[Any], until: str | None = None,
               input_shape: InputShape = None, input_dtype: str | None = None, through: bool = False, islands: bool = False) -> Survey:
        """Sanitizes a copy, covers it with the rules, and returns the blueprint of what is covered. `through`: behind stops too, for `check`;
        `islands`: again behind them where it is worth it (`quantizeml_core.islands`), UsageError where that is not made."""

    def observe(self, survey: Survey, batches: Iterable[Batch], observers: Mapping[str, Observer]) -> None:
        """Runs the float network and feeds each observer its tensor."""

    def realize(self, survey: Survey, made: Quantization) -> Any:
        """The quantized native model: the program where the graph was covered, the float graph elsewhere."""

    def program(self, model: Any) -> Program | None:
        """The program inside a quantized model, None for a float one."""

    def plan(self, model: Any) -> Mapping[str, Any] | None:
        """The configuration a quantized model was made with (config.json), None for a float one."""

    def inputs(self, model: Any) -> tuple[InputSpec, ...]:
        """The inputs of a model in the order of its graph."""


class Specs:
    """The hook specifications, in the order in which a run uses them."""

    @hookspec
    def quantizeml_frontends(self) -> Sequence[FrontendInfo]:
        """Frontends. Called when a model arrives. Two frontends of one name, or for one suffix, are a collision."""

    @hookspec
    def quantizeml_targets(self) -> Sequence[Target]:
        """Hardware targets, as data. Called before any work. Two targets of one name are a collision."""

    @hookspec
    def quantizeml_rewrites(self, frontend: str, target: Target) -> Sequence[Any]:
        """Rewrites of the native graph of a frontend, each proven equal before it is kept. Called once per survey."""

    @hookspec
    def quantizeml_rules(self, frontend: str, target: Target) -> Sequence[Rule]:
        """Rules that turn patterns of a frontend's graph into blocks. Called once per survey. Two rules of one name are a collision."""

    @hookspec
    def quantizeml_legalizations(self, target: Target) -> Sequence[Legalization]:
        """Rewrites of blocks that break a row of the target's tables, each proven on integers. Called once per survey. Two of one name are a collision."""

    @hookspec
    def quantizeml_findings(self, program: Program, target: Target, frontend: str) -> Sequence[Finding]:
        """What is worth telling about a quantized program on a target, in a model of a frontend. Called at the end of a quantization and by `check`."""

    @hookspec
    def quantizeml_commands(self) -> Sequence[CommandInfo]:
        """Commands of the CLI, light: called to print `quantizeml --help`. Two commands of one name are a collision."""


HOOKS: tuple[str, ...] = tuple(name for name in vars(Specs) if name.startswith("quantizeml_"))

Hook = Callable[..., Sequence[Any]]
