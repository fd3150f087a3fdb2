"""Float64 convolution, pooling, padding and matrix product on numpy arrays, for the proofs. Channel-first, two spatial dimensions.

    pads are top, left, bottom, right; effective kernel = (k - 1) * dilation + 1
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Attributes = Mapping[str, Any]

CHUNK = 1 << 22
"""Numbers of a large weight turned into float64 at a time."""


class Unprovable(Exception):
    """The evaluator does not know an operation, an attribute or a layout; the message says which."""


def same_pads(size: int, kernel: int, stride: int, upper: bool) -> tuple[int, int]:
    """Begin and end padding for ceil(size / stride) outputs, in all max(0, (out - 1) * stride + kernel - size); UPPER: more at the end."""
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    small = total // 2
    return (small, total - small) if upper else (total - small, small)


def window(x: np.ndarray, kernel: tuple[int, ...], attributes: Attributes) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Strides, dilations and explicit pads of a convolution or a pooling."""
    if x.ndim != 4 or len(kernel) != 2:
        raise Unprovable(f"a {x.ndim - 2}-D window")
    strides, dilations = tuple(attributes.get("strides", (1, 1))), tuple(attributes.get("dilations", (1, 1)))
    return strides, dilations, _pads(x, kernel, strides, dilations, attributes)


def _pads(x: np.ndarray, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...],
          attributes: Attributes) -> tuple[int, ...]:
    mode = attributes.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return tuple(attributes.get("pads", (0, 0, 0, 0)))
    if mode == "VALID":
        return (0, 0, 0, 0)
    extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    (top, bottom), (left, right) = (same_pads(n, k, s, mode == "SAME_UPPER") for n, k, s in zip(x.shape[2:], extent, strides, strict=True))
    return top, left, bottom, right


def taps(x: np.ndarray, kernel: tuple[int, ...], attributes: Attributes, fill: float) -> list[tuple[int, int, np.ndarray]]:
    """(i, j, the pixels that tap (i, j) of the kernel meets), each (N, C, out height, out width)."""
    strides, dilations, pads = window(x, kernel, attributes)
    padded = pad(x, (0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]), fill)
    outs = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(padded.shape[2:], kernel, dilations, strides, strict=True)]
    if min(outs) < 1:
        raise Unprovable("a window larger than the image")
    (h, w), (sy, sx) = outs, strides
    starts = [(i, j, i * dilations[0], j * dilations[1]) for i in range(kernel[0]) for j in range(kernel[1])]
    return [(i, j, padded[:, :, y: y + (h - 1) * sy + 1: sy, z: z + (w - 1) * sx + 1: sx]) for i, j, y, z in starts]


def pad(x: np.ndarray, pads: tuple[int, ...], fill: float) -> np.ndarray:
    """Constant padding; pads hold all begins, then all ends. Negative ones crop."""
    begins, ends = pads[: x.ndim], pads[x.ndim:]
    grown = np.pad(x, [(max(b, 0), max(e, 0)) for b, e in zip(begins, ends, strict=True)], constant_values=fill)
    return grown[tuple(slice(max(-b, 0), n - max(-e, 0)) for b, e, n in zip(begins, ends, grown.shape, strict=True))]


def one_row(attributes: Attributes) -> dict[str, Any]:
    """Attributes of a window along one axis, for an image of one row."""
    found = dict(attributes)
    found |= {name: (1, *found[name]) for name in ("kernel_shape", "strides", "dilations") if name in found}
    return found | ({"pads": (0, found["pads"][0], 0, found["pads"][1])} if "pads" in found else {})


def conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, attributes: Attributes) -> np.ndarray:
    """y[n, f] = sum over channels of the group and taps of weight[f, c, i, j] * x[n, c, .] + bias[f]; a series is an image of one row."""
    if x.ndim == weight.ndim == 3:
        return conv(x[:, :, None], weight[:, :, None], bias, one_row(attributes))[:, :, 0]
    groups = int(attributes.get("group", 1))
    if weight.ndim != 4 or x.shape[1] != groups * weight.shape[1] or weight.shape[0] % groups:
        raise Unprovable("a convolution whose weight and groups do not fit its input")
    parts = np.stack([part for _, _, part in taps(x, weight.shape[2:], attributes, 0.0)])
    product = _depthwise if weight.shape[1] == 1 and weight.shape[0] == groups else _grouped
    y = product(parts, weight.astype(np.float64, copy=False), groups)
    return y if bias is None else y + bias.astype(np.float64).reshape(1, -1, 1, 1)


def _depthwise(parts: np.ndarray, weight: np.ndarray, groups: int) -> np.ndarray:
    return (parts * weight.reshape(groups, -1).T[:, None, :, None, None]).sum(axis=0)


def _grouped(parts: np.ndarray, weight: np.ndarray, groups: int) -> np.ndarray:
    """One matrix product per group: (filters, channels * taps) by (channels * taps, rows * pixels)."""
    k, n, c, h, w = parts.shape
    columns = parts.reshape(k, n, groups, c // groups, h * w).transpose(2, 3, 0, 1, 4).reshape(groups, -1, n * h * w)
    y = weight.reshape(groups, -1, columns.shape[1]) @ columns
    return y.reshape(-1, n, h, w).swapaxes(0, 1)


def matmul(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """x @ weight; a large weight is widened to float64 piece by piece, along its columns."""
    if weight.ndim != 2 or weight.size <= CHUNK:
        return x @ weight.astype(np.float64)
    step = max(1, CHUNK // weight.shape[0])
    return np.concatenate([x @ weight[:, i: i + step].astype(np.float64) for i in range(0, weight.shape[1], step)], axis=-1)


def pool(x: np.ndarray, attributes: Attributes, reduce: Callable[[np.ndarray], np.ndarray], fill: float) -> np.ndarray:
    """Reduces the stacked pixels of every window; a series is an image of one row."""
    if x.ndim == 3:
        return pool(x[:, :, None], one_row(attributes), reduce, fill)[:, :, 0]
    if attributes.get("ceil_mode", 0):
        raise Unprovable("ceil_mode")
    return reduce(np.stack([part for _, _, part in taps(x, tuple(attributes["kernel_shape"]), attributes, fill)]))


def max_pool(x: np.ndarray, attributes: Attributes) -> np.ndarray:
    return pool(x, attributes, lambda parts: parts.max(axis=0), -np.inf)


def average_pool(x: np.ndarray, attributes: Attributes) -> np.ndarray:
    """Mean of the window; without count_include_pad only of the pixels that exist."""
    total = pool(x, attributes, lambda parts: parts.sum(axis=0), 0.0)
    fill = 1.0 if attributes.get("count_include_pad", 0) else 0.0
    return total / pool(np.ones_like(x), attributes, lambda parts: parts.sum(axis=0), fill)


def conv_transpose(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, attributes: Attributes) -> np.ndarray:
    """y[n, f, i s + a d, j t + b e] += sum over channels of the group of weight[c, f, a, b] * x[n, c, i, j]; pads are cut off, output padding is added at the end."""
    if x.ndim != 4 or attributes.get("auto_pad", "NOTSET") != "NOTSET" or attributes.get("output_shape"):
        raise Unprovable("a transposed convolution whose padding follows from its output's size")
    groups, (s, t), (d, e) = int(attributes.get("group", 1)), attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    (n, channels, height, width), (_, filters, down, across), more = x.shape, weight.shape, attributes.get("output_padding", (0, 0))
    (high, wide), (top, left, bottom, right) = ((height - 1) * s + 1, (width - 1) * t + 1), attributes.get("pads", (0, 0, 0, 0))
    y = np.zeros((n, groups, filters, high + (down - 1) * d + more[0], wide + (across - 1) * e + more[1]))
    apart, kernel = x.reshape(n, groups, -1, height, width), weight.astype(np.float64).reshape(groups, channels // groups, filters, down, across)
    for a, b in np.ndindex(down, across):
        y[..., a * d: a * d + high: s, b * e: b * e + wide: t] += np.einsum("ngchw,gcf->ngfhw", apart, kernel[..., a, b])
    y = y.reshape(n, groups * filters, *y.shape[3:])[:, :, top: y.shape[3] - bottom, left: y.shape[4] - right]
    return y if bias is None else y + bias.astype(np.float64).reshape(1, -1, 1, 1)


def local_response(x: np.ndarray, attributes: Attributes) -> np.ndarray:
    """x / (bias + alpha / size * sum of the squares of `size` channels around each)^beta."""
    size, alpha, beta, bias = (attributes.get(name, default) for name, default in (("size", 1), ("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    squares = np.pad(np.square(x), [(0, 0), ((size - 1) // 2, size // 2), *[(0, 0)] * (x.ndim - 2)])
    return x / (bias + alpha / size * sum(squares[:, k: k + x.shape[1]] for k in range(size))) ** beta


def space_to_depth(x: np.ndarray, block: int) -> np.ndarray:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // block, block, w // block, block).transpose(0, 3, 5, 1, 2, 4).reshape(n, -1, h // block, w // block)


def depth_to_space(x: np.ndarray, block: int, depth_first: bool) -> np.ndarray:
    """Channels hold rows, columns, then depth; `depth_first`: depth, then rows and columns."""
    n, c, h, w = x.shape
    apart = x.reshape(n, -1, block, block, h, w).transpose(0, 1, 4, 2, 5, 3) if depth_first else x.reshape(n, block, block, -1, h, w).transpose(0, 3, 4, 1, 5, 2)
    return apart.reshape(n, -1, h * block, w * block)


PLACES: Mapping[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "asymmetric": lambda i, scale: i / scale, **dict.fromkeys(("half_pixel", "pytorch_half_pixel"), lambda i, scale: (i + 0.5) / scale - 0.5),
}
"""Where pixel i of the larger image lies in the smaller one."""


def resize(x: np.ndarray, scales: np.ndarray | None, attributes: Attributes) -> np.ndarray:
    """Pixels repeated, or linear interpolation, axis by axis; beyond the border the last pixel counts."""
    if scales is None or not scales.size:
        raise Unprovable("Resize to a given size")
    modes = (attributes.get("mode", "nearest"), attributes.get("coordinate_transformation_mode", "half_pixel"), attributes.get("nearest_mode", "round_prefer_floor"))
    if modes[1] not in PLACES or modes[0] not in ("nearest", "linear") or modes[0] == "nearest" and modes[1:] != ("asymmetric", "floor"):
        raise Unprovable(f"Resize by {', '.join(modes)}")
    for axis, scale in enumerate(map(float, scales)):
        if scale != 1:
            x = _stretched(x, axis, PLACES[modes[1]](np.arange(round(x.shape[axis] * scale)), scale), modes[0] == "linear")
    return x


def _stretched(x: np.ndarray, axis: int, place: np.ndarray, linear: bool) -> np.ndarray:
    last = x.shape[axis] - 1
    low = np.floor(np.clip(place, 0, last)).astype(np.int64)
    rest = (np.clip(place, 0, last) - low).reshape(-1, *(1,) * (x.ndim - axis - 1)) * linear
    return np.take(x, low, axis) * (1 - rest) + np.take(x, np.minimum(low + 1, last), axis) * rest
