"""A depthwise convolution that the target runs in front of a pointwise one only, as one layer: an identity follows it and takes its activation.

    y = f(dw(x))   =   f(I dw(x))
"""

from __future__ import annotations

from dataclasses import replace

from ..legality import Site
from .driver import Legalization, Replacement
from .selection import identity


def propose(here: Site) -> Replacement | None:
    block, inner = here.block, f"{here.block.output}/depthwise"
    if block.kind != "depthwise2d" or here.limit("followed_by") is None or (block.activation and block.activation.is_table):
        return None
    made = replace(identity(f"{block.name}/pointwise", inner, block.output, here.blueprint.channels(block.output)), activation=block.activation)
    first = replace(block, activation=None, output=inner)
    return Replacement((first, made), {inner: here.blueprint.shapes[block.output]}, {inner: block.output})


LEGALIZATION = Legalization("pointwise_behind_depthwise", ("activations", "followed_by"), propose)
