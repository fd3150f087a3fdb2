"""Sequences (N, T, C) are images of one row: S x = Transpose(Reshape(x; N, C, T); 0, 2, 1) of x (N, C, 1, T).

    Transpose(Reshape(image; N, C, H W); 0, 2, 1)   = S Tokens(image)           the pixels of patches become tokens
    Reshape(Transpose(image; 0, 2, 3, 1); N, H W, C) = S Tokens(image)
    Concat(token, S x; axis 1)                      = S Tokens(x, table)        a class token; its first column in the table
    S x + positions                                 = S Tokens(x, table)
    Tokens(Tokens(x))                               = Tokens(x)                 tables add up
    Gather(S x, i; axis 1)                          = Flatten(Conv(x))          a depthwise kernel that takes pixel i
    ReduceMean(S x; axis 1)                         = Flatten(GlobalAveragePool(x))
    Transpose(Reshape(S x; N, 1, T, C); 0, 3, 1, 2) = x

A sequence has four forms: S x itself, (T, N, C) with the batch second, and the matrices of the rows of both.
`Tokens(x, pads, table)` is a function of domain `quantizeml`: pixels as one row, padded in front with zeros, plus the table (1, C, 1, T).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from quantizeml_core.pictures import Axes

from .functions import DOMAIN
from .graph import Dims, attribute, constant, dims, in_order, ints, private, producer, scalar
from .model import Op, Proposal, Refusal, Rewrite
from .pieces import unpadded
from .static_reshape import target_chain

LAST, FIRST, SWAP, SECOND, LENGTH_FIRST = (0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1), (1, 0, 2), (2, 0, 1)
LONGEST = 32


@dataclass(frozen=True)
class Lens:
    """What a tensor shows of an image: the nodes between, the image (or what stands for it in a proof), and how to put them behind another image."""

    nodes: tuple[ir.Node, ...]
    image: ir.Value | Op
    back: Callable[[Op], Op]

    @property
    def private(self) -> bool:
        return all(private(n.outputs[0]) for n in self.nodes)


def perm_of(node: ir.Node | None) -> tuple[int, ...] | None:
    return None if node is None else tuple(attribute(node, "perm", ()))


def sequence(value: ir.Value | None) -> Lens | None:
    """The lens of a sequence S x."""
    turned = producer(value, "Transpose")
    shaped = producer(turned.inputs[0], "Reshape", "Squeeze") if turned is not None and perm_of(turned) == SWAP else None
    image = None if shaped is None else dims(shaped.inputs[0])
    if shaped is None or image is None or len(image) != 4 or image[2] != 1 or None in image[1:] or dims(shaped.outputs[0]) != (*image[:2], image[3]):
        return None
    return Lens((shaped, turned), shaped.inputs[0], as_sequence)


def second(value: ir.Value | None) -> Lens | None:
    """The lens of a sequence whose batch comes second, as torch's attention wants it."""
    turned = producer(value, "Transpose")
    lens = sequence(turned.inputs[0]) if perm_of(turned) == SECOND else None
    return None if lens is None else Lens((*lens.nodes, turned), lens.image, as_second)


def table(value: ir.Value | None) -> Lens | None:
    """The lens of a sequence whose tokens are the rows of a matrix."""
    shaped = producer(value, "Reshape")
    lens, back = next(((found, back) for find, back in TABLES if shaped is not None and (found := find(shaped.inputs[0]))), (None, None))
    if lens is None or (dims(value) or ())[1:] != (dims(lens.image)[1],):
        return None
    return Lens((*lens.nodes, shaped), lens.image, back)


def lens_of(value: ir.Value | None) -> Lens | None:
    """The lens of a sequence in any of its forms."""
    return sequence(value) or second(value) or table(value)


def as_sequence(inner: Op) -> Op:
    batch, channels, _, length = inner.shape
    flat = Op("Reshape", (inner, np.array([0, channels, length])), shape=(batch, channels, length))
    return Op("Transpose", (flat,), {"perm": SWAP}, shape=(batch, length, channels))


def as_second(inner: Op) -> Op:
    batch, width, _, length = inner.shape
    return Op("Transpose", (as_sequence(inner),), {"perm": SECOND}, shape=(length, batch, width))


def as_table(inner: Op) -> Op:
    return Op("Reshape", (as_sequence(inner), np.array([-1, inner.shape[1]])), shape=(None, inner.shape[1]))


def as_table_of_second(inner: Op) -> Op:
    return Op("Reshape", (as_second(inner), np.array([-1, inner.shape[1]])), shape=(None, inner.shape[1]))


TABLES = ((sequence, as_table), (second, as_table_of_second))
FORMS: tuple[tuple[Callable[..., Axes], Callable[[Op], Op]], ...] = (
    (lambda n, t, c: (n, t, c), as_sequence), (lambda n, t, c: (t, n, c), as_second),
    (lambda n, t, c: ((*n, *t), c), as_table), (lambda n, t, c: ((*t, *n), c), as_table_of_second),
)
"""The forms of a sequence: its axes from those of batch, tokens and channels, and how an image is put into it."""


def tokens(x: ir.Value | Op, shape: Dims, table: np.ndarray, pixels: int) -> Op:
    """Tokens of an image; the table (T, C)."""
    length, channels = table.shape
    pads = np.array([0, 0, 0, length - pixels, 0, 0, 0, 0])
    return Op("Tokens", (x, pads, np.ascontiguousarray(table.T, np.float64)[None, :, None]), domain=DOMAIN, shape=(shape[0], channels, 1, length))


def patches(node: ir.Node) -> Proposal | Refusal | None:
    """Pixels of an image that is no row yet."""
    shaped = producer(node.inputs[0], "Reshape", "Flatten")
    before, after = (None, None) if shaped is None else (dims(shaped.inputs[0]), dims(shaped.outputs[0]))
    form = {SWAP: as_sequence, LENGTH_FIRST: as_second}.get(perm_of(node))
    if form is None or before is None or after is None or len(before) != 4 or len(after) != 3 or None in (*before[1:], *after[1:]):
        return None
    if before[2] == 1 and form is as_sequence or after[1:] != (before[1], before[2] * before[3]):
        return None
    inner = tokens(shaped.inputs[0], before, np.zeros((after[2], after[1])), after[2])
    return Proposal((node,), form(inner), (shaped,), "true")


def pixels(node: ir.Node) -> Proposal | Refusal | None:
    """Pixels of an image channels last, as TensorFlow's exporter writes it."""
    turned = producer(node.inputs[0], "Transpose")
    before, after = (None, None) if perm_of(turned) != LAST else (dims(turned.inputs[0]), dims(node.outputs[0]))
    if before is None or after is None or None in before[1:] or after[1:] != (before[2] * before[3], before[1]):
        return None
    context = in_order((turned, *(() if constant(node.inputs[1]) is not None else target_chain(node) or ())))
    return Proposal((node,), as_sequence(tokens(turned.inputs[0], before, np.zeros((after[1], after[2])), after[1])), context, "true")


def positions(node: ir.Node) -> Proposal | Refusal | None:
    """A table added to a sequence."""
    lens = next((found for v in node.inputs if (found := sequence(v))), None)
    table = next((found for v in node.inputs if (found := constant(v)) is not None), None)
    if lens is None or table is None or table.size == table.shape[-1]:
        return None
    _, channels, _, length = shape = dims(lens.image)
    if table.reshape(-1, *table.shape[-2:]).shape != (1, length, channels):
        return None
    return Proposal((node,), as_sequence(tokens(lens.image, shape, table.reshape(length, channels), length)), lens.nodes, "true")


def class_token(node: ir.Node) -> Proposal | Refusal | None:
    """Constant tokens in front of a sequence."""
    lens = sequence(node.inputs[-1])
    if lens is None or len(node.inputs) != 2 or attribute(node, "axis") != 1:
        return None
    spread = producer(node.inputs[0], "Expand")
    token = constant(node.inputs[0] if spread is None else spread.inputs[0])
    chain = () if spread is None else _chain(spread)
    if token is None or chain is None or token.ndim != 3 or token.shape[0] != 1:
        return None
    _, channels, _, length = shape = dims(lens.image)
    table = np.vstack([token[0], np.zeros((length, channels))])
    return Proposal((node,), as_sequence(tokens(lens.image, shape, table, length)), in_order((*chain, *lens.nodes)), "true")


def _chain(node: ir.Node) -> tuple[ir.Node, ...] | None:
    """The nodes that compute the shape to which a token is spread, in topological order."""
    found: dict[ir.Node, None] = {}

    def visit(at: ir.Node) -> None:
        for before in () if at.op_type == "Shape" else at.predecessors():
            visit(before)
        found.setdefault(at)

    visit(node)
    return tuple(found) if len(found) <= LONGEST else None


def merge(node: ir.Node) -> Proposal | Refusal | None:
    """One table of two."""
    before = node.inputs[0].producer()
    if before is None or before.op_type != "Tokens" or before.domain != DOMAIN or not private(node.inputs[0]):
        return None
    first, second = (constant(n.inputs[2])[0, :, 0].T for n in (before, node))
    table = np.pad(first, ((len(second) - len(first), 0), (0, 0))) + second
    shape = dims(before.inputs[0])
    return Proposal((before, node), tokens(before.inputs[0], shape, table, shape[2] * shape[3]), extent="true")


def token(node: ir.Node) -> Proposal | Refusal | None:
    """One token of a sequence."""
    lens, index = sequence(node.inputs[0]), scalar(node.inputs[1])
    if lens is None or index is None or constant(node.inputs[1]).ndim or attribute(node, "axis", 0) != 1:
        return None
    batch, channels, _, length = dims(lens.image)
    kernel = np.zeros((channels, 1, 1, int(index) % length + 1), np.float32)
    kernel[..., -1] = 1
    at = unpadded(kernel.shape[2:], (1, length), channels)
    return Proposal((node,), _flat(Op("Conv", (lens.image, kernel), at, name=f"{node.name}/token", shape=(batch, channels, 1, 1))), lens.nodes, "true")


def mean(node: ir.Node) -> Proposal | Refusal | None:
    """The mean of all tokens."""
    lens = sequence(node.inputs[0])
    if lens is None or ints(node, "axes", 1) not in ((1,), (-2,)) or attribute(node, "keepdims", 1):
        return None
    pooled = Op("GlobalAveragePool", (lens.image,), name=f"{node.name}/pool", shape=(*dims(lens.image)[:2], 1, 1))
    return Proposal((node,), _flat(pooled), lens.nodes, "true")


def row(node: ir.Node) -> Proposal | None:
    """The image of one row that a sequence goes back to."""
    shaped = producer(node.inputs[0], "Reshape", "Unsqueeze") if perm_of(node) == FIRST else None
    lens = None if shaped is None else sequence(shaped.inputs[0])
    if lens is None or dims(shaped.outputs[0]) != _last(dims(lens.image)):
        return None
    return Proposal((node,), lens.image, (*lens.nodes, shaped), "true")


def _last(shape: Dims) -> Dims:
    return tuple(shape[i] for i in LAST)


def _flat(inner: Op) -> Op:
    return Op("Flatten", (inner,), {"axis": 1})


PATCHES = Rewrite("patches_as_tokens", patches, ("Transpose",))
PIXELS = Rewrite("pixels_as_tokens", pixels, ("Reshape",))
CLASS_TOKEN = Rewrite("class_token", class_token, ("Concat",))
POSITIONS = Rewrite("position_table", positions, ("Add",))
MERGE = Rewrite("merge_tables", merge, ("Tokens",))
TOKEN = Rewrite("extract_token", token, ("Gather",))
MEAN = Rewrite("mean_of_tokens", mean, ("ReduceMean",))
ROW = Rewrite("sequence_to_row", row, ("Transpose",))
