"""Legality: every broken row is found in one pass, with what was found, what is allowed and where that is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from quantizeml_akida1.profile import AKIDA1
from quantizeml_akida2.profile import AKIDA2

from quantizeml_core.blocks import Activation, Block, Pool
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.builtin import GENERIC
from quantizeml_core.legality import PREDICATES, violations
from quantizeml_core.limits import FACTS, RULES
from quantizeml_core.target import Target

RELU, GELU = Activation("relu"), Activation("gelu")
MAX = Pool("max", (2, 2), (2, 2))


def alone(kind: str = "conv2d", size: tuple[int, int] = (32, 32), channels: int = 4, kernel: tuple[int, ...] = (4, 4, 3, 3),
          pads: tuple[int, ...] = (1, 1, 1, 1), out: tuple[int, ...] = (4, 32, 32), **more: Any) -> Blueprint:
    """One block between an input and an output; its output shape matters to its readers only."""
    block = Block("b", kind, ("x",), "y", pads=pads, arrays={"weight": np.ones(kernel)}, **more)
    return Blueprint((Block("quantize", "input", ("in",), "x"), block), ("y",), {"in": (None, channels, *size), "x": (None, channels, *size), "y": (None, *out)})


DENSE = {"kind": "dense", "size": (), "pads": (0, 0, 0, 0), "out": (10,)}
PLANTED: dict[str, tuple[Target, bool, dict[str, Any], str]] = {
    "input width": (AKIDA1, True, {"size": (32, 300), "channels": 3, "kernel": (4, 3, 3, 3)}, "second_axis"),
    "input height": (AKIDA2, True, {"size": (4, 32), "channels": 3, "kernel": (4, 3, 3, 3)}, "first_axis"),
    "input channels": (AKIDA2, True, {}, "input_channels"),
    "input filters": (AKIDA1, True, {"channels": 3, "kernel": (33, 3, 7, 7), "pads": (3, 3, 3, 3)}, "max_filters"),
    "input pooling": (AKIDA2, True, {"channels": 3, "kernel": (4, 3, 3, 3), "pool": Pool("max", (3, 3), (3, 3))}, "max_pool"),
    "channels": (AKIDA2, False, {"channels": 4096, "kernel": (1, 4096, 3, 3)}, "max_channels"),
    "size": (AKIDA2, False, {"size": (4097, 8)}, "first_axis"),
    "kernel": (AKIDA2, False, {"kernel": (4, 4, 9, 9), "pads": (4, 4, 4, 4)}, "kernel_strides"),
    "stride": (AKIDA2, False, {"kernel": (4, 4, 5, 5), "pads": (1, 1, 2, 2), "strides": (2, 2)}, "kernel_strides"),
    "padding": (AKIDA2, False, {"pads": (0, 0, 0, 0)}, "padding"),
    "groups": (AKIDA2, False, {"kernel": (4, 2, 3, 3), "groups": 2}, "groups"),
    "pooling size": (AKIDA2, False, {"pool": Pool("max", (3, 3), (2, 2))}, "max_pool"),
    "pooling pads": (AKIDA2, False, {"pool": Pool("max", (2, 2), (2, 2), (1, 1, 1, 1))}, "max_pool_padding"),
    "what follows a pooling": (AKIDA2, False, {"pool": MAX}, "pool_followed_by"),
    "global pooling, width": (AKIDA1, False, {"size": (3, 33), "pool": Pool("gap")}, "gap_width"),
    "global pooling, area": (AKIDA2, False, {"size": (12, 12), "pool": Pool("gap")}, "gap_area_below"),
    "global pooling, rows": (AKIDA1, False, {"size": (2, 8), "pool": Pool("gap")}, "gap_min_rows"),
    "table": (AKIDA1, False, {"activation": GELU}, "activations"),
    "table and pooling": (AKIDA2, False, {"activation": GELU, "pool": MAX}, "table_with_max_pool"),
    "inputs of a dense layer": (AKIDA2, False, {**DENSE, "channels": 2049, "kernel": (10, 2049)}, "max_inputs"),
    "a lone depthwise layer": (AKIDA1, False, {"kind": "depthwise2d", "kernel": (4, 1, 3, 3), "groups": 4}, "followed_by"),
}


@pytest.mark.parametrize(("target", "pixels", "block", "rule"), PLANTED.values(), ids=PLANTED)
def test_a_planted_violation_is_found(target: Target, pixels: bool, block: dict[str, Any], rule: str) -> None:
    found = violations(alone(**block), target, frozenset({"x"} if pixels else ()))
    assert rule in {v.rule for v in found} and all(v.block == "b" and v.source.startswith("https://") and v.limit for v in found)


def test_what_is_legal_breaks_nothing() -> None:
    assert violations(alone(activation=RELU), AKIDA2, frozenset()) == ()


def test_all_violations_come_in_one_pass() -> None:
    found = violations(alone(size=(4097, 5000), kernel=(4, 2, 9, 9), pads=(0, 0, 0, 0), groups=2, activation=GELU, pool=Pool("max", (3, 3), (3, 3))),
                       AKIDA2, frozenset())
    assert {v.rule for v in found} == {"first_axis", "second_axis", "kernel_strides", "padding", "groups", "max_pool", "table_with_max_pool",
                                       "pool_followed_by"}


def test_generic_forbids_nothing() -> None:
    assert violations(alone(size=(4097, 5000), kernel=(4, 4, 9, 9)), GENERIC, frozenset()) == ()


def test_every_rule_is_checked_or_a_fact_or_one_of_the_network() -> None:
    assert set(RULES) - FACTS - set(PREDICATES) == {"inputs", "outputs"}
