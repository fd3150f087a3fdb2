"""Legalize: rewrite blocks that break a row of the target's tables into blocks that do not, where both are exactly equal - or nearly, when
the user allows it.

    legalize(blueprint, target, unsigned, legalizations) -> Legal(blueprint, changes, ranges)

One module per rewrite, its formula first. Each exact one is proven on the integers of a witness (`proof`) before it is kept. The built-in ones come through
the hook `quantizeml_legalizations`, like those of a third party.
"""

from __future__ import annotations

from . import embed, fan_out, identity, pointwise, shift_pads, split, split_pool, ungroup
from .driver import Approximation, Legal, Legalization, Replacement, legalize

BUILTIN_LEGALIZATIONS: tuple[Legalization, ...] = (
    ungroup.LEGALIZATION,
    embed.LEGALIZATION,
    split.LEGALIZATION,
    split_pool.LEGALIZATION,
    identity.LEGALIZATION,
    pointwise.LEGALIZATION,
    fan_out.LEGALIZATION,
    shift_pads.LEGALIZATION,
)
"""In the order in which they are tried."""

__all__ = ["BUILTIN_LEGALIZATIONS", "Approximation", "Legal", "Legalization", "Replacement", "legalize"]
