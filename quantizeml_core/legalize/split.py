"""A convolution of stride 2 as one of stride 1 and a choice of every other pixel: for kernels that the target runs at stride 1 only.

    full[j] = sum_t w[t] x[j + t + o - p1],   p1 = (K - 1) / 2          K: a legal kernel at stride 1, o: where w stands in it
    out[i]  = full[2 i + p1 - o - p]          = y of a 3x3 choice with tap u = q + p1 - o - p

The activation moves to the first block: what is chosen has its final value, so the integers pass unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .. import geometry
from ..legality import Site
from .driver import Legalization, Replacement
from .embed import embedded
from .selection import every_other

TWICE = (2, 2)


def propose(here: Site) -> Replacement | str | None:
    """The smallest kernel of stride 1 that leaves a choice within 3x3."""
    block = here.block
    if block.kind not in ("conv2d", "depthwise2d") or block.strides != TWICE or 0 in here.size:
        return None
    if block.pool is not None:
        return "a pooling stands behind it in the same layer"
    kind = "depthwise2d" if here.target.can("depthwise2d") and here.target.limit("depthwise2d", "followed_by") is None else "conv2d"
    if 2 not in dict(here.target.limit(kind, "kernel_strides", ())).get(3, ()):
        return "no layer of stride 2 chooses pixels"
    for kernel, offset, tap in _choices(here):
        return _replacement(here, kind, kernel, offset, tap)
    return f"no kernel of stride 1 holds {here.kernel[0]}x{here.kernel[1]} with pads {block.pads}"


def _choices(here: Site) -> Iterator[tuple[int, geometry.Pair, geometry.Pair]]:
    begin = geometry.same_pads(here.size, (3, 3), TWICE)[:2]
    for kernel in sorted(k for k, strides in here.limit("kernel_strides", ()) if 1 in strides and k % 2):
        axes = [_along(kernel, here.kernel[a], here.block.pads[a], begin[a], here.size[a]) for a in (0, 1)]
        if all(axes):
            yield (kernel, *((axes[0][i], axes[1][i]) for i in (0, 1)))


def _along(kernel: int, old: int, pad: int, begin: int, size: int) -> tuple[int, int] | None:
    """Offset and tap on one axis. Only pixels of the image are chosen, never its padding, which has no bias."""
    last = begin + 1 - size % 2
    return next(((o, u) for o in range(kernel - old + 1) if begin <= (u := begin + (kernel - 1) // 2 - o - pad) <= last), None)


def _replacement(here: Site, kind: str, kernel: int, offset: geometry.Pair, tap: geometry.Pair) -> Replacement | str:
    block, inner = here.block, f"{here.block.output}/full"
    pads = geometry.same_pads(here.size, (kernel, kernel), (1, 1))
    channels = here.blueprint.channels(block.output)
    first = replace(embedded(block, (kernel, kernel), pads, offset), strides=(1, 1), output=inner)
    second = every_other(f"{block.name}/choose", kind, inner, block.output, channels, here.size, tap)
    if geometry.convolved_size(second, here.size) != geometry.convolved_size(block, here.size):
        return f"`same` pads give another size than {block.pads}"
    return Replacement((first, second), {inner: (None, channels, *here.size)}, {inner: block.output})


LEGALIZATION = Legalization("split_stride", ("kernel_strides", "padding"), propose)
