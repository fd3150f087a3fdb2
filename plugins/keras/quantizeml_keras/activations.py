"""Activation functions of Keras in the blocks' terms: a ReLU with or without a bound, a table, or nothing.

Keras names: https://keras.io/api/layers/activations (gelu is exact unless `approximate`; leaky_relu has the slope 0.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantizeml_core.tables import FUNCTIONS

TABLES: Mapping[str, tuple[str, float | None]] = {
    "gelu": ("gelu", None), "silu": ("swish", None), "swish": ("swish", None), "hard_silu": ("hard_swish", None), "hard_swish": ("hard_swish", None),
    "leaky_relu": ("leaky_relu", 0.2), "sigmoid": ("sigmoid", None), "celu": ("celu", 1.0), "mish": ("mish", None), "selu": ("selu", None),
    "hard_sigmoid": ("hard_sigmoid", None), "tanh": ("tanh", None), "elu": ("elu", 1.0), "softplus": ("softplus", None), "softsign": ("softsign", None),
}


SOFTMAX_ALONE = "a softmax is quantized inside a network only, in front of a product, a sum or a layer with weights"


def activation_step(function: Any, source: Any = None) -> list[tuple[str, Mapping[str, Any]]] | str:
    """Nothing, one (operation, attributes), or the reason why there is none.

    Arguments:
        function: a Keras activation or its name.
        source: an operation that may carry a slope (`negative_slope`, `alpha`) or `approximate`.
    """
    name = function if isinstance(function, str) else getattr(function, "__name__", type(function).__name__)
    if function is None or name == "linear":
        return []
    if name in ("relu", "relu6"):
        return [("ReLU", {"bound": 6.0 if name == "relu6" else None})]
    if name == "softmax":
        return [("Softmax", {"reason": SOFTMAX_ALONE})]
    table, alpha = TABLES.get(name, ("", None))
    if getattr(source, "approximate", False):
        table = "gelu_tanh"
    if table not in FUNCTIONS:
        return f"the activation `{name}` has no table; there are {', '.join(sorted(FUNCTIONS))}"
    return [("Table", {"function": table, "alpha": _slope(source, alpha)})]


def _slope(source: Any, default: float | None) -> float | None:
    found = next((getattr(source, key) for key in ("negative_slope", "alpha") if hasattr(source, key)), default)
    return None if found is None else float(found)
