"""Integer kernels in numpy: the executable specification of every block kind.

Each kernel takes an integer `Block` and integer arrays (N, C, H, W) or (N, C) and returns integers. Order inside a linear block:

    pad -> multiply-accumulate -> + bias -> max pooling -> table -> max(0) -> min(bound) -> sum over H, W -> requantize (law 2 of numerics)

Sums of products run in the float carrier that holds them exactly (the bound is proven from the weights), which lets BLAS do the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from . import attention as attended
from . import hardware_forms, layernorm, numerics, recurrence
from .blocks import Block, Pool
from .embedding import embed as embedded
from .geometry import common_denominator, kernel_of, output_size
from .local_response import respond
from .lookup import look_up
from .numerics import Ints

Arrays = Mapping[str, np.ndarray]


def channel_first(block: Block, x: np.ndarray) -> np.ndarray:
    """Samples of a model input as its block sees them. Sequences, (N, L, C), are images of one row where the block takes images."""
    x = x[:, None] if len(block.perm) == x.ndim + 1 else x
    return np.transpose(x, block.perm) if block.perm else x


def input_quantize(block: Block, x: np.ndarray) -> Ints:
    """float -> uint8 (affine) or int8 (symmetric): sat(round_half_even(x / scale) + zero_point), the division in float32 as ONNX's QuantizeLinear."""
    x = channel_first(block, x)
    scale, zero_point = (_channels(block.arrays[k], x.ndim) for k in ("scale", "zero_point"))
    low, high = (0, 255) if block.arrays["zero_point"].dtype == np.uint8 else (-128, 127)
    with np.errstate(over="ignore"):
        q = np.rint(x.astype(np.float32) / scale)
    return np.clip(q.astype(np.float64) + zero_point, low, high).astype(np.int64)


def linear(block: Block, x: Ints) -> Ints:
    """Kinds with weights, with every post-operation."""
    return finish(block, accumulator(block, x))


def accumulator(block: Block, x: Ints) -> Ints:
    """Sums of products and bias of a kind with weights."""
    acc = {"dense": _dense, "conv_transpose2d": _transposed}.get(block.kind, _convolve)(block, x)
    return acc + _channels(block.arrays["bias"], acc.ndim) if "bias" in block.arrays else acc


def finish(block: Block, acc: Ints) -> Ints:
    """What stands between the accumulator of a kind with weights and its output."""
    if block.pool and block.pool.kind == "max":
        acc = max_pool(acc, block.pool)
    return _post(block, acc)


def add(block: Block, x: Ints, y: Ints) -> Ints:
    """x * x_shift + y * y_shift with power-of-two factors, then the usual tail."""
    a, b = (_channels(block.arrays[k], x.ndim) for k in ("x_shift", "y_shift"))
    return _post(block, x * a + y * b)


def multiply(block: Block, x: Ints, y: Ints) -> Ints:
    """x * y, axes of size 1 repeated, then the usual tail."""
    return _post(block, x * y)


def concat(block: Block, x: Ints, y: Ints) -> Ints:
    """Integers pass through; the output's steps are the inputs' steps side by side."""
    return np.concatenate([x, y], axis=1)


def lookup(block: Block, x: Ints) -> Ints:
    """Each value's entry."""
    return look_up(block.arrays["entries"].astype(np.int64), x)


def upsample(block: Block, x: Ints) -> Ints:
    """Every pixel repeated `strides` times in height and width."""
    return x.repeat(block.strides[0], axis=2).repeat(block.strides[1], axis=3)


def initial_frames(block: Block, x: Ints) -> Ints:
    """The older frames (N, C, frames - 1, H, W) of a sequence that begins with x, (N, C, H, W): the integer of a real 0."""
    return np.zeros((*x.shape[:2], block.frames - 1, *x.shape[2:]), np.int64)


def push_frame(block: Block, x: Ints, older: Ints) -> tuple[Ints, Ints]:
    """The window (N, C * frames, H, W) that ends with x, and what is left of it for the next frame."""
    window = np.concatenate([older, x[:, :, None]], axis=2)
    return window.reshape(len(x), -1, *x.shape[2:]), window[:, :, 1:]


def buffer(block: Block, x: Ints) -> Ints:
    """The window of the first frame of a sequence; `Program.step` runs the others."""
    return push_frame(block, x, initial_frames(block, x))[0]


def windows_of_rows(block: Block, x: Ints) -> Ints:
    """The windows of a whole sequence at once: the rows of x are its frames, in order."""
    before = np.concatenate([np.zeros((block.frames - 1, *x.shape[1:]), np.int64), x])
    return np.stack([before[t : t + len(x)] for t in range(block.frames)], axis=2).reshape(len(x), -1, *x.shape[2:])


def advance(block: Block, x: Ints, state: Ints) -> tuple[Ints, Ints]:
    """The state (N, C, 2, ...) behind a frame as channels 2 c and 2 c + 1, after the usual tail, and the state itself."""
    after = recurrence.advance(x, state, block.arrays["coefficients"])
    return _post(block, after.reshape(len(x), -1, *x.shape[2:])), after


def recurrent(block: Block, x: Ints) -> Ints:
    """The output of the first frame of a sequence."""
    return advance(block, x, np.zeros((*x.shape[:2], 2, *x.shape[2:]), np.int64))[0]


def recurrent_rows(block: Block, x: Ints) -> Ints:
    """The outputs of a whole sequence: the rows of x are its frames, in order."""
    state, found = np.zeros((1, x.shape[1], 2, *x.shape[2:]), np.int64), []
    for frame in x:
        y, state = advance(block, frame[None], state)
        found.append(y)
    return np.concatenate(found)


def average_pool(block: Block, x: Ints) -> Ints:
    """The sum over windows, padded with zeros and brought to one denominator, then the usual tail: 1 / denominator belongs to the step."""
    assert block.pool is not None
    _, factors = common_denominator((x.shape[2], x.shape[3]), block.pool)
    return _post(block, _windows(_pad(x, block.pool.pads, 0), block.pool).sum(axis=(4, 5)) * factors)


def select(block: Block, x: Ints) -> Ints:
    """Some channels in some order."""
    return x[:, block.arrays["channels"]]


def normalize(block: Block, x: Ints) -> Ints:
    """Layer normalization over the channels, then the usual tail."""
    flat = x.reshape(len(x), -1) if block.flatten else x
    return _post(block, layernorm.normalize(flat, int(block.arrays["epsilon"][0])))


def attention(block: Block, q: Ints, k: Ints, v: Ints) -> Ints:
    """Scaled dot-product attention of all pixels, then the usual tail."""
    multiplier, shift = (int(block.arrays[name][0]) for name in ("score_multiplier", "score_shift"))
    return _post(block, attended.attend(q, k, v, block.groups, multiplier, shift, block.arrays.get("mask")))


def softmax(block: Block, x: Ints) -> Ints:
    """A softmax over the channels of each pixel, then the usual tail."""
    multiplier, shift = (int(block.arrays[name][0]) for name in ("score_multiplier", "score_shift"))
    return _post(block, attended.softmax(x, multiplier, shift))


def matmul(block: Block, x: Ints, y: Ints) -> Ints:
    """The product of two sequences, then the usual tail."""
    return _post(block, attended.product(x, y, bool(block.perm)))


def embed(block: Block, x: Ints) -> Ints:
    """Pixels as tokens, plus the table, then the usual tail."""
    return _post(block, embedded(x, block.arrays["entries"].astype(np.int64)))


def shift_attention(block: Block, q: Ints, k: Ints, v: Ints) -> Ints:
    """Attention with powers of two for a softmax, then the usual tail."""
    multiplier, shift = (int(block.arrays[name][0]) for name in ("score_multiplier", "score_shift"))
    return _post(block, hardware_forms.shift_attend(q, k, v, block.groups, multiplier, shift))


def local_response(block: Block, x: Ints) -> Ints:
    """Local response normalization over neighbouring channels, then the usual tail."""
    multiplier, shift = (int(block.arrays[name][0]) for name in ("square_multiplier", "square_shift"))
    return _post(block, respond(x + block.arrays.get("offset", 0), block.window, multiplier, shift))


def mad_normalize(block: Block, x: Ints) -> Ints:
    """Mad normalization over the channels, then the usual tail."""
    return _post(block, hardware_forms.mad_normalize(x))


def max_pool(x: Ints, pool: Pool) -> Ints:
    """Maximum over windows; padding never wins."""
    return _windows(_pad(x, pool.pads, np.iinfo(np.int64).min), pool).max(axis=(4, 5))


def _windows(x: Ints, pool: Pool) -> Ints:
    """(N, C, H, W, h, w)."""
    windows = np.lib.stride_tricks.sliding_window_view(x, pool.size, axis=(2, 3))
    return windows[:, :, :: pool.strides[0], :: pool.strides[1]]


def apply_table(block: Block, acc: Ints) -> Ints:
    """Accumulator -> 11-bit signed index -> table entry. The table stores indices 0..1023 first, then -1024..-1."""
    table = block.arrays["table"]
    half = len(table) // 2
    index = _requantize(block, acc, "table_multiplier", "table_shift", -half, half - 1)
    return table.astype(np.int64)[index]


def _post(block: Block, acc: Ints) -> Ints:
    if "table" in block.arrays:
        acc = apply_table(block, acc)
    elif block.activation:
        acc = np.maximum(acc, 0)
    if "bound" in block.arrays:
        acc = np.minimum(acc, _channels(block.arrays["bound"], acc.ndim))
    if block.pool and block.pool.kind == "gap":
        acc = acc.sum(axis=(2, 3), keepdims=True)
    if "shift" not in block.arrays:
        return acc
    low, high = block.arrays["range"]
    return _requantize(block, acc, "multiplier", "shift", low, high)


def _requantize(block: Block, acc: Ints, multiplier: str, shift: str, low: int, high: int) -> Ints:
    m = block.arrays.get(multiplier, np.ones(1, np.int64))
    return numerics.requantize(acc, _channels(m, acc.ndim), _channels(block.arrays[shift], acc.ndim), int(low), int(high))


def _convolve(block: Block, x: Ints) -> Ints:
    weight = block.arrays["weight"]
    padded = _pad_channels(x, block)
    dtype = _carrier(weight, x)
    f, c, kh, kw = weight.shape
    (sh, sw), (dh, dw) = block.strides, block.dilations
    h, w = output_size(padded.shape[2:], kernel_of(block), block.strides, (0, 0, 0, 0))
    source, kernel = padded.astype(dtype), weight.astype(dtype).reshape(block.groups, f // block.groups, c, kh, kw)
    acc = np.zeros((x.shape[0], block.groups, f // block.groups, h * w), dtype)
    for i in range(kh):
        for j in range(kw):
            patch = source[:, :, i * dh : i * dh + sh * (h - 1) + 1 : sh, j * dw : j * dw + sw * (w - 1) + 1 : sw]
            acc += kernel[..., i, j] @ patch.reshape(x.shape[0], block.groups, c, h * w)
    return acc.reshape(x.shape[0], f, h, w).astype(np.int64)


def _transposed(block: Block, x: Ints) -> Ints:
    """out[f, s i + k - pad] = sum over c, i, k of x[c, i] * w[f, c, k]: each pixel writes a kernel; what the pads cover is cropped."""
    weight = block.arrays["weight"]
    dtype = _carrier(weight, x)
    f, c, kh, kw = weight.shape
    (n, _, h, w), (sh, sw), (top, left, bottom, right) = x.shape, block.strides, block.pads
    acc = np.zeros((n, f, sh * (h - 1) + kh - min(bottom, 0), sw * (w - 1) + kw - min(right, 0)), dtype)
    source, kernel = x.astype(dtype).reshape(n, c, h * w), weight.astype(dtype)
    for i in range(kh):
        for j in range(kw):
            acc[:, :, i : i + sh * (h - 1) + 1 : sh, j : j + sw * (w - 1) + 1 : sw] += (kernel[..., i, j] @ source).reshape(n, f, h, w)
    return acc[:, :, top : acc.shape[2] - max(bottom, 0), left : acc.shape[3] - max(right, 0)].astype(np.int64)


def _dense(block: Block, x: Ints) -> Ints:
    weight = block.arrays["weight"]
    dtype = _carrier(weight, x)
    flat = x.reshape(x.shape[0], -1) if block.flatten else x
    return (flat.astype(dtype) @ weight.astype(dtype).T).astype(np.int64)


def _carrier(weight: np.ndarray, x: Ints) -> type:
    """float32 when every partial sum stays below 2^24, float64 otherwise (below 2^53: always, for 8-bit operands)."""
    reach = int(np.abs(x).max(initial=0)) * int(np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1).max(initial=0))
    return np.float32 if reach < numerics.FLOAT32_EXACT else np.float64


def _pad_channels(x: Ints, block: Block) -> Ints:
    value = block.arrays.get("pad_value")
    if value is None or not any(block.pads):
        return _pad(x, block.pads, 0)
    v = _channels(value, x.ndim)
    return _pad(x - v, block.pads, 0) + v


def _pad(x: Ints, pads: tuple[int, int, int, int], value: int) -> Ints:
    top, left, bottom, right = pads
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value) if any(pads) else x


def _channels(vector: np.ndarray, rank: int) -> np.ndarray:
    """A per-channel vector shaped to broadcast on axis 1 of an array of the given rank."""
    wide = vector if vector.dtype.kind == "f" else vector.astype(np.int64)
    return wide.reshape(1, -1, *(1,) * (rank - 2))


KERNELS: Mapping[str, Callable[..., Ints]] = {
    "input": input_quantize, "resume": input_quantize, "conv2d": linear, "conv_transpose2d": linear, "depthwise2d": linear, "dense": linear, "add": add,
    "concat": concat, "multiply": multiply, "attention": attention, "shift_attention": shift_attention, "local_response": local_response, "mad_normalize": mad_normalize,
    "embed": embed, "lookup": lookup, "normalize": normalize, "pool2d": average_pool, "select": select, "upsample2d": upsample,
    "buffer": buffer, "recurrent": recurrent, "softmax": softmax, "matmul": matmul,
}

IN_ORDER: Mapping[str, Callable[..., Ints]] = {**KERNELS, "buffer": windows_of_rows, "recurrent": recurrent_rows}
"""Kernels for rows that are consecutive frames of one sequence."""
