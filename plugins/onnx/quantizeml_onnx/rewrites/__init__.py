"""Rewrites that bring an ONNX graph into the form the block rules read. One module per rewrite, its formula first.

    sanitize(model, BUILTIN_REWRITES) -> (model, applied, refused)

A third party adds `Rewrite` objects through the hook `quantizeml_rewrites`; they are proven like the built-in ones.
"""

from __future__ import annotations

from collections.abc import Collection

from . import (
    activations,
    affine,
    attention,
    auto_pad,
    batch_normalization,
    bilinear,
    broadcast,
    channel_attention,
    channels_first,
    clamp,
    clip,
    concat,
    constant_folding,
    dense_inputs,
    dense_transposed,
    dilation,
    einsum,
    elementary,
    entry,
    entry_transpose,
    flatten,
    gemm,
    global_average_pool,
    global_max_pool,
    identity_conv,
    known_sizes,
    layer_normalization,
    leaky_relu,
    lone_normalization,
    noop,
    one_row,
    one_step,
    pad,
    parallel,
    products,
    rearranged,
    rows,
    scale,
    select,
    slopes,
    softmax,
    static_reshape,
    sum,
    transposed_flatten,
)
from .driver import sanitize
from .model import Applied, Op, Proposal, Refusal, Refused, Rewrite

#: In the order in which they are tried at each node.
BUILTIN_REWRITES: tuple[Rewrite, ...] = (
    noop.REWRITE,
    constant_folding.REWRITE,
    known_sizes.REWRITE,
    static_reshape.REWRITE,
    entry_transpose.REWRITE,
    channel_attention.BAND,
    channel_attention.SPREAD,
    softmax.REWRITE,
    flatten.REWRITE,
    auto_pad.REWRITE,
    pad.REWRITE,
    dilation.TRANSPOSED,
    dense_transposed.REWRITE,
    einsum.REWRITE,
    gemm.MATMUL,
    gemm.GEMM,
    activations.REWRITE,
    elementary.NEGATIVE,
    elementary.SQUARE,
    elementary.DIFFERENCE,
    broadcast.REWRITE,
    batch_normalization.REWRITE,
    affine.REWRITE,
    entry.REWRITE,
    clip.REWRITE,
    leaky_relu.REWRITE,
    scale.REWRITE,
    parallel.REWRITE,
    parallel.DENSE,
    clamp.HARD_SIGMOID,
    clamp.CLAMP,
    slopes.SPLIT,
    slopes.STAND_IN,
    global_average_pool.REDUCE_MEAN,
    global_average_pool.AVERAGE_POOL,
    global_max_pool.REWRITE,
    bilinear.REWRITE,
    transposed_flatten.REWRITE,
    dense_inputs.MAPPED,
    dense_inputs.OWN_FLATTEN,
    layer_normalization.REWRITE,
    layer_normalization.FACTORED,
    rows.PATCHES,
    rows.PIXELS,
    rows.CLASS_TOKEN,
    rows.POSITIONS,
    rows.MERGE,
    rows.TOKEN,
    rows.MEAN,
    rows.ROW,
    attention.REWRITE,
    products.REWRITE,
    attention.STRAIGHTEN,
    channels_first.REWRITE,
    channels_first.MERGE,
    sum.REWRITE,
    sum.TWICE,
    concat.REWRITE,
    select.REWRITE,
    one_step.REWRITE,
    rearranged.PAD,
    rearranged.SLICE,
    rearranged.SPACE_TO_DEPTH,
    rearranged.DEPTH_TO_SPACE,
    one_row.WINDOWS_TO_ROW,
    one_row.ELEMENTS_TO_ROW,
    one_row.MEAN_TO_ROW,
)


def rewrites_for(capabilities: Collection[str]) -> tuple[Rewrite, ...]:
    """The built-in rewrites, and those that make up for what a target cannot do."""
    return (
        *BUILTIN_REWRITES,
        *((lone_normalization.REWRITE,) if "depthwise2d.pointwise" in capabilities else ()),
        *(() if "add.activation" in capabilities else (identity_conv.REWRITE,)),
        *(() if "dilation" in capabilities else (dilation.REWRITE,)),
    )


__all__ = ["BUILTIN_REWRITES", "Applied", "Op", "Proposal", "Refusal", "Refused", "Rewrite", "rewrites_for", "sanitize"]
