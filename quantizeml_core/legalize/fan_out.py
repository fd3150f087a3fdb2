"""An output that more layers read than the target allows: an identity convolution reads it and serves those that are too many.

    x -> a, b, c     with at most two readers     x -> a, I;   I x -> b, c
"""

from __future__ import annotations

from ..legality import Site
from .driver import Legalization, Replacement
from .selection import identity


def propose(here: Site) -> Replacement | str | None:
    """One more identity; the driver comes back while there are too many readers of it."""
    block, most = here.block, here.limit("max_readers")
    shape = here.blueprint.shapes[block.output]
    if not here.target.can("add"):
        return "the target runs a chain of layers"
    if len(shape) != 4:
        return "its output is no image"
    readers = [b.name for b in here.blueprint.consumers(block.output)]
    outside = int(block.output in here.blueprint.outputs)
    tensor = f"{block.output}/copy"
    made = identity(f"{block.name}/copy", block.output, tensor, here.blueprint.channels(block.output))
    return Replacement((block, made), {tensor: shape}, {tensor: block.output}, {name: tensor for name in readers[max(most - 1 - outside, 0):]})


LEGALIZATION = Legalization("limit_fan_out", ("max_readers",), propose)
