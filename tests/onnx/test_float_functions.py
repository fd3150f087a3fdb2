"""onnxruntime's functions in float32 err by no more than two thirds of what a clear table allows them (`quantizeml_core.clearance`), on the machine that runs this."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from quantizeml_core.blocks import Activation
from quantizeml_core.clearance import ABSOLUTE, RELATIVE
from quantizeml_core.names import Names
from quantizeml_core.program import Program
from quantizeml_core.tables import FUNCTIONS, apply
from quantizeml_onnx.deploy.functions import NODES
from quantizeml_onnx.deploy.graph import Graph
from quantizeml_onnx.observe import session

X = np.linspace(-30, 30, 600_001).astype(np.float32)


def test_every_function_is_written_but_slow_ones() -> None:
    assert {*FUNCTIONS, "clip"} - NODES.keys() == {"celu", "mish", "selu", "softplus"}


@pytest.mark.parametrize("name", NODES)
def test_it_errs_by_two_thirds_of_what_is_allowed_at_most(name: str) -> None:
    activation = Activation(name, bound=2.5, alpha=0.75)
    g = Graph(Program((), {}, (), {}), {}, {}, Names({"x"}))
    result = NODES[name](g, activation, "x")
    ends = [helper.make_tensor_value_info(t, TensorProto.FLOAT, ["N"]) for t in ("x", result)]
    graph = helper.make_graph(g.nodes, "function", ends[:1], ends[1:], list(g.constants.values()))
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)])
    found, real = session(model.SerializeToString()).run(None, {"x": X})[0], apply(activation, X.astype(np.float64))
    assert (np.abs(found - real) <= (ABSOLUTE + RELATIVE * np.abs(real)) * 2 / 3).all()
