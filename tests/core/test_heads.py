"""Each output is judged alone."""

from __future__ import annotations

import numpy as np
import pytest

from quantizeml_core.blocks import Block
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.plan import LayerPlan, Plan
from quantizeml_core.report.heads import LEVELS, POOR, Head, inspect_heads


def _two_heads(**layer: object) -> tuple[Blueprint, Plan]:
    """Boxes up to 100 and scores up to 1, side by side in one output."""
    blocks = (Block("quantize", "input", ("x",), "q"), Block("boxes", "conv2d", ("q",), "b"), Block("scores", "conv2d", ("q",), "s"),
              Block("both", "concat", ("b", "s"), "y"))
    ends = {"boxes": np.full(4, 100.0), "scores": np.ones(3), "quantize": np.ones(1), "both": np.ones(7)}
    plan = Plan({name: LayerPlan(low=np.zeros(len(high)), high=high, **(layer if name == "scores" else {})) for name, high in ends.items()})
    return Blueprint(blocks, ("y",), {"q": (None, 1, 1, 1)}), plan


@pytest.mark.parametrize(("decibels", "codes"), [(POOR + 1, []), (POOR - 1, ["QML107"]), (float("inf"), []), (-3.0, ["QML107"])])
def test_a_poor_output_is_told(decibels: float, codes: list[str]) -> None:
    assert [f.code for f in inspect_heads([Head("y", decibels, 16)], *_two_heads())] == codes


@pytest.mark.parametrize(("layer", "few"), [({}, 0), ({"per_axis": False, "high": np.array([100.0, 1.0, 0.0])}, 1), ({"output_bits": None}, 0),
                                            ({"floor": 1.0, "high": np.array([100.0, 1.0, LEVELS * 0.9])}, 1)])
def test_channels_that_few_integers_resolve(layer: dict, few: int) -> None:
    blueprint, plan = _two_heads()
    seen = {"low": np.zeros(3), "high": np.ones(3)} | layer
    plan = Plan({**plan.layers, "scores": LayerPlan(**seen)})
    found = inspect_heads([], blueprint, plan)
    assert [(f.code, f.block, f.message.split()[0]) for f in found] == [("QML108", "scores", str(few))] * bool(few)
