"""The base of every quantized layer: a specification that is its config, integers in float32 tensors, channels last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from ..layouts import native_shape
from .spec import Spec

PACKAGE = "quantizeml"
Tensor = Any


class QuantizedLayer(keras.layers.Layer):
    """A block as a Keras layer.

    It computes in the types that were proven exact whatever the global dtype policy says: float16 cannot hold an accumulator.

    Arguments:
        spec: what to compute, or its JSON.
    """

    def __init__(self, spec: Spec | Mapping[str, Any], *, name: str | None = None, trainable: bool = True, dtype: Any = None) -> None:
        super().__init__(name=name, trainable=trainable, dtype="float32", autocast=False)
        self.spec = spec if isinstance(spec, Spec) else Spec.from_json(spec)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "spec": self.spec.to_json()}

    def compute_output_spec(self, *inputs: Any, **unused: Any) -> Any:
        return keras.KerasTensor((inputs[0].shape[0], *native_shape(self.spec.shape)[1:]), dtype=self.output_dtype)

    @property
    def output_dtype(self) -> str:
        return "float32"

    def constant(self, name: str, value: np.ndarray) -> Any:
        """A number of the specification as a weight that is not trained: a compiler may not fold it into its neighbours and round differently."""
        start = np.asarray(value, np.float32)
        return self.add_weight(name=name, shape=start.shape, dtype="float32", trainable=False,
                               initializer=lambda shape, dtype=None: ops.convert_to_tensor(start, dtype))
