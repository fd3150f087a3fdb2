"""Tables: every function at every index, in any range, and what a table becomes behind a last dense layer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quantizeml_core import tables
from quantizeml_core.bake import bake
from quantizeml_core.blocks import Activation, Block
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.calibration import Range
from quantizeml_core.plan import LayerPlan, Plan
from quantizeml_core.solve import solve

EXPECTED = {
    "abs": abs,
    "celu": lambda x: max(x, 0.0) + 0.5 * math.expm1(min(x, 0.0) / 0.5),
    "elu": lambda x: x if x >= 0 else 0.5 * math.expm1(x),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))) / 2,
    "hard_sigmoid": lambda x: min(max(x / 2 + 0.5, 0.0), 1.0),
    "hard_swish": lambda x: x * min(max(x / 6 + 0.5, 0.0), 1.0),
    "leaky_relu": lambda x: x if x >= 0 else 0.5 * x,
    "mish": lambda x: x * math.tanh(math.log1p(math.exp(x))),
    "selu": lambda x: 1.0507009873554805 * (x if x >= 0 else 1.6732632423543772 * math.expm1(x)),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "swish": lambda x: x / (1 + math.exp(-x)),
    "tanh": math.tanh,
}


def test_every_function_is_tested() -> None:
    assert set(EXPECTED) == set(tables.FUNCTIONS)


@pytest.mark.parametrize("name", EXPECTED)
def test_values(name: str) -> None:
    got = tables.evaluate(Activation(name, alpha=0.5), 1 / 128)
    np.testing.assert_allclose(got, [EXPECTED[name](i / 128) for i in tables.indices()], rtol=1e-12, atol=1e-15)  # float64 library functions


def test_the_slope_of_a_hard_sigmoid_is_a_sixth_where_none_is_given() -> None:
    assert tables.apply(Activation("hard_sigmoid"), np.array([-4.0, -3.0, 0.0, 1.5, 3.0])).tolist() == [0.0, 0.0, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("step", [1e-12, 1e9])
def test_any_range_gives_entries_of_14_bits(name: str, step: float) -> None:
    values = tables.evaluate(Activation(name, alpha=0.5), step)
    entries = tables.table(Activation(name, alpha=0.5), step, float(np.abs(values).max()) / 8191)
    assert np.isfinite(values).all() and np.abs(entries).max() == 8191


def _head(bits: int | None) -> tuple[Blueprint, Plan, dict[str, Range]]:
    head = Block("head", "dense", ("q",), "y", activation=Activation("sigmoid"), probe="p", arrays={"weight": np.array([[4.0, 0.0], [0.0, -4.0]])})
    ranges = {"q": Range(np.full(2, -1.0), np.full(2, 1.0)), "p": Range(np.full(2, -4.0), np.full(2, 4.0)), "y": Range(np.zeros(2), np.ones(2))}
    layers = {"quantize": LayerPlan(None, 8, True, True, ranges["q"].low, ranges["q"].high), "head": LayerPlan(8, bits, True, True, np.zeros(2), np.ones(2))}
    blocks = (Block("quantize", "input", ("x",), "q"), head)
    return Blueprint(blocks, ("y",), {"q": (None, 2), "y": (None, 2)}), Plan(layers), ranges


@pytest.mark.parametrize(("bits", "error"), [(8, 2.0**-7), (None, 2.0**-10)])
def test_a_last_dense_layer_may_keep_its_entries(bits: int | None, error: float) -> None:
    """The remaining error is half a step of the 11-bit index."""
    blueprint, plan, ranges = _head(bits)
    program = bake(blueprint, plan, solve(blueprint, plan, ranges))
    x = np.linspace(-1, 1, 255, dtype=np.float32)
    got = program.predict({"x": np.stack([x, x], axis=1)})["y"]
    exact = 1 / (1 + np.exp(np.outer(x, [-4.0, 4.0])))
    assert program.verify() == () and np.abs(got - exact).max() < error
