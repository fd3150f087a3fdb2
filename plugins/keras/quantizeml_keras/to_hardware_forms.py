"""A transformer in the forms that hardware computes without a square root or an exponential: an option that costs accuracy, and asks for training.

    LayerNormalization      LayerMadNormalization, gamma sqrt(2 / pi): the mean absolute value of normal numbers is that share of their deviation
    softmax                 shiftmax, scores times log2(e): e^x = 2^(x log2 e); what is lost is what its floors lose
    MultiHeadAttention      Dense layers for queries, keys and values, Attention with a shiftmax, a Dense layer behind
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from quantizeml_core.errors import ModelError

from .copies import Copies
from .multi_head import attended, output_projection, projections
from .readers.steps import array
from .rebuild import assemble
from .trace import calls, refuse_without_graph
from .transformer_layers import Attention, LayerMadNormalization, score_scale

MAD_OF_NORMAL = float(np.sqrt(2 / np.pi))
LOG2_E = float(np.log2(np.e))


def to_hardware_forms(model: keras.Model) -> keras.Model:
    """A model of the same inputs; layers and weights are copies. ModelError when there is nothing to change, or no graph of layers.

    Left as they are: normalizations of other axes than the last, attentions with a mask, layers of nested models.
    """
    refuse_without_graph(model)
    if not any(_form(call) for call in calls(model)):
        raise ModelError("it has no LayerNormalization and no attention to change", where=f"`{model.name}`", do="Quantize it as it is")
    inputs = [keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in model.inputs]
    values = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
    copies = Copies()
    for call in calls(model):
        given, form = [values[id(t)] for t in call.input_tensors], _form(call)
        results = copies.call(call, given) if form is None else form(call.operation, given)
        values.update((id(before), after) for before, after in zip(call.output_tensors, results, strict=False))
    return assemble(inputs, [values[id(t)] for t in model.outputs], model.name)


def _form(call: Any) -> Any:
    """How to write a call anew, None for one that stays."""
    layer, kind = call.operation, type(call.operation).__name__
    if kind == "LayerNormalization" and not getattr(layer, "rms_scaling", False):
        axis = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
        return _normalization if axis in ([-1], [len(call.input_tensors[0].shape) - 1]) else None
    if kind == "MultiHeadAttention":
        return None if attended(call) else _multi_head
    return _attention if kind == "Attention" and getattr(layer, "softmax", "") == "softmax" else None


def _normalization(layer: Any, given: list[Any]) -> list[Any]:
    form = LayerMadNormalization(name=layer.name)
    result = form(given[0])
    channels = given[0].shape[-1]
    gamma = array(layer.gamma) if layer.scale else np.ones(channels, np.float32)
    form.set_weights([gamma * MAD_OF_NORMAL, array(layer.beta) if layer.center else np.zeros(channels, np.float32)])
    return [result]


def _attention(layer: Any, given: list[Any]) -> list[Any]:
    queries = keras.layers.Rescaling(LOG2_E, name=f"{layer.name}_log2e")(given[0])
    return list(Attention(layer.num_heads, "shiftmax", name=layer.name)([queries, *given[1:]]))


def _multi_head(layer: Any, given: list[Any]) -> list[Any]:
    query, value, key = given[0], given[1], given[-1]
    tensors = dict(zip(("query", "key", "value"), (query, key, value), strict=True))
    factor = LOG2_E / float(np.sqrt(layer.key_dim)) / score_scale(layer.key_dim)
    parts = [_dense(f"{layer.name}_{part}", tensors[part], kernel, bias, factor if part == "query" else 1.0)
             for part, _, (kernel, bias) in projections(layer, "query", "key", "value")]
    context = Attention(layer.num_heads, "shiftmax", name=f"{layer.name}_attention")(parts)[0]
    return [_dense(layer.name, context, *output_projection(layer), 1.0)]


def _dense(name: str, x: Any, kernel: np.ndarray, bias: np.ndarray | None, factor: float) -> Any:
    layer = keras.layers.Dense(kernel.shape[1], use_bias=bias is not None, name=name)
    result = layer(x)
    layer.set_weights([w * factor for w in (kernel, bias) if w is not None])
    return result
