"""Callbacks of old scripts as rules: `callback(block_nodes, graph)` or `callback(block_nodes, graph, tensor_ranges)` returns a layer.

A callback that raises, or returns something else than a layer, does not take the line: the reason is told and the next rule is tried.
`tensor_ranges` answers with [-1, 1] for every tensor: calibration comes after the callbacks, and what they make of it is not used.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir

from quantizeml_core.blocks import Block
from quantizeml_core.match import Match, Miss

from .layers import OnnxLayer, to_block

Callback = Callable[..., Any]


class Ranges(Mapping[str, Any]):
    """Every tensor has a range until calibration knows better."""

    def __getitem__(self, tensor: str) -> Any:
        return SimpleNamespace(lowest=np.float32(-1), highest=np.float32(1))

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


def arity(callback: Callback) -> int:
    """1 for a function of a match, 2 or 3 for an old callback, 0 for neither."""
    for count, words in ((1, {"graph": None, "tensor_ranges": None}), (1, {}), (2, {})):
        try:
            inspect.signature(callback).bind(*[None] * count, **words)
        except TypeError:
            continue
        return count + len(words)
    return 0


def builder(callback: Callback) -> Callable[[Match], Block | Miss]:
    """A rule's `build` from a callback of any of the signatures."""
    return callback if arity(callback) == 1 else lambda match: _called(callback, match)


def _called(callback: Callback, match: Match) -> Block | Miss:
    nodes = [ir.to_proto(n.native) for n in match.nodes]
    more = {"graph": match.view.proto, "tensor_ranges": Ranges()}
    try:
        layer = callback(nodes, *([more["graph"]] if arity(callback) == 2 else []), **(more if arity(callback) == 3 else {}))
        if not isinstance(layer, OnnxLayer):
            return Miss(f"returned {type(layer).__name__}, no layer")
        shapes = [match.view.shape(t) or () for t in match.inputs]
        return to_block(layer, match.inputs, match.output, shapes, match.nodes[0].name)
    except Exception as error:  # a stranger's callback may raise anything; the line stays for the other rules
        return Miss(f"raised {type(error).__name__}: {error}")
