"""Addition on the hardware aligns its operands by shifts alone: the steps of both operands and of the sum differ by powers of two.

Only the ratios are bound; the common base of a group of channels tied together by additions is free. For a group with wanted steps d_i (range over
largest integer) the base b is chosen among the d_i themselves and each step becomes b * 2^ceil(log2(d_i / b)): nothing saturates, and
the noise they add is smallest (`common_base`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .blocks import Block, moves

Steps = Mapping[str, np.ndarray]

#: No operand is resolved finer than this fraction of the coarsest step of its group: the sum could not keep it.
FINEST = 2.0**-10


def align(blocks: Iterable[Block], wanted: Steps, channels: Mapping[str, int], shared: frozenset[str] = frozenset()) -> dict[str, np.ndarray]:
    """Steps for every tensor tied to an addition.

    Arguments:
        blocks: all blocks of the region.
        wanted: per tensor the smallest step without saturation, (C,) or (1,) when all its channels share one.
        channels: number of channels of every tensor.
        shared: tensors whose channels must share one base (their producer applies one table to all channels).
    Returns:
        steps by tensor name, shaped as in `wanted`, for tied tensors only.
    """
    ties = _Ties(wanted, channels)
    for block in blocks:
        if block.kind == "add":
            ties.tie(*block.inputs, block.output)
        elif moves(block):
            ties.alias(block.output, block.inputs, block.frames)
    for tensor in shared:
        ties.gather(tensor)
    return ties.solve()


def bound(blocks: Sequence[Block]) -> frozenset[str]:
    """Tensors that an addition reads or writes, directly or behind blocks that only move. `blocks` in topological order."""
    found = {t for b in blocks if b.kind == "add" for t in (*b.inputs, b.output)}
    for block in reversed(blocks):
        found |= set(block.inputs) if block.output in found and moves(block) else set()
    return frozenset(found)


class _Ties:
    """Union-find over (tensor, channel) slots."""

    def __init__(self, wanted: Steps, channels: Mapping[str, int]) -> None:
        self.slots: dict[str, np.ndarray] = {}
        self.scalar = {t for t, steps in wanted.items() if len(steps) == 1}
        self.wanted = np.concatenate([np.zeros(0), *wanted.values()])
        start = 0
        for tensor, steps in wanted.items():
            slots = np.arange(start, start + len(steps))
            self.slots[tensor] = np.broadcast_to(slots, (channels[tensor],)) if len(steps) == 1 else slots
            start += len(steps)
        self.parent = list(range(start))
        self.tied: dict[str, None] = {}
        self.sums: list[np.ndarray] = []

    def root(self, slot: int) -> int:
        while self.parent[slot] != slot:
            self.parent[slot] = self.parent[self.parent[slot]]
            slot = self.parent[slot]
        return slot

    def tie(self, *tensors: str) -> None:
        """Channel by channel, the steps of these tensors must differ by powers of two."""
        rows = np.unique(np.stack([self.slots[t] for t in tensors], axis=1), axis=0)
        self.sums.append(rows)
        for row in rows:
            for slot in row[1:]:
                self._union(int(row[0]), int(slot))
        self.tied |= dict.fromkeys(tensors)

    def alias(self, output: str, inputs: Iterable[str], frames: int = 1) -> None:
        """The channels of what is only moved are the channels of its inputs, side by side, each of them `frames` times."""
        self.slots[output] = np.concatenate([self.slots[t] for t in inputs]).repeat(frames)
        self.scalar.discard(output)

    def gather(self, tensor: str) -> None:
        for slot in self.slots[tensor][1:]:
            self._union(int(self.slots[tensor][0]), int(slot))

    def _union(self, a: int, b: int) -> None:
        self.parent[self.root(b)] = self.root(a)

    def _sums_by_root(self) -> dict[int, np.ndarray]:
        """Operand, operand, result slots of the additions of each group."""
        rows: dict[int, list[np.ndarray]] = {}
        for row in np.concatenate(self.sums):
            rows.setdefault(self.root(int(row[0])), []).append(row)
        return {root: np.stack(group) for root, group in rows.items()}

    def solve(self) -> dict[str, np.ndarray]:
        if not self.tied:
            return {}
        used = np.unique(np.concatenate([np.zeros(0, np.int64), *(self.slots[t] for t in self.tied)]))
        roots = np.array([self.root(int(s)) for s in used], np.int64)
        steps = np.zeros(len(self.parent))
        order = np.argsort(roots, kind="stable")
        bounds = np.flatnonzero(np.diff(roots[order])) + 1
        sums = self._sums_by_root()
        for members in np.split(used[order], bounds):
            positions = np.searchsorted(members, sums[self.root(int(members[0]))])
            steps[members] = common_base(self.wanted[members], positions)
        tied = {t: s for t, s in self.slots.items() if np.isin(s, used).all()}
        return {t: steps[s[:1] if t in self.scalar else s] for t, s in tied.items()}


def common_base(wanted: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Steps base * 2^e_i >= wanted_i that add the least noise, over the bases that fit one of them exactly.

    A tensor that is written with step s brings noise s^2 / 12. A sum is exact on the finer of its operands' grids, so it only brings what it loses
    from there: (s_out^2 - min(s_x, s_y)^2) / 12. A result finer than that grid would hold nothing more, so it is never finer.

    Arguments:
        wanted: (n,) smallest steps without saturation.
        sums: (k, 3) positions in `wanted` of the operands and the result of each addition, in the order of the network.
    """
    floor = np.maximum(wanted, max(wanted.max(initial=0.0) * FINEST, 2.0**-100))
    log = np.log2(floor)
    fraction = np.unique(log - np.floor(log))
    steps = np.exp2(fraction[:, None] + np.ceil(log[None] - fraction[:, None] - 1e-9))
    for x, y, out in sums:
        steps[:, out] = np.maximum(steps[:, out], np.minimum(steps[:, x], steps[:, y]))
    noise = np.square(steps)
    x, y, out = sums.T
    written = np.setdiff1d(np.arange(len(wanted)), out)
    lost = noise[:, out] - np.minimum(noise[:, x], noise[:, y])
    return steps[np.argmin(noise[:, written].sum(axis=1) + lost.sum(axis=1))]
