"""Functions inside models: Lambda layers, and the TensorFlow functions (`TFOpLambda`) of tf_keras files.

In memory, a Lambda's function is the user's own: it is called on a symbolic tensor, as Keras did to build the model, and the operations that this leaves
are read like any others. In a file, a Lambda is byte code: it is taken apart, never run; when all it does is to call one known function on its
input, it is loaded as that function, else Keras' safe mode refuses the file.
"""

from __future__ import annotations

import base64
import dis
import marshal
from collections.abc import Callable, Mapping
from types import CodeType, SimpleNamespace
from typing import Any

import keras
from keras import ops

from quantizeml_core.errors import ModelError

KNOWN: Mapping[str, Callable[..., Any]] = {
    "relu": ops.relu, "relu6": ops.relu6, "silu": ops.silu, "swish": ops.silu, "gelu": ops.gelu, "sigmoid": ops.sigmoid, "tanh": ops.tanh,
    "leaky_relu": ops.leaky_relu, "add": ops.add, "multiply": ops.multiply,
}
"""Functions of one or two tensors that mean the same in keras.ops, keras.activations and tf.nn."""

TENSORFLOW: Mapping[str, Callable[..., Any]] = {
    "nn.relu": ops.relu, "nn.relu6": ops.relu6, "nn.silu": ops.silu, "nn.gelu": lambda x, approximate=False: ops.gelu(x, approximate=approximate),
    "nn.leaky_relu": lambda x, alpha=0.2: ops.leaky_relu(x, negative_slope=alpha), "nn.sigmoid": ops.sigmoid, "math.sigmoid": ops.sigmoid,
    "math.tanh": ops.tanh, "math.add": ops.add, "__operators__.add": ops.add, "math.multiply": ops.multiply, "__operators__.mul": ops.multiply,
    "reshape": lambda x, shape: ops.reshape(x, shape), "transpose": lambda x, perm: ops.transpose(x, perm),
    "compat.v1.transpose": lambda x, perm: ops.transpose(x, perm), "concat": lambda values, axis: ops.concatenate(values, axis),
}
"""What tf_keras calls the functions it finds between layers."""

OF_A_LIST = frozenset({"concat"})
"""Functions whose first argument is a list of tensors."""

_GLUE = frozenset({"RESUME", "LOAD_GLOBAL", "LOAD_ATTR", "LOAD_METHOD", "PRECALL", "CALL", "RETURN_VALUE", "PUSH_NULL", "CACHE", "LOAD_DEREF",
                   "COPY_FREE_VARS"})


@keras.saving.register_keras_serializable("quantizeml")
class FunctionLayer(keras.layers.Layer):
    """A known function as a layer: `function` is its name in `KNOWN` or `TENSORFLOW`."""

    def __init__(self, function: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs: Any, **kwargs: Any) -> Any:
        """`inputs`: a tensor, or a list of the operands."""
        kwargs.pop("name", None)
        operands = inputs if isinstance(inputs, (list, tuple)) and self.function not in OF_A_LIST else [inputs]
        return known(self.function)(*operands, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "function": self.function}


def as_known_function(layer: dict[str, Any]) -> bool:
    """Turn a configuration's Lambda or TFOpLambda into a FunctionLayer, in place; whether it was one.

    ModelError when it does anything but call a known function.
    """
    find = FINDERS.get(layer["class_name"])
    if find is None:
        return False
    config = layer["config"]
    function = find(config.get("function"))
    if function is None:
        raise ModelError("the layer holds code that calls none of the known functions", where=f"`{config.get('name')}` ({layer['class_name']})",
                         allowed=", ".join(KNOWN), do="Replace the Lambda layer by a standard layer, or load the model yourself with "
                         "keras.models.load_model(..., safe_mode=False)")
    if layer["class_name"] == "TFOpLambda":
        layer["inbound_nodes"] = [_operands(node) for node in layer.get("inbound_nodes", ())]
    layer |= {"class_name": "FunctionLayer", "config": {"name": config.get("name"), "function": function}}
    if "module" in layer:
        layer |= {"module": FunctionLayer.__module__, "registered_name": "quantizeml>FunctionLayer"}
    return True


def _operands(node: list[Any]) -> list[Any]:
    """A TFOpLambda's inbound node, one tensor with keywords, as the list of tensors that other layers have."""
    if node and isinstance(node[0], list):
        return [entry[:3] for entry in node]
    keywords = dict(node[3]) if len(node) > 3 else {}
    tensors = [key for key, value in keywords.items() if _is_tensor(value)]
    others = [keywords.pop(key) for key in tensors]
    return [[*node[:3], keywords], *others]


def _is_tensor(value: Any) -> bool:
    """Whether a keyword is `[layer, node, index]`."""
    return isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)


def known_in_tensorflow(name: Any) -> str | None:
    return name if name in TENSORFLOW else None


def known(name: str) -> Callable[..., Any]:
    return TENSORFLOW[name] if name in TENSORFLOW else KNOWN[name]


def called_by_config(function: Any) -> str | None:
    """The known function that a serialized one calls, None when it does anything else."""
    if isinstance(function, Mapping) and function.get("class_name") == "__lambda__":
        return called_by(marshal.loads(base64.b64decode(function["config"]["code"])))
    if isinstance(function, list) and function and isinstance(function[0], str):  # tf_keras: [code, defaults, closure]
        return called_by(marshal.loads(base64.b64decode(function[0])))
    name = function.get("config") if isinstance(function, Mapping) else function
    return name if isinstance(name, str) and name in KNOWN else None


def called_by(code: CodeType) -> str | None:
    """The known function of `lambda x: module.function(x)`, read from its byte code; None for any other code."""
    steps = [i for i in dis.get_instructions(code)]
    names = [i.argval for i in steps if i.opname in ("LOAD_GLOBAL", "LOAD_ATTR", "LOAD_METHOD", "LOAD_DEREF")]
    loads = [i for i in steps if i.opname.startswith("LOAD_FAST")]
    calls = [i for i in steps if i.opname == "CALL"]
    plain = all(i.opname in _GLUE or i.opname.startswith("LOAD_FAST") for i in steps)
    if not plain or code.co_argcount != 1 or len(loads) != 1 or len(calls) != 1 or not names:
        return None
    return names[-1] if names[-1] in KNOWN else None


def inlined(call: Any) -> Any:
    """What a function layer's call does, as inputs and outputs between which `trace.calls` finds operations; None when it shows none."""
    layer = call.operation
    function = layer.call if isinstance(layer, FunctionLayer) else layer.function
    extra = {} if isinstance(layer, FunctionLayer) else dict(layer.arguments or {})
    fresh = {id(t): keras.KerasTensor(t.shape, t.dtype) for t in call.input_tensors}
    positional, named = call.arguments.fill_in(fresh)
    named = {k: v for k, v in named.items() if k not in ("name", "mask", "training")}
    try:
        outputs = keras.tree.flatten(function(*positional, **named, **extra))
    except Exception:  # whatever a user's function raises on a symbolic tensor: then it cannot be read
        return None
    inputs = [fresh[id(t)] for t in call.input_tensors]
    made = all(hasattr(t, "_keras_history") for t in outputs)
    return SimpleNamespace(inputs=inputs, outputs=outputs) if made and outputs else None


FINDERS: Mapping[str, Callable[[Any], "str | None"]] = {"Lambda": called_by_config, "TFOpLambda": known_in_tensorflow}
