"""Activation tables: a function of one variable as 2048 integers.

The accumulator is requantized to an 11-bit signed index i (value i * step_in), looked up, and requantized again:

    table[i] = round_half_even(f(i * step_in) / step_lut),  14-bit signed,  step_lut >= max|f| / 8191

Entries are stored in the order 0..1023, -1024..-1, so that a negative index counts from the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import pi, sqrt

import numpy as np

from . import numerics
from .blocks import Activation
from .numerics import Floats, Ints

INDEX_BITS = 11
TABLE_BITS = 14


def _erf(x: Floats) -> Floats:
    from math import erf

    return np.vectorize(erf, otypes=[np.float64])(x)


def _sigmoid(x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-x))


def _hard_sigmoid(x: Floats, width: float) -> Floats:
    """From 0 to 1 over `width`, the middle at 0."""
    return np.clip(x + width / 2, 0.0, width) / width


def _expm1(x: Floats) -> Floats:
    """e^x - 1 below 0, and 0."""
    return np.expm1(np.minimum(x, 0.0))


def _softplus(x: Floats) -> Floats:
    return np.logaddexp(0.0, x)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""Klambauer et al., Self-Normalizing Neural Networks (2017)."""


FUNCTIONS: Mapping[str, Callable[[Floats, float], Floats]] = {
    "abs": lambda x, alpha: np.abs(x),
    "celu": lambda x, alpha: np.maximum(x, 0.0) + alpha * _expm1(x / alpha),
    "elu": lambda x, alpha: np.where(x < 0, alpha * _expm1(x), x),
    "gelu": lambda x, alpha: 0.5 * x * (1.0 + _erf(x / sqrt(2.0))),
    "gelu_tanh": lambda x, alpha: 0.5 * x * (1.0 + np.tanh(sqrt(2.0 / pi) * (x + 0.044715 * x**3))),
    "hard_sigmoid": lambda x, alpha: _hard_sigmoid(x, 1.0 / alpha),
    "hard_swish": lambda x, alpha: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "leaky_relu": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "mish": lambda x, alpha: x * np.tanh(_softplus(x)),
    "selu": lambda x, alpha: SELU_SCALE * np.where(x < 0, SELU_ALPHA * _expm1(x), x),
    "sigmoid": lambda x, alpha: _sigmoid(x),
    "softplus": lambda x, alpha: _softplus(x),
    "softsign": lambda x, alpha: x / (1.0 + np.abs(x)),
    "swish": lambda x, alpha: x * _sigmoid(x),
    "tanh": lambda x, alpha: np.tanh(x),
}
"""By name, each a function of x and of the activation's `alpha`, which only `celu`, `elu`, `hard_sigmoid` and `leaky_relu` read. `clip` has two parameters: see `apply`."""
ALPHA = 1 / 6
"""Where an activation has none: the slope of `hard_sigmoid`."""


def indices() -> Ints:
    """Table positions in storage order: 0..1023, -1024..-1."""
    half = 2 ** (INDEX_BITS - 1)
    return np.concatenate([np.arange(half), np.arange(-half, 0)])


def evaluate(activation: Activation, step_in: float) -> Floats:
    """The function at every index, in storage order."""
    return apply(activation, indices() * step_in)


def apply(activation: Activation, x: Floats) -> Floats:
    """The function itself."""
    if activation.name == "clip":
        return np.clip(x, activation.alpha, activation.bound)
    return FUNCTIONS[activation.name](x, ALPHA if activation.alpha is None else activation.alpha)


def table(activation: Activation, step_in: float, step_table: float) -> Ints:
    """The 14-bit entries, in storage order."""
    return numerics.quantize(evaluate(activation, step_in), step_table, *numerics.int_range(TABLE_BITS))
