"""Hypothesis strategies: small float networks as blueprints, with a plan whose ranges are drawn too, so that saturation happens."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from quantizeml_core.blocks import LINEAR, Activation, Block, Pool
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.calibration import Range
from quantizeml_core.plan import LayerPlan, Plan
from quantizeml_core.tables import FUNCTIONS


@dataclass
class Network:
    """A blueprint under construction."""

    rng: np.random.Generator
    blocks: list[Block] = field(default_factory=list)
    shapes: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    probes: list[str] = field(default_factory=list)

    def weights(self, filters: int, channels: int, kernel: int, bias: bool) -> dict[str, np.ndarray]:
        scale = 10.0 ** self.rng.uniform(-2, 1, (filters, 1, 1, 1))
        arrays = {"weight": self.rng.normal(size=(filters, channels, kernel, kernel)) * scale}
        return {**arrays, "bias": self.rng.normal(size=filters) * scale.ravel()} if bias else arrays

    def put(self, block: Block, shape: tuple[int | None, ...]) -> str:
        self.blocks.append(block)
        self.shapes[block.output] = shape
        self.probes += [block.probe] if block.probe else []
        return block.output


@st.composite
def activations(draw: st.DrawFn, tables: bool = True) -> Activation | None:
    choices = [None, Activation("relu"), Activation("relu", bound=draw(st.sampled_from([0.5, 6.0])))]
    choices += [Activation(name, alpha=0.1) for name in sorted(FUNCTIONS)] if tables else []
    return draw(st.sampled_from(choices))


@st.composite
def convolutions(draw: st.DrawFn, net: Network, source: str) -> str:
    """One conv2d or depthwise2d block behind `source`."""
    channels, height, width = (int(s or 0) for s in net.shapes[source][1:])
    depthwise = draw(st.booleans()) and net.blocks[-1].kind != "input"
    kernel = draw(st.integers(1, min(3, height, width)))
    pads = tuple(draw(st.integers(0, kernel - 1)) for _ in range(4))
    strides = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    out = [(e + pads[i] + pads[i + 2] - kernel) // strides[i] + 1 for i, e in enumerate((height, width))]
    filters = channels if depthwise else draw(st.integers(1, 5))
    activation, name = draw(activations()), f"b{len(net.blocks)}"
    pool = draw(pools(tuple(out), activation))
    if pool and pool.kind == "max":
        out = [(e + pool.pads[i] + pool.pads[i + 2] - pool.size[i]) // pool.strides[i] + 1 for i, e in enumerate(out)]
    shape = (None, filters, 1, 1) if pool and pool.kind == "gap" else (None, filters, *out)
    block = Block(
        name, "depthwise2d" if depthwise else "conv2d", (source,), f"t{name}", strides=strides, pads=pads, groups=channels if depthwise else 1,
        activation=activation, pool=pool, probe=f"p{name}" if activation and activation.is_table else "",
        arrays=net.weights(filters, 1 if depthwise else channels, kernel, draw(st.booleans())),
    )
    return net.put(block, shape)


@st.composite
def pools(draw: st.DrawFn, size: tuple[int, ...], activation: Activation | None) -> Pool | None:
    choices: list[Pool | None] = [None, Pool("gap")]
    if min(size) >= 2 and not (activation and activation.is_table):
        end = draw(st.integers(0, 1))
        choices.append(Pool("max", (2, 2), (draw(st.integers(1, 2)),) * 2, (0, 0, end, end)))
    return draw(st.sampled_from(choices))


@st.composite
def resamplings(draw: st.DrawFn, net: Network, source: str) -> str:
    """A block that changes the size of an image: a transposed convolution, an average or an upsampling."""
    channels, height, width = (int(s or 0) for s in net.shapes[source][1:])
    if draw(st.booleans()):
        return draw(transposed(net, source))
    if draw(st.booleans()):
        size = (draw(st.integers(1, min(3, height))), draw(st.integers(1, min(3, width))))
        pool = Pool("avg", size, (draw(st.integers(1, 2)), draw(st.integers(1, 2))), tuple(draw(st.integers(0, 1)) for _ in range(4)))
        out = [(e + pool.pads[i] + pool.pads[i + 2] - size[i]) // pool.strides[i] + 1 for i, e in enumerate((height, width))]
        name, activation = f"b{len(net.blocks)}", draw(activations(tables=False))
        return net.put(Block(name, "pool2d", (source,), f"t{name}", activation=activation, pool=pool), (None, channels, *out))
    factors = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    block = Block(f"b{len(net.blocks)}", "upsample2d", (source,), f"tb{len(net.blocks)}", strides=factors)
    return net.put(block, (None, channels, height * factors[0], width * factors[1]))


@st.composite
def transposed(draw: st.DrawFn, net: Network, source: str) -> str:
    channels, height, width = (int(s or 0) for s in net.shapes[source][1:])
    kernel, strides = draw(st.integers(1, 3)), (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    top, left, bottom, right = (draw(st.integers(0, (kernel - 1) // 2)) for _ in range(4))
    pads = (top, left, bottom - draw(st.integers(0, strides[0] - 1)), right - draw(st.integers(0, strides[1] - 1)))
    filters, activation, name = draw(st.integers(1, 4)), draw(activations()), f"b{len(net.blocks)}"
    out = [strides[i] * (e - 1) + kernel - pads[i] - pads[i + 2] for i, e in enumerate((height, width))]
    probe, arrays = f"p{name}" if activation and activation.is_table else "", net.weights(filters, channels, kernel, draw(st.booleans()))
    block = Block(name, "conv_transpose2d", (source,), f"t{name}", strides=strides, pads=pads, activation=activation, probe=probe, arrays=arrays)
    return net.put(block, (None, filters, *out))


@st.composite
def networks(draw: st.DrawFn) -> Blueprint:
    """A chain of up to three convolutions, images resampled in between, sometimes with a join of two branches, sometimes ending in a Dense."""
    net = Network(np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    channels, height, width = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    tensor = net.put(Block("quantize", "input", ("x",), "quantize", perm=(0, 1, 2, 3)), (None, channels, height, width))
    for _ in range(draw(st.integers(1, 3))):
        tensor = draw(convolutions(net, tensor))
        tensor = draw(resamplings(net, tensor)) if draw(st.integers(0, 3)) == 3 else tensor
    if draw(st.booleans()):
        tensor = draw(joins(net, tensor))
    if draw(st.booleans()):
        size = int(np.prod([s or 1 for s in net.shapes[tensor][1:]]))
        arrays = {"weight": net.rng.normal(size=(3, size)), "bias": net.rng.normal(size=3)}
        activation = draw(activations())
        probe = "phead" if activation and activation.is_table else ""
        block = Block("head", "dense", (tensor,), "y", flatten=True, activation=activation, probe=probe, arrays=arrays)
        tensor = net.put(block, (None, 3))
    return Blueprint(tuple(net.blocks), (tensor,), net.shapes)


@st.composite
def joins(draw: st.DrawFn, net: Network, tensor: str) -> str:
    """A parallel 1x1 branch, added to, concatenated with or multiplied by the tensor; or a gate of one pixel that is multiplied, sometimes added behind."""
    shape, kind = net.shapes[tensor], draw(st.sampled_from(["add", "concat", "multiply", "gate", "gate"]))
    channels = int(shape[1] or 0)
    gate, activation = kind == "gate", draw(activations(tables=False))
    branch = net.put(Block(
        "branch", "conv2d", (tensor,), "tbranch", activation=Activation("sigmoid") if gate else activation, pool=Pool("gap") if gate else None,
        probe="pbranch" if gate else "", arrays=net.weights(draw(st.sampled_from([1, channels])) if gate else channels, channels, 1, True),
    ), shape)
    if gate:
        net.shapes[branch] = (None, len(net.blocks[-1].arrays["weight"]), 1, 1)
    if kind == "concat":
        return net.put(Block("join", "concat", (tensor, branch), "tjoin"), (None, 2 * channels, *shape[2:]))
    operands = (branch, tensor) if draw(st.booleans()) else (tensor, branch)
    joined = net.put(Block("join", "add" if kind == "add" else "multiply", operands, "tjoin", activation=draw(activations(tables=False))), shape)
    if not gate or draw(st.booleans()):
        return joined
    return net.put(Block("skip", "add", (tensor, joined), "tskip", activation=draw(activations(tables=False))), shape)


@st.composite
def plans(draw: st.DrawFn, blueprint: Blueprint) -> tuple[Plan, dict[str, Range]]:
    """Bits, axes and ranges for every block. Ranges do not come from data: many outputs saturate."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight_bits, bits = draw(st.sampled_from([2, 4, 8])), draw(st.sampled_from([1, 2, 4, 8]))
    per_axis, signed_input = draw(st.booleans()), draw(st.booleans()) or not _unsigned_possible(blueprint)
    ranges = {t: _range(rng, blueprint.channels(t)) for t in blueprint.shapes}
    ranges |= {b.probe: _range(rng, blueprint.channels(b.output)) for b in blueprint.blocks if b.probe}
    return Plan({b.name: _layer(b, blueprint, ranges[b.output], weight_bits, bits, per_axis, signed_input) for b in blueprint.blocks}), ranges


def _unsigned_possible(blueprint: Blueprint) -> bool:
    return all(b.kind == "conv2d" for b in blueprint.consumers("quantize"))


def _range(rng: np.random.Generator, channels: int) -> Range:
    reach = 10.0 ** rng.uniform(-2, 2, channels) * (rng.random(channels) > 0.1)
    return Range(-reach, reach * rng.uniform(0.2, 1.5, channels))


def _layer(block: Block, blueprint: Blueprint, seen: Range, weight_bits: int, bits: int, per_axis: bool, signed_input: bool) -> LayerPlan:
    relu = block.activation is not None and not block.activation.is_table
    raw = block.kind in ("dense", "add") and not relu and not blueprint.consumers(block.output)
    output = 8 if block.kind == "input" or not relu else bits
    signed = signed_input if block.kind == "input" else not (relu and output < 8)
    return LayerPlan(weight_bits if block.kind in LINEAR else None, None if raw else output, signed, per_axis, seen.low, seen.high)
