"""y[(i b + j) C + c, h, w] = x[c, h b + i, w b + j]: a convolution of kernel and stride b, one weight of 1 in each filter."""

import numpy as np

from quantizeml_core.blocks import Block
from quantizeml_core.match import Match, Miss, P, Rule


def build(match: Match) -> Block | Miss:
    node = match.nodes[0]
    size, shape = node.native.attributes.get_int("blocksize"), match.view.shape(match.inputs[0])
    if shape is None or shape[1] is None:
        return Miss("its number of channels is not known: give the model an input shape")
    channels = shape[1]
    weight = np.zeros((size, size, channels, channels, size, size), np.float32)
    for i, j in np.ndindex(size, size):
        weight[i, j, range(channels), range(channels), i, j] = 1
    return Block(node.name, "conv2d", match.inputs, match.output, strides=(size, size), arrays={"weight": weight.reshape(-1, channels, size, size)})


SPACE_TO_DEPTH = Rule("space_to_depth", P("SpaceToDepth"), build, source="quantizeml-space-to-depth")
