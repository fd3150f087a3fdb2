"""A rewrite is a function that looks at one node and proposes an equal, simpler subgraph, refuses with a reason, or has nothing to say.

A proposal is data. Nothing in the graph changes until `proof` has found both sides equal; then `driver` puts the replacement in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from .graph import Dims


@dataclass(frozen=True, eq=False)
class Op:
    """An operation of a replacement: a tree whose leaves are values of the graph or arrays, which become initializers.

    Arguments:
        op: operation type.
        inputs: operands; None is an absent optional one.
        attributes: Python values.
        domain: empty for standard operations, `quantizeml` for functions of ours.
        name: node name; empty takes that of the replaced node (root) or derives one.
        output: name of an inner output that survives; empty derives one. The root keeps the name of the replaced output.
        shape: shape of the output, None when it is that of the replaced output (root) or not known.
    """

    op: str
    inputs: tuple[Op | ir.Value | np.ndarray | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    name: str = ""
    output: str = ""
    shape: Dims | None = None


Expression = Op | ir.Value | np.ndarray


@dataclass(frozen=True, eq=False)
class Proposal:
    """Replace `nodes` by `replacement`.

    Arguments:
        nodes: what is removed, in topological order; the first output of the last one is what the replacement computes.
        replacement: an operation, a value that already exists, or a constant.
        context: nodes that stay and that both sides may read, in topological order: the proof goes back to their inputs.
        extent: on what the proof runs. `any`: equality does not depend on height and width, small images do. `true`: the real size.
            `element`: element by element with scalar constants, any vector does.
        snap: real numbers meant by float32 constants: a constant that is the float32 rounding of one of them counts as that number.
        witness: another pair of expressions to be proven equal instead, when equality follows from a smaller case; the rule says why.
    """

    nodes: tuple[ir.Node, ...]
    replacement: Expression
    context: tuple[ir.Node, ...] = ()
    extent: str = "any"
    snap: tuple[float, ...] = ()
    witness: tuple[Op, Op] | None = None


@dataclass(frozen=True)
class Refusal:
    """Why a rewrite that looks applicable is not applied, as a sentence about the node."""

    reason: str


@dataclass(frozen=True)
class Rewrite:
    """A named rewrite.

    Arguments:
        name: how reports call it.
        apply: function of one node; called again until nothing changes, so it must not propose what it already achieved.
        anchors: operation types it wants to see, empty for all.
        last: tried only where no other rewrite changes the graph any more: what makes do with what the others could not use.
    """

    name: str
    apply: Callable[[ir.Node], Proposal | Refusal | None]
    anchors: tuple[str, ...] = ()
    last: bool = False


@dataclass(frozen=True)
class Applied:
    """A rewrite that was proven and applied: its name, and the node that now stands (or stood) there."""

    rewrite: str
    node: str


@dataclass(frozen=True)
class Refused:
    """A rewrite that was considered and not applied, and why."""

    rewrite: str
    node: str
    reason: str
