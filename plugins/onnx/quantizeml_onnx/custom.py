"""Patterns written as a dictionary: `custom_pattern_scope({("Conv", "Relu"): build, "Relu": build})`.

A key is a line of operation types of the sanitized graph. Its value is called with the `Match` and returns a `Block`, or a `Miss` with the reason; or
it is a callback of an old script, `(block_nodes, graph)` or `(block_nodes, graph, tensor_ranges)`, and returns a layer (`compat.layers`).
It is `quantizeml_core.match.pattern_scope` in other words: scopes nest, end with their `with` block, and are seen by their own thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from quantizeml_core.errors import UsageError
from quantizeml_core.match import P, Rule, pattern_scope

from .compat.callbacks import arity, builder

Pattern = str | tuple[str, ...]


def custom_pattern_scope(patterns: Mapping[Pattern, Callable[..., Any]]) -> AbstractContextManager[None]:
    """Quantize lines of operations the built-in rules do not take. Errors: UsageError for a malformed key or function."""
    return pattern_scope(*(_rule(key, build) for key, build in patterns.items()))


def _rule(key: Pattern, build: Callable[..., Any]) -> Rule:
    ops = (key,) if isinstance(key, str) else tuple(key) if isinstance(key, tuple) else ()
    where = f"custom pattern {key!r}"
    if not ops or not all(isinstance(op, str) and op for op in ops):
        raise UsageError("it is no line of operation types", where=where, allowed='"Relu" or ("Conv", "Relu")')
    if not callable(build) or not arity(build):
        raise UsageError("its value is no function of a match", where=where, allowed="function(match) -> Block or Miss, function(block_nodes, graph) -> layer",
                         do="Read nodes, inputs and view from the match")
    return Rule(", ".join(ops), P.line(*ops), builder(build), "custom_pattern_scope")
