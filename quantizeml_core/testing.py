"""The parity kit: does a native quantized model compute the integers of its program, at every block boundary, with zero tolerance?

A frontend, or a plugin that brings a rule, hands over a way to run its model and reads which integers differ:

    mismatches = differences(program, feeds, run)          # run(feeds) -> {tensor: integers}
    assert not mismatches, mismatches[0]

Whoever writes a rule or a rewrite asks more: does the block mean what the line of operations meant? `judge` compares with the float network too.
`quantizeml_onnx.testing.judge(model, samples)` and `quantizeml_keras.testing.judge(model, samples)` do all of it for one model:

    verdict = judge(model, samples)
    assert verdict.passed, verdict.text
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .program import Program

FAITHFUL = 15.0
"""Decibels of signal over error that a block's integers keep beside the float network. A wrong block has about 0; 8 bits keep 25 and more, 4 bits
of a trained network keep 10 to 20, so judge rules at 8 bits."""

Feeds = Mapping[str, np.ndarray]
Runner = Callable[[Feeds], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Mismatch:
    """A tensor on which a native model and its program disagree.

    Arguments:
        block: the block that writes it.
        what: `missing`, `dtype`, `shape`, or how many integers differ.
        where: index of the first difference, with the program's integer and the model's.
    """

    block: str
    what: str
    where: tuple[int, ...] = ()
    expected: int | None = None
    got: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What the kit found.

    Arguments:
        mismatches: tensors on which the native model and its program disagree.
        unfaithful: (block, decibels) of blocks that do not compute what the float network does; what they break in later blocks counts too.
        left: why operations stayed float, one sentence each.
    """

    mismatches: tuple[Mismatch, ...]
    unfaithful: tuple[tuple[str, float], ...]
    left: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not (self.mismatches or self.unfaithful or self.left)

    @property
    def text(self) -> str:
        """`pass`, or why not, one line for each reason."""
        lines = [f"`{m.block}`: {m.what}" + (f", first at {m.where}: {m.got} instead of {m.expected}" if m.where else "") for m in self.mismatches]
        lines += [f"`{block}` is {decibels:.1f} dB over its error beside the float network: it computes something else" for block, decibels in self.unfaithful]
        return "\n".join([*lines, *self.left]) or "pass"


def judge(program: Program, feeds: Feeds, run: Runner, floats: Mapping[str, np.ndarray], left: tuple[str, ...] = ()) -> Verdict:
    """The integers of a native model beside its program, and the program beside the float network.

    Inside a network a channel may be moved by a constant that its readers take back (`centre`): only outputs are compared with their mean.

    Arguments:
        floats: channel-first tensors of the float network for the same feeds; blocks whose tensor is not among them are not compared.
        left: sentences about what stayed float.
    """
    native = run(feeds)
    values = program.run(_fed(program, feeds, native))
    shared = [(b.name, b.output, floats[b.output], program.dequantize(b.output, values[b.output])) for b in program.blocks if b.output in floats]
    sound = [(name, decibels(*_comparable(real, integers.reshape(real.shape), tensor in program.outputs))) for name, tensor, real, integers in shared]
    return Verdict(differences(program, feeds, lambda _: native), tuple(s for s in sound if s[1] < FAITHFUL), left)


def _comparable(real: np.ndarray, other: np.ndarray, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    return (real, other) if whole else (_varying(real), _varying(other))


def _varying(x: np.ndarray) -> np.ndarray:
    """Each channel less its mean; what float32 rounds of a constant is nothing."""
    mean = x.mean(axis=(0, *range(2, x.ndim)), keepdims=True, dtype=np.float64)
    return np.where(np.abs(x - mean) > 2.0**-20 * np.abs(mean), x - mean, 0.0)


def decibels(signal: np.ndarray, other: np.ndarray) -> float:
    """10 log10 of signal power over error power."""
    error = np.square(signal.astype(np.float64) - other).sum()
    return float(10 * np.log10(np.square(signal.astype(np.float64)).sum() / error)) if error else float("inf")


def differences(program: Program, feeds: Feeds, run: Runner) -> tuple[Mismatch, ...]:
    """Every block boundary at which `run` and the numpy specification give different integers.

    A region behind float operations is compared on what the native model computed for it: `run` gives those tensors too.
    """
    native = run(feeds)
    found = (_compare(block.name, value, native.get(block.output)) for block, value in program.trace(_fed(program, feeds, native)))
    return tuple(m for m in found if m is not None)


def _fed(program: Program, feeds: Feeds, native: Feeds) -> Feeds:
    return {**feeds, **{t: native[t] for t in program.resumed}}


def _compare(block: str, expected: np.ndarray, got: np.ndarray | None) -> Mismatch | None:
    if got is None:
        return Mismatch(block, "missing")
    if got.shape != expected.shape:
        return Mismatch(block, f"shape {got.shape}, expected {expected.shape}")
    if got.dtype != expected.dtype:
        return Mismatch(block, f"dtype {got.dtype}, expected {expected.dtype}")
    wrong = np.argwhere(got != expected)
    if not len(wrong):
        return None
    first = tuple(int(i) for i in wrong[0])
    return Mismatch(block, f"{len(wrong)} of {expected.size} integers differ", first, int(expected[first]), int(got[first]))
