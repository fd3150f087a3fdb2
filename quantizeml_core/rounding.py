"""Rounding of weights of few bits against the data: what rounding one weight does to a filter's output is made up for by the weights not yet rounded.

For one filter w (in integer units, before rounding) and the covariance H of what its taps see, weights are rounded in the order of falling H_kk:

    q_k = clip(rint(w_k), -limit, limit),   w_j -= (w_k - q_k) U_kj / U_kk  for the j behind k,   U = upper Cholesky factor of H^-1

(Frantar et al., GPTQ, arXiv 2210.17323, equations 2 and 3.) The mean of the error is left out of H: it goes into the bias. A filter keeps the nearest
integers where those are no worse on H. Nothing here is done to weights of more than LAST_BITS bits: nearest rounding is good enough there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from . import numerics
from .bake import integer_weight
from .blocks import WHOLE, Block
from .blueprint import Blueprint
from .calibration import MEAN_BITS
from .entry import spread
from .filters import folded_filters
from .geometry import kernel_of
from .numerics import Floats, Ints
from .plan import Plan
from .solve import Solution

LAST_BITS = 4
#: Taps of one filter above which its covariance would cost too much memory (taps^2 numbers) and is not kept.
MOST_TAPS = 1200
#: Places of an image at which taps are looked at, per sample.
PLACES = 8
#: Added to the diagonal, as a share of its mean, so that taps without signal do not blow up the inverse.
DAMPING = 0.01


class TapObserver:
    """Accumulates the covariance of what the taps of one linear block see: (G, K, K), K taps for each of G groups.

    The places looked at depend on a sample's number only, not on batches.
    """

    def __init__(self, block: Block) -> None:
        assert block.weight is not None
        self.block, self.groups = block, block.groups
        taps = block.weight[0].size
        self._products: Floats = np.zeros((self.groups, taps, taps))
        self._sums: Floats = np.zeros((self.groups, taps))
        self._samples = self._rows = 0

    def update(self, x: np.ndarray) -> None:
        """Merge one batch (N, C, H, W) or (N, C)."""
        rows = self._taps(x).astype(np.float64)
        self._products += np.matmul(rows.transpose(1, 2, 0), rows.transpose(1, 0, 2))
        self._sums += rows.sum(axis=0)
        self._samples += len(x)
        self._rows += len(rows)

    @property
    def covariance(self) -> Floats:
        mean = self._sums / self._rows
        covariance = self._products / self._rows - mean[:, :, None] * mean[:, None, :]
        return numerics.round_significant(covariance, MEAN_BITS)

    def _taps(self, x: np.ndarray) -> np.ndarray:
        """(rows, G, K): what the taps of every group see."""
        if self.block.kind == "dense":
            return x.reshape(len(x), 1, -1)
        assert self.block.weight is not None
        top, left, bottom, right = self.block.pads
        pad = np.reshape(self.block.arrays.get("pad_value", np.zeros(1)), (1, -1, 1, 1)).astype(x.dtype)
        padded = np.pad(x - pad, ((0, 0), (0, 0), (top, bottom), (left, right))) + pad
        (sh, sw), (dh, dw) = self.block.strides, self.block.dilations
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel_of(self.block), axis=(2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]
        height, width = windows.shape[2:4]
        sample, place = self._places(len(x), height * width)
        seen = windows[sample, :, place // width, place % width]
        return seen.reshape(len(seen), self.groups, -1)

    def _places(self, count: int, area: int) -> tuple[Ints, Ints]:
        """(rows,) sample and place of each row: every sample goes on in one fixed shuffle of all places."""
        shuffled = np.random.default_rng(0).permutation(area)
        each = min(PLACES, area)
        sample = np.repeat(np.arange(count), each)
        number = (self._samples + sample) * each + np.tile(np.arange(each), count)
        return sample, shuffled[number % area]


def worth_observing(block: Block) -> bool:
    """Whether the covariance of a block's taps can be kept."""
    return block.kind in WHOLE and block.weight is not None and block.weight[0].size <= MOST_TAPS


def adapt(blueprint: Blueprint, plan: Plan, solutions: Mapping[str, Solution], covariances: Mapping[str, Floats], means: Mapping[str, Floats]) -> Blueprint:
    """The blueprint whose weights of few bits are the real values of their integers, what that does on average taken out of the biases.

    Arguments:
        covariances: by block name; a block without one is left alone.
        means: (C,) by tensor name.
    """
    formats = {b.output: solutions[b.name].output for b in blueprint.blocks}

    def adapted(block: Block) -> Block:
        bits = plan.layers[block.name].weight_bits
        if block.name not in covariances or bits is None or bits > LAST_BITS:
            return block
        solution, source = solutions[block.name], formats[block.inputs[0]]
        nearest = integer_weight(block, plan.layers[block.name], solution, source)
        assert solution.acc_step is not None and block.weight is not None
        acc_step = solution.acc_step.reshape(-1, *(1,) * (block.weight.ndim - 1))
        units = np.concatenate([folded for _, folded in folded_filters(block, source.step)]) / acc_step
        scale = _per_tap(block, source.step)
        integers = _rounded(units, nearest, covariances[block.name] / (scale[:, :, None] * scale[:, None, :]), numerics.qmax(bits))
        weight = integers * acc_step / spread(block, source.step)
        drift = ((weight - block.weight) * spread(block, means[block.inputs[0]])).reshape(len(weight), -1).sum(axis=1)
        return block.with_arrays(weight=weight, bias=np.broadcast_to(block.arrays.get("bias", 0.0) - drift, (len(weight),)))

    return replace(blueprint, blocks=tuple(adapted(b) for b in blueprint.blocks))


def _per_tap(block: Block, step: Floats) -> Floats:
    """(G, K): the input step of every tap."""
    assert block.weight is not None
    wide = np.broadcast_to(spread(block, step), block.weight.shape).reshape(block.groups, -1, block.weight[0].size)
    return wide[:, 0]


def _rounded(units: Floats, nearest: np.ndarray, covariance: Floats, limit: int) -> Ints:
    """Integer weights in the block's layout. `covariance`: (G, K, K) in units of the taps' integers."""
    groups = len(covariance)
    wide, near = (a.reshape(groups, len(units) // groups, -1).astype(np.float64) for a in (units, nearest))
    out = np.stack([_group(w, q, c, limit) for w, q, c in zip(wide, near, covariance, strict=True)])
    return out.reshape(units.shape).astype(np.int64)


def _group(weight: Floats, nearest: Floats, covariance: Floats, limit: int) -> Floats:
    """(F, K) integers of the filters that see the same taps."""
    damped = covariance + np.eye(len(covariance)) * (DAMPING * np.trace(covariance) / len(covariance))
    if not damped.any():
        return nearest
    order = np.argsort(-np.diag(damped), kind="stable")
    compensated = np.empty_like(weight)
    compensated[:, order] = _compensated(weight[:, order], damped[np.ix_(order, order)], limit)
    better = _error(compensated - weight, damped) < _error(nearest - weight, damped)
    return np.where(better[:, None], compensated, nearest)


def _compensated(weight: Floats, covariance: Floats, limit: int) -> Floats:
    upper = np.linalg.cholesky(np.linalg.inv(covariance)).T
    left, out = weight.copy(), np.empty_like(weight)
    for k in range(left.shape[1]):
        out[:, k] = np.clip(np.rint(left[:, k]), -limit, limit)
        left[:, k + 1:] -= ((left[:, k] - out[:, k]) / upper[k, k])[:, None] * upper[k, k + 1:]
    return out


def _error(difference: Floats, covariance: Floats) -> Floats:
    """(F,) difference^T covariance difference."""
    return np.einsum("fk,kl,fl->f", difference, covariance, difference, optimize=True)
