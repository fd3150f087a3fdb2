"""Insert a Rescaling in front of a float model, for data that was prepared outside of it: input * scale + offset."""

from __future__ import annotations

import keras

from quantizeml_core.errors import ModelError

from .copies import Copies
from .rebuild import assemble
from .trace import calls


def insert_rescaling(model: keras.Model, scale: float, offset: float) -> keras.Model:
    """A model of the same inputs whose first layer is a Rescaling; layers and weights are copies.

    ModelError for a model of several inputs, or one that begins with a Rescaling.
    """
    inputs = model.inputs or []
    if len(inputs) != 1:
        raise ModelError(f"the model has {len(inputs)} inputs", where=f"`{model.name}`", allowed="one", do="Insert Rescaling layers when you build it")
    if first := next((layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling)), None):
        raise ModelError(f"it has a Rescaling already, `{first.name}`", where=f"`{model.name}`", do="Quantize it as it is, or change that layer")
    old = inputs[0]
    fresh = keras.Input(batch_shape=old.shape, dtype=old.dtype, name=old.name)
    values = {id(old): keras.layers.Rescaling(scale, offset, name=_free("rescaling", model))(fresh)}
    copies = Copies()
    for call in calls(model):
        results = copies.call(call, [values[id(t)] for t in call.input_tensors])
        values.update((id(before), after) for before, after in zip(call.output_tensors, results, strict=True))
    return assemble([fresh], [values[id(t)] for t in model.outputs], model.name)


def _free(name: str, model: keras.Model) -> str:
    taken = {layer.name for layer in model.layers}
    return next(n for n in (name, *(f"{name}_{i}" for i in range(1, len(taken) + 2))) if n not in taken)
