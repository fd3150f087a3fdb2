"""Integer scaled dot-product attention (Vaswani et al., arXiv 1706.03762): softmax(q k^T scale) v, head by head, without floats.

    a = q k^T + b                                     of one head, in units of step_q * step_k; b, a mask, may be left out
    u = clip(((max a - a) M + 2^(f-1)) >> f, 0, 4095) how far below the largest score, in 1/256 of a power of two: M 2^-f ~ 256 log2(e) scale step_q step_k
    e = round_half_even(2^15 2^(-u / 256))            a table of 4096 entries; its last one, where u saturates, is 0, and so is e where b hides a key
    y = floor((512 sum(e v) + sum e) / (2 sum e))     256 sum(e v) / sum(e), rounded: the mean of v in units of step_v / 256

M has 15 bits, so its error is at most 2^-15 of the distance. Every step is exact in float64 as well: products stay below 2^53, and quotients are far
enough from a whole number.
"""

from __future__ import annotations

import numpy as np

from .numerics import Floats, Ints

ENTRIES = 4096
FRACTION = 8
"""Fractional bits of u, and of y."""
TABLE = np.append(np.rint(2.0 ** (15 - np.arange(ENTRIES - 1) / 2**FRACTION)), 0).astype(np.int64)
MULTIPLIER_BITS = 15
MOST_SHIFT = 60
HIDDEN = -(2**31)
"""In a mask: this query does not see this key. Every other entry lies within VISIBLE."""
VISIBLE = 2**30
LOWEST = -1e4
"""Real masks hide what they add this little to, or less."""


def score_multiplier(ratio: float) -> tuple[int, int]:
    """M and f: ratio ~ M 2^-f with 2^14 <= M < 2^15, f from 1 to MOST_SHIFT."""
    f = int(np.clip(MULTIPLIER_BITS - 1 - np.floor(np.log2(ratio)), 1, MOST_SHIFT))
    return min(int(np.rint(ratio * 2.0**f)), 2**MULTIPLIER_BITS - 1), f


def whole_mask(mask: Floats, heads: int, queries: int, keys: int) -> Floats | str:
    """A mask of one to four axes as (1 or heads, queries, keys), -inf where it hides; or why an attention cannot have it."""
    wide = mask.reshape((1,) * max(4 - mask.ndim, 0) + mask.shape)
    fits = wide.ndim == 4 and wide.shape[0] == 1 and wide.shape[1] in (1, heads) and wide.shape[2] in (1, queries) and wide.shape[3] in (1, keys)
    if not fits:
        return f"its mask has the shape {mask.shape}, only one for all samples is supported, for all heads or for each"
    whole = np.broadcast_to(np.where(wide <= LOWEST, -np.inf, wide)[0], (wide.shape[1], queries, keys))
    return "its mask hides every token from one" if np.isinf(whole).all(axis=-1).any() else whole


def integer_mask(mask: Floats, unit: float) -> Ints:
    """b = round_half_even(mask / unit), (1 or heads, queries, keys); HIDDEN where the mask is LOWEST or less.

    Arguments:
        unit: of a score, scale * step_q * step_k.
    """
    entries = np.clip(np.rint(np.maximum(mask, LOWEST) / unit), -VISIBLE, VISIBLE)
    return np.where(mask <= LOWEST, HIDDEN, entries).astype(np.int64)


def attend(q: Ints, k: Ints, v: Ints, heads: int, multiplier: int, shift: int, mask: Ints | None = None) -> Ints:
    """y of (N, C, H, W) each; every pixel is a token, the channels of a head stand together. `mask`: `integer_mask`."""
    scores = split_heads(q, heads) @ split_heads(k, heads).swapaxes(-1, -2)
    scores = scores if mask is None else scores + mask
    below = scores.max(axis=-1, keepdims=True) - scores
    weights = TABLE[np.minimum((below * multiplier + (1 << (shift - 1))) >> shift, ENTRIES - 1)]
    weights = weights if mask is None else np.where(mask == HIDDEN, 0, weights)
    total = weights.sum(axis=-1, keepdims=True)
    mean = (512 * (weights @ split_heads(v, heads)) + total) // (2 * total)
    return mean.swapaxes(-1, -2).reshape(len(q), v.shape[1], *q.shape[2:])


SOFTMAX_FRACTION = 15
"""Fractional bits of a softmax alone."""


def softmax(x: Ints, multiplier: int, shift: int) -> Ints:
    """floor((2^16 e + sum e) / (2 sum e)) over axis 1, e as above: a softmax in units of 2^-15."""
    below = x.max(axis=1, keepdims=True) - x
    weights = TABLE[np.minimum((below * multiplier + (1 << (shift - 1))) >> shift, ENTRIES - 1)]
    total = weights.sum(axis=1, keepdims=True)
    return ((weights << (SOFTMAX_FRACTION + 1)) + total) // (2 * total)


def product(x: Ints, y: Ints, turned: bool) -> Ints:
    """(N, S, H, W) of (N, K, H, W) and a sequence of K pixels, (N, S, ...); `turned`: of one of K channels, (N, K, ...), whose S pixels become channels."""
    rows = y.reshape(*y.shape[:2], -1)
    rows = rows.swapaxes(1, 2) if turned else rows
    return (rows @ x.reshape(*x.shape[:2], -1)).reshape(len(x), -1, *x.shape[2:])


def split_heads(x: Ints, heads: int) -> Ints:
    """(N, heads, tokens, channels of a head)."""
    return x.reshape(len(x), heads, x.shape[1] // heads, -1).swapaxes(-1, -2)
