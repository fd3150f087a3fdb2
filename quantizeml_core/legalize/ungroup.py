"""A convolution of several groups as one of a single group: the weights between groups are zeros.

    w'[f, c] = w[f, c - g C/G]  for a channel c of the filter's group g,  0 otherwise
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..legality import Site
from .driver import Legalization, Replacement


def propose(here: Site) -> Replacement | None:
    block = here.block
    if block.kind != "conv2d" or block.weight is None:
        return None
    filters, inner, *kernel = block.weight.shape
    weight = np.zeros((filters, inner * block.groups, *kernel), block.weight.dtype)
    each = filters // block.groups
    for group in range(block.groups):
        weight[group * each : (group + 1) * each, group * inner : (group + 1) * inner] = block.weight[group * each : (group + 1) * each]
    return Replacement((replace(block, groups=1).with_arrays(weight=weight),))


LEGALIZATION = Legalization("ungroup", ("groups",), propose)
