"""What a keras.layers.MultiHeadAttention is made of: three dense layers, an attention, a dense layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from keras.utils import is_keras_tensor

from quantizeml_core.attention import whole_mask

from .readers.steps import array

Dense = tuple[np.ndarray, "np.ndarray | None"]


def attended(call: Any) -> str | None:
    """Why a call has no integer form here, None when it has: attention over the one axis of a sequence, no gate, no mask but a constant one."""
    layer, given = call.operation, call.arguments.kwargs
    if any(given.get(name) is not None for name in ("query_mask", "key_mask", "value_mask")) or given.get("return_attention_scores"):
        return "an attention with masks of its operands, or that returns its scores, is not supported"
    if is_keras_tensor(given.get("attention_mask")):
        return "an attention with a mask that is computed is not supported"
    if len(call.arguments.args) > 3 or any(len(t.shape) != 3 for t in call.input_tensors):
        return "only an attention over sequences (batch, tokens, channels) is supported"
    if getattr(layer, "_use_gate", False) or getattr(layer, "_sliding_window", None):
        return "an attention with a gate or a sliding window is not supported"
    found = mask(call)
    return found if isinstance(found, str) else None


def mask(call: Any) -> np.ndarray | str | None:
    """What a call adds to its scores, (1, queries, keys) or one for each head; None for nothing, or why it is not supported."""
    layer, given = call.operation, call.arguments.kwargs
    queries, keys = call.input_tensors[0].shape[1], call.input_tensors[-1].shape[1]
    wanted, causal = given.get("attention_mask"), bool(given.get("use_causal_mask"))
    if wanted is None and not causal:
        return None
    if queries is None or keys is None:
        return "a mask needs sequences of a known length"
    seen = np.ones((1, 1), bool) if wanted is None else ops.convert_to_numpy(wanted).astype(bool)
    seen = seen[:, None] if seen.ndim == 3 else seen
    return whole_mask(hidden(seen & np.tri(queries, keys, dtype=bool) if causal else seen), layer.num_heads, queries, keys)


def hidden(seen: np.ndarray) -> np.ndarray:
    """A boolean mask as numbers that are added."""
    return np.where(seen, 0.0, -np.inf)


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
