"""Quantized Keras layers == numpy kernels, integer for integer, at every block boundary, and read back as the program they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import networks, plans
from quantized import quantization

from quantizeml_core import numerics
from quantizeml_core.bake import Quantization
from quantizeml_core.blocks import LINEAR, Activation, Block, Pool
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.calibration import Range
from quantizeml_core.plan import LayerPlan, Plan
from quantizeml_core.program import Program
from quantizeml_core.testing import differences
from quantizeml_keras.layers.carrier import carrier
from quantizeml_keras.layers.windows import Window
from quantizeml_keras.quantize_ops import align_mantissa, requantization, requantize
from quantizeml_keras.readback import program as read_program
from quantizeml_keras.realize import from_quantization, layer_name
from quantizeml_keras.testing import boundaries

EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
RNG = np.random.default_rng(7)


def assert_same_program(ours: Program | None, theirs: Program) -> None:
    assert ours is not None and ours.outputs == theirs.outputs
    expected = {b.name: b for b in theirs.blocks}
    for block in ours.blocks:
        other = expected.pop(block.name)
        assert block == other and set(block.arrays) == set(other.arrays)
        assert all(np.array_equal(value, other.arrays[name]) for name, value in block.arrays.items()), block.name
    assert not expected and all(np.array_equal(f.step, theirs.formats[t].step) for t, f in ours.formats.items())


@EXAMPLES
@given(st.data())
def test_generated_networks(data: st.DataObject) -> None:
    blueprint = data.draw(networks())
    plan, ranges = data.draw(plans(blueprint))
    made = quantization(blueprint, plan, ranges, data.draw(st.sampled_from([None, 8])))
    model = from_quantization(made)
    shape = tuple(s or 5 for s in blueprint.shapes["quantize"])
    x = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=shape) * data.draw(st.sampled_from([0.1, 1.0, 1000.0]))

    assert differences(made.program, {"x": x.astype(np.float32)}, lambda feeds: boundaries(model, feeds)) == ()
    assert_same_program(read_program(model), made.program)


def chain(shape: Sequence[int], *blocks: Block, outputs: Sequence[tuple[int, ...]], signed: bool = True, bits: int = 8, weight_bits: int = 8,
          reach: float = 40.0, per_axis: bool = True, raw: bool = False) -> Quantization:
    """Blocks one behind the other, quantized with ranges of `reach`; `outputs`: their output shapes without the batch."""
    entry = Block("quantize", "input", ("x",), "quantize", perm=(0, 3, 1, 2) if len(shape) == 3 else ())
    shapes: dict[str, Any] = {"x": (None, *shape), "quantize": (None, *shape)}
    shapes |= {b.output: (None, *s) for b, s in zip(blocks, outputs, strict=True)}
    ranges = {t: Range(np.full(s[1], -reach), np.full(s[1], reach)) for t, s in shapes.items()}
    ranges |= {b.probe: ranges[b.output] for b in blocks if b.probe}
    layers = {"quantize": LayerPlan(None, 8, signed, per_axis, *_ends(ranges["quantize"]))}
    for block in blocks:
        out = None if raw and block is blocks[-1] else bits if block.activation and not block.activation.is_table else 8
        layers[block.name] = LayerPlan(weight_bits if block.kind in LINEAR else None, out, out is None or out == 8, per_axis, *_ends(ranges[block.output]))
    blueprint = Blueprint((entry, *blocks), (blocks[-1].output,), shapes)
    return quantization(blueprint, Plan(layers), ranges)


def _ends(seen: Range) -> tuple[np.ndarray, np.ndarray]:
    return seen.low, seen.high


def conv(shape: tuple[int, ...], bias: bool = True, source: str = "quantize", kind: str = "conv2d", name: str = "c", **more: Any) -> Block:
    arrays = {"weight": RNG.normal(size=shape)} | ({"bias": RNG.normal(size=shape[0])} if bias else {})
    return Block(name, kind, (source,), f"t_{name}", arrays=arrays, **more)


RELU, RELU6 = Activation("relu"), Activation("relu", bound=6.0)
GELU = Activation("gelu")
NETS = {
    "pads that are 'same'": chain((3, 8, 6), conv((4, 3, 3, 3), pads=(1, 1, 1, 1)), outputs=[(4, 8, 6)]),
    "pads that give the size of 'same' on other pixels": chain((3, 8, 8), conv((4, 3, 3, 3), pads=(1, 1, 1, 1), strides=(2, 2)), outputs=[(4, 4, 4)]),
    "pads of a strided 'same'": chain((3, 8, 8), conv((4, 3, 3, 3), pads=(0, 0, 1, 1), strides=(2, 2)), outputs=[(4, 4, 4)]),
    "four different pads": chain((3, 5, 5), conv((4, 3, 2, 3), pads=(0, 1, 2, 0)), outputs=[(4, 6, 4)]),
    "an unsigned input pads with its zero point": chain((3, 6, 6), conv((4, 3, 3, 3), pads=(1, 1, 1, 1)), outputs=[(4, 6, 6)], signed=False),
    "an unsigned input, no bias": chain((3, 6, 6), conv((4, 3, 3, 3), bias=False), outputs=[(4, 4, 4)], signed=False),
    "unequal strides": chain((3, 9, 9), conv((4, 3, 3, 3), strides=(1, 2)), outputs=[(4, 7, 4)]),
    "a depthwise convolution of unequal strides": chain(
        (4, 9, 9), conv((4, 1, 3, 3), kind="depthwise2d", groups=4, strides=(2, 1), pads=(1, 0, 0, 1)), outputs=[(4, 4, 8)]),
    "a channel multiplier": chain((2, 6, 6), conv((6, 1, 3, 3), kind="depthwise2d", groups=2), outputs=[(6, 4, 4)]),
    "groups": chain((4, 6, 6), conv((6, 2, 3, 3), groups=2, pads=(1, 1, 1, 1)), outputs=[(6, 6, 6)]),
    "unsigned groups": chain((4, 6, 6), conv((6, 2, 3, 3), groups=2, pads=(1, 1, 1, 1)), outputs=[(6, 6, 6)], signed=False),
    "sums beyond float32": chain((300, 3, 3), conv((5, 300, 3, 3), pads=(1, 1, 1, 1), activation=RELU), outputs=[(5, 3, 3)], reach=900.0),
    "raw sums beyond float32": chain((3000,), conv((5, 3000), kind="dense"), outputs=[(5,)], raw=True),
    "a global sum beyond float32": chain((8, 40, 40), conv((5, 8, 3, 3), activation=RELU, pool=Pool("gap")), outputs=[(5, 1, 1)]),
    "a flattened image": chain((3, 4, 5), conv((7, 60), kind="dense", flatten=True, activation=RELU), outputs=[(7,)]),
    "max pooling that pads": chain(
        (3, 7, 7), conv((4, 3, 3, 3), activation=RELU, pool=Pool("max", (3, 3), (2, 2), (0, 0, 1, 1))), outputs=[(4, 2, 2)]),
    "a clipped ReLU": chain((3, 6, 6), conv((4, 3, 1, 1), activation=RELU6), outputs=[(4, 6, 6)]),
    "a clipped ReLU before a global sum": chain((3, 6, 6), conv((4, 3, 1, 1), activation=RELU6, pool=Pool("gap")), outputs=[(4, 1, 1)]),
    "a raw clipped ReLU": chain((12,), conv((4, 12), kind="dense", activation=RELU6), outputs=[(4,)], raw=True),
    "a table": chain((3, 6, 6), conv((4, 3, 3, 3), activation=GELU, probe="p"), outputs=[(4, 4, 4)]),
    "a table before a global sum": chain((3, 6, 6), conv((4, 3, 3, 3), activation=GELU, probe="p", pool=Pool("gap")), outputs=[(4, 1, 1)]),
    "averages": chain((3, 6, 5), Block("a", "pool2d", ("quantize",), "t_a", pool=Pool("avg", (3, 2), (2, 1), (1, 0, 0, 1))), outputs=[(3, 3, 5)]),
    "averages of sums beyond float32": chain((1, 380, 380), Block("a", "pool2d", ("quantize",), "t_a", pool=Pool("avg", (379, 379))), outputs=[(1, 2, 2)]),
    "a transposed convolution": chain(
        (3, 4, 5), conv((4, 3, 3, 2), kind="conv_transpose2d", strides=(2, 3), pads=(1, 0, 0, 1), activation=RELU), outputs=[(4, 8, 13)]),
    "a transposed convolution that grows": chain(
        (3, 4, 5), conv((4, 3, 1, 2), kind="conv_transpose2d", strides=(2, 2), pads=(0, 1, -1, 0)), outputs=[(4, 8, 9)]),
    "transposed sums beyond float32": chain(
        (300, 3, 3), conv((5, 300, 3, 3), kind="conv_transpose2d", activation=GELU, probe="p"), outputs=[(5, 5, 5)], reach=900.0),
    "a square": chain((3, 4, 4), conv((4, 3, 1, 1)), Block("m", "multiply", ("t_c", "t_c"), "t_m", activation=RELU6), outputs=[(4, 4, 4)] * 2),
    "a gate": chain(
        (3, 4, 5), conv((4, 3, 1, 1)), conv((4, 4, 1, 1), source="t_c", name="g", activation=Activation("sigmoid"), probe="p", pool=Pool("gap")),
        Block("m", "multiply", ("t_c", "t_g"), "t_m"), outputs=[(4, 4, 5), (4, 1, 1), (4, 4, 5)]),
    "a gate of vectors": chain(
        (6,), conv((4, 6), kind="dense"), conv((4, 6), kind="dense", name="g", activation=Activation("sigmoid"), probe="p"),
        Block("m", "multiply", ("t_g", "t_c"), "t_m"), outputs=[(4,)] * 3, per_axis=False),
    "pixels in groups": chain((6, 4, 5), conv((4, 3, 1, 1), groups=2, activation=RELU), outputs=[(4, 4, 5)]),
    "repeated pixels": chain((3, 4, 5), conv((4, 3, 1, 1)), Block("u", "upsample2d", ("t_c",), "t_u", strides=(2, 3)), outputs=[(4, 4, 5), (4, 8, 15)]),
    "one bit": chain((3, 6, 6), conv((4, 3, 3, 3), activation=RELU), outputs=[(4, 4, 4)], bits=1, weight_bits=2),
    "four bits, then eight": chain((3, 6, 6), conv((4, 3, 3, 3), activation=RELU), conv((5, 4, 3, 3), source="t_c", name="d"),
                                   outputs=[(4, 4, 4), (5, 2, 2)], bits=4, weight_bits=4),
    "one step per tensor": chain((3, 6, 6), conv((4, 3, 3, 3), activation=RELU), conv((5, 4, 3, 3), source="t_c", name="d"),
                                 outputs=[(4, 4, 4), (5, 2, 2)], per_axis=False),
}


@pytest.mark.parametrize("made", NETS.values(), ids=list(NETS))
@pytest.mark.parametrize("scale", [10.0, 1000.0])
def test_a_table_of_blocks(made: Quantization, scale: float) -> None:
    model = from_quantization(made)
    shape = (3, *(model.inputs[0].shape[1:]))
    feeds = {"x": (np.random.default_rng(3).normal(size=shape) * scale).astype(np.float32)}
    assert differences(made.program, feeds, lambda f: boundaries(model, f)) == ()
    assert_same_program(read_program(model), made.program)


@pytest.mark.parametrize("made", NETS.values(), ids=list(NETS))
def test_a_compiled_graph_gives_the_bytes_of_the_program(made: Quantization) -> None:
    model = from_quantization(made)
    x = (np.random.default_rng(3).normal(size=(3, *model.inputs[0].shape[1:])) * 20).astype(np.float32)
    (expected,) = made.program.predict({"x": x}).values()
    got = model.predict(x, verbose=0)
    assert np.array_equal(got, expected.transpose(0, 2, 3, 1) if expected.ndim == 4 else expected)


@pytest.mark.parametrize(("low", "high"), [(0, 127), (-128, 127), (0, 15), (0, 1), (-1024, 1023)])
def test_requantization_is_law_2_wherever_it_is_computed(low: int, high: int) -> None:
    """Around every step of the law, for random factors and for ties."""
    rng = np.random.default_rng(0)
    used = set()
    for m, f, reach in zip(rng.integers(1, 256, 120), rng.integers(-3, 25, 120), 2 ** rng.integers(4, 30, 120), strict=True):
        law = requantization(np.array([m]), np.array([f]), low, np.array([high]), int(reach))
        at = numerics.step_boundaries(np.array([m]), np.array([f]), low, high)[0]
        acc = np.clip(np.concatenate([at, at - 1, rng.integers(-reach, reach, 500), [reach, -reach]]), -reach, reach)
        used.add((law.dtype, law.half_up))
        got = np.asarray(requantize(acc.astype(np.float32 if reach < 2**24 else np.float64)[:, None], law))[:, 0]
        assert np.array_equal(got, numerics.requantize(acc, m, f, low, high)), (m, f, reach)
    assert {("float32", False), ("float64", True)} <= used


@pytest.mark.parametrize("bits", [7, 8])
def test_mantissas_are_aligned_as_the_core_does(bits: int) -> None:
    values = np.concatenate([np.arange(-3000, 3000), (2 ** np.arange(31)[:, None] + np.arange(-2, 3)).ravel(), -(2 ** np.arange(31)[:, None] + np.arange(-2, 3)).ravel()])
    assert np.array_equal(np.asarray(align_mantissa(values.astype(np.float64), bits)), numerics.align_mantissa(values, bits))


@pytest.mark.parametrize(("channels", "taps", "bias", "parts", "products", "total"), [
    (64, 9, 1000, 1, "float32", "float32"),
    (64, 9, 2**24, 1, "float32", "float64"),
    (256, 9, 0, 3, "float32", "float64"),
    (4, 33 * 33, 0, 4, "float64", "float64"),
])
def test_carriers(channels: int, taps: int, bias: int, parts: int, products: str, total: str) -> None:
    chosen = carrier(channels, taps, 127, 128, bias)
    assert (chosen.parts, chosen.products, chosen.total) == (parts, products, total)
    assert chosen.bias_limit >= 2 * bias and chosen.reach == channels * taps * 127 * 128 + chosen.bias_limit


@pytest.mark.parametrize(("pads", "stride", "size", "padding"), [
    ((1, 1, 1, 1), 1, (8, 8), "same"), ((1, 1, 1, 1), 2, (8, 8), "valid"), ((0, 0, 1, 1), 2, (8, 8), "same"), ((1, 1, 1, 1), 2, (7, 7), "same"),
    ((0, 1, 1, 0), 2, (8, 8), "valid"), ((1, 1, 1, 1), 1, (None, 8), "valid"), ((0, 0, 0, 0), 1, (8, 8), "valid"),
])
def test_same_means_the_four_amounts(pads: tuple[int, int, int, int], stride: int, size: tuple[int | None, int], padding: str) -> None:
    assert Window.of(pads, (3, 3), (stride, stride), size).padding == padding


def test_layers_are_named_as_blocks() -> None:
    assert layer_name("stem/conv") == "stem_conv"
    assert [layer.name for layer in from_quantization(NETS["groups"]).layers] == ["x", "quantize", "c", "dequantizer"]
