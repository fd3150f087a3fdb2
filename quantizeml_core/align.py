"""Addition on the hardware aligns its operands by shifts alone: the steps of both operands and of the sum differ by powers of two.

Only the ratios are bound; the common base of a group of channels tied together by additions is free. For a group with wanted steps d_i (range over
largest integer) the base b is chosen among the d_i themselves and each step becomes b * 2^ceil(log2(d_i / b)): nothing saturates, and
the noise they add is smallest (`common_base`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from .blocks import Block, moves

Steps = Mapping[str, np.ndarray]

#: No operand is resolved finer than this fraction of the coarsest step of its group: the sum could not keep it.
FINEST = 2.0**-10
#: One step for all operands and results, or one pattern of steps in all groups, is preferred while it brings at most this many times the least noise, and to no tensor that
#: others read more than this many times its own.
EQUAL_COST, EQUAL_GROWTH = 1.25, 2.0
#: Where channels are better alike, one pattern is preferred while it brings at most this many times the least noise.
PATTERN_COST = 2.0


def align(blocks: Iterable[Block], wanted: Steps, channels: Mapping[str, int], shared: frozenset[str] = frozenset(),
          patterned: bool = False) -> dict[str, np.ndarray]:
    """Steps for every tensor tied to an addition.

    Arguments:
        blocks: all blocks of the region.
        wanted: per tensor the smallest step without saturation, (C,) or (1,) when all its channels share one.
        channels: number of channels of every tensor.
        shared: tensors whose channels must share one base (their producer applies one table to all channels).
        patterned: whether channels are better alike, as far as that is cheap.
    Returns:
        steps by tensor name, shaped as in `wanted`, for tensors with tied channels only; what they wanted where a channel is not.
    """
    ties = _Ties(wanted, channels)
    for block in blocks:
        if block.kind == "add":
            ties.tie(*block.inputs, block.output)
        else:
            ties.read(*block.inputs)
        if moves(block):
            ties.alias(block)
    for tensor in shared:
        ties.gather(tensor)
    return ties.solve(patterned)


def bound(blocks: Sequence[Block]) -> frozenset[str]:
    """Tensors that an addition reads or writes, directly or behind blocks that only move. `blocks` in topological order."""
    found = {t for b in blocks if b.kind == "add" for t in (*b.inputs, b.output)}
    for block in reversed(blocks):
        found |= set(block.inputs) if block.output in found and moves(block) else set()
    return frozenset(found)


class _Ties:
    """The (tensor, channel) slots that additions bind, and the groups they fall into."""

    def __init__(self, wanted: Steps, channels: Mapping[str, int]) -> None:
        self.slots: dict[str, np.ndarray] = {}
        self.scalar = {t for t, steps in wanted.items() if len(steps) == 1}
        self.wanted = np.concatenate([np.zeros(0), *wanted.values()])
        start = 0
        for tensor, steps in wanted.items():
            slots = np.arange(start, start + len(steps))
            self.slots[tensor] = np.broadcast_to(slots, (channels[tensor],)) if len(steps) == 1 else slots
            start += len(steps)
        self.serves = np.zeros(len(self.wanted), bool)
        self.edges: list[np.ndarray] = []
        self.tied: dict[str, None] = {}
        self.sums: list[np.ndarray] = []

    def tie(self, *tensors: str) -> None:
        """Channel by channel, the steps of these tensors must differ by powers of two."""
        rows = np.unique(np.stack([self.slots[t] for t in tensors], axis=1), axis=0)
        self.sums.append(rows)
        self.edges += [rows[:, [0, i]] for i in range(1, rows.shape[1])]
        self.tied |= dict.fromkeys(tensors)

    def alias(self, block: Block) -> None:
        """The channels of what is only moved are the channels of its inputs, side by side, each of them `frames` times, or those that are selected."""
        slots = np.concatenate([self.slots[t] for t in block.inputs]).repeat(block.frames)
        self.slots[block.output] = slots[block.arrays["channels"]] if block.kind == "select" else slots
        self.scalar.discard(block.output)

    def read(self, *tensors: str) -> None:
        """These tensors serve something else than a sum."""
        for tensor in tensors:
            self.serves[self.slots.get(tensor, [])] = True

    def gather(self, tensor: str) -> None:
        slots = self.slots[tensor]
        self.edges.append(np.stack([np.broadcast_to(slots[:1], slots.shape), slots], axis=1))

    def solve(self, patterned: bool) -> dict[str, np.ndarray]:
        if not self.tied:
            return {}
        roots = _roots(len(self.wanted), np.concatenate(self.edges))
        used = np.flatnonzero(np.isin(roots, roots[np.concatenate([self.slots[t] for t in self.tied])]))
        steps = self.wanted.copy()
        for members, sums in _alike(used, np.concatenate(self.sums), roots):
            steps[members] = common_base(self.wanted[members], sums, self.serves[members], patterned)
        tied = {t: s for t, s in self.slots.items() if np.isin(s, used).any()}
        return {t: steps[s[:1] if t in self.scalar else s] for t, s in tied.items()}


def _roots(count: int, edges: np.ndarray) -> np.ndarray:
    """(count,) the smallest slot of the group that each slot belongs to: labels sink along the edges, and along themselves, until none does."""
    labels, before = np.arange(count), np.empty(0)
    while not np.array_equal(labels, before):
        before = labels.copy()
        lower = np.minimum(labels[edges[:, 0]], labels[edges[:, 1]])
        for end in (0, 1):
            np.minimum.at(labels, edges[:, end], lower)
        labels = labels[labels]
    return labels


def _alike(used: np.ndarray, sums: np.ndarray, roots: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Groups of slots (groups, n) whose additions stand at the same positions (k, 3): most channels of a network are alike.

    Arguments:
        used: the slots that matter, ascending.
        sums: operand, operand, result slots of every addition.
        roots: the group of each slot.
    """
    members = _grouped(used, roots[used])
    alike: dict[tuple[int, bytes], tuple[np.ndarray, list[np.ndarray]]] = {}
    for root, rows in _grouped(sums, roots[sums[:, 0]]).items():
        positions = np.searchsorted(members[root], rows)
        alike.setdefault((len(members[root]), positions.tobytes()), (positions, []))[1].append(members[root])
    yield from ((np.stack(groups), positions) for positions, groups in alike.values())


def _grouped(values: np.ndarray, labels: np.ndarray) -> dict[int, np.ndarray]:
    """The values of each label, in their order."""
    order = np.argsort(labels, kind="stable")
    found, first = np.unique(labels[order], return_index=True)
    return dict(zip(found.tolist(), np.split(values[order], first[1:]), strict=True))


def common_base(wanted: np.ndarray, sums: np.ndarray, serves: np.ndarray | bool = False, patterned: bool = False) -> np.ndarray:
    """Steps base * 2^e_i >= wanted_i that add the least noise, over the bases that fit one of them exactly; for many groups of one kind at once.

    A tensor that is written with step s brings noise s^2 / 12. A sum is exact on the finer of its operands' grids, so it only brings what it loses
    from there: (s_out^2 - min(s_x, s_y)^2) / 12. A result finer than that grid would hold nothing more, so it is never finer. Where one step for all
    adds hardly more, on the average of the groups, they have one: processors add such integers without rounding, and faster. Else all groups have one
    pattern, base * 2^e_i with the same e, where that does, or, if `patterned`, where it adds little: processors add channels that are scaled alike faster.

    Arguments:
        wanted: (..., n) smallest steps without saturation.
        sums: (k, 3) positions in `wanted` of the operands and the result of each addition, in the order of the network.
        serves: (..., n) what something else than an addition reads.
    """
    floor = np.maximum(wanted, np.maximum(wanted.max(axis=-1, keepdims=True) * FINEST, 2.0**-100))
    log = np.log2(floor)
    fraction = np.sort(log - np.floor(log), axis=-1)
    steps = np.exp2(fraction[..., None] + np.ceil(log[..., None, :] - fraction[..., None] - 1e-9))
    for x, y, out in sums:
        steps[..., out] = np.maximum(steps[..., out], np.minimum(steps[..., x], steps[..., y]))
    added = _noise(steps, sums)
    best = np.argmin(added, axis=-1)[..., None]
    chosen = np.take_along_axis(steps, best[..., None], axis=-2)[..., 0, :]
    if not len(sums):
        return chosen
    least = np.take_along_axis(added, best, axis=-1)[..., 0]
    widest = np.broadcast_to(floor.max(axis=-1, keepdims=True), floor.shape)
    if _is_cheap(widest, chosen, least, sums, serves):
        return widest
    if floor.size < floor.shape[-1] ** 2:  # few groups of many slots: channels that share a base already
        return chosen
    alike = _patterned(floor, sums)
    return alike if _is_cheap(alike, chosen, least, sums, serves) or patterned and _cost(alike, least, sums) <= PATTERN_COST else chosen


def _is_cheap(steps: np.ndarray, chosen: np.ndarray, least: np.ndarray, sums: np.ndarray, serves: np.ndarray | bool) -> bool:
    """Whether they bring hardly more noise than the least, on the average of the groups, and to no tensor that others read."""
    grown = np.where(serves, np.square(steps / chosen), 0.0).reshape(-1, steps.shape[-1]).mean(axis=0)
    return _cost(steps, least, sums) <= EQUAL_COST and float(grown.max()) <= EQUAL_GROWTH


def _cost(steps: np.ndarray, least: np.ndarray, sums: np.ndarray) -> float:
    """How many times the least noise steps bring, on the average of the groups."""
    return float((_noise(steps, sums) / least).mean())


def _patterned(floor: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Steps base * 2^e_i, each group's base the smallest that fits, with the e of least noise: one exponent is moved at a time, from none and from the middle of what
    the groups want."""
    widest = floor.max(axis=-1, keepdims=True)
    log = np.log2(floor).reshape(-1, floor.shape[-1])
    middle = np.rint(np.median(log - log.mean(axis=1, keepdims=True), axis=0))
    found = [_improved(floor / widest, sums, start) for start in (np.zeros_like(middle), middle)]
    return widest * min(found, key=lambda steps: float(_noise(steps, sums).mean()))


def _improved(floor: np.ndarray, sums: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """The steps of a pattern that no exponent improves by one up or down."""
    steps = _of_pattern(floor, sums, exponents)
    noise, better = float(_noise(steps, sums).mean()), True
    while better:
        better = False
        for move in (*np.eye(len(exponents)), *-np.eye(len(exponents))):
            tried = _of_pattern(floor, sums, exponents + move)
            if (found := float(_noise(tried, sums).mean())) < noise * (1 - 1e-9):
                exponents, steps, noise, better = exponents + move, tried, found, True
    return steps


def _of_pattern(floor: np.ndarray, sums: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """No result finer than both operands, no step too small."""
    pattern = exponents.copy()
    for x, y, out in sums:
        pattern[out] = max(pattern[out], min(pattern[x], pattern[y]))
    return (floor * np.exp2(-pattern)).max(axis=-1, keepdims=True) * np.exp2(pattern)


def _noise(steps: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """12 times the noise that tensors of these steps (..., n) bring."""
    noise, (x, y, out) = np.square(steps), sums.T
    written = np.setdiff1d(np.arange(steps.shape[-1]), out)
    lost = noise[..., out] - np.minimum(noise[..., x], noise[..., y])
    return noise[..., written].sum(axis=-1) + lost.sum(axis=-1)
