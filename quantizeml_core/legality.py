"""Legality: which rows of a target's tables a network breaks, found on its blueprint, before any sample is read. All of them, in one pass.

A predicate looks at one block and the value of one row and returns what it found there when that is not allowed. It is called by the rule's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import geometry
from .blocks import ENTRIES, Block, moves
from .blueprint import Blueprint
from .limits import FACTS, NETWORK, Limit
from .target import Target


@dataclass(frozen=True)
class Violation:
    """One row that a block breaks.

    Arguments:
        block: its name; empty for the network.
        layer: whose row it is, `hardware` the name of that layer in the documents.
        rule: the row's name.
        value: what was found.
        limit: what is allowed.
        source, revision: the document.
    """

    block: str
    layer: str
    hardware: str
    rule: str
    value: str
    limit: str
    source: str
    revision: str


@dataclass(frozen=True)
class Site:
    """A block where it stands.

    Arguments:
        layer: the name of its rows.
    """

    block: Block
    blueprint: Blueprint
    target: Target
    layer: str

    @property
    def size(self) -> geometry.Pair:
        """Height and width of the (first) input; 1 for vectors, 0 where it is not known."""
        shape = self.blueprint.shapes[self.block.inputs[0]]
        return (int(shape[2] or 0), int(shape[3] or 0)) if len(shape) == 4 else (1, 1)

    @property
    def kernel(self) -> geometry.Pair:
        return geometry.kernel_of(self.block)

    @property
    def readers(self) -> int:
        """Layers that read the output, the Dequantizer among them."""
        return len(self.blueprint.consumers(self.block.output)) + (self.block.output in self.blueprint.outputs)

    def nonnegative(self, tensor: str) -> bool:
        """Whether a tensor is known to hold no negative value: a ReLU stands before it, moves between them aside."""
        producer = self.blueprint.producer(tensor)
        if producer is None or producer.kind in ENTRIES:
            return False
        if moves(producer):
            return all(self.nonnegative(t) for t in producer.inputs)
        return producer.activation is not None and not producer.activation.is_table

    def limit(self, rule: str, default: Any = None) -> Any:
        return self.target.limit(self.layer, rule, self.target.limit(NETWORK, rule, default))


Predicate = Callable[[Site, Any], "str | None"]


def violations(blueprint: Blueprint, target: Target, unsigned: frozenset[str]) -> tuple[Violation, ...]:
    """Every broken row, block by block, then those of the network.

    Arguments:
        unsigned: outputs of input blocks that hold unsigned pixels; a convolution that reads one is the hardware's input convolution.
    """
    found = [v for block in blueprint.blocks if block.kind not in ENTRIES for v in _of_block(site(block, blueprint, target, unsigned))]
    return (*found, *_of_network(blueprint, target)) if target.limits else ()


def site(block: Block, blueprint: Blueprint, target: Target, unsigned: frozenset[str]) -> Site:
    layer = "input_conv2d" if block.kind == "conv2d" and block.inputs[0] in unsigned else block.kind
    return Site(block, blueprint, target, layer)


def broken(here: Site, rules: Iterable[str] | None = None) -> tuple[Violation, ...]:
    """The rows of its layer that a block breaks, those in `rules` only when given."""
    return tuple(v for v in _of_block(here) if rules is None or v.rule in rules)


def _of_block(here: Site) -> Iterator[Violation]:
    own = here.target.layer(here.layer)
    shared = {rule: row for rule, row in here.target.layer(NETWORK).items() if rule in PER_BLOCK and rule not in own}
    hardware = own["hardware_layer"].value if "hardware_layer" in own else here.layer
    for rule, row in {**own, **shared}.items():
        found = PREDICATES[rule](here, row.value) if rule not in FACTS else None
        if found is not None:
            yield _violation(here.block.name, here.layer, hardware, row, found)


def _of_network(blueprint: Blueprint, target: Target) -> Iterator[Violation]:
    counts = {"inputs": sum(b.kind in ENTRIES for b in blueprint.blocks), "outputs": len(blueprint.outputs)}
    for rule, row in target.layer(NETWORK).items():
        if rule in counts and counts[rule] > row.value:
            yield _violation("", NETWORK, "network", row, str(counts[rule]))


def _violation(block: str, layer: str, hardware: str, row: Limit, found: str) -> Violation:
    return Violation(block, layer, hardware, row.rule, found, row.text, row.source, row.revision)


def allowed_pads(here: Site, kernel: geometry.Pair, strides: geometry.Pair) -> Mapping[str, geometry.Pads]:
    """The pads a convolution may have, by name."""
    names = set(here.limit("padding", ()))
    pooled = here.block.pool is not None and here.block.pool.kind == "max"
    if strides == (2, 2) and kernel[0] in here.limit("stride_2_padding", ()) and not pooled:
        names |= {"same_lower", "symmetric"}
    made = {"same": geometry.same_pads, "same_lower": geometry.lower_pads, "symmetric": geometry.symmetric_pads,
            "valid": lambda *_: geometry.VALID}
    return {name: make(here.size, kernel, strides) for name, make in made.items() if name in names}


def _padding(here: Site, _: Any) -> str | None:
    if here.block.kind == "conv_transpose2d":
        return None
    kernel, strides, pads = here.kernel, here.block.strides, here.block.pads
    fits = any(geometry.reads_alike(here.size, kernel, strides, pads, other) for other in allowed_pads(here, kernel, strides).values())
    return None if fits else f"{pads} (top, left, bottom, right)"


def _kernel_strides(here: Site, value: Any) -> str | None:
    (kh, kw), (sh, sw) = here.kernel, here.block.strides
    fits = kh == kw and sh == sw and sh in dict(value).get(kh, ())
    return None if fits else f"{kh}x{kw} stride {sh if sh == sw else (sh, sw)}"


def _filters(here: Site, value: Any) -> str | None:
    assert here.block.weight is not None
    filters, channels, kernel, _ = here.block.weight.shape
    largest = value if isinstance(value, int) else {(c, k): most for c, k, most in value}.get((channels, kernel))
    return None if largest is None or filters <= largest else f"{filters} filters of {kernel}x{kernel} on {channels} channels"


def _max_pool(here: Site, value: Any) -> str | None:
    pool = here.block.pool
    if pool is None or pool.kind != "max" or (*pool.size, *pool.strides) in value:
        return None
    return f"{pool.size[0]}x{pool.size[1]} stride {pool.strides[0] if len(set(pool.strides)) == 1 else pool.strides}"


def _max_pool_padding(here: Site, _: Any) -> str | None:
    pool = here.block.pool
    if pool is None or pool.kind != "max":
        return None
    size = geometry.convolved_size(here.block, here.size)
    wanted = geometry.same_pads(size, pool.size, pool.strides) if "same" in _names(here) else geometry.VALID
    fits = any(geometry.reads_alike(size, pool.size, pool.strides, pool.pads, pads) for pads in (wanted, *((geometry.VALID,) if not any(pool.pads) else ())))
    return None if fits else f"pooling pads {pool.pads}"


def _names(here: Site) -> frozenset[str]:
    """The names of the paddings that a convolution has."""
    kernel, strides = here.kernel, here.block.strides
    return frozenset(name for name, pads in allowed_pads(here, kernel, strides).items()
                     if geometry.reads_alike(here.size, kernel, strides, here.block.pads, pads))


def _pool_followed_by(here: Site, value: Any) -> str | None:
    pool = here.block.pool
    return _readers_in(here, value) if pool is not None and pool.kind == "max" else None


def _readers_in(here: Site, value: Any) -> str | None:
    others = [b.kind for b in here.blueprint.consumers(here.block.output) if b.kind not in value]
    others += ["the output of the network"] if here.block.output in here.blueprint.outputs else []
    return f"followed by {others[0]}" if others else None


def _averaged(here: Site) -> geometry.Pair | None:
    """The size of what a global pooling averages."""
    pool = here.block.pool
    return geometry.convolved_size(here.block, here.size) if pool is not None and pool.kind == "gap" else None


def _gap_width(here: Site, value: Any) -> str | None:
    size = _averaged(here)
    return None if size is None or value[0] <= size[1] <= value[1] else f"a width of {size[1]}"


def _gap_area(here: Site, value: Any) -> str | None:
    size = _averaged(here)
    return None if size is None or size[0] * size[1] < value else f"{size[0]}x{size[1]} = {size[0] * size[1]} pixels"


def _gap_rows(here: Site, value: Any) -> str | None:
    size = _averaged(here)
    return None if size is None or size[0] >= value else f"{size[0]} rows"


def _gap_one_pixel(here: Site, value: Any) -> str | None:
    return "1x1" if _averaged(here) and here.size == (1, 1) and not value else None


def _axis(index: int) -> Predicate:
    def predicate(here: Site, value: Any) -> str | None:
        size, (low, high) = here.size[index], value
        return None if low <= size and (high is None or size <= high) else str(size)
    return predicate


def _activation(here: Site, value: Any) -> str | None:
    activation = here.block.activation
    name = "none" if activation is None else "table" if activation.is_table else "relu"
    return None if name in value else f"{name} ({activation.name})" if activation else name


def _table_with_max_pool(here: Site, value: Any) -> str | None:
    pool, activation = here.block.pool, here.block.activation
    both = pool is not None and pool.kind == "max" and activation is not None and activation.is_table
    return f"max pooling and {activation.name}" if both and not value and activation else None


def _channels(here: Site) -> int:
    return here.blueprint.channels(here.block.inputs[0])


def _groups(here: Site, value: Any) -> str | None:
    return f"{here.block.groups} groups" if value == "none" and here.block.groups > 1 else None


def _inputs_of_dense(here: Site, value: Any) -> str | None:
    assert here.block.weight is not None
    count = here.block.weight.shape[1]
    return None if count <= value else f"{count} inputs"


def _readers(here: Site, value: Any) -> str | None:
    return None if here.readers <= value else f"{here.readers} readers"


PREDICATES: Mapping[str, Predicate] = {
    "input_channels": lambda here, value: None if _channels(here) in value else str(_channels(here)),
    "first_axis": _axis(0),
    "second_axis": _axis(1),
    "max_channels": lambda here, value: None if _channels(here) <= value else str(_channels(here)),
    "max_inputs": _inputs_of_dense,
    "max_filters": _filters,
    "kernel_strides": _kernel_strides,
    "padding": _padding,
    "stride_2_padding": lambda here, value: None,
    "groups": _groups,
    "max_pool": _max_pool,
    "max_pool_padding": _max_pool_padding,
    "pool_followed_by": _pool_followed_by,
    "followed_by": _readers_in,
    "gap_width": _gap_width,
    "gap_area_below": _gap_area,
    "gap_min_rows": _gap_rows,
    "gap_one_pixel": _gap_one_pixel,
    "activations": _activation,
    "table_with_max_pool": _table_with_max_pool,
    "max_readers": _readers,
    "distinct_inputs": lambda here, value: None if len(set(here.block.inputs)) == len(here.block.inputs) else "one tensor twice",
}
"""By rule. `stride_2_padding` widens `padding` and forbids nothing itself."""

PER_BLOCK = frozenset({"max_readers"})
"""Rows of the network that hold for each block, unless its layer has its own."""
