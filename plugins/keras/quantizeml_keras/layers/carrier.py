"""Which float type holds the integers of a linear block exactly, whatever training does to its weights.

|weight| <= limit and |x| <= the input's range bound every partial sum: taps * channels * limit * max|x| + max|bias|. Below 2^24 float32 holds them all.
Above, the input channels are summed in parts that each stay below, and the parts are added in float64. The bias saturates at the room that is left.
"""

from __future__ import annotations

from dataclasses import dataclass

from quantizeml_core.numerics import FLOAT32_EXACT


@dataclass(frozen=True)
class Carrier:
    """How a linear block sums.

    Arguments:
        parts: number of slices of the input channels.
        products: type in which a slice is summed.
        total: type of the accumulator.
        reach: the largest |accumulator|, bias included.
        bias_limit: where the bias saturates.
    """

    parts: int
    products: str
    total: str
    reach: int
    bias_limit: int


def carrier(channels: int, taps: int, limit: int, largest: int, bias: int) -> Carrier:
    """The narrowest proven carrier.

    Arguments:
        channels, taps: input channels of one filter, and products per channel.
        limit: of |weight|.
        largest: |input integer| at most.
        bias: the largest |bias| now; a trained one may grow to twice that, or to what the weights can reach if that is more.
    """
    per_channel = taps * limit * largest
    sums = channels * per_channel
    room = max(2 * bias, min(sums, FLOAT32_EXACT - 1 - sums))
    if sums + room < FLOAT32_EXACT:
        return Carrier(1, "float32", "float32", sums + room, room)
    parts = min(channels, -(-channels // max((FLOAT32_EXACT - 1) // per_channel, 1)))
    room = max(2 * bias, sums)
    return Carrier(parts, "float32" if -(-channels // parts) * per_channel < FLOAT32_EXACT else "float64", "float64", sums + room, room)
