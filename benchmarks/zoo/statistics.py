"""Random weights whose activations neither vanish nor explode: what is measured at the end then comes from all layers, not from the last biases.

Node by node, on one image or more, each convolution or dense layer is rescaled so that its output has a mean square of one, its channels spread by exp(n / 4), n
normal and seeded; each BatchNormalization gets the mean square of what it reads for a variance. Means stay: taking them out of a random network makes it
chaotic, and any error as large as the signal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from examples.trained import session

SPREAD = 0.25
FILTER_AXES: Mapping[str, int] = {"Conv": 0, "ConvTranspose": 1}

Arrays = dict[str, np.ndarray]


def levelled(model: onnx.ModelProto, images: np.ndarray, seed: int = 0, gains: Mapping[str, np.ndarray] | None = None,
             thresholds: Mapping[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """The same network with other values in its weights.

    Arguments:
        images: (N, ...), feed the only input that is no weight.
        gains, thresholds: (channels,) by the name of a layer's output: instead of exp(n / 4), and what is subtracted behind it.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    rng, constants = np.random.default_rng(seed), {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    entry = next(i.name for i in made.graph.input if i.name not in constants)
    values, changed = constants | {entry: images}, dict[str, np.ndarray]()
    left = _readers(made.graph)
    for node in made.graph.node:
        outputs = _run(made, node, values)
        name = node.output[0]
        fresh = dict(_rescaled(node, values, outputs[0], rng, (gains or {}).get(name), (thresholds or {}).get(name, 0.0)))
        if fresh:
            changed, values = changed | fresh, values | fresh
            outputs = _run(made, node, values)
        values |= dict(zip(node.output, outputs, strict=False))
        for name in node.input:
            left[name] = left.get(name, 1) - 1
            if not left[name] and name not in constants:
                values.pop(name, None)
    _store(made.graph, changed)
    return made


def _readers(graph: onnx.GraphProto) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in (n for node in graph.node for n in node.input):
        counts[name] = counts.get(name, 0) + 1
    return counts


def _run(model: onnx.ModelProto, node: onnx.NodeProto, values: Arrays) -> list[np.ndarray]:
    """What one node computes, alone in a graph."""
    feeds = {n: values[n] for n in dict.fromkeys(node.input) if n}
    entries = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()]
    ends = [onnx.ValueInfoProto(name=n) for n in node.output if n]
    alone = helper.make_model(helper.make_graph([node], "one", entries, ends), opset_imports=model.opset_import, ir_version=model.ir_version)
    return session(alone).run(None, feeds)


def _rescaled(node: onnx.NodeProto, values: Arrays, y: np.ndarray, rng: np.random.Generator, gain: np.ndarray | None,
              threshold: np.ndarray | float) -> Iterator[tuple[str, np.ndarray]]:
    """New values for the constants of a node, by name."""
    if node.op_type == "BatchNormalization":
        variance = values[node.input[4]]
        yield node.input[4], np.full_like(variance, _mean_square(values[node.input[0]]))
    axis = FILTER_AXES.get(node.op_type)
    if node.op_type == "Gemm":
        axis = 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    if axis is None:
        return
    weight = values[node.input[1]]
    spread = np.exp(SPREAD * rng.normal(size=weight.shape[axis])) if gain is None else gain
    factor = spread / np.sqrt(_mean_square(y))
    yield node.input[1], (weight * factor.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])).astype(np.float32)
    if len(node.input) > 2:
        yield node.input[2], (values[node.input[2]] * factor - threshold).astype(np.float32)


def _mean_square(x: np.ndarray) -> float:
    return float(np.mean(np.square(x, dtype=np.float64))) or 1.0


def _store(graph: onnx.GraphProto, changed: Arrays) -> None:
    for tensor in graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
