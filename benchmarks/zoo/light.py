"""The light_*.onnx architectures of the onnx package: opset 9, weights listed as inputs, constants for weights. Each weight becomes a seeded random one.

    convolution, dense     He-normal, biases of deviation 0.02
    batch normalization    scale 1 +- 0.1, shift and mean +- 0.1, variance 1 + 0.1 |n|; its operand Mul and Add likewise, where the file spells one
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
ROLES = {
    "BatchNormalization": {1: "scale", 2: "shift", 3: "shift", 4: "variance"},
    "Conv": {1: "weight", 2: "bias"},
    "Gemm": {1: "dense", 2: "bias"},
    "Mul": {1: "scale"}, "Add": {1: "shift"},
}


def model(name: str) -> onnx.ModelProto:
    """One architecture, 224x224 images in batches of any size where the file allows it."""
    made = onnx.load(str(FOLDER / f"light_{name}.onnx"))
    filled = {n.output[0]: n for n in made.graph.node if n.op_type == "ConstantOfShape"}
    stored = {t.name: t for t in made.graph.initializer}
    kept = [n for n in made.graph.node if n.op_type != "ConstantOfShape"]
    roles = _roles(made.graph)
    shapes = {n: tuple(numpy_helper.to_array(stored[f.input[0]])) for n, f in filled.items()}
    shapes |= {n: tuple(t.dims) for n, t in stored.items() if n in roles}
    fresh = [numpy_helper.from_array(_values(name, roles.get(n, "bias"), s), n) for n, s in shapes.items()]
    others = [t for n, t in stored.items() if n not in shapes and any(n in node.input for node in kept)]
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(kept)
    made.graph.initializer.extend([*fresh, *others])
    _keep_inputs(made.graph)
    made.ir_version = 8
    onnx.checker.check_model(made)
    return made


def _roles(graph: onnx.GraphProto) -> dict[str, str]:
    """What each constant is for; a constant of a Mul or Add may reach it through an Unsqueeze."""
    behind = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Unsqueeze"}
    found: dict[str, str] = {}
    computed = {n.output[0] for n in graph.node if n.op_type not in ("ConstantOfShape", "Unsqueeze")}
    for node in graph.node:
        for index, role in ROLES.get(node.op_type, {}).items():
            if index < len(node.input) and node.input[index] not in computed:
                source = node.input[index]
                while source in behind:
                    source = behind[source]
                found[source] = role
    return found


def _values(name: str, role: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(f"{name}{role}{shape}".encode()))
    noise = rng.standard_normal(shape, np.float32)
    fan_in = shape[1] if role == "dense" else int(np.prod(shape[1:]))
    values = {"weight": noise * np.sqrt(2 / fan_in), "dense": noise * np.sqrt(2 / fan_in), "bias": 0.02 * noise, "shift": 0.1 * noise,
              "scale": 1 + 0.1 * noise, "variance": 1 + 0.1 * np.abs(noise)}
    return values[role].astype(np.float32)


def _keep_inputs(graph: onnx.GraphProto) -> None:
    """Without those that nothing needs any more; weights stay listed, as old files do."""
    names = {t.name for t in graph.initializer} | {i for n in graph.node for i in n.input}
    kept = [i for i in graph.input if i.name in names]
    del graph.input[:]
    graph.input.extend(kept)
