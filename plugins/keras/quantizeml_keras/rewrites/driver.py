"""The driver: offers every node to every rewrite until nothing changes, and keeps an edit only when it is proven equal.

Proof: old and new nodes run in float64 on standard normal samples, on zeros, and on large samples of both signs. They must agree to 1e-9 of the
largest value: both sides are sums of the same products in another order, so float64 rounding (about 1e-16 for each addition) is all that may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from keras import ops

from quantizeml_core.hooks import Change
from quantizeml_core.match import Node

from ..evaluate import evaluate
from ..graph import Graph, Shape

TOLERANCE = 1e-9
FIXED = frozenset({"Reshape", "Flatten", "Dense", "Permute"})
"""Operations whose numbers belong to one size of the image."""

FREE_EXTENT = 9
"""Height and width of proof samples where the model leaves them open: odd, so that strides leave a rest."""


@dataclass(frozen=True)
class Edit:
    """Nodes to take out and nodes to put in their place; the last of both write the same tensor. `shapes`: of new tensors."""

    old: tuple[Node, ...]
    new: tuple[Node, ...]
    shapes: Mapping[str, Shape] = field(default_factory=dict)


@dataclass(frozen=True)
class Rewrite:
    """A named proposal: `propose(graph, node)` gives an edit, the reason why it will not do, or None when it does not concern the node."""

    name: str
    propose: Callable[[Graph, Node], "Edit | str | None"]


def sanitize(graph: Graph, rewrites: Sequence[Rewrite]) -> tuple[Graph, tuple[Change, ...]]:
    """The simplified graph, and what was done or refused."""
    done: list[Change] = []
    refused: dict[tuple[str, str], Change] = {}
    while found := _next(graph, rewrites, refused):
        name, edit = found
        graph = graph.swap(edit.old, edit.new, edit.shapes)
        done.append(Change(name, edit.old[-1].name))
    return graph, (*done, *refused.values())


def _next(graph: Graph, rewrites: Sequence[Rewrite], refused: dict[tuple[str, str], Change]) -> tuple[str, Edit] | None:
    """The next edit that holds."""
    for rewrite in rewrites:
        for node in graph.members:
            if (rewrite.name, node.name) in refused:
                continue
            outcome = rewrite.propose(graph, node)
            reason = difference(graph, outcome) if isinstance(outcome, Edit) else outcome
            if isinstance(outcome, Edit) and not reason:
                return rewrite.name, outcome
            if reason:
                refused[rewrite.name, node.name] = Change(rewrite.name, node.name, reason)
    return None


def difference(graph: Graph, edit: Edit) -> str:
    """Empty when both sides of an edit are equal; otherwise by how much they differ."""
    inside = {t for n in edit.old for t in n.outputs}
    sources = sorted({t for n in edit.old for t in n.inputs} - inside)
    largest = None if any(n.op in FIXED for n in (*edit.old, *edit.new)) else _largest(edit)
    generator = np.random.default_rng(0)
    feeds = {t: ops.convert_to_tensor(_drawn(generator, _extent(graph.shapes[t], largest)), "float64") for t in sources}
    tensor = edit.old[-1].outputs[0]
    old, new = (ops.convert_to_numpy(evaluate(nodes, feeds)[tensor]) for nodes in (edit.old, edit.new))
    if old.shape != new.shape:
        return f"it would change the shape {old.shape} to {new.shape}"
    return next(filter(None, map(_apart, np.split(old, len(DRAWS)), np.split(new, len(DRAWS)))), "")


def _drawn(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Samples of each draw, one behind the other: both sides are evaluated once."""
    return np.concatenate([draw(generator, shape) for draw in DRAWS])


def _apart(old: np.ndarray, new: np.ndarray) -> str:
    worst, scale = float(np.abs(old - new).max()), float(np.abs(old).max())
    return "" if worst <= TOLERANCE * max(scale, np.finfo(np.float64).tiny) else f"it would change values by {worst:.3g} of {scale:.3g}"


def _extent(shape: Shape, largest: int | None) -> tuple[int, ...]:
    """Shape of a proof sample. Sliding windows do the same everywhere inside an image: one of `largest` pixels shows it all."""
    sizes = [FREE_EXTENT if s is None else s for s in shape[1:]]
    return (1, *(s if largest is None else min(s, largest) for s in sizes[:-1]), sizes[-1])


def _largest(edit: Edit) -> int:
    """Borders, an interior, and a rest that strides leave, for the widest windows of an edit."""
    windows = [max(n.native["kernel"].shape[:2]) for n in edit.old if n.op in ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose")]
    windows += [max(n.native["size"]) for n in edit.old if "size" in n.native]
    strides = [max(n.native["strides"]) for n in edit.old if "strides" in n.native]
    return 2 * sum(windows) + 2 * max(strides, default=1) + 1


DRAWS: tuple[Callable[[np.random.Generator, tuple[int, ...]], np.ndarray], ...] = (
    lambda generator, shape: generator.standard_normal(shape),
    lambda generator, shape: np.zeros(shape),
    lambda generator, shape: generator.choice([-1e6, 1e6], shape),
)
