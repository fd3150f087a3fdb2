"""A blueprint run in float64: what the blocks mean before any rounding. Written for small tensors and clarity."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from quantizeml_core import local_response
from quantizeml_core.blocks import LINEAR, Block, Pool
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.kernels import channel_first
from quantizeml_core.tables import apply


def run(blueprint: Blueprint, feeds: Mapping[str, np.ndarray], ends: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None) -> dict[str, np.ndarray]:
    """Every tensor of the region, by name.

    Arguments:
        ends: by tensor, where each channel saturates, for those that do.
    """
    values: dict[str, np.ndarray] = {k: np.asarray(v, np.float64) for k, v in feeds.items()}
    for block in blueprint.blocks:
        made = _block(block, [values[t] for t in block.inputs])
        low, high = (_wide(end, made.ndim) for end in (ends or {}).get(block.output, (np.full(1, -np.inf), np.full(1, np.inf))))
        values[block.output] = np.clip(made, low, high)
    return values


def _block(block: Block, inputs: list[np.ndarray]) -> np.ndarray:
    if block.kind == "input":
        x = channel_first(block, inputs[0])
        return x * _wide(block.arrays.get("scale", np.ones(1)), x.ndim) + _wide(block.arrays.get("offset", np.zeros(1)), x.ndim)
    if block.kind == "concat":
        return np.concatenate(inputs, axis=1)
    if block.kind == "local_response":
        x = inputs[0] + block.arrays.get("offset", 0)
        sums = local_response.square_sums(x, block.window)
        return _post(block, x * block.arrays["gain"] * (1 + block.arrays["strength"] * sums) ** -0.75)
    if block.kind == "mad_normalize":
        return _post(block, inputs[0] / np.maximum(np.abs(inputs[0]).mean(axis=1, keepdims=True), 1e-7))
    if block.kind == "shift_attention":
        q, k, v = (t.reshape(len(t), block.groups, t.shape[1] // block.groups, -1).swapaxes(-1, -2) for t in inputs)
        below = np.floor(q @ k.swapaxes(-1, -2) * float(block.arrays["scale"][0]))
        below -= below.max(axis=-1, keepdims=True)
        weights = 2.0 ** (below - np.rint(np.log2((2.0**below).sum(axis=-1, keepdims=True))))
        return (weights @ v).swapaxes(-1, -2).reshape(inputs[2].shape)
    if block.kind == "attention":
        q, k, v = (t.reshape(len(t), block.groups, t.shape[1] // block.groups, -1).swapaxes(-1, -2) for t in inputs)
        scores = q @ k.swapaxes(-1, -2) * float(block.arrays["scale"][0]) + block.arrays.get("mask", 0.0)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mean = weights @ v / weights.sum(axis=-1, keepdims=True)
        return mean.swapaxes(-1, -2).reshape(inputs[2].shape)
    if block.kind == "embed":
        row, table = inputs[0].reshape(*inputs[0].shape[:2], 1, -1), block.arrays["table"]
        return np.pad(row, ((0, 0), (0, 0), (0, 0), (table.shape[1] - row.shape[3], 0))) + table[:, None]
    if block.kind == "normalize":
        x = inputs[0].reshape(len(inputs[0]), -1) if block.flatten else inputs[0]
        mean = x.mean(axis=1, keepdims=True)
        return _post(block, (x - mean) / np.sqrt(x.var(axis=1, keepdims=True) + float(block.arrays["epsilon"][0])))
    if block.kind == "buffer":
        x = inputs[0]
        frames = np.concatenate([np.zeros((*x.shape[:2], block.frames - 1, *x.shape[2:])), x[:, :, None]], axis=2)
        return frames.reshape(len(x), -1, *x.shape[2:])
    if block.kind == "upsample2d":
        return np.kron(inputs[0], np.ones((1, 1, *block.strides)))
    if block.kind == "pool2d":
        top, left, bottom, right = block.pool.pads
        around = 0.0 if block.pool.padded else np.nan
        padded = np.pad(inputs[0], ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=around)
        return _post(block, np.nanmean(_windows(padded, block.pool), axis=(4, 5)))
    return _post(block, SUMS[block.kind](*inputs) if block.kind in SUMS else _linear(block, inputs[0]))


SUMS: Mapping[str, Callable[..., np.ndarray]] = {"add": np.add, "multiply": np.multiply}


def _linear(block: Block, x: np.ndarray) -> np.ndarray:
    weight = block.arrays["weight"]
    bias = block.arrays.get("bias", np.zeros(len(weight)))
    if block.kind == "dense":
        return (x.reshape(len(x), -1) if block.flatten else x) @ weight.T + bias
    if block.kind == "conv_transpose2d":
        return _transposed(block, x) + _wide(bias, 4)
    pad = _wide(block.arrays.get("pad_value", np.zeros(1)), 4)
    top, left, bottom, right = block.pads
    padded = np.pad(x - pad, ((0, 0), (0, 0), (top, bottom), (left, right))) + pad
    f, c, kh, kw = weight.shape
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), axis=(2, 3))[:, :, :: block.strides[0], :: block.strides[1]]
    grouped = windows.reshape(len(x), block.groups, c, *windows.shape[2:])
    kernels = weight.reshape(block.groups, f // block.groups, c, kh, kw)
    return np.einsum("ngchwij,gfcij->ngfhw", grouped, kernels).reshape(len(x), f, *windows.shape[2:4]) + _wide(bias, 4)


def _transposed(block: Block, x: np.ndarray) -> np.ndarray:
    weight, (down, across), (top, left, bottom, right) = block.arrays["weight"], block.strides, block.pads
    (n, _, h, w), (f, _, kh, kw) = x.shape, weight.shape
    out = np.zeros((n, f, down * (h - 1) + kh + max(-bottom, 0), across * (w - 1) + kw + max(-right, 0)))
    for i in range(h):
        for j in range(w):
            out[:, :, down * i : down * i + kh, across * j : across * j + kw] += np.einsum("nc,fcij->nfij", x[:, :, i, j], weight)
    return out[:, :, top : out.shape[2] - max(bottom, 0), left : out.shape[3] - max(right, 0)]


def _post(block: Block, value: np.ndarray) -> np.ndarray:
    pool, activation = block.pool, block.activation
    if pool and pool.kind == "max":
        value = _max_pool(value, pool)
    if activation and activation.is_table:
        value = apply(activation, value)
    elif activation:
        value = np.clip(value, 0, np.inf if activation.bound is None else activation.bound)
    return value.mean(axis=(2, 3), keepdims=True) if pool and pool.kind == "gap" else value


def _max_pool(value: np.ndarray, pool: Pool) -> np.ndarray:
    top, left, bottom, right = pool.pads
    padded = np.pad(value, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=-np.inf)
    return _windows(padded, pool).max(axis=(4, 5))


def _windows(value: np.ndarray, pool: Pool) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(value, pool.size, axis=(2, 3))[:, :, :: pool.strides[0], :: pool.strides[1]]


def _wide(vector: np.ndarray, rank: int) -> np.ndarray:
    return np.reshape(vector, (1, -1, *(1,) * (rank - 2)))


def linear_blocks(blueprint: Blueprint) -> list[Block]:
    return [b for b in blueprint.blocks if b.kind in LINEAR]
