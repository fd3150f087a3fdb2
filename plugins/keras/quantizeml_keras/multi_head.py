"""What a keras.layers.MultiHeadAttention is made of: three dense layers, an attention, a dense layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from .readers.steps import array

Dense = tuple[np.ndarray, "np.ndarray | None"]


def attended(call: Any) -> str | None:
    """Why a call has no integer form here, None when it has: no mask, attention over the one axis of a sequence, no gate."""
    layer, given = call.operation, call.arguments.kwargs
    masks = [name for name in ("attention_mask", "query_mask", "key_mask", "value_mask") if given.get(name) is not None]
    if masks or given.get("use_causal_mask") or given.get("return_attention_scores"):
        return "an attention with a mask, or that returns its scores, is not supported"
    if len(call.arguments.args) > 3 or any(len(t.shape) != 3 for t in call.input_tensors):
        return "only an attention over sequences (batch, tokens, channels) is supported"
    if getattr(layer, "_use_gate", False) or getattr(layer, "_sliding_window", None):
        return "an attention with a gate or a sliding window is not supported"
    return None


def projections(layer: Any, query: str, key: str, value: str) -> list[tuple[str, str, Dense]]:
    """(part, tensor, weights) of queries, keys and values; kernels (C, heads * size)."""
    parts = (("query", query, layer.query_dense), ("key", key, layer.key_dense), ("value", value, layer.value_dense))
    return [(part, tensor, _flat(dense, 1)) for part, tensor, dense in parts]


def output_projection(layer: Any) -> Dense:
    """The kernel (heads * size, F) behind the attention."""
    return _flat(layer.output_dense, 2)


def _flat(dense: Any, inputs: int) -> Dense:
    """The kernel of an EinsumDense as a matrix; its first `inputs` axes are those of the input."""
    kernel = array(dense.kernel)
    bias = getattr(dense, "bias", None)
    return kernel.reshape(int(np.prod(kernel.shape[:inputs])), -1), None if bias is None else array(bias).reshape(-1)
