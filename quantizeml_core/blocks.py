"""The vocabulary shared by float blueprints and integer programs: what the hardware runs, one record per block.

A block is one hardware layer: a linear operation, or a data movement, with its post-operations fused. The same record holds float arrays
in a `Blueprint` and integer arrays in a `Program`; only `bake` turns the one into the other. Layouts are channel-first and canonical:

    input, resume         reals to integers: at an input of the model (`perm` makes it channel-first), and behind float operations inside the model
    conv2d, depthwise2d   weight (F, C/groups, kh, kw)     bias (F,)     pad_value (C,)
    dense                 weight (F, Cin), Cin in C,H,W order when `flatten`
    conv_transpose2d      weight (F, C, kh, kw)            bias (F,)     `pads` are cropped; negative ones grow the output at its end
    multiply              two inputs of one rank; axes of size 1 are repeated, as numpy does
    attention             three inputs: queries, keys, values; every pixel is a token, `groups` is the number of heads, `scale` (1,) multiplies the scores,
                          `mask` (1 or heads, queries, keys) is added to them, -inf hides a key
    embed                 pixels in reading order as one row, zeros in front where `table` (C, T) is longer, plus the table: class token and positions
    local_response        each value by the sum of squares over `window` channels around it, exponent 3/4 (`local_response`); `strength` (1,) multiplies
                          the sum, `gain` (1,) the result; `offset` (1,) is added to each value first
    lookup                each value alone: the function `activation` of it plus `offset` (1,), less `middle` (1,); in a program `entries` (C or 1, 256), and as `zeros`
                          (2,) where zero lies before and behind the function, where one step is that of all channels (`lookup`)
    shift_attention       the same with powers of two for a softmax (`hardware_forms`)
    softmax               over the channels of each pixel
    matmul                two inputs: sums over the channels of the first, (N, K, H, W), and the K pixels of the second, (N, S, ...), to (N, S, H, W);
                          with `perm` (0, 2, 1) the axes of the second are swapped first: sums over the channels of both
    mad_normalize         the channels of each pixel divided by their mean absolute value
    normalize             layer normalization over the channels of each pixel, without weights; `epsilon` (1,), an integer in a program
    pool2d                `pool` of kind `avg`: the mean over windows; padded pixels count as zeros, or not at all
    select                some channels in some order: channel i of the output is channel `channels[i]` of the input
    upsample2d            `strides` are the factors (h, w) by which each pixel is repeated
    buffer                the last `frames` frames side by side, channel c * frames + t, t = 0 the oldest; it remembers the others
    recurrent             a complex number s for each channel, s <- A s + x: its parts are channels 2 c and 2 c + 1; `coefficients` (2, C) are those of A
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Kind:
    """What a block kind may carry.

    Arguments:
        weights: names of the float arrays a blueprint block of this kind may hold; the first one is mandatory when there is one.
        post_ops: post-operations this kind can fuse, among `activation`, `max`, `gap`.
        inputs: number of data inputs, None when it is free.
    """

    weights: tuple[str, ...]
    post_ops: frozenset[str]
    inputs: int | None = 1


_CONV_POST = frozenset({"activation", "max", "gap"})

KINDS: Mapping[str, Kind] = MappingProxyType({
    "input": Kind((), frozenset()),
    "resume": Kind((), frozenset()),
    "conv2d": Kind(("weight", "bias", "pad_value"), _CONV_POST),
    "depthwise2d": Kind(("weight", "bias", "pad_value"), _CONV_POST),
    "conv_transpose2d": Kind(("weight", "bias"), frozenset({"activation"})),
    "dense": Kind(("weight", "bias"), frozenset({"activation"})),
    "add": Kind((), frozenset({"activation"}), inputs=2),
    "concat": Kind((), frozenset(), inputs=2),
    "multiply": Kind((), frozenset({"activation"}), inputs=2),
    "attention": Kind(("scale", "mask"), frozenset(), inputs=3),
    "embed": Kind(("table",), frozenset()),
    "local_response": Kind(("strength", "gain", "offset"), frozenset({"activation"})),
    "lookup": Kind(("offset", "middle"), frozenset({"activation"})),
    "shift_attention": Kind(("scale",), frozenset(), inputs=3),
    "mad_normalize": Kind((), frozenset({"activation"})),
    "softmax": Kind((), frozenset()),
    "matmul": Kind((), frozenset({"activation"}), inputs=2),
    "normalize": Kind(("epsilon",), frozenset({"activation"})),
    "pool2d": Kind((), frozenset({"activation"})),
    "select": Kind(("channels",), frozenset()),
    "upsample2d": Kind((), frozenset()),
    "buffer": Kind((), frozenset()),
    "recurrent": Kind(("coefficients",), frozenset()),
})

ENTRIES = frozenset({"input", "resume"})
"""Kinds that read reals and write integers: at the model's inputs, and behind float operations inside the model."""
LINEAR = frozenset({"conv2d", "conv_transpose2d", "depthwise2d", "dense"})
PRODUCTS = frozenset({"attention", "matmul", "shift_attention"})
"""Kinds that sum products of two tensors."""
WHOLE = LINEAR - {"conv_transpose2d"}
"""Linear kinds each of whose outputs sees the whole kernel: without padding, a constant of the input is a constant of the output."""
MOVES = frozenset({"buffer", "concat", "select", "upsample2d"})
"""Kinds that move integers and change none: the output's format is that of the inputs."""


@dataclass(frozen=True)
class Activation:
    """A function applied to the accumulator. `relu` may have a `bound`; every other name is a table (LUT), `alpha` its parameter; `clip` is from `alpha`
    to `bound`."""

    name: str
    bound: float | None = None
    alpha: float | None = None

    @property
    def is_table(self) -> bool:
        return self.name != "relu"


@dataclass(frozen=True)
class Pool:
    """Max or average pooling (`kind` `max`, `avg`; sizes in pixels, pads top, left, bottom, right) or global average pooling (`gap`).

    `padded` (average): whether padded pixels count as zeros; otherwise each window is divided by the number of its pixels that exist.
    """

    kind: str
    size: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    padded: bool = True


@dataclass(frozen=True)
class Block:
    """One hardware layer: kind, edges, geometry, post-operations and arrays (float in a blueprint, integer in a program).

    `inputs` and `output` are tensor names of the native graph. `pads` are top, left, bottom, right. `dilations` (conv2d, depthwise2d) are the distances of a kernel's taps.
    `perm` (kind `input`; see `matmul`) is the transposition from the native layout to channel-first.
    `probe` (table activations) is the native tensor between the accumulator and the table: its range sizes the table's index.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    output: str
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    frames: int = 1
    window: int = 1
    dilations: tuple[int, int] = (1, 1)
    flatten: bool = False
    perm: tuple[int, ...] = ()
    activation: Activation | None = None
    pool: Pool | None = None
    probe: str = ""
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)

    @property
    def weight(self) -> np.ndarray | None:
        return self.arrays.get("weight")

    def with_arrays(self, **arrays: np.ndarray | None) -> Block:
        """A copy with some arrays replaced; None removes one."""
        merged = {k: v for k, v in {**self.arrays, **arrays}.items() if v is not None}
        return replace(self, arrays=merged)

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays, defaults left out."""
        out: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name != "arrays" and value != f.default:
                out[f.name] = _plain(value)
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> Block:
        known = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        if known.get("activation"):
            known["activation"] = Activation(**known["activation"])
        if known.get("pool"):
            known["pool"] = Pool(**{k: tuple(v) if isinstance(v, list) else v for k, v in known["pool"].items()})
        return cls(**known, arrays=dict(arrays or {}))


def accumulates(block: Block) -> bool:
    """Whether a block sums products: one that scales, pools or activates each value alone does not."""
    weight = block.weight
    return block.kind in PRODUCTS if weight is None else bool(np.count_nonzero(weight) > len(weight))


def moves(block: Block) -> bool:
    """Whether a block changes no integer: its kind moves only, or it is a convolution each of whose filters takes one pixel of its own channel, and at
    most the largest of several."""
    return block.kind in MOVES or _chooses(block)


def may_saturate(block: Block, readers: Iterable[Block]) -> bool:
    """Whether a ReLU of this linear block may be left to saturation (`centre`): of a dense layer, of a depthwise convolution whose taps differ, or of a convolution
    whose channels share one step for a local response normalization, or that a depthwise one reads which pads with the integer of zero.

    Where all taps are alike, as in a normalization or an average, one step fits all of them exactly, and a wider one would be an error of gain.
    """
    if block.kind == "conv2d":
        return any(reader.kind == "local_response" or reader.kind == "depthwise2d" and "pad_value" in reader.arrays for reader in readers)
    if block.kind != "depthwise2d":
        return block.kind == "dense"
    taps = np.abs(block.arrays["weight"]).reshape(len(block.arrays["weight"]), -1)
    return bool((taps != taps[:, :1]).any())


def _chooses(block: Block) -> bool:
    weight, plain = block.weight, not (block.activation or (block.pool and block.pool.kind == "gap") or np.any(block.arrays.get("bias", 0)))
    if weight is None or block.kind not in ("conv2d", "depthwise2d") or not plain:
        return False
    if len(weight) != weight.shape[1] * block.groups or block.groups not in (1, len(weight)):
        return False
    own = weight[:, 0] if block.groups > 1 else np.einsum("ffij->fij", weight)
    return np.count_nonzero(weight) == len(weight) and bool((own.reshape(len(weight), -1).max(axis=1) == 1).all())


def _plain(value: Any) -> Any:
    if isinstance(value, (Activation, Pool)):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != f.default}
    return list(value) if isinstance(value, tuple) else value
