"""A drawn or hand-made blueprint quantized as the core does it, for the rooms that build native models from a `Quantization`."""

from __future__ import annotations

from collections.abc import Mapping

from quantizeml_core.bake import Quantization, bake
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.calibration import Range
from quantizeml_core.plan import Plan
from quantizeml_core.solve import solve


def quantization(blueprint: Blueprint, plan: Plan, ranges: Mapping[str, Range], mantissa: int | None = None) -> Quantization:
    solutions = solve(blueprint, plan, ranges)
    return Quantization(bake(blueprint, plan, solutions, mantissa), blueprint, plan, solutions, plan.to_json(), mantissa)
