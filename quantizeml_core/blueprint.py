"""Blueprint: what a frontend saw in a float network, in the hardware's vocabulary.

The frontend fills it; the core reads it. Everything outside the blocks stays in the native graph, behind a Dequantizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .blocks import Block

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Stop:
    """A native node at which coverage ended: its name, its operation type, why no rule took it, the rule that came nearest, and whether it is part of
    an island: coverage goes on behind it."""

    node: str
    op: str
    reason: str
    nearest: str = ""
    island: bool = False


@dataclass(frozen=True)
class Coverage:
    """How much of the native graph became blocks. Nodes that carry no arithmetic (constants, identities) are not counted."""

    nodes: int
    total: int
    macs: int = 0
    total_macs: int = 0


@dataclass(frozen=True)
class Blueprint:
    """Float blocks in topological order.

    Arguments:
        blocks: one `input` block per model input that feeds the region, then the others, `resume` blocks right before their first reader. An
            `input` block may hold arrays `scale` and `offset` (C,): the region sees `raw * scale + offset` (a Rescaling found at the entry); the
            core folds them into the consumers.
        outputs: tensors that leave the region, in the order of the native graph.
        shapes: channel-first shape of every tensor the blocks name, batch as None.
        stops: the nodes that ended coverage, empty when the whole graph is covered.
    """

    blocks: tuple[Block, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, Shape]
    stops: tuple[Stop, ...] = ()
    coverage: Coverage = field(default_factory=lambda: Coverage(0, 0))

    def producer(self, tensor: str) -> Block | None:
        """The block that writes a tensor, None for a tensor from outside."""
        return next((b for b in self.blocks if b.output == tensor), None)

    def consumers(self, tensor: str) -> tuple[Block, ...]:
        return tuple(b for b in self.blocks if tensor in b.inputs)

    def channels(self, tensor: str) -> int:
        """Number of channels of a tensor (axis 1, channel-first)."""
        return int(self.shapes[tensor][1] or 0)
