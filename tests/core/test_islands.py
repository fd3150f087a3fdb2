"""What is worth a quantizer behind a float island, and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from quantizeml_core.blocks import Activation, Block, accumulates
from quantizeml_core.islands import resumed, settle
from quantizeml_core.match import Cover, Match
from quantizeml_core.names import Names

EYE, DENSE = np.eye(3)[:, :, None, None], np.ones((2, 3, 1, 1))


def block(name: str, kind: str, *inputs: str, weight: np.ndarray | None = None) -> Block:
    return Block(name, kind, inputs, name, arrays={} if weight is None else {"weight": weight})


def settled(*blocks: Block) -> list[str]:
    covered = Cover(blocks, tuple(Match((), b.inputs, b.output, None) for b in blocks), ())
    return [b.name for b in settle(covered, {"x"}).blocks]


@pytest.mark.parametrize(("made", "worth"), [
    (block("c", "conv2d", "f", weight=DENSE), True), (block("i", "conv2d", "f", weight=EYE), False), (block("s", "depthwise2d", "f", weight=DENSE[:, :1]), False),
    (block("d", "depthwise2d", "f", weight=np.ones((3, 1, 3, 3))), True), (block("m", "matmul", "f", "g"), True), (block("a", "attention", "f", "f", "f"), True),
    (block("j", "add", "f", "g"), False), (block("p", "pool2d", "f"), False),
])
def test_what_accumulates(made: Block, worth: bool) -> None:
    assert accumulates(made) is worth
    assert settled(made) == ([made.name] if worth else [])


def test_what_leads_to_it_is_worth_it_too() -> None:
    relu = Block("r", "conv2d", ("f",), "r", activation=Activation("relu"), arrays={"weight": EYE})
    assert settled(relu, block("j", "add", "r", "x"), block("c", "conv2d", "j", weight=DENSE)) == ["r", "j", "c"]


def test_what_the_models_inputs_lead_to_stays_in_any_case() -> None:
    assert settled(block("p", "pool2d", "x"), block("q", "pool2d", "f"), block("j", "add", "p", "q"), block("k", "pool2d", "j")) == ["p"]


def test_each_float_tensor_is_quantized_once_before_its_first_reader() -> None:
    blocks = [block("p", "pool2d", "x"), block("j", "add", "p", "f"), block("k", "add", "f", "j")]
    made = list(resumed(blocks, {"x": "quantize"}, Names({"f/quantize"})))
    assert [(b.name, b.inputs) for b in made] == [("p", ("quantize",)), ("f/quantize_1", ("f",)), ("j", ("p", "f/quantize_1")), ("k", ("f/quantize_1", "j"))]
