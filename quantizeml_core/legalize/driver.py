"""Tries the legalizations on every block that breaks a row, keeps what is proven equal and legal, and says why another one was not kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..blocks import ENTRIES, Block
from ..blueprint import Blueprint, Shape
from ..errors import PluginError
from ..hooks import Change
from ..legality import Site, broken, site
from ..target import Target
from .effect import effect
from .proof import difference


MOST_CHANGES = 100
"""Changes per block of a network above which legalizations go round in circles."""


@dataclass(frozen=True)
class Replacement:
    """Blocks instead of one block; the last one that is no by-pass writes the same tensor.

    Arguments:
        blocks: in topological order.
        shapes: of the tensors that are new.
        ranges: new tensor -> the tensor whose range it has: calibration does not see a new one.
        readers: reader -> the tensor it reads instead of the block's output.
    """

    blocks: tuple[Block, ...]
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    ranges: Mapping[str, str] = field(default_factory=dict)
    readers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Legalization:
    """A named rewrite of one block.

    Arguments:
        rules: the rows whose violation it repairs.
        propose: a replacement, the reason why there is none, or None when the block is not its business.
        exact: proven equal; an approximation is measured instead, and only made when the user allows it.
    """

    name: str
    rules: tuple[str, ...]
    propose: Callable[[Site], "Replacement | str | None"]
    exact: bool = True


@dataclass(frozen=True)
class Approximation:
    """An approximation of a block: the rewrite, and the share by which its output changes (`effect`)."""

    rewrite: str
    block: str
    effect: float


@dataclass(frozen=True)
class Legal:
    """A blueprint after its legalizations, what was done or refused, whose range each new tensor has, and what is only approximately equal."""

    blueprint: Blueprint
    changes: tuple[Change, ...] = ()
    ranges: Mapping[str, str] = field(default_factory=dict)
    approximations: tuple[Approximation, ...] = ()


def legalize(blueprint: Blueprint, target: Target, unsigned: frozenset[str], legalizations: Sequence[Legalization]) -> Legal:
    """Each block in turn, until no legalization helps it any more."""
    legal = Legal(blueprint)
    waiting = [b.name for b in blueprint.blocks if b.kind not in ENTRIES]
    refused: dict[tuple[str, str], Change] = {}
    while waiting:
        name = waiting.pop(0)
        here = site(next(b for b in legal.blueprint.blocks if b.name == name), legal.blueprint, target, unsigned)
        found = _first(here, unsigned, legalizations, refused)
        if len(legal.changes) > MOST_CHANGES * len(blueprint.blocks):
            raise PluginError("the legalizations undo each other", where=f"`{name}`", do="Leave out the plugin that brought the last one")
        if found is not None:
            legalization, replacement = found
            legal = _applied(legal, here, replacement, legalization)
            waiting = [b.name for b in replacement.blocks] + waiting
    return replace(legal, changes=(*legal.changes, *refused.values()))


def _first(here: Site, unsigned: frozenset[str], legalizations: Sequence[Legalization],
           refused: dict[tuple[str, str], Change]) -> tuple[Legalization, Replacement] | None:
    """The first legalization that repairs a row and, when it is to be exact, is proven."""
    rules = {v.rule for v in broken(here)}
    for legalization in legalizations:
        if not rules & set(legalization.rules):
            continue
        outcome = legalization.propose(here)
        if isinstance(outcome, Replacement):
            reason = (legalization.exact and difference(here, legalization.propose)) or _still_broken(here, outcome, unsigned, legalization)
            if not reason:
                return legalization, outcome
            outcome = reason
        if outcome:
            refused[legalization.name, here.block.name] = Change(legalization.name, here.block.name, outcome)
    return None


def _still_broken(here: Site, replacement: Replacement, unsigned: frozenset[str], legalization: Legalization) -> str:
    """The row that a replacement was made for and does not repair. What its other blocks break is looked at in their turn."""
    after = _swapped(here.blueprint, here.block, replacement)
    own = [b for b in replacement.blocks if b.name == here.block.name]
    left = [v for b in own for v in broken(site(b, after, here.target, unsigned), legalization.rules)]
    return f"{left[0].rule} would still be {left[0].value}" if len(left) >= len(broken(here, legalization.rules)) else ""


def _applied(legal: Legal, here: Site, made: Replacement, legalization: Legalization) -> Legal:
    ranges = {tensor: legal.ranges.get(source, source) for tensor, source in made.ranges.items()}
    near = () if legalization.exact else (Approximation(legalization.name, here.block.name, effect(here, made)),)
    return Legal(_swapped(legal.blueprint, here.block, made), (*legal.changes, Change(legalization.name, here.block.name)), {**legal.ranges, **ranges},
                 (*legal.approximations, *near))


def _swapped(blueprint: Blueprint, block: Block, made: Replacement) -> Blueprint:
    """New names are free: a block's own name leads them."""
    def rewired(other: Block) -> Block:
        tensor = made.readers.get(other.name)
        return replace(other, inputs=tuple(tensor if t == block.output else t for t in other.inputs)) if tensor else other

    blocks = tuple(new for b in blueprint.blocks for new in (made.blocks if b.name == block.name else (rewired(b),)))
    return replace(blueprint, blocks=blocks, shapes={**blueprint.shapes, **made.shapes})
