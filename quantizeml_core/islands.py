"""Islands: float operations inside a network, and quantization that goes on behind them.

    integers -> Dequantizer -> float operations -> `resume` block -> integers

A float tensor is quantized again where a block that accumulates lies ahead of it, before the next float operation: a quantizer in front of a lone
activation or pooling costs more than it gives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from .blocks import Block, accumulates
from .blueprint import Stop
from .match import Cover
from .names import Names
from .patterns import GraphView


def settle(covered: Cover, entries: Collection[str]) -> Cover:
    """The cover without the blocks that are not worth a quantizer.

    Arguments:
        covered: with every float tensor taken for quantized.
        entries: tensors behind which blocks stay in any case: those of the model's inputs.
    """
    written, worth, lost = {b.output for b in covered.blocks}, set(entries), set()
    for block in reversed(covered.blocks):
        if accumulates(block) or block.output in worth:
            worth.update(block.inputs)
    for block in covered.blocks:
        if any(t in lost or t not in written | worth for t in block.inputs):
            lost.add(block.output)
    kept = [(b, m) for b, m in zip(covered.blocks, covered.matches, strict=True) if b.output not in lost]
    return Cover(tuple(b for b, _ in kept), tuple(m for _, m in kept), covered.stops)


def resumed(blocks: Iterable[Block], entries: Mapping[str, str], free: Names) -> Iterator[Block]:
    """The blocks, a `resume` block before the first reader of each tensor that nothing quantizes yet.

    Arguments:
        entries: native tensor -> what the `input` block that stands for it writes.
        free: names that stand in nobody's way.
    """
    names = dict(entries)
    for block in blocks:
        for tensor in (t for t in block.inputs if t not in names):
            names[tensor] = free(f"{tensor}/quantize")
            yield Block(names[tensor], "resume", (tensor,), names[tensor])
        names[block.output] = block.output
        yield replace(block, inputs=tuple(names[t] for t in block.inputs))


def told(view: GraphView, covered: Cover, blocks: Iterable[Block]) -> tuple[Stop, ...]:
    """The stops of a cover, those from which float operations lead to a `resume` block marked as parts of an island."""
    leading = {t for b in blocks if b.kind == "resume" for t in b.inputs}
    for node in reversed(view.nodes()):
        if node.name not in covered.nodes and leading.intersection(node.outputs):
            leading.update(node.inputs)
    outputs = {n.name: n.outputs for n in view.nodes()}
    return tuple(replace(s, island=bool(leading.intersection(outputs[s.node]))) for s in covered.stops)
