"""An identity convolution behind a max pooling whose readers the target does not let follow one.

    y = pool(x)   =   I pool(x)
"""

from __future__ import annotations

from dataclasses import replace

from ..legality import Site
from .driver import Legalization, Replacement
from .selection import identity


def propose(here: Site) -> Replacement | None:
    block, inner = here.block, f"{here.block.output}/pooled"
    made = identity(f"{block.name}/identity", inner, block.output, here.blueprint.channels(block.output))
    return Replacement((replace(block, output=inner), made), {inner: here.blueprint.shapes[block.output]}, {inner: block.output})


LEGALIZATION = Legalization("identity_behind_pooling", ("pool_followed_by",), propose)
